"""When prune must not go on: damage, denied deletes, full disks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from dedupstore.clock import FrozenClock
from dedupstore.engine.prune_plan import DAY_NS
from dedupstore.errors import DedupError, IncompleteListing, IntegrityError, Refused, StoreFull
from dedupstore.model.snapshot import Snapshot
from dedupstore.repo import layout
from dedupstore.repo.gcplan import Plan, put_plan, read_pruned
from dedupstore.repo.pack_name import PackName
from dedupstore.repo.repository import Repository
from dedupstore.storage.memory import MemoryStore
from dedupstore.types import Data
from tests.support.faults import Fault, FaultPlan, FaultyStore
from tests.support.pruning import NOW, assert_sound, forget, pack_bytes, plans, prune, sweep, two
from tests.support.repositories import (
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
