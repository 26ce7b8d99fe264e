"""Very many very small chunks: blocks and packs end by their number, and nothing is made larger by it."""

from __future__ import annotations

from dataclasses import replace

from dedupstore.repo.pack import MAX_PACK_CHUNKS
from dedupstore.repo.writer import MAX_BLOCK_CHUNKS, WriterSettings
from dedupstore.storage.memory import MemoryStore
from dedupstore.types import Kind
from tests.support.checking import assert_clean
from tests.support.repositories import SMALL, new_repository

USUAL = replace(SMALL, block_bytes=WriterSettings().full_block, pack_bytes=WriterSettings().data_pack)
COUNT = MAX_PACK_CHUNKS + MAX_BLOCK_CHUNKS + 7


def test_tiny_chunks_are_stored_and_found_and_take_little_room() -> None:
    with new_repository(MemoryStore(), options=USUAL) as repository:
        chunks = [b"%08x" % number for number in range(COUNT)]
        with repository.writer(repository.look()) as writer:
            ids = [writer.save(Kind.DATA, chunk) for chunk in chunks]

        rows = list(repository.index.packs())
        counts = [[len(block.lengths) for block in repository.index.blocks(row.no)] for row in rows]
        assert sum(map(sum, counts)) == COUNT
        assert max(map(max, counts)) == MAX_BLOCK_CHUNKS
        assert max(map(sum, counts)) == MAX_PACK_CHUNKS
        # 8 bytes and their row in the directory.
        assert sum(row.size for row in rows) < COUNT * 2 * (8 + 35)
        assert [repository.reader.read(Kind.DATA, ids[at]) for at in (0, COUNT // 2, COUNT - 1)] == [
            chunks[at] for at in (0, COUNT // 2, COUNT - 1)
        ]
        assert_clean(repository)
