from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from dedupstore.cancel import CancelToken
from dedupstore.clock import FrozenClock
from dedupstore.engine.check import check_repository
from dedupstore.engine.check_options import CheckOptions, CheckReport, DataShare, Level
from dedupstore.errors import Interrupted, StoreError, UsageError
from dedupstore.events import NullListener
from dedupstore.repo import layout
from dedupstore.repo.repository import Repository
from dedupstore.storage.memory import MemoryStore
from tests.support.faults import Fault, FaultPlan, FaultyStore
from tests.support.recording import RecordingStore
from tests.support.repositories import SMALL, make_tree, mutate_tree, new_repository, open_repository, take

DAY = 86_400.0
EVERYTHING = CheckOptions(read_data=DataShare(), restore=True)


def check(repository: Repository, options: CheckOptions = EVERYTHING) -> CheckReport:
    return check_repository(repository, options, listener=NullListener(), cancel=CancelToken())


def codes(report: CheckReport) -> set[str]:
    return {finding.code for finding in report.findings}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return make_tree(tmp_path / "tree")


@pytest.fixture
def clock() -> FrozenClock:
    return FrozenClock(1_790_000_000_000_000_000)


@pytest.fixture
def repository(tmp_path: Path, tree: Path, clock: FrozenClock) -> Iterator[Repository]:
    """Three snapshots, the later ones with delta blocks."""
    with new_repository(MemoryStore(), tmp_path / "cache", clock=clock) as made:
        for seed in range(3):
            take(made, tree)
            mutate_tree(tree, seed)
        yield made


def test_a_sound_repository_has_no_findings_at_any_level(repository: Repository) -> None:
    report = check(repository)

    assert report.findings == ()
    assert report.exit_code == 0
    assert report.complete
    assert report.counts.packs == report.counts.packs_read
    assert report.counts.bytes_read == sum(row.size for row in repository.index.packs())
    assert report.counts.snapshots == 3
    assert report.counts.restored_snapshots == 1
    assert report.damage.files_total == 0


def test_an_empty_repository_is_sound(tmp_path: Path) -> None:
    with new_repository(MemoryStore(), tmp_path / "cache") as empty:
        report = check(empty)

    assert report.findings == ()
    assert report.coverage is not None
    assert report.coverage.full_round_days is None


def test_a_check_writes_nothing_to_the_store(repository: Repository) -> None:
    recording = RecordingStore(repository.store)
    with open_repository(recording, repository.cache_path) as again:
        recording.calls.clear()

        check(again)

    assert {call.verb for call in recording.calls} <= {"get", "list", "head"}


def test_a_quick_check_reads_no_pack(repository: Repository) -> None:
    recording = RecordingStore(repository.store)
    with open_repository(recording, repository.cache_path) as again:
        check(again, CheckOptions(level=Level.QUICK))

    assert not [call for call in recording.calls if call.verb == "get" and call.folder == "packs"]


def test_a_check_without_a_cache_says_the_same(repository: Repository) -> None:
    with open_repository(repository.store) as again:
        report = check(again)

    assert report.findings == ()


def test_a_share_of_the_data_is_read_and_the_oldest_reading_comes_first(
    repository: Repository, clock: FrozenClock
) -> None:
    total = sum(row.size for row in repository.index.packs())
    rounds = []
    for _ in range(20):
        clock.advance(DAY)
        rounds.append(check(repository, CheckOptions(read_data=DataShare(fraction=0.25))))

    verified = [repository.index.last_verified(row.no) for row in repository.index.packs()]
    assert all(verified)
    assert all(report.counts.bytes_read < total for report in rounds)
    first, last = rounds[0].coverage, rounds[-1].coverage
    assert first is not None and first.bytes_recent == rounds[0].counts.bytes_read
    assert first.full_round_days is not None
    assert math.isclose(first.full_round_days, total / rounds[0].counts.bytes_read)
    assert last is not None and last.bytes_recent == last.bytes_total == total


