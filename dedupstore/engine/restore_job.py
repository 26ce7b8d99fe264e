"""One file of several chunks while its pieces come in: what is still missing, and the hash of the whole."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence

from dedupstore.codec.hashing import StreamHash
from dedupstore.engine.restore_early import EarlyPieces, Held
from dedupstore.engine.restore_sink import Sink, SinkFile
from dedupstore.engine.target import Folder, Identity
from dedupstore.errors import CorruptChunk
from dedupstore.model.entry import Entry
from dedupstore.types import ChunkId, Data

WRONG_HASH = "the whole file does not match the hash in its manifest"


class FileJob:
    """Written by many threads. Whoever brings the last piece after the listing ended finishes the file.

    The hash runs along in stream order: a piece that comes early is kept aside until the hash gets there, in memory
    while `early` has room, else the file is asked for it again.
    """

    __slots__ = (
        "folder", "entry", "failed", "_sink", "_lock", "_file", "_left", "_listed", "_closed", "_hash", "_hashed",
        "_hashing", "_early", "_waiting",
    )  # fmt: skip

    def __init__(self, sink: Sink, folder: Folder, entry: Entry, early: EarlyPieces, *, verify: bool) -> None:
        self.folder = folder
        self.entry = entry
        self.failed = False
        self._sink = sink
        self._lock = threading.Lock()
        self._file: SinkFile | None = None
        self._left = 0
        self._listed = False
        self._closed = False
        self._hash = StreamHash() if verify and entry.hash else None
        self._hashed = 0
        self._hashing = False
        self._early = early
        self._waiting: dict[int, object] = {}
        """By position: a Held, or what the file's `keep` gave for it."""

    def expect(self, pieces: int) -> None:
        """So many more will come; told before the first of them can."""
        with self._lock:
            self._left += pieces

    def listed(self) -> bool:
        """No more pieces will be announced; True when the caller has to finish the file."""
        with self._lock:
            self._listed = True
            return self._left == 0

    def write(self, position: int, chunks: Sequence[ChunkId], parts: Sequence[memoryview]) -> None:
        """Take adjacent pieces, verified: the first belongs to `position` of the stream without holes."""
        if self.failed:
            return
        with self._lock:
            if self._closed:
                return
            if self._file is None:
                self._file = self._sink.start(self.folder, self.entry)
            file = self._file
        file.write(position, parts)
        if self._hash is not None:
            self._advance(self._hash, file, position, chunks, parts)

    def arrived(self, pieces: int) -> bool:
        """So many were dealt with, well or badly; True when the caller has to finish the file."""
        with self._lock:
            self._left -= pieces
            return self._listed and self._left == 0

    def finish(self) -> Identity | None:
        """Check the whole and make it visible. Raises CorruptChunk when the hash is not the one in the manifest."""
        with self._lock:
            self._closed = True
            if self._file is None:
                self._file = self._sink.start(self.folder, self.entry)
        if self._hash is not None and self._hash.digest() != self.entry.hash:
            raise CorruptChunk(WRONG_HASH)
        return self._file.finish()

    def abandon(self) -> None:
        with self._lock:
            self.failed = self._closed = True
            file, self._file = self._file, None
            waiting, self._waiting = self._waiting, {}
        for kept in waiting.values():
            if isinstance(kept, Held):
                self._early.release(kept)
        if file is not None:
            file.abandon()

    def _advance(
        self, hasher: StreamHash, file: SinkFile, position: int, chunks: Sequence[ChunkId], parts: Sequence[memoryview]
    ) -> None:
        with self._lock:
            if self._closed:
                return
            if self._hashing or position != self._hashed:
                self._waiting[position] = self._early.hold(parts) or file.keep(chunks, parts)
                return
            self._hashing = True
        length = _update(hasher, parts)
        while True:
            with self._lock:
                self._hashed += length
                position = self._hashed
                kept = self._waiting.pop(position, None)
                if kept is None:
                    self._hashing = False
                    return
            if isinstance(kept, Held):
                length = _update(hasher, kept.parts)
                self._early.release(kept)
            else:
                length = _update(hasher, file.recall(position, kept))


def _update(hasher: StreamHash, parts: Iterable[Data]) -> int:
    """How many bytes were hashed."""
    length = 0
    for part in parts:
        hasher.update(part)
        length += len(part)
    return length
