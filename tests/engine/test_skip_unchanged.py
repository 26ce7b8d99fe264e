"""`--skip-if-unchanged`: the snapshot that is reported in place of a new one exists."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from dedupstore.errors import DedupError
from dedupstore.storage.memory import MemoryStore
from tests.support.faults import FaultyStore, Step
from tests.support.pruning import assert_sound, forget, prune
from tests.support.repositories import files_below, make_tree, new_repository, open_repository, take


def test_nothing_is_stored_for_a_source_that_is_as_it_was(tmp_path: Path) -> None:
    tree, store = make_tree(tmp_path / "tree"), MemoryStore()
    with new_repository(store) as repository:
        first = take(repository, tree).snapshot
        assert first is not None
        before = dict(store.objects)

        result = take(repository, tree, skip_if_unchanged=True)

        assert result.unchanged and result.snapshot == first
        assert store.objects == before
        assert_sound(repository, {first.id: files_below(tree)})


def test_a_parent_that_is_forgotten_and_pruned_at_any_moment_is_not_reported(tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "tree")
    source = MemoryStore()
    with new_repository(source) as repository:
        take(repository, tree)
    ended: list[str] = []
    total = 1
    while len(ended) < total:
        store = MemoryStore()
        store.objects = dict(source.objects)
        ended.append("failed")
        struck: list[Step] = []

        def strike(step: Step, store: MemoryStore = store, struck: list[Step] = struck) -> None:
            if step.number == len(ended) - 1 and not step.done:
                struck.append(step)
                forget_everything(store)

        faulty = FaultyStore(store, hook=strike)
        with open_repository(faulty) as repository, suppress(DedupError):
            result = take(repository, tree, skip_if_unchanged=True)
            ended[-1] = "unchanged" if result.unchanged else "stored"
        total = faulty.operations
        if ended[-1] != "failed":
            with open_repository(store) as repository:
                there = {snapshot.id for snapshot in repository.catalog.snapshots().snapshots}
                assert result.snapshot is not None and result.snapshot.id in there, struck
                assert_sound(repository, {result.snapshot.id: files_below(tree)})
    assert {"stored", "failed"} <= set(ended)


def forget_everything(store: MemoryStore) -> None:
    with open_repository(store) as other:
        for snapshot in other.catalog.snapshots().snapshots:
            forget(other, snapshot)
        prune(other)
