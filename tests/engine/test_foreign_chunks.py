"""The one place where two key rings meet: verified under one, named under the other, damage kept apart."""

from __future__ import annotations

from pathlib import Path

import pytest

from dedupstore.engine.foreign_chunks import Block, ForeignChunks
from dedupstore.errors import IntegrityError
from dedupstore.repo.repository import Repository
from dedupstore.storage.memory import MemoryStore
from dedupstore.types import ChunkId, Data, Kind
from tests.support.repositories import make_tree, new_repository, open_repository, segment_facts, take


def _name(target: Repository, kind: Kind, data: Data) -> ChunkId:
    return ChunkId(target.keyring.id_key(kind).digest(data))


def _everything(repository: Repository) -> dict[Block, dict[int, ChunkId]]:
    wanted: dict[Block, dict[int, ChunkId]] = {}
    for row in repository.index.packs():
        if row.kind is Kind.DATA:
            for block, ids in _blocks(repository, row.no).items():
                wanted[row.no, block] = ids
    return wanted


def _blocks(repository: Repository, pack_no: int) -> dict[int, dict[int, ChunkId]]:
    pack = repository.index.pack(pack_no).id
    (fact,) = [fact for fact in segment_facts(repository) if fact.id == pack]
    return {number: dict(enumerate(block.ids)) for number, block in enumerate(fact.blocks())}


def test_every_chunk_comes_once_in_order_and_with_both_names(tmp_path: Path) -> None:
    with new_repository(MemoryStore()) as source, new_repository(MemoryStore("memory:target")) as target:
        take(source, make_tree(tmp_path / "tree"))
        wanted = _everything(source)

        with ForeignChunks(source, lambda kind, data: _name(target, kind, data)) as foreign:
            found = list(foreign.blocks(wanted))

        assert [[chunk for chunk, _, _ in block.chunks] for block in found] == [
            list(wanted[block].values()) for block in sorted(wanted)
        ]
        for block in found:
            for chunk, own, data in block.chunks:
                assert source.keyring.id_key(Kind.DATA).digest(data) == chunk
                assert target.keyring.id_key(Kind.DATA).digest(data) == own != chunk


def test_a_damaged_block_fails_its_own_chunks_and_no_others(tmp_path: Path) -> None:
    store = MemoryStore()
    with new_repository(store) as source:
        take(source, make_tree(tmp_path / "tree"))
    with open_repository(store) as source, new_repository(MemoryStore("memory:target")) as target:
        source.look()
        wanted = _everything(source)
        hit = sorted(wanted)[0]
        row, info = source.index.pack(hit[0]), source.index.block(*hit)
        data = bytearray(store.objects[row.name.key])
        data[info.offset + 20] ^= 1
        store.objects[row.name.key] = bytes(data)

        with ForeignChunks(source, lambda kind, data: _name(target, kind, data)) as foreign:
            found = list(foreign.blocks(wanted))
            with pytest.raises(IntegrityError):
                foreign.read(wanted[hit][0])

        assert set(found[0].failed) == set(wanted[hit].values()) and not found[0].chunks
        assert all(block.chunks and not block.failed for block in found[1:])
