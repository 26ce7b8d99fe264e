"""When prune must not go on: damage, denied deletes, full disks; and what may go when: roots, markers, plans."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from dedupstore.clock import FrozenClock
from dedupstore.engine.prune_plan import DAY_NS, PruneOptions
from dedupstore.engine.prune_roots import ABANDONED_NS
from dedupstore.errors import DedupError, IncompleteListing, IntegrityError, Refused, StoreFull
from dedupstore.model.snapshot import Snapshot
from dedupstore.repo import layout
from dedupstore.repo.gcplan import Plan, put_plan, read_pruned
from dedupstore.repo.pack import PackName
from dedupstore.repo.repository import Repository
from dedupstore.storage.memory import MemoryStore
from dedupstore.types import Data
from tests.support.faults import Fault, FaultPlan, FaultyStore, Step
from tests.support.pruning import NOW, assert_sound, forget, pack_bytes, plan, plans, prune, sweep
from tests.support.repositories import (
    assert_restores,
    files_below,
    make_tree,
    mutate_tree,
    new_repository,
    open_repository,
    random_bytes,
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


def two(repository: Repository, tree: Path) -> tuple[Snapshot, Snapshot, Files]:
    """One snapshot to forget, one to keep, and what the second holds."""
    first = take(repository, tree).snapshot
    for number in range(0, 20, 2):
        (tree / f"many{number % 3}" / f"file{number:03d}").unlink()
    mutate_tree(tree, 1)
    (tree / "noise.bin").write_bytes(random_bytes("other noise", 90_000))
    second = take(repository, tree).snapshot
    assert first is not None and second is not None
    return first, second, files_below(tree)


def with_dead_packs(repository: Repository, tree: Path) -> tuple[Snapshot, Files]:
    """The same, the first one forgotten, and packs beside them in which nothing is needed."""
    other = take(repository, make_tree(tree.parent / "other", seed=9), source="other").snapshot
    first, second, files = two(repository, tree)
    forget(repository, other)
    forget(repository, first)
    return second, files


def keys(store: MemoryStore, start: str) -> list[str]:
    return sorted(key for key in store.objects if key.startswith(start) and key not in layout.SENTINELS)


Damage = Callable[[MemoryStore, Snapshot], None]


def flip(key: str, store: MemoryStore) -> None:
    data = bytearray(store.objects[key])
    data[len(data) // 2] ^= 1
    store.objects[key] = bytes(data)


def root_missing(store: MemoryStore, kept: Snapshot) -> None:
    del store.objects[layout.root_key(kept.id)]


def root_damaged(store: MemoryStore, kept: Snapshot) -> None:
    flip(layout.root_key(kept.id), store)


def manifests_damaged(store: MemoryStore, kept: Snapshot) -> None:
    for key in [key for key in keys(store, "packs/") if ".m" in key]:
        store.objects[key] = (
            store.objects[key][:64] + bytes(len(store.objects[key]) - 4160) + store.objects[key][-4096:]
        )


def manifests_gone(store: MemoryStore, kept: Snapshot) -> None:
    for key in [key for key in keys(store, "packs/") if ".m" in key]:
        del store.objects[key]


def index_damaged(store: MemoryStore, kept: Snapshot) -> None:
    for key in keys(store, "index/"):
        flip(key, store)


def plan_damaged(store: MemoryStore, kept: Snapshot) -> None:
    store.objects[layout.plan_key(bytes(16))] = b"torn"


def no_end_of(prefix: str) -> Damage:
    def damage(store: MemoryStore, kept: Snapshot) -> None:
        del store.objects[f"{prefix}zz-end"]

    damage.__name__ = f"{prefix} without its last mark"
    return damage


@pytest.mark.parametrize(
    "damage",
    [
        root_missing, root_damaged, manifests_damaged, manifests_gone, index_damaged, plan_damaged,
        *map(no_end_of, (layout.ROOTS, layout.COMMITS, layout.FORGOTTEN, layout.PACKS, layout.INDEX, layout.GC)),
    ],
    ids=lambda damage: damage.__name__,
)  # fmt: skip
def test_on_incomplete_knowledge_nothing_is_written_or_deleted(
    repository: Repository, store: MemoryStore, tree: Path, damage: Damage
) -> None:
    first, second, _ = two(repository, tree)
    forget(repository, first)
    damage(store, second)
    before = dict(store.objects)

    with open_repository(store) as fresh, pytest.raises((IntegrityError, IncompleteListing)):
        prune(fresh)

    assert store.objects == before


def test_a_forgotten_snapshot_that_is_damaged_stops_nothing(
    repository: Repository, store: MemoryStore, tree: Path
) -> None:
    """Within its undo window, so that it is still a root; every manifest that only it has is gone."""
    first = take(repository, tree).snapshot
    manifests = {key for key in store.objects if ".m" in key}
    other = make_tree(tree.parent / "other", seed=9)
    second = take(repository, other, source="other").snapshot
    assert first is not None and second is not None
    for key in manifests:
        del store.objects[key]
    with pytest.raises(IntegrityError):
        prune(repository)

    forget(repository, first)
    prune(repository, replace(NOW, undo_window_ns=7 * DAY_NS))

    assert {one.id for one in repository.catalog.snapshots().snapshots} == {second.id}
    assert files_below(other)


def test_a_damaged_chunk_that_would_have_to_move_keeps_its_pack(
    repository: Repository, store: MemoryStore, tree: Path
) -> None:
    two(repository, tree)
    packs = [key for key in keys(store, "packs/") if ".d" in key]
    with open_repository(store) as other:
        names = tuple(PackName.parse(key).id for key in packs)
        put_plan(store, other.keyring, Plan(packs=names, roots=(), creator="test", time_ns=1))
    for key in packs:
        flip(key, store)

    with pytest.raises(IntegrityError):
        sweep(repository)

    assert set(packs) <= set(store.objects)
    assert len(plans(store)) == 1


# Deleting


def test_denied_deletes_keep_the_plan_and_every_snapshot(
    repository: Repository, store: MemoryStore, tree: Path
) -> None:
    second, files = with_dead_packs(repository, tree)
    before = pack_bytes(store)
    locked = FaultyStore(store, FaultPlan(fault=Fault.READ_ONLY, at=0, verb="delete", below="packs/", times=None))

    with open_repository(locked) as other, pytest.raises(Refused) as refused:
        prune(other)

    assert (refused.value.code, refused.value.exit_code) == ("prune.denied", 8)
    assert len(plans(store)) == 2
    assert pack_bytes(store) >= before
    with open_repository(store) as other:
        assert_sound(other, {second.id: files})
        assert sweep(other).packs_deleted > 0
        assert plans(store) == []
        assert_sound(other, {second.id: files})


class KeepingStore(FaultyStore):
    """Says that it deletes packs, and keeps them: a bucket with versions or a lock."""

    def delete(self, key: str) -> None:
        if not key.startswith("packs/"):
            super().delete(key)


def test_packs_that_stay_listed_are_not_believed_to_be_gone(
    repository: Repository, store: MemoryStore, tree: Path
) -> None:
    second, files = with_dead_packs(repository, tree)

    with open_repository(KeepingStore(store)) as other, pytest.raises(Refused):
        prune(other)

    assert len(plans(store)) == 2
    with open_repository(store) as other:
        assert read_pruned(store, other.keyring, keys(store, "gc/done")) == frozenset()
        assert_sound(other, {second.id: files})


class FullStore(FaultyStore):
    """A disk with so many bytes left; what is deleted is free again."""

    def __init__(self, inner: MemoryStore, room: int) -> None:
        super().__init__(inner)
        self.room = room

    def put(self, key: str, parts: Sequence[Data]) -> None:
        size = sum(memoryview(part).nbytes for part in parts)
        if size > self.room:
            raise StoreFull(f"cannot put {key}", why="no space left")
        self.room -= size
        super().put(key, parts)

    def delete(self, key: str) -> None:
        with suppress(DedupError):
            self.room += self.inner.head(key)
        super().delete(key)


def test_a_full_disk_is_freed_by_what_costs_nothing_to_delete(
    repository: Repository, store: MemoryStore, tree: Path
) -> None:
    """Not a byte is left: the expired roots make room for the plans, the dead packs for what moves."""
    second, files = with_dead_packs(repository, tree)
    full = FullStore(store, room=0)

    with open_repository(full) as other:
        report = prune(other)

        assert report.bytes_written > 2_000
        assert report.packs_deleted == report.packs_condemned > 1
        assert plans(store) == []
        assert_sound(other, {second.id: files})


def test_without_room_for_a_plan_nothing_changes(repository: Repository, store: MemoryStore, tree: Path) -> None:
    first, second, files = two(repository, tree)
    forget(repository, first)
    packs = keys(store, "packs/")

    with open_repository(FullStore(store, room=-100_000)) as other, pytest.raises(StoreFull):
        prune(other)

    assert keys(store, "packs/") == packs
    with open_repository(store) as other:
        assert_sound(other, {second.id: files})


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
