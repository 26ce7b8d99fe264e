"""No leap of a clock ends the time in which a forgotten snapshot can be brought back; time that passes does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from dedupstore.cancel import CancelToken
from dedupstore.clock import FrozenClock
from dedupstore.engine.attribution import freed_together
from dedupstore.engine.prune import PruneReport, execute_prune
from dedupstore.engine.prune_plan import DAY_NS, PruneOptions, plan_prune
from dedupstore.engine.undo_forget import undo_forget
from dedupstore.events import Collector, Finding, NullListener
from dedupstore.model.snapshot import Snapshot
from dedupstore.repo import layout
from dedupstore.storage.base import ObjectInfo
from dedupstore.storage.memory import MemoryStore
from dedupstore.types import Data
from dedupstore.units import short_id
from tests.support.pruning import NOW, check, forget, plan
from tests.support.repositories import assert_restores, files_below, make_tree, mutate_tree, new_repository, take

DAY = DAY_NS // 10**9
YEAR = 365 * DAY
EARLIER = PruneOptions(grace_ns=0)


class Dated(MemoryStore):
    """Says when an object was written: by the clock of this machine, as a local disk does."""

    def __init__(self, clock: FrozenClock) -> None:
        super().__init__()
        self.clock = clock
        self.written: dict[str, int] = {}

    def put(self, key: str, parts: Sequence[Data]) -> None:
        super().put(key, parts)
        self.written.setdefault(key, self.clock.now_ns())

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        for row in super().list(prefix):
            yield ObjectInfo(row.key, row.size, self.written[row.key])


class Machine:
    """A tree of which a snapshot was forgotten a moment ago, and another is kept."""

    def __init__(self, folder: Path, clock: FrozenClock, store: MemoryStore) -> None:
        self.clock, self.store = clock, store
        self.tree = make_tree(folder / "tree")
        self.repository = new_repository(store, folder / "cache", clock=clock)
        self.kept = [self.take()]
        self.files = files_below(self.tree)
        self.forgotten = self.take()
        forget(self.repository, self.forgotten)

    def take(self) -> Snapshot:
        mutate_tree(self.tree, self.clock.now_ns() // DAY_NS)
        taken = take(self.repository, self.tree).snapshot
        assert taken is not None
        self.clock.advance(60)
        return taken

    def prune(self, options: PruneOptions = EARLIER) -> tuple[PruneReport, list[Finding]]:
        collector = Collector(NullListener())
        planned = plan_prune(self.repository, options, listener=collector, cancel=CancelToken())
        report = execute_prune(self.repository, planned, options, listener=collector, cancel=CancelToken())
        assert check(self.repository).exit_code == 0
        return report, collector.findings

    def ended(self) -> bool:
        return layout.root_key(self.forgotten.id) not in self.store.objects


@pytest.fixture
def clock() -> FrozenClock:
    return FrozenClock(1_900_000_000 * 10**9)


@pytest.fixture
def machine(tmp_path: Path, clock: FrozenClock) -> Iterator[Machine]:
    made = Machine(tmp_path, clock, Dated(clock))
    yield made
    made.repository.close()


def test_a_clock_set_a_year_ahead_ends_no_undo_window(machine: Machine, clock: FrozenClock) -> None:
    clock.advance(YEAR)
    before = dict(machine.store.objects)
    assert plan(machine.repository, EARLIER).roots.expired == frozenset()
    assert machine.store.objects == before

    _, (told,) = machine.prune()
    _, again = machine.prune()

    assert (told.code, told.severity) == ("prune.clock", "note")
    assert "1 snapshot" in told.message and "365 days" in told.message and "--undo-window 0" in told.message
    assert again == [told]
    assert not machine.ended()
    back = undo_forget(machine.repository, short_id(machine.forgotten.id), listener=NullListener())
    assert back.root == machine.forgotten.root
    assert check(machine.repository).exit_code == 0


def test_nor_does_it_when_a_snapshot_is_taken_before_anything_else(machine: Machine, clock: FrozenClock) -> None:
    clock.advance(3 * DAY)
    machine.take()
    clock.advance(YEAR)
    machine.take()

    _, findings = machine.prune()

    assert [finding.code for finding in findings] == ["prune.clock"] and not machine.ended()
    clock.advance(4 * DAY)
    machine.prune()
    assert machine.ended()


def test_time_that_passes_after_the_leap_counts(machine: Machine, clock: FrozenClock) -> None:
    clock.advance(YEAR)
    machine.prune()
    clock.advance(6 * DAY)
    machine.prune()
    assert not machine.ended()
    clock.advance(DAY)

    report, findings = machine.prune()

    assert machine.ended() and report.roots_expired == 1 and findings == []
    assert_restores(machine.repository, machine.kept[0], machine.files)


@pytest.mark.parametrize("days", [1, 7])
def test_in_regular_use_the_window_is_as_long_as_it_says(machine: Machine, clock: FrozenClock, days: int) -> None:
    for _ in range(7 // days):
        assert not machine.ended()
        clock.advance(days * DAY)
        _, findings = machine.prune()
        assert findings == []
        machine.take()

    assert machine.ended()


def test_who_comes_every_two_months_waits_for_the_time_after(machine: Machine, clock: FrozenClock) -> None:
    clock.advance(60 * DAY)
    _, findings = machine.prune()
    assert len(findings) == 1 and not machine.ended()
    clock.advance(60 * DAY)

    _, findings = machine.prune()

    assert findings == [] and machine.ended()


def test_without_a_window_nothing_waits(machine: Machine, clock: FrozenClock) -> None:
    clock.advance(YEAR)

    _, findings = machine.prune(NOW)

    assert findings == [] and machine.ended()


def test_what_forget_says_it_would_free_leaves_out_what_prune_keeps(machine: Machine, clock: FrozenClock) -> None:
    clock.advance(YEAR)
    held = freed_together(machine.repository, machine.kept, NullListener(), CancelToken())
    machine.prune(NOW)

    free = freed_together(machine.repository, machine.kept, NullListener(), CancelToken())

    assert held.total < free.total


def test_where_the_store_does_not_say_when_the_clock_decides(tmp_path: Path, clock: FrozenClock) -> None:
    machine = Machine(tmp_path, clock, MemoryStore())
    clock.advance(YEAR)

    _, findings = machine.prune()

    assert findings == [] and machine.ended()
    machine.repository.close()
