"""Where a repair puts chunks: into new packs, always in full; on a dry run they are counted only."""

from __future__ import annotations

from collections.abc import Sequence

from dedupstore.engine.health import Health
from dedupstore.repo.view import View
from dedupstore.repo.writer import ChunkWriter
from dedupstore.types import ChunkId, Data, Kind

HELD_BYTES = 32 << 20
"""So much of manifests is kept until their packs are closed."""


class RepairSink:
    """A `ChunkSink` that has what `health` calls readable and what was stored through it, and nothing else.

    Packs that are condemned count: whoever takes them away moves what is needed. Used by one thread.
    """

    def __init__(self, writer: ChunkWriter, health: Health, *, dry_run: bool) -> None:
        self.chunks = 0
        self.raw = 0
        """Bytes of the chunks stored, or that would be."""

        self.manifests: dict[ChunkId, bytes] = {}
        """Those stored here and not to be read from the repository yet, because their packs are open."""

        self._held = 0

        self._writer = writer
        self._health = health
        self._dry_run = dry_run
        self._taken: set[ChunkId] = set()
        self._unread: set[ChunkId] = set()

    @property
    def view(self) -> View:
        return self._writer.view

    def digest(self, kind: Kind, data: Data) -> ChunkId:
        return self._writer.digest(kind, data)

    def digests(self, kind: Kind, pieces: Sequence[Data]) -> list[ChunkId]:
        return self._writer.digests(kind, pieces)

    def has(self, chunk: ChunkId) -> bool:
        return chunk in self._taken or (chunk not in self._unread and self._health.usable(chunk))

    def distrust(self, chunk: ChunkId) -> None:
        """It was tried and could not be read, whatever is known of it: it has to be stored again."""
        self._unread.add(chunk)

    def save(self, kind: Kind, data: Data, like: Sequence[ChunkId] = ()) -> ChunkId:
        chunk = self.digest(kind, data)
        self.save_as(kind, chunk, data)
        return chunk

    def save_as(self, kind: Kind, chunk: ChunkId, data: Data, like: Sequence[ChunkId] = ()) -> bool:
        """Store a chunk that is not readable here; `like` is not looked at: what is mended depends on nothing."""
        if self.has(chunk):
            return False
        self._taken.add(chunk)
        self.chunks += 1
        self.raw += len(data)
        if kind is Kind.MANIFEST:
            self.manifests[chunk] = bytes(data)
            self._held += len(data)
        if not self._dry_run:
            self._writer.store_again(kind, chunk, data)
        return True

    def checkpoint(self) -> bool:
        """Call between files. Now and then closes all packs, so that manifests need not be held in memory.

        A dry run holds them all: there is no pack to read them from.
        """
        if self._dry_run or self._held <= HELD_BYTES:
            return not self._dry_run and self._writer.checkpoint()
        self._writer.finish()
        self.manifests.clear()
        self._held = 0
        return True