def test_what_was_verified_long_ago_does_not_count_as_recent(repository: Repository, clock: FrozenClock) -> None:
    check(repository)
    clock.advance(31 * DAY)

    report = check(repository, CheckOptions(read_data=DataShare(bytes=1)))

    assert report.coverage is not None
    assert report.counts.packs_read == 1
    assert report.coverage.bytes_recent == report.counts.bytes_read


def test_a_check_out_of_time_says_so_and_keeps_what_it_verified(repository: Repository) -> None:
    report = check(repository, CheckOptions(read_data=DataShare(), max_seconds=0.0))

    assert not report.complete
    assert report.counts.packs_read == 0
    assert report.exit_code == 0


def test_a_cancelled_check_stops(repository: Repository) -> None:
    cancel = CancelToken()
    cancel.cancel()

    with pytest.raises(Interrupted):
        check_repository(repository, EVERYTHING, listener=NullListener(), cancel=cancel)


def test_only_the_chosen_snapshots_are_walked(repository: Repository) -> None:
    newest = repository.catalog.snapshots().snapshots[-1]

    report = check(repository, CheckOptions(snapshots=(newest.id,)))

    assert report.counts.snapshots == 1


@pytest.mark.parametrize("fault", [Fault.FLIPPED, Fault.TRUNCATED, Fault.FAIL_BEFORE])
def test_a_single_bad_reading_is_no_damage(repository: Repository, fault: Fault) -> None:
    """A flaky line once at each of all readings: never an error, a warning at most."""
    inner = repository.store
    at = 0
    while True:
        faulty = FaultyStore(inner)
        with open_repository(faulty) as again:
            faulty.plan = FaultPlan(fault=fault, at=at, verb="get")
            report = check(again, CheckOptions(read_data=DataShare()))
        assert report.errors == 0, (at, report.findings)
        if not faulty.fired:
            break
        at += 1
    assert at > 5


def test_a_store_that_stops_answering_is_an_error_and_not_damage(repository: Repository) -> None:
    faulty = FaultyStore(repository.store)
    with open_repository(faulty) as again:
        again.look()
        faulty.plan = FaultPlan(fault=Fault.FAIL_BEFORE, at=0, verb="list", times=None)

        with pytest.raises(StoreError):
            check(again)


def test_an_index_that_knows_packs_from_lost_segments_is_not_trusted(repository: Repository) -> None:
    """This machine could restore; another one could not. The check answers for the other one."""
    assert isinstance(repository.store, MemoryStore)
    for key in [key for key in repository.store.objects if key.startswith(layout.INDEX) and len(key) > 60]:
        del repository.store.objects[key]

    report = check(repository, CheckOptions())

    assert codes(report) == {"check.index_incomplete", "check.pack_unindexed"}
    assert report.exit_code == 4


def test_a_cache_that_lies_is_found_out_and_dropped(repository: Repository, tmp_path: Path) -> None:
    """A segment counted as learned, but nothing of it is in the cache."""
    segments = repository.index.segments()
    repository.drop_index()
    for segment in segments:
        repository.index.apply(segment, [])

    report = check(repository, CheckOptions())

    assert codes(report) == {"check.cache_rebuilt"}
    assert report.errors == 0
    assert check(repository, CheckOptions()).findings == ()


def test_shares_are_parsed_as_people_write_them() -> None:
    assert DataShare.parse("all") == DataShare()
    assert DataShare.parse("5%").of(1000) == 50
    assert DataShare.parse("2K").of(10_000) == 2048
    assert DataShare.parse("2G").of(1000) == 1000
    for text in ("0%", "101%", "%", "x%", "lots"):
        with pytest.raises(UsageError):
            DataShare.parse(text)


def test_packs_of_another_size_setting_are_checked_alike(tmp_path: Path, tree: Path) -> None:
    with new_repository(MemoryStore(), options=replace(SMALL, pack_bytes=1 << 20)) as made:
        take(made, tree)

        assert check(made).findings == ()
