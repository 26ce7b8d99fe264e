"""A place for manifests in memory, and entries to put there."""

from __future__ import annotations

from blake3 import blake3

from dedupstore.model.entry import Entry
from dedupstore.model.tree import TreeWriter
from dedupstore.model.wire import Value, pack
from dedupstore.types import ChunkId


class ManifestStore:
    """Saves and loads manifests by hash; remembers in which order they were saved."""

    def __init__(self) -> None:
        self.chunks: dict[ChunkId, bytes] = {}
        self.saved: list[tuple[bytes, ChunkId]] = []
        self.loads = 0

    def save(self, data: bytes, first: bytes) -> ChunkId:
        chunk = chunk_id(data)
        self.chunks[chunk] = data
        self.saved.append((first, chunk))
        return chunk

    def put(self, value: Value) -> ChunkId:
        """Save whatever is to be read, however wrong."""
        return self.save(pack(value), b"")

    def load(self, chunk: ChunkId) -> bytes:
        self.loads += 1
        return self.chunks[chunk]

    def tree(self, entries: list[Entry]) -> ChunkId:
        writer = TreeWriter(self.save)
        for entry in entries:
            writer.add(entry)
        return writer.finish()


def chunk_id(data: bytes) -> ChunkId:
    return ChunkId(blake3(data).digest())


def numbered_ids(count: int, seed: bytes = b"") -> list[ChunkId]:
    """`count` different ids that look random."""
    stream = blake3(b"ids" + seed).digest(length=32 * count)
    return [ChunkId(stream[at : at + 32]) for at in range(0, len(stream), 32)]
