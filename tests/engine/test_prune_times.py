"""When what waits may go: plans, forgotten roots and their markers, runs that never ended; by clocks that are wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from dedupstore.clock import FrozenClock
from dedupstore.engine.prune_plan import DAY_NS, PruneOptions
from dedupstore.engine.prune_roots import ABANDONED_NS
from dedupstore.errors import DedupError
from dedupstore.model.snapshot import Snapshot
from dedupstore.repo import layout
from dedupstore.repo.repository import Repository
from dedupstore.storage.memory import MemoryStore
from tests.support.faults import FaultyStore, Step
from tests.support.pruning import NOW, assert_sound, forget, plan, plans, prune, two
from tests.support.repositories import (
    assert_restores,
    files_below,
    make_tree,
    new_repository,
    open_repository,
    take,
)

Files = dict[bytes, bytes]
START_NS = 1_800_000_000 * 10**9


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def clock() -> FrozenClock:
    return FrozenClock(START_NS)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return make_tree(tmp_path / "tree")


@pytest.fixture
def repository(store: MemoryStore, clock: FrozenClock) -> Iterator[Repository]:
    with new_repository(store, clock=clock) as made:
        yield made


# Waiting


def test_a_plan_is_carried_out_when_its_time_has_come_by_whoever_comes(
    repository: Repository, store: MemoryStore, tree: Path, clock: FrozenClock
) -> None:
    first, second, files = two(repository, tree)
    forget(repository, first)
    waiting = PruneOptions(undo_window_ns=0)

    made = prune(repository, waiting)
    clock.advance(23 * 3600)
    with open_repository(store, clock=clock) as other:
        early = prune(other, waiting)
        clock.advance(3600)
        due = prune(other, waiting)

        assert made.packs_condemned > 0 and made.packs_deleted == 0
        assert made.next_due_ns == START_NS + DAY_NS
        assert (early.packs_condemned, early.packs_deleted) == (0, 0)
        assert due.packs_deleted == made.packs_condemned
        assert due.next_due_ns is None
        assert_sound(other, {second.id: files})


def test_a_snapshot_may_use_again_what_waits_to_be_deleted(
    repository: Repository, store: MemoryStore, tree: Path, clock: FrozenClock
) -> None:
    before = files_below(tree)
    first = take(repository, tree).snapshot
    forget(repository, first)
    prune(repository, PruneOptions(undo_window_ns=0))

    again = take(repository, tree).snapshot
    clock.advance(25 * 3600)
    report = prune(repository, PruneOptions(undo_window_ns=0))

    assert again is not None and report.packs_deleted > 0
    assert_sound(repository, {again.id: before})


def test_a_clock_that_is_a_year_ahead_deletes_early_and_loses_nothing(
    repository: Repository, store: MemoryStore, tree: Path, clock: FrozenClock
) -> None:
    first, second, files = two(repository, tree)
    forget(repository, first)

    with open_repository(store, clock=FrozenClock(START_NS + 365 * DAY_NS)) as ahead:
        report = prune(ahead, PruneOptions())
        assert report.roots_expired == 1
        assert_sound(ahead, {second.id: files})


def test_a_plan_from_a_clock_that_was_ahead_does_not_wait_for_its_time(
    repository: Repository, store: MemoryStore, tree: Path, clock: FrozenClock
) -> None:
    first, second, files = two(repository, tree)
    forget(repository, first)
    with open_repository(store, clock=FrozenClock(START_NS + 365 * DAY_NS)) as ahead:
        assert prune(ahead, PruneOptions(undo_window_ns=0)).packs_deleted == 0

    assert prune(repository, PruneOptions(undo_window_ns=0)).packs_deleted > 0

    assert plans(store) == []
    assert_sound(repository, {second.id: files})


# Roots


def test_a_forgotten_root_goes_when_its_window_is_over_and_its_marker_after_it(
    repository: Repository, store: MemoryStore, tree: Path, clock: FrozenClock
) -> None:
    first, second, files = two(repository, tree)
    forget(repository, first)
    window = replace(NOW, undo_window_ns=7 * DAY_NS)

    clock.advance(7 * 86_400 - 1)
    assert prune(repository, window).roots_expired == 0
    assert repository.catalog.has_root(first.id)
    clock.advance(1)
    planned = plan(repository, window)
    assert planned.roots.expired == {first.id}

    assert prune(repository, window).roots_expired == 1
    assert not repository.catalog.has_root(first.id)
    assert not repository.catalog.is_forgotten(first.id)
    assert_sound(repository, {second.id: files})


def test_a_snapshot_whose_forgetting_was_interrupted_is_still_one(
    repository: Repository, store: MemoryStore, tree: Path
) -> None:
    """The marker is there and the commit is, too."""
    first, second, files = two(repository, tree)
    commit = store.objects[layout.commit_key(second.id)]
    forget(repository, second)
    store.objects[layout.commit_key(second.id)] = commit
    forget(repository, first)

    assert prune(repository).roots_expired == 1

    assert_sound(repository, {second.id: files})


def test_a_run_that_never_became_a_snapshot_is_given_up_after_a_month(
    repository: Repository, store: MemoryStore, tree: Path, clock: FrozenClock
) -> None:
    first, second, files = two(repository, tree)
    store.delete(layout.commit_key(first.id))

    clock.time_ns = START_NS + ABANDONED_NS - 1
    prune(repository, PruneOptions(grace_ns=0))
    assert not repository.catalog.is_forgotten(first.id)
    clock.advance(1)
    prune(repository, PruneOptions(grace_ns=0))
    assert repository.catalog.is_forgotten(first.id) and repository.catalog.has_root(first.id)
    clock.advance(7 * 86_400)
    assert prune(repository, PruneOptions(grace_ns=0)).roots_expired == 1

    assert not repository.catalog.has_root(first.id)
    assert_sound(repository, {second.id: files})


def test_a_run_given_up_by_a_wrong_clock_does_not_become_a_snapshot(
    repository: Repository, store: MemoryStore, tree: Path, clock: FrozenClock
) -> None:
    """A pruner a year ahead, at each moment of the last steps of a snapshot."""
    ahead = FrozenClock(START_NS + 365 * DAY_NS)
    outcomes = set()

    for at in range(12):
        fresh = MemoryStore()
        faulty = FaultyStore(fresh)
        with new_repository(faulty, clock=clock) as made:
            take(made, tree, source="other")
            faulty._hook = _after_root(at, partial(_prune_at, fresh, ahead))
            taken: Snapshot | None = None
            with suppress(DedupError):
                taken = take(made, tree).snapshot
        outcomes.add(taken is None)
        if taken is not None:
            with open_repository(fresh, clock=clock) as after:
                assert taken.id in {one.id for one in after.catalog.snapshots().snapshots}
                assert_restores(after, taken, files_below(tree))

    assert outcomes == {True, False}


def _prune_at(store: MemoryStore, clock: FrozenClock) -> None:
    with open_repository(store, clock=clock) as other, suppress(DedupError):
        prune(other)


def _after_root(at: int, act: Callable[[], None]) -> Callable[[Step], None]:
    """Act before the operation that comes so many after the root was put."""
    steps: list[Step] = []

    def hook(step: Step) -> None:
        if not step.done and (steps or (step.verb == "put" and step.key.startswith(layout.ROOTS))):
            steps.append(step)
            if len(steps) == at + 1:
                act()

    return hook
