from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from dedupstore.cancel import CancelToken
from dedupstore.engine.check import check_repository
from dedupstore.engine.check_options import CheckOptions, CheckReport, DataShare
from dedupstore.engine.repair import RepairReport, repair_index
from dedupstore.events import NullListener
from dedupstore.repo import layout
from dedupstore.repo.pack_name import PackName
from dedupstore.repo.repository import Repository
from dedupstore.storage.memory import MemoryStore
from tests.support.recording import RecordingStore
from tests.support.repositories import (
    assert_restores,
    chunk_locations,
    files_below,
    make_tree,
    mutate_tree,
    new_repository,
    open_repository,
    take,
)


def repair(repository: Repository, *, dry_run: bool = False) -> RepairReport:
    return repair_index(repository, dry_run=dry_run, listener=NullListener(), cancel=CancelToken())


def check(repository: Repository) -> CheckReport:
    options = CheckOptions(read_data=DataShare())
    return check_repository(repository, options, listener=NullListener(), cancel=CancelToken())


def segments(store: MemoryStore) -> list[str]:
    return sorted(key for key in store.objects if key.startswith(layout.INDEX) and key not in layout.SENTINELS)


def bend(store: MemoryStore, key: str) -> None:
    """Change the last byte, whatever it is."""
    data = store.objects[key]
    store.objects[key] = data[:-1] + bytes([data[-1] ^ 1])


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return make_tree(tmp_path / "tree")


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def repository(store: MemoryStore, tmp_path: Path, tree: Path) -> Iterator[Repository]:
    with new_repository(store, tmp_path / "cache") as made:
        take(made, tree)
        mutate_tree(tree, 1)
        take(made, tree)
        yield made


def test_a_sound_index_is_left_alone(repository: Repository, store: MemoryStore) -> None:
    before = dict(store.objects)

    report = repair(repository)

    assert store.objects == before
    assert (report.packs_indexed, report.segments_written, report.exit_code) == (0, 0, 0)


@pytest.mark.parametrize("sentinels_too", [False, True])
def test_an_index_rebuilt_from_packs_alone_is_the_same(
    repository: Repository, store: MemoryStore, tmp_path: Path, tree: Path, sentinels_too: bool
) -> None:
    before = chunk_locations(repository)
    for key in [key for key in store.objects if key.startswith(layout.INDEX)]:
        if sentinels_too or key not in layout.SENTINELS:
            del store.objects[key]
    repository.close()
    shutil.rmtree(tmp_path / "cache")

    with open_repository(store, tmp_path / "cache") as again:
        report = repair(again)

        assert chunk_locations(again) == before
        assert report.packs_indexed == report.packs > 0
        assert len(report.sentinels_restored) == (2 if sentinels_too else 0)
        assert check(again).findings == ()
        assert_restores(again, again.catalog.snapshots().snapshots[-1], files_below(tree))
        assert repair(again).segments_written == 0


def test_a_dry_run_says_the_same_and_writes_nothing(repository: Repository, store: MemoryStore) -> None:
    for key in segments(store):
        del store.objects[key]
    del store.objects["index/-begin"]
    before = dict(store.objects)

    planned = repair(repository, dry_run=True)

    assert store.objects == before
    done = repair(repository)
    assert planned.dry_run and not done.dry_run
    assert (planned.packs_indexed, planned.segments_written, planned.sentinels_restored) == (
        done.packs_indexed,
        done.segments_written,
        done.sentinels_restored,
    )


def test_only_what_no_readable_segment_says_is_said_again(repository: Repository, store: MemoryStore) -> None:
    before = chunk_locations(repository)
    damaged = segments(store)[0]
    bend(store, damaged)

    report = repair(repository)

    assert damaged in store.objects
    assert 0 < report.packs_indexed < report.packs
    assert report.segments_damaged == 1
    del store.objects[damaged]
    assert chunk_locations(repository) == before


def test_after_the_repair_a_damaged_segment_is_only_a_note(repository: Repository, store: MemoryStore) -> None:
    damaged = segments(store)[0]
    bend(store, damaged)

    repair(repository)

    report = check(repository)
    assert {finding.code for finding in report.findings} == {"check.segment_superseded"}
    assert report.exit_code == 0


def test_a_pack_with_a_broken_trailer_is_told_and_the_others_are_indexed(
    repository: Repository, store: MemoryStore
) -> None:
    for key in segments(store):
        del store.objects[key]
    packs = sorted(key for key in store.objects if key.startswith(layout.PACKS) and key not in layout.SENTINELS)
    bend(store, packs[0])

    report = repair(repository)

    assert report.packs_unreadable == 1
    assert report.packs_indexed == len(packs) - 1
    assert report.exit_code == 4
    assert {finding.code for finding in report.findings} == {"repair.pack_unreadable"}
    assert PackName.parse(packs[0]).id not in {row[0] for row in chunk_locations(repository)}


def test_a_repair_reads_only_headers_and_trailers(repository: Repository, store: MemoryStore) -> None:
    for key in segments(store):
        del store.objects[key]
    recording = RecordingStore(store)

    with open_repository(recording) as again:
        report = repair(again)

    reads = [call for call in recording.calls if call.verb == "get" and call.folder == "packs"]
    assert len(reads) == 2 * report.packs
    assert max(call.size for call in reads) <= 4096
    assert not [call for call in recording.calls if call.verb == "delete"]


def test_a_repair_stopped_half_way_is_finished_by_the_next(repository: Repository, store: MemoryStore) -> None:
    """Every segment written says true things: there is no half-repaired state to recover from."""
    before = chunk_locations(repository)
    for key in segments(store):
        del store.objects[key]
    repair(repository)
    written = segments(store)
    for key in written[1:]:
        del store.objects[key]

    repair(repository)

    assert chunk_locations(repository) == before
