"""What a reader keeps of packs has a bound, and what it reads does not depend on that."""

from __future__ import annotations

from pathlib import Path

import pytest

from dedupstore.repo import reader as reader_module
from dedupstore.repo.reader import ChunkReader
from dedupstore.storage.memory import MemoryStore
from dedupstore.types import ChunkId, Kind
from tests.support.repositories import make_tree, new_repository, segment_facts, take


def test_the_keys_of_few_packs_are_kept_and_every_chunk_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader_module, "MAX_OPEN_PACKS", 2)
    with new_repository(MemoryStore()) as repository:
        take(repository, make_tree(tmp_path / "tree", scale=8))
        chunks: list[ChunkId] = []
        packs = [fact for fact in segment_facts(repository) if fact.kind is Kind.DATA]
        for fact in packs:
            chunks += [chunk for block in fact.blocks() for chunk in block.ids]
        reader = ChunkReader(repository.store, repository.keyring, repository.index, cache_bytes=1)

        for chunk in chunks:
            data = reader.read(Kind.DATA, chunk)
            assert repository.keyring.id_key(Kind.DATA).digest(data) == chunk
            assert len(reader._packs) <= 2

        assert len(packs) > 2
