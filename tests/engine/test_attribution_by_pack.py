"""What a forget would free, in whole packs and in blocks of others, compared with counting it by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from dedupstore.cancel import CancelToken
from dedupstore.codec.block import Codec
from dedupstore.engine.attribution import Freed, attribute
from dedupstore.errors import IntegrityError
from dedupstore.events import NullListener
from dedupstore.model.snapshot import Snapshot
from dedupstore.repo.reachable import reachable
from dedupstore.repo.repository import Repository
from dedupstore.storage.memory import MemoryStore
from dedupstore.types import ChunkId
from tests.support.repositories import make_tree, mutate_tree, new_repository, open_repository, take

Block = tuple[int, int]


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Four snapshots of a changing tree, then two of another source."""
    folder = tmp_path_factory.mktemp("by_pack")
    tree = make_tree(folder / "tree")
    other = make_tree(folder / "other", seed=2)
    store = MemoryStore()
    with new_repository(store) as repository:
        for seed in range(4):
            take(repository, tree)
            mutate_tree(tree, seed)
        for seed in range(2):
            take(repository, other, source="other")
            mutate_tree(other, 100 + seed)
    return dict(store.objects)


@pytest.fixture
def repository(objects: dict[str, bytes]) -> Repository:
    store = MemoryStore()
    store.objects = dict(objects)
    opened = open_repository(store)
    opened.look()
    return opened


def by_hand(repository: Repository, snapshots: list[Snapshot]) -> set[Block]:
    """Every block that these need, straight from the definition; an id at a time, no bits."""
    index = repository.index
    needed: set[Block] = set()
    chunks: set[ChunkId] = set()
    for snapshot in snapshots:
        chunks |= {chunk for _, chunk in reachable(repository.reader.load_manifest, snapshot.root)}
    for chunk in chunks:
        location = index.find(chunk)
        assert location is not None
        needed.add((location.pack_no, location.block_no))
    for pack_no, block_no in list(needed):
        for base in index.block(pack_no, block_no).bases:
            full = [
                (copy.pack_no, copy.block_no)
                for copy in index.find_all(base)
                if index.block(copy.pack_no, copy.block_no).codec != Codec.DELTA
            ]
            needed.add(full[0])
    return needed


def expected(repository: Repository, stays: list[Snapshot], goes: list[Snapshot]) -> Freed:
    kept = by_hand(repository, stays)
    freed = by_hand(repository, stays + goes) - kept
    alive = {pack_no for pack_no, _ in kept}
    whole = {pack_no for pack_no, _ in freed} - alive
    shared = [block for block in freed if block[0] in alive]
    return Freed(
        packs=len(whole),
        pack_bytes=sum(repository.index.pack(number).size for number in whole),
        blocks=len(shared),
        block_bytes=sum(repository.index.block(*block).stored for block in shared),
    )


def freed(repository: Repository, stays: Sequence[Snapshot], goes: Sequence[Snapshot]) -> Freed:
    groups = [[snapshot.root for snapshot in group] for group in (stays, goes)]
    return attribute(repository, groups, NullListener(), CancelToken())[1]


@pytest.mark.parametrize("gone", [[0], [1], [0, 1], [0, 1, 2], [3], [4], [4, 5], [0, 1, 2, 3], [1, 4], []])
def test_what_would_be_freed_is_what_nothing_else_needs(repository: Repository, gone: list[int]) -> None:
    snapshots = repository.catalog.snapshots().snapshots
    goes = [snapshots[number] for number in gone]
    stays = [snapshot for snapshot in snapshots if snapshot not in goes]

    found = freed(repository, stays, goes)

    assert found == expected(repository, stays, goes)
    # The first snapshot of a source holds what the later ones are deltas to: alone it frees nothing.
    assert bool(found.total) is (gone not in ([], [0], [4]))


def test_the_bases_of_delta_blocks_that_stay_are_not_freed(repository: Repository) -> None:
    """The first snapshot holds the full copies that all later ones are deltas to."""
    snapshots = repository.catalog.snapshots().snapshots[:4]
    bases = [
        location
        for snapshot in snapshots[1:]
        for location in by_hand(repository, [snapshot])
        if repository.index.block(*location).codec == Codec.DELTA
    ]
    assert bases, "no delta block to speak of"

    found = freed(repository, snapshots[1:], snapshots[:1])
    everything = freed(repository, [], snapshots)

    assert found.total < everything.total / 4


def test_a_snapshot_with_the_same_tree_frees_nothing(repository: Repository) -> None:
    first = repository.catalog.snapshots().snapshots[:1]

    assert freed(repository, first, first).total == 0


def test_a_tree_that_cannot_be_read_has_no_answer(repository: Repository, tmp_path: Path) -> None:
    missing = ChunkId(bytes(32))

    with pytest.raises(IntegrityError):
        attribute(repository, [[], [missing]], NullListener(), CancelToken())
