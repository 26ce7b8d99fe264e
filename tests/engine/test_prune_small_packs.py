"""Which packs a prune writes again: small ones together, the worst first, young ones not, and not more than is allowed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from dedupstore.engine.prune_plan import MANY_SMALL, PruneOptions, Reason
from dedupstore.repo.repository import Repository
from dedupstore.storage.local import LocalStore
from dedupstore.storage.memory import MemoryStore
from dedupstore.types import SnapshotId
from tests.support.moved_blocks import Files, change_a_row, deltas, pack_ids, snapshot_of
from tests.support.pruning import (
    NOW,
    assert_rebuilds,
    assert_sound,
    forget,
    pack_bytes,
    plan,
    prune,
)
from tests.support.repositories import (
    SMALL,
    new_repository,
    random_bytes,
    text_bytes,
)


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def repository(store: MemoryStore) -> Iterator[Repository]:
    with new_repository(store) as made:
        yield made


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "rows").write_bytes(random_bytes("rows", 40_000))
    return tmp_path / "tree"


@pytest.fixture
def many(store: MemoryStore, tree: Path) -> Iterator[tuple[Repository, dict[SnapshotId, Files]]]:
    """Many small snapshots, each of which left small packs of deltas."""
    options = replace(SMALL, pack_bytes=512 << 10)
    with new_repository(store, options=options) as repository:
        taken = {}
        for number in range(MANY_SMALL + 2):
            change_a_row(tree, number)
            snapshot, files = snapshot_of(repository, tree)
            taken[snapshot.id] = files
        yield repository, taken


def test_many_small_packs_become_few_and_keep_what_deltas_save(
    many: tuple[Repository, dict[SnapshotId, Files]], store: MemoryStore
) -> None:
    repository, taken = many
    before, payload = pack_bytes(store), sum(block.stored for block in deltas(repository))
    packs = len(pack_ids(repository))

    report = prune(repository)

    assert len(pack_ids(repository)) <= 6 < packs
    assert sum(block.stored for block in deltas(repository)) == payload > 0
    assert pack_bytes(store) < before / 2
    assert report.packs_condemned >= 2 * MANY_SMALL
    assert_sound(repository, taken)
    assert_rebuilds(repository)
    assert prune(repository).packs_condemned == 0


def test_the_limit_on_what_is_written_again_is_kept(
    many: tuple[Repository, dict[SnapshotId, Files]], store: MemoryStore
) -> None:
    repository, taken = many

    planned = plan(repository, replace(NOW, max_repack=1_000))
    report = prune(repository, replace(NOW, max_repack=1_000))

    assert planned.bytes_moving <= 1_000
    assert report.bytes_moved == 0
    assert_sound(repository, taken)


def test_packs_go_worst_first_until_little_is_wasted(repository: Repository, tmp_path: Path) -> None:
    tree = tmp_path / "mixed"
    tree.mkdir()
    for number in range(60):
        (tree / f"f{number:02}").write_bytes(random_bytes(f"mixed {number}", 8_000))
    first, _ = snapshot_of(repository, tree)
    for number in range(60):
        if number % 3:
            (tree / f"f{number:02}").unlink()
    second = snapshot_of(repository, tree)
    forget(repository, first)
    planned = plan(repository)

    prune(repository)

    assert planned.count(Reason.SPARSE) > 1
    assert 60 // 3 * 8_000 < pack_bytes(repository.store) < 60 // 3 * 8_000 * 1.5
    assert plan(repository).choices == ()
    assert_sound(repository, {second[0].id: second[1]})


def test_a_fresh_repository_would_not_be_much_smaller(repository: Repository, tmp_path: Path, tree: Path) -> None:
    taken = []
    for number in range(10):
        (tree / f"log{number}").write_bytes(text_bytes(number, 600) + random_bytes(f"log {number}", 5_000))
        if number > 2:
            (tree / f"log{number - 3}").unlink()
        change_a_row(tree, number)
        taken.append((*snapshot_of(repository, tree), number))
    for snapshot, _, _ in taken[:9]:
        forget(repository, snapshot)

    prune(repository)

    with new_repository(MemoryStore()) as fresh:
        snapshot_of(fresh, tree)
        assert pack_bytes(repository.store) <= pack_bytes(fresh.store) * 1.25
    assert_sound(repository, {taken[9][0].id: taken[9][1]})


def test_young_packs_are_left_to_the_run_that_is_making_a_snapshot(tmp_path: Path, tree: Path) -> None:
    with new_repository(LocalStore.create(str(tmp_path / "store"))) as repository:
        first, _ = snapshot_of(repository, tree)
        forget(repository, first)
        waiting = PruneOptions(undo_window_ns=0)

        assert plan(repository, waiting).choices == ()
        assert plan(repository, waiting).young > 0
        assert plan(repository).choices != ()
