"""Where the archiver puts chunks: the repository's writer, or nowhere on a dry run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from dedupstore.repo.index import Index
from dedupstore.repo.keyring import KeyRing
from dedupstore.repo.view import View
from dedupstore.types import ChunkId, Data, Kind


class ChunkSink(Protocol):
    """What the archiver needs of a writer; see `repo.writer.ChunkWriter` for the meaning of each."""

    @property
    def view(self) -> View: ...

    def digest(self, kind: Kind, data: Data) -> ChunkId: ...

    def digests(self, kind: Kind, pieces: Sequence[Data]) -> list[ChunkId]: ...

    def has(self, chunk: ChunkId) -> bool: ...

    def save(self, kind: Kind, data: Data, like: Sequence[ChunkId] = ()) -> ChunkId: ...

    def save_as(self, kind: Kind, chunk: ChunkId, data: Data, like: Sequence[ChunkId] = ()) -> bool: ...

    def checkpoint(self) -> bool: ...


class DrySink:
    """Names and counts chunks and stores none: what a snapshot would add, before compression."""

    def __init__(self, keyring: KeyRing, index: Index, view: View) -> None:
        self.view = view
        self.raw = 0
        self.chunks = 0
        self._index = index
        self._keyed = {kind: keyring.id_key(kind) for kind in Kind}
        self._new: set[ChunkId] = set()

    def digest(self, kind: Kind, data: Data) -> ChunkId:
        return ChunkId(self._keyed[kind].digest(data))

    def digests(self, kind: Kind, pieces: Sequence[Data]) -> list[ChunkId]:
        return list(map(ChunkId, self._keyed[kind].digests(pieces)))

    def has(self, chunk: ChunkId) -> bool:
        if chunk in self._new:
            return True
        usable, bad = self.view.usable, self.view.bad
        return any(
            copy.pack_no in usable and (copy.pack_no, copy.block_no) not in bad for copy in self._index.find_all(chunk)
        )

    def save(self, kind: Kind, data: Data, like: Sequence[ChunkId] = ()) -> ChunkId:
        chunk = self.digest(kind, data)
        self.save_as(kind, chunk, data)
        return chunk

    def save_as(self, kind: Kind, chunk: ChunkId, data: Data, like: Sequence[ChunkId] = ()) -> bool:
        if self.has(chunk):
            return False
        self._new.add(chunk)
        self.chunks += 1
        self.raw += len(data)
        return True

    def checkpoint(self) -> bool:
        return False
