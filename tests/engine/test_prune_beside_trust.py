"""A prune at every step of a snapshot that takes over what it finds unchanged, and of the snapshot after that.

The other tests of this kind write their files a moment before: such files are always read. Here the clock stands an hour
ahead and the cache is kept, so that whole directories are taken over by the name of their manifest, which is what a prune
could make wrong.
"""

from __future__ import annotations

import itertools
import shutil
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from dedupstore.clock import FrozenClock
from dedupstore.engine.prune_plan import PruneOptions
from dedupstore.errors import DedupError
from dedupstore.repo.repository import Repository
from dedupstore.storage.base import ObjectStore
from dedupstore.storage.memory import MemoryStore
from dedupstore.types import SnapshotId
from tests.support.faults import FaultyStore, Step
from tests.support.pruning import NOW, assert_sound, forget, prune
from tests.support.repositories import SMALL, files_below, new_repository, open_repository, random_bytes, take

HOUR_NS = 3600 * 10**9
OPTIONS = replace(SMALL, pack_bytes=32 << 10)
DEAD_ONLY = replace(NOW, max_repack=0)
"""What is needed in part stays as it is: so a manifest may outlive the data that it names."""


@dataclass
class Scene:
    """A store with a snapshot of a tree, one of a part of it, which stays, and the cache of the machine that took them."""

    objects: dict[str, bytes]
    cache: Path
    tree: Path
    first: SnapshotId
    beside: SnapshotId

    def store(self) -> MemoryStore:
        store = MemoryStore()
        store.objects = dict(self.objects)
        return store


def make_tree(tree: Path) -> Path:
    for number in range(3):
        folder = tree / f"folder{number}" / "deep"
        folder.mkdir(parents=True)
        (folder / "noise").write_bytes(random_bytes(f"noise {number}", 40_000))
        (folder.parent / "near").write_bytes(random_bytes(f"near {number}", 3_000))
    return tree


@pytest.fixture(params=["the first prune", "pruned before"])
def scene(tmp_path: Path, request: pytest.FixtureRequest) -> Scene:
    store, tree = MemoryStore(), make_tree(tmp_path / "tree")
    with new_repository(store, tmp_path / "cache", options=OPTIONS) as repository:
        if request.param == "pruned before":
            old = make_tree(tmp_path / "old")
            (old / "folder0" / "near").write_bytes(b"other")
            forget(repository, take(repository, old, source="old").snapshot)
            prune(repository)
        first = take(repository, tree).snapshot
        beside = take(repository, tree / "folder0", source="beside").snapshot
    assert first is not None and beside is not None
    return Scene(dict(store.objects), tmp_path / "cache", tree, first.id, beside.id)


def machine(store: ObjectStore, cache: Path) -> Repository:
    return open_repository(store, cache, clock=FrozenClock(time.time_ns() + HOUR_NS))


@pytest.mark.parametrize("change", ["nothing", pytest.param("one file", marks=pytest.mark.slow)])
@pytest.mark.parametrize("options", [NOW, DEAD_ONLY], ids=["all", "dead packs only"])
def test_nothing_is_taken_over_that_a_prune_took_away(
    scene: Scene, tmp_path: Path, change: str, options: PruneOptions
) -> None:
    """Another machine forgets the parent and prunes, without any grace, before step 0, 1, 2, … of the snapshot."""
    before, part = files_below(scene.tree), files_below(scene.tree / "folder0")
    if change == "one file":
        (scene.tree / "folder1" / "near").write_bytes(random_bytes("changed", 3_000))
    files = files_below(scene.tree)
    deleted: list[int] = []

    def interrupt(at: int) -> bool:
        store, cache = scene.store(), tmp_path / f"cache {at}"
        shutil.copytree(scene.cache, cache)
        acted = False
        kept = {scene.first: before, scene.beside: part}

        def hook(step: Step) -> None:
            nonlocal acted
            if step.number == at and not step.done:
                acted = True
                with open_repository(store) as other:
                    for snapshot in other.catalog.snapshots().snapshots:
                        if snapshot.id != scene.beside:
                            forget(other, snapshot)
                            kept.pop(snapshot.id, None)
                    deleted.append(prune(other, options).packs_deleted)

        with suppress(DedupError), machine(faulty := FaultyStore(store), cache) as repository:
            faulty.operations = 0
            faulty._hook = hook
            take(repository, scene.tree)
            faulty._hook = None
        for _ in range(2):
            with machine(store, cache) as repository:
                for snapshot in repository.catalog.snapshots().snapshots:
                    kept.setdefault(snapshot.id, files)
                assert_sound(repository, kept)
                take(repository, scene.tree)
        shutil.rmtree(cache)
        return acted

    assert next(at for at in itertools.count() if not interrupt(at)) > 15
    assert sum(map(bool, deleted)) > 5
