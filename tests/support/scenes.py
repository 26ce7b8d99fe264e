"""A repository with a past, in which every command has something to do, and what must still be in it afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from dedupstore.engine.prune_plan import Reason
from dedupstore.errors import WrongPassphrase
from dedupstore.repo.repository import InitOptions, Repository
from dedupstore.storage.base import ObjectStore
from dedupstore.storage.memory import MemoryStore
from dedupstore.types import SnapshotId
from tests.support.pruning import forget, plan
from tests.support.repositories import (
    SMALL,
    files_below,
    new_repository,
    open_repository,
    random_bytes,
    take,
    text_bytes,
)
from tests.support.rotating import NEW_SECRET, open_by

Files = dict[bytes, bytes]
OPTIONS: InitOptions = replace(SMALL, pack_bytes=48 << 10, delta_block_bytes=4 << 10)


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """A store with snapshots, some of them forgotten: a prune deletes, moves blocks as they are, and packs anew."""

    objects: Mapping[str, bytes]
    kept: dict[SnapshotId, Files]
    forgotten: dict[SnapshotId, Files]
    tree: Path
    """As it was when the last of them was taken."""

    def store(self) -> MemoryStore:
        return store_of(self.objects)

    @property
    def files(self) -> Files:
        return files_below(self.tree)


def store_of(objects: Mapping[str, bytes], url: str = "memory:scene") -> MemoryStore:
    store = MemoryStore(url)
    store.objects = dict(objects)
    return store


def open_any(store: ObjectStore) -> Repository:
    """By the secret it was made with, or the one that a command has put in its place."""
    try:
        return open_repository(store)
    except WrongPassphrase:
        return open_by(store, NEW_SECRET)


def make_scene(folder: Path, kept_days: frozenset[int] = frozenset({2})) -> Scene:
    """Four days, of which `kept_days` stay.

    Which chunks share a pack is not the same in every run; one in which something has to move is taken.
    """
    for number in range(50):
        made = _make(folder / str(number) / "tree", kept_days)
        with open_repository(made.store()) as repository:
            planned = plan(repository)
            if planned.count(Reason.DEAD) > 1 and planned.count(Reason.SPARSE) > 0:
                return made
    raise AssertionError("no such scene in many tries")


def _make(tree: Path, kept_days: frozenset[int]) -> Scene:
    tree.mkdir(parents=True)
    store = MemoryStore()
    kept: dict[SnapshotId, Files] = {}
    forgotten: dict[SnapshotId, Files] = {}
    with new_repository(store, options=OPTIONS) as repository:
        for day in range(4):
            change(tree, day)
            snapshot = take(repository, tree).snapshot
            assert snapshot is not None
            if day in kept_days:
                kept[snapshot.id] = files_below(tree)
            else:
                forget(repository, snapshot)
                forgotten[snapshot.id] = files_below(tree)
    return Scene(dict(store.objects), kept, forgotten, tree)


def change(tree: Path, day: int) -> None:
    """A text of which some rows change each day, and noise that stays, goes or comes."""
    text = bytearray(text_bytes(1, 1500))
    for round_ in range(1, day + 1):
        text[2000 * round_ : 2000 * round_ + 40] = b"%040d" % round_
    (tree / "text").write_bytes(text)
    (tree / "steady").write_bytes(random_bytes("steady", 9_000))
    for number in range(4):
        (tree / f"noise{number}").write_bytes(random_bytes(f"{number} {day // (number + 1)}", 7_000))
