"""A check that reads data while a prune takes packs away: what is gone on purpose is neither damage nor a flaky disk."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dedupstore.cancel import CancelToken
from dedupstore.engine import passing_bases
from dedupstore.engine.check import check_repository
from dedupstore.engine.check_options import CheckOptions, CheckReport, DataShare, Level
from dedupstore.engine.check_session import Session
from dedupstore.engine.checks.data import DataCheck
from dedupstore.events import Finding, NullListener
from dedupstore.repo import layout
from dedupstore.repo.pack_name import PackName
from dedupstore.repo.repository import Repository
from dedupstore.storage.memory import MemoryStore
from dedupstore.types import SnapshotId
from tests.support.faults import FaultyStore, Step
from tests.support.pruning import assert_sound, forget, prune
from tests.support.repositories import files_below, new_repository, open_repository, random_bytes, take

Files = dict[bytes, bytes]


class Spare:
    """A repository in which nobody needs a delta any more, nor its bases; only the delta's pack has something else."""

    def __init__(self, tree: Path) -> None:
        tree.mkdir()
        rows = bytearray(random_bytes("rows", 40_000))
        self.store = MemoryStore()
        self.faulty = FaultyStore(self.store)
        self.repository: Repository = new_repository(self.faulty)
        snapshots = []
        stored: list[set[str]] = []
        for number in range(3):
            rows[:20] = b"changed in round %03d" % number
            (tree / "rows").write_bytes(rows)
            if number:
                (tree / "noise").write_bytes(random_bytes("noise", 60_000))
            if number == 2:
                (tree / "rows").unlink()
            snapshots.append(take(self.repository, tree).snapshot)
            stored.append({key for key in self.store.objects if key.startswith(layout.PACKS) and ".d" in key})
        for snapshot in snapshots[:2]:
            forget(self.repository, snapshot)
        assert snapshots[2] is not None
        self.left: dict[SnapshotId, Files] = {snapshots[2].id: files_below(tree)}
        self.bases = sorted(stored[0])
        self.deltas = sorted(stored[1] - stored[0])

    def prune_beside(self) -> None:
        with open_repository(self.store) as other:
            assert prune(other).packs_deleted > 0
        assert not self.store.objects.keys() & set(self.bases)

    def check(self, before: Callable[[Session], None], share: DataShare, threads: int = 0) -> CheckReport:
        """`before` is called when everything has been listed and nothing read."""
        checks = (Before(before), DataCheck())
        options = CheckOptions(read_data=share, threads=threads)
        return check_repository(
            self.repository, options, listener=NullListener(), cancel=CancelToken(), checks=checks
        )  # fmt: skip


class Before:
    name = "before"
    level = Level.QUICK

    def __init__(self, act: Callable[[Session], None]) -> None:
        self._act = act

    def run(self, session: Session) -> Iterator[Finding]:
        self._act(session)
        return iter(())


@pytest.fixture
def spare(tmp_path: Path) -> Iterator[Spare]:
    made = Spare(tmp_path / "tree")
    with made.repository:
        yield made
    with open_repository(made.store) as repository:
        assert_sound(repository, made.left)


def test_a_base_that_was_taken_away_is_no_damage(spare: Spare) -> None:
    """Its pack is not among those that are read: the newest come first."""
    everything = sum(row.size for row in layout.list_complete(spare.store, layout.PACKS))
    oldest = sum(len(spare.store.objects[key]) for key in spare.bases)

    report = spare.check(lambda session: spare.prune_beside(), DataShare(bytes=everything - oldest - 10_000))

    assert report.counts.packs_read > 1
    assert report.findings == ()


def test_a_pack_whose_bases_are_found_gone_between_two_readings_is_not_called_unstable(spare: Spare) -> None:
    sessions: list[Session] = []
    readings: Counter[str] = Counter()

    def before(session: Session) -> None:
        spare.prune_beside()
        sessions.append(session)

    def strike(step: Step) -> None:
        if sessions and step.verb == "get" and step.key in spare.deltas and not step.done:
            readings[step.key] += 1
            if readings[step.key] == 2:
                for row in sessions[0].present():
                    if row.id in {PackName.parse(key).id for key in spare.bases}:
                        sessions[0].mark_unreadable(row)

    spare.faulty._hook = strike
    everything = sum(row.size for row in layout.list_complete(spare.store, layout.PACKS))
    oldest = sum(len(spare.store.objects[key]) for key in spare.bases)

    report = spare.check(before, DataShare(bytes=everything - oldest - 10_000))

    assert max(readings.values()) > 1
    assert report.findings == ()


def test_a_pack_that_is_missed_as_a_base_and_by_itself_is_told_once(
    spare: Spare, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing accounts for it, and the deltas do not wait until it would have come by."""
    monkeypatch.setattr(passing_bases, "MAX_WAITING_BYTES", 0)
    kept = {key: spare.store.objects[key] for key in spare.bases}

    def lose(session: Session) -> None:
        for key in spare.bases:
            del spare.store.objects[key]

    report = spare.check(lose, DataShare(), threads=1)
    spare.store.objects.update(kept)

    told = [finding.message for finding in report.findings if finding.code == "check.pack_missing"]
    assert len(told) == len(spare.bases) > 0
