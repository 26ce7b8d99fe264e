"""A repository that was put back to an earlier state, and a machine whose cache knows what is not there any more."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from dedupstore.storage.memory import MemoryStore
from dedupstore.types import SnapshotId
from tests.support.pruning import assert_sound, check
from tests.support.repositories import files_below, make_tree, mutate_tree, new_repository, open_repository, take


@dataclass(frozen=True, slots=True)
class Scene:
    store: MemoryStore
    cache: Path
    tree: Path
    kept: dict[SnapshotId, dict[bytes, bytes]]


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    store, cache, tree = MemoryStore(), tmp_path / "cache", make_tree(tmp_path / "tree")
    with new_repository(store, cache) as repository:
        first = take(repository, tree).snapshot
        assert first is not None
        kept = {first.id: files_below(tree)}
        before = dict(store.objects)
        mutate_tree(tree, 1)
        take(repository, tree)
    store.objects = before
    return Scene(store, cache, tree, kept)


def test_a_check_calls_nothing_lost_that_the_repository_does_not_know(scene: Scene) -> None:
    with open_repository(scene.store, scene.cache) as repository:
        report = check(repository)

        assert {finding.code for finding in report.findings} == {"check.cache_rebuilt"}
        assert report.exit_code == 0
        assert_sound(repository, scene.kept)
    with open_repository(scene.store, scene.cache) as repository:
        assert check(repository).findings == ()


def test_the_next_snapshot_stores_what_is_missing_and_the_one_after_it_looks_for_no_losses(scene: Scene) -> None:
    with open_repository(scene.store, scene.cache) as repository:
        second = take(repository, scene.tree).snapshot
        assert second is not None
        assert repository.look().whole

        assert_sound(repository, scene.kept | {second.id: files_below(scene.tree)})


def test_a_pack_that_is_really_lost_stays_lost(scene: Scene) -> None:
    lost = next(key for key in scene.store.objects if ".d" in key)
    del scene.store.objects[lost]

    with open_repository(scene.store, scene.cache) as repository:
        codes = {finding.code for finding in check(repository).findings}

    assert {"check.cache_rebuilt", "check.pack_missing", "check.file_damaged"} <= codes
