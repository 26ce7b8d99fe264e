"""What is remembered of another repository's names: few rows in the order of its packs, and never another chunk's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dedupstore.engine import copy_memory
from dedupstore.engine.copy_memory import CHUNKS_PER_ROW, CopyMemory
from dedupstore.repo.index import Location
from dedupstore.repo.lmdb_index import LmdbIndex
from dedupstore.repo.repository import Repository
from dedupstore.storage.memory import MemoryStore
from dedupstore.types import ChunkId, Kind, SnapshotId
from tests.support.repositories import make_tree, new_repository, open_repository, segment_facts, take

SNAPSHOT = SnapshotId(b"s" * 16)


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    store = MemoryStore("memory:source")
    with new_repository(store) as repository:
        take(repository, make_tree(tmp_path_factory.mktemp("memory") / "tree", scale=4))
    return store.objects


@pytest.fixture
def source(objects: dict[str, bytes]) -> Iterator[Repository]:
    store = MemoryStore("memory:source")
    store.objects = dict(objects)
    with open_repository(store) as repository:
        repository.look()
        yield repository


@pytest.fixture
def place() -> MemoryStore:
    store = MemoryStore("memory:target")
    new_repository(store).close()
    return store


def data_chunks(repository: Repository) -> list[ChunkId]:
    facts = [fact for fact in segment_facts(repository) if fact.kind is Kind.DATA]
    return [chunk for fact in facts for block in fact.blocks() for chunk in block.ids]


def name_of(chunk: ChunkId) -> ChunkId:
    """A made-up name in the target."""
    return ChunkId(chunk[::-1])


def memory_of(target: Repository, source: Repository) -> CopyMemory:
    return CopyMemory(target.index, target.keyring.cache_key(), source.id, source.index)


def put(memory: CopyMemory, source: Repository, chunk: ChunkId) -> None:
    place = source.index.find(chunk)
    assert place is not None
    memory.put_chunk(place, chunk, name_of(chunk))


def test_names_survive_a_restart_in_few_rows(source: Repository, place: MemoryStore, tmp_path: Path) -> None:
    chunks = data_chunks(source)
    with open_repository(place, tmp_path) as target:
        memory = memory_of(target, source)
        assert all(memory.chunk(chunk) is None for chunk in chunks)
        for chunk in chunks:
            put(memory, source, chunk)
        memory.flush()
        blocks = {(at.pack_no, at.block_no) for at in map(source.reader.locate, chunks)}
        assert target.index.counts().directories <= len(blocks) + len(chunks) // CHUNKS_PER_ROW

    # Numbers of packs are this machine's alone: they change when the source's index is built anew.
    with open_repository(source.store, tmp_path / "other") as again, open_repository(place, tmp_path) as target:
        again.index.learn(list(segment_facts(source))[::-1])
        memory = memory_of(target, again)
        assert {chunk: memory.chunk(chunk) for chunk in chunks} == {chunk: name_of(chunk) for chunk in chunks}


def test_rows_that_make_room_are_not_lost(
    source: Repository, place: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copy_memory, "HELD_ROWS", 2)
    monkeypatch.setattr(copy_memory, "_MAX_PREFIXES", 1)
    chunks = data_chunks(source)
    with open_repository(place) as target:
        memory = memory_of(target, source)

        # Every row is met, left, and met again.
        for chunk in chunks[::2] + chunks[1::2]:
            put(memory, source, chunk)

        assert all(memory.chunk(chunk) == name_of(chunk) for chunk in chunks)


class _LyingIndex:
    """Says of every chunk that it lies where the first one asked for does."""

    def __init__(self, inner: LmdbIndex) -> None:
        self._inner = inner
        self._first: Location | None = None

    def find(self, chunk: ChunkId) -> Location | None:
        self._first = self._first or self._inner.find(chunk)
        return self._first

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)


def test_a_place_that_two_chunks_are_said_to_have_gives_no_wrong_name(source: Repository, place: MemoryStore) -> None:
    first, second = data_chunks(source)[:2]
    with open_repository(place) as target:
        lying = _LyingIndex(source.index)
        memory = CopyMemory(target.index, target.keyring.cache_key(), source.id, lying)  # type: ignore[arg-type]  # an index that lies

        put(memory, source, first)

        assert memory.chunk(first) == name_of(first)
        assert memory.chunk(second) is None
        assert memory.chunk(ChunkId(bytes(32))) is None


def test_directories_and_sources_are_kept_apart(source: Repository, place: MemoryStore, tmp_path: Path) -> None:
    chunk = data_chunks(source)[0]
    own, met = ChunkId(b"o" * 32), ChunkId(b"m" * 32)
    with open_repository(place, tmp_path) as target:
        memory = memory_of(target, source)
        put(memory, source, chunk)
        memory.put_tree(own, chunk, SNAPSHOT)
        memory.put_tree(met, None, SNAPSHOT)
        memory.flush()

    with open_repository(place, tmp_path) as target, new_repository(MemoryStore()) as other:
        again = memory_of(target, source)
        stranger = CopyMemory(target.index, target.keyring.cache_key(), other.id, source.index)

        assert again.chunk(chunk) == name_of(chunk) and again.tree(own) == (chunk, SNAPSHOT)
        assert again.tree(met) == (None, SNAPSHOT)
        assert again.tree(chunk) is None and again.chunk(own) is None
        assert stranger.chunk(chunk) is None and stranger.tree(own) is None
