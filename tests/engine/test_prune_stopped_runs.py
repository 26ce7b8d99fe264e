"""What prune does about a run that was stopped between its root and its commit, when something of it is damaged."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dedupstore.errors import IntegrityError, StoreError
from dedupstore.model.snapshot import Snapshot
from dedupstore.repo import layout
from dedupstore.repo.badlist import BadRecord, put_bad
from dedupstore.repo.index import PackRow
from dedupstore.repo.repository import Repository
from dedupstore.storage.memory import MemoryStore
from dedupstore.types import Kind
from tests.support.damaging import flip
from tests.support.faults import FaultyStore, Step
from tests.support.forgetting import undo
from tests.support.pruning import assert_comes_to_rest, assert_sound, check, condemn, forget, plans, sweep
from tests.support.repositories import files_below, make_tree, new_repository, take


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def unreadable() -> set[str]:
    """Names of objects that the disk does not give."""
    return set()


@pytest.fixture
def repository(store: MemoryStore, unreadable: set[str], tmp_path: Path) -> Iterator[Repository]:
    def hook(step: Step) -> None:
        if step.verb == "get" and step.key in unreadable:
            raise StoreError(f"{step.key} cannot be read", why="a bad sector", code="store.unreadable")

    with new_repository(FaultyStore(store, hook=hook), tmp_path / "cache") as made:
        yield made


@pytest.fixture
def kept(repository: Repository, tmp_path: Path) -> Snapshot:
    taken = take(repository, make_tree(tmp_path / "kept")).snapshot
    assert taken is not None
    return taken


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return make_tree(tmp_path / "stopped", seed=7)


def packs(repository: Repository) -> list[PackRow]:
    repository.look()
    return list(repository.index.packs())


def stop_run(repository: Repository, store: MemoryStore, tree: Path) -> tuple[list[PackRow], str, bytes]:
    """A run that was stopped before its commit: its packs, and the name and bytes of the commit that it did not put."""
    before = len(packs(repository))
    taken = take(repository, tree, source="stopped").snapshot
    assert taken is not None
    key = layout.commit_key(taken.id)
    return packs(repository)[before:], key, store.objects.pop(key)


def flip_all(repository: Repository, store: MemoryStore, row: PackRow) -> None:
    """One bit of every block of a pack."""
    for block in repository.index.blocks(row.no):
        flip(store, row.name.key, block.offset + block.stored // 2)


@pytest.mark.parametrize("kind", Kind)
def test_what_is_known_to_be_damaged_of_a_run_that_was_stopped_stops_no_prune(
    repository: Repository, store: MemoryStore, kept: Snapshot, tree: Path, tmp_path: Path, kind: Kind
) -> None:
    left, _, _ = stop_run(repository, store, tree)
    row = next(row for row in left if row.kind is kind)
    flip_all(repository, store, row)
    assert check(repository).recorded == 1

    assert_comes_to_rest(repository)

    again = take(repository, tree, source="stopped").snapshot
    assert again is not None
    assert_comes_to_rest(repository)
    assert row.name.key not in store.objects
    assert_sound(repository, {kept.id: files_below(tmp_path / "kept"), again.id: files_below(tree)})


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("how", ["flipped", "unreadable"])
def test_what_is_found_damaged_in_condemned_packs_and_only_a_run_that_was_stopped_needs_goes(
    repository: Repository, store: MemoryStore, unreadable: set[str], kept: Snapshot, tree: Path, tmp_path: Path,
    kind: Kind, how: str,
) -> None:  # fmt: skip
    left, _, _ = stop_run(repository, store, tree)
    row = next(row for row in left if row.kind is kind)
    condemn(repository, [row.id for row in left])
    if how == "flipped":
        flip_all(repository, store, row)
    else:
        unreadable.add(row.name.key)
    assert check(repository).recorded == 1

    sweep(repository)

    assert not plans(store) and not any(row.name.key in store.objects for row in left)
    again = take(repository, tree, source="stopped").snapshot
    assert again is not None
    assert_comes_to_rest(repository)
    assert_sound(repository, {kept.id: files_below(tmp_path / "kept"), again.id: files_below(tree)})


def test_what_is_wrongly_said_to_be_damaged_of_a_run_that_goes_on_is_moved(
    repository: Repository, store: MemoryStore, kept: Snapshot, tree: Path, tmp_path: Path
) -> None:
    """It looked before the packs were condemned and the record was made, and commits after both."""
    left, commit_key, commit = stop_run(repository, store, tree)
    condemn(repository, [row.id for row in left])
    put_bad(store, repository.keyring, BadRecord(packs={row.id: None for row in left}))

    sweep(repository)

    assert not any(row.name.key in store.objects for row in left)
    store.objects[commit_key] = commit
    (went_on,) = repository.catalog.committed() - {kept.id}
    assert_sound(repository, {kept.id: files_below(tmp_path / "kept"), went_on: files_below(tree)})


@pytest.mark.parametrize("kind", Kind)
def test_what_cannot_be_asked_for_just_now_is_not_taken_for_lost(
    store: MemoryStore, tree: Path, tmp_path: Path, kind: Kind
) -> None:
    """The list of damage is wrong, and the keys have expired: nothing that a forgotten snapshot has is let go for that."""
    refused: set[str] = set()

    def hook(step: Step) -> None:
        if step.verb == "get" and step.key in refused:
            raise StoreError(f"cannot read {step.key}", why="the server says ExpiredToken", code="store.credentials")

    with new_repository(FaultyStore(store, hook=hook), tmp_path / "cache") as repository:
        snapshot = take(repository, tree).snapshot
        assert snapshot is not None
        forget(repository, snapshot)
        known = packs(repository)
        condemn(repository, [row.id for row in known])
        put_bad(store, repository.keyring, BadRecord(packs={row.id: None for row in known}))
        refused.update(row.name.key for row in known if row.kind is kind)

        with pytest.raises(StoreError, match="cannot read"):
            sweep(repository)

        refused.clear()
        sweep(repository)
        back = undo(repository, snapshot.id)
        assert_sound(repository, {back.id: files_below(tree)})


def test_damage_of_a_run_that_commits_while_it_is_looked_at_stops_the_prune(
    store: MemoryStore, tree: Path, tmp_path: Path
) -> None:
    """It is a snapshot then, and what is damaged of it may be whole somewhere else."""
    commits: dict[str, tuple[str, bytes]] = {}
    """By the pack that is read when it comes."""

    def hook(step: Step) -> None:
        if step.verb == "get" and step.key in commits:
            key, commit = commits.pop(step.key)
            store.objects[key] = commit

    with new_repository(FaultyStore(store, hook=hook), tmp_path / "cache") as repository:
        left, key, commit = stop_run(repository, store, tree)
        damaged = next(row for row in left if row.kind is Kind.DATA)
        condemn(repository, [row.id for row in left])
        flip_all(repository, store, damaged)
        assert check(repository).recorded == 1
        commits[damaged.name.key] = (key, commit)

        with pytest.raises(IntegrityError) as caught:
            sweep(repository)

        assert caught.value.code == "prune.unmovable"
        assert damaged.name.key in store.objects
