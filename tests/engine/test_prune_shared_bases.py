"""Bases that several delta blocks share are carried for all of them together."""

from __future__ import annotations

from pathlib import Path

from dedupstore.codec.block import BASED
from dedupstore.repo.gcplan import Plan, put_plan
from dedupstore.repo.repository import Repository
from dedupstore.storage.memory import MemoryStore
from dedupstore.types import PackId
from tests.support.moved_blocks import blocks, change_a_row, pack_ids, snapshot_of
from tests.support.pruning import assert_comes_to_rest, assert_rebuilds, assert_sound, forget, pack_bytes, prune
from tests.support.repositories import new_repository, random_bytes


def table(folder: Path) -> Path:
    """A tree with one file, of many rows."""
    tree = folder / "tree"
    tree.mkdir()
    (tree / "rows").write_bytes(random_bytes("rows", 40_000))
    return tree


def test_small_increments_whose_first_snapshot_is_forgotten_stay_small(tmp_path: Path) -> None:
    """All lean on what only they need: worth moving for all of them together, for hardly one of them alone."""
    store, tree = MemoryStore(), table(tmp_path)
    with new_repository(store) as repository:
        first, _ = snapshot_of(repository, tree)
        kept = {}
        for turn in range(6):
            for row in range(turn, 80, 6):
                change_a_row(tree, row)
            snapshot, files = snapshot_of(repository, tree)
            kept[snapshot.id] = files
        forget(repository, first)
        before, bytes_before = deltas(repository), pack_bytes(store)
        packs = condemn_all(repository)

        prune(repository)

        assert before == deltas(repository) != set()
        assert pack_bytes(store) <= bytes_before
        assert not packs & pack_ids(repository)
        assert_comes_to_rest(repository)
        assert_sound(repository, kept)
        assert_rebuilds(repository)


def test_a_delta_that_alone_needs_large_bases_is_stored_in_full(tmp_path: Path) -> None:
    store, tree = MemoryStore(), table(tmp_path)
    with new_repository(store) as repository:
        first, _ = snapshot_of(repository, tree)
        for row in range(80):
            change_a_row(tree, row)
        second, _ = snapshot_of(repository, tree)
        (tree / "rows").write_bytes((tree / "rows").read_bytes()[:2_000])
        third, files = snapshot_of(repository, tree)
        forget(repository, first)
        forget(repository, second)
        condemn_all(repository)

        prune(repository)

        assert not deltas(repository) and pack_bytes(store) < 12_000
        assert_comes_to_rest(repository)
        assert_sound(repository, {third.id: files})


def condemn_all(repository: Repository) -> set[PackId]:
    """As somebody else's plan, which need not be a wise one."""
    packs = pack_ids(repository)
    condemned = Plan(packs=tuple(sorted(packs)), roots=(), creator="another host", time_ns=1)
    put_plan(repository.store, repository.keyring, condemned)
    return packs


def deltas(repository: Repository) -> set[tuple[bytes, ...]]:
    return {tuple(block.bases) for _, block in blocks(repository) if block.codec in BASED}
