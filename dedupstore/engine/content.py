"""One stream into chunks: read, cut, name, store. The hot path of everything that is not a small file."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from dedupstore.cancel import CancelToken
from dedupstore.chunking.chunker import Chunker
from dedupstore.codec.hashing import StreamHash
from dedupstore.engine.parent import Alignment
from dedupstore.engine.sink import ChunkSink
from dedupstore.model.entry import Entry
from dedupstore.model.tree import ContentWriter
from dedupstore.types import ChunkId, Data, Kind

BUFFER_BYTES = 8 << 20
READ_AHEAD = 2
"""Buffers being filled and cut by the reading thread while the calling thread hashes another."""


@dataclass(slots=True)
class _Piece:
    """A filled buffer: `view[:end]` is cut at `cuts`; `buffer` goes back to the reader afterwards."""

    buffer: bytearray
    cuts: list[int]


class ContentStore:
    """Stores the content of files through one sink. Used by one thread; keeps its buffers from file to file."""

    def __init__(self, sink: ChunkSink, chunker: Chunker, cancel: CancelToken, advanced: Callable[[int], None]) -> None:
        self._sink = sink
        self._chunker = chunker
        self._cancel = cancel
        self._advanced = advanced
        self._minimum = chunker.params.minimum
        self._buffers: list[bytearray] = []

    def store_bytes(self, data: bytes, entry: Entry, alignment: Alignment | None, page_size: int = 0) -> int:
        """Store a file that fits in memory; fills `content` (or `pages`) and `hash`. How many bytes were new."""
        if not data:
            return 0
        self._advanced(len(data))
        if len(data) <= self._minimum:
            like = alignment.like(0, len(data)) if alignment is not None else ()
            chunk = self._sink.digest(Kind.DATA, data)
            new = self._sink.save_as(Kind.DATA, chunk, data, like)
            entry.content = chunk
            return len(data) if new else 0
        cuts = self._chunker.cuts(data, len(data), final=True, page_size=page_size)
        references = self._references(entry)
        new_bytes = self._store_cuts(memoryview(data), cuts, 0, references, alignment)
        references.finish(entry)
        if len(cuts) > 1:
            whole = StreamHash()
            whole.update(data)
            entry.hash = whole.digest()
        return new_bytes

    def store_stream(
        self, readinto: Callable[[memoryview], int], entry: Entry, alignment: Alignment | None, page_size: int = 0
    ) -> int:
        """Store a stream of any length in bounded memory, reading ahead in a second thread; sets `entry.size` to
        the bytes read. How many bytes were new.
        """
        references = self._references(entry)
        whole = StreamHash()
        offset = new_bytes = 0
        for piece in self._read_ahead(readinto, page_size):
            self._cancel.check()
            end = piece.cuts[-1] if piece.cuts else 0
            with memoryview(piece.buffer) as view:
                whole.update(view[:end])
                new_bytes += self._store_cuts(view, piece.cuts, offset, references, alignment)
            offset += end
            self._advanced(end)
        references.finish(entry)
        entry.size = offset
        if references.chunks > 1:
            entry.hash = whole.digest()
        return new_bytes

    def _references(self, entry: Entry) -> ContentWriter:
        def save(data: bytes, first: bytes) -> ChunkId:
            return self._sink.save(Kind.MANIFEST, data)

        return ContentWriter(save)

    def _store_cuts(
        self, view: Data, cuts: list[int], offset: int, references: ContentWriter, alignment: Alignment | None
    ) -> int:
        digest, save_as, add = self._sink.digest, self._sink.save_as, references.add
        new_bytes = start = 0
        for end in cuts:
            piece = view[start:end]
            length = end - start
            chunk = digest(Kind.DATA, piece)
            if alignment is None:
                if save_as(Kind.DATA, chunk, piece):
                    new_bytes += length
            elif self._sink.has(chunk):
                alignment.anchor(chunk, offset + start)
            else:
                save_as(Kind.DATA, chunk, piece, alignment.like(offset + start, length))
                new_bytes += length
            add(chunk, length)
            start = end
        return new_bytes

    def _read_ahead(self, readinto: Callable[[memoryview], int], page_size: int) -> Iterator[_Piece]:
        """Buffers with their cuts, read and cut by another thread. A buffer is valid until the next is asked for."""
        size = max(BUFFER_BYTES, 2 * self._chunker.rule(page_size).maximum)
        free: queue.SimpleQueue[bytearray | None] = queue.SimpleQueue()
        filled: queue.SimpleQueue[_Piece | BaseException | None] = queue.SimpleQueue()
        buffers = self._take_buffers(size)
        for buffer in buffers:
            free.put(buffer)
        reader = threading.Thread(
            target=_fill_and_cut,
            args=(self._chunker, readinto, page_size, free, filled),
            name="read-ahead",
            daemon=True,
        )
        reader.start()
        try:
            while (piece := filled.get()) is not None:
                if isinstance(piece, BaseException):
                    raise piece
                yield piece
                free.put(piece.buffer)
        finally:
            free.put(None)
            reader.join()

    def _take_buffers(self, size: int) -> list[bytearray]:
        if not self._buffers or len(self._buffers[0]) != size:
            self._buffers = [bytearray(size) for _ in range(READ_AHEAD + 1)]
        return self._buffers


def _fill_and_cut(
    chunker: Chunker,
    readinto: Callable[[memoryview], int],
    page_size: int,
    free: queue.SimpleQueue[bytearray | None],
    filled: queue.SimpleQueue[_Piece | BaseException | None],
) -> None:
    """The reading thread: fill a buffer, cut it, carry the uncut tail over into the next one."""
    try:
        tail = b""
        final = False
        while not final:
            buffer = free.get()
            if buffer is None:
                return
            buffer[: len(tail)] = tail
            end = len(tail)
            with memoryview(buffer) as view:
                while end < len(view):
                    with view[end:] as room:
                        count = readinto(room)
                    if count == 0:
                        final = True
                        break
                    end += count
                cuts = chunker.cuts(view, end, final=final, page_size=page_size)
                last = cuts[-1] if cuts else 0
                tail = bytes(view[last:end])
            filled.put(_Piece(buffer, cuts))
        filled.put(None)
    except BaseException as error:
        filled.put(error)
