"""For tests of what keeps a second copy: a source with a history, and what must be true of both sides afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dedupstore.cancel import CancelToken
from dedupstore.engine.check import check_repository
from dedupstore.engine.check_options import CheckOptions, DataShare
from dedupstore.engine.copy import CopyResult, copy_snapshots
from dedupstore.engine.mirror import MirrorResult, mirror
from dedupstore.engine.mirror_plan import MirrorOptions, plan_mirror
from dedupstore.engine.origin import origin_of
from dedupstore.events import NullListener
from dedupstore.repo import layout
from dedupstore.storage.base import ObjectStore
from dedupstore.storage.memory import MemoryStore
from dedupstore.types import SnapshotId
from dedupstore.units import parse_id
from tests.support.repositories import (
    assert_restores,
    files_below,
    make_tree,
    mutate_tree,
    new_repository,
    open_repository,
    take,
)

States = dict[SnapshotId, dict[bytes, bytes]]
"""What each snapshot of the source holds."""


@dataclass(slots=True)
class History:
    """A repository with a few snapshots of a tree that changes; every test gets its own copy of the objects."""

    objects: dict[str, bytes]
    tree: Path
    states: States

    def store(self) -> MemoryStore:
        store = MemoryStore("memory:source")
        store.objects = dict(self.objects)
        return store


def make_history(path: Path, snapshots: int = 3) -> History:
    tree = make_tree(path / "tree")
    store = MemoryStore()
    states: States = {}
    with new_repository(store) as repository:
        for number in range(snapshots):
            if number:
                mutate_tree(tree, number)
            taken = take(repository, tree).snapshot
            assert taken is not None
            states[taken.id] = files_below(tree)
    return History(dict(store.objects), tree, states)


def check_clean(store: ObjectStore) -> None:
    """The deepest check finds nothing at all."""
    with open_repository(store) as repository:
        report = check_repository(
            repository, CheckOptions(read_data=DataShare()), listener=NullListener(), cancel=CancelToken()
        )
        assert report.exit_code == 0, report.findings


def assert_mirrored(store: ObjectStore, states: States, ids: Sequence[SnapshotId] | None = None) -> None:
    """Every snapshot the store shows restores to what it was, and nothing is damaged; with `ids`, those it shows."""
    with open_repository(store) as repository:
        listing = repository.catalog.snapshots()
        assert not listing.damaged
        for snapshot in listing.snapshots:
            assert_restores(repository, snapshot, states[snapshot.id])
        if ids is not None:
            assert {snapshot.id for snapshot in listing.snapshots} == set(ids)
    check_clean(store)


def run_mirror(
    source: ObjectStore, target: ObjectStore, *, delete: bool = False, despite_damage: bool = False
) -> MirrorResult:
    options = MirrorOptions(delete=delete, despite_damage=despite_damage)
    plan = plan_mirror(source, target, options)
    return mirror(source, target, plan, options, listener=NullListener(), cancel=CancelToken())


def run_copy(source: ObjectStore, target: ObjectStore, *numbers: int, cache: Path | None = None) -> CopyResult:
    """Copy all snapshots, or those with these numbers, between two repositories with keys of their own."""
    with open_repository(source) as here, open_repository(target, cache) as there:
        snapshots = here.catalog.snapshots().snapshots
        chosen = [snapshots[number] for number in numbers] if numbers else snapshots
        return copy_snapshots(here, there, chosen, listener=NullListener(), cancel=CancelToken())


def assert_copied(store: ObjectStore, history: History, ids: Sequence[SnapshotId] | None = None) -> None:
    """Every snapshot of the store is a whole copy of one of the history's; with `ids`, of exactly these, once each.

    The store is checked; without `ids`, half-way, only if it shows any snapshot at all.
    """
    with open_repository(store) as repository:
        listing = repository.catalog.snapshots()
        assert not listing.damaged
        if ids is None and not listing.snapshots:
            return
        originals = []
        for snapshot in listing.snapshots:
            original = SnapshotId(parse_id(origin_of(snapshot, repository.id).snapshot))
            assert_restores(repository, snapshot, history.states[original])
            originals.append(original)
        if ids is not None:
            assert sorted(originals) == sorted(ids)
    check_clean(store)


def packs_of(store: MemoryStore) -> set[str]:
    return {key for key in store.objects if key.startswith(layout.PACKS)} - set(layout.SENTINELS)


def assert_shows_nothing_wrong(target: MemoryStore, history: History) -> None:
    """What the mirror shows, if it is a repository yet, is whole."""
    if layout.FORMAT_KEY in target.objects:
        assert_mirrored(target, history.states)


def empty_objects() -> dict[str, bytes]:
    """The objects of an empty repository to copy to."""
    store = MemoryStore()
    new_repository(store).close()
    return dict(store.objects)


def fresh(empty: dict[str, bytes]) -> MemoryStore:
    """A store of its own for each copy."""
    store = MemoryStore("memory:target")
    store.objects = dict(empty)
    return store
