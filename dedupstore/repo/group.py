"""Chunks on their way into one block.

Whole small files are kept as they came until a worker puts them together, which lets go of the interpreter: copying is
a tenth of what the walk's thread does otherwise. Parts of buffers that will be read into again are copied at once, into
memory that is used again for the next block. Fresh memory is dear: every page of it costs a fault (4 us each on a
virtual machine, measured, so 2 ms for a block of 2 MiB, half of what compressing it takes).
"""

from __future__ import annotations

import threading

from dedupstore.types import ChunkId, Data


class Group:
    """Chunks that will share a block, and the bases they are compressed against."""

    __slots__ = ("_buffer", "_pieces", "_pool", "base_bytes", "bases", "filled", "ids", "lengths")

    def __init__(self, pool: BufferPool) -> None:
        self._pool = pool
        self._pieces: list[bytes] = []
        """All chunks, if the first of them cannot change."""
        self._buffer: bytearray | None = None
        """Else this has them."""
        self.filled = 0
        """Bytes of raw data collected."""
        self.ids: list[ChunkId] = []
        self.lengths: list[int] = []
        self.bases: dict[ChunkId, int] = {}
        """Base ids with their lengths, in the order of the dictionary."""
        self.base_bytes = 0

    def add(self, chunk: ChunkId, data: Data) -> None:
        """Append one chunk; the data is copied unless it cannot change."""
        length = len(data)
        if self._pieces or (self._buffer is None and type(data) is bytes):
            self._pieces.append(data if type(data) is bytes else bytes(data))
        else:
            self._copy(data, self.filled + length)
        self.filled += length
        self.ids.append(chunk)
        self.lengths.append(length)

    def add_bases(self, bases: list[tuple[ChunkId, int]]) -> None:
        for base, size in bases:
            if base not in self.bases:
                self.bases[base] = size
                self.base_bytes += size

    def raw(self) -> Data:
        """The chunks, concatenated, for the worker that stores them. Valid until `done`; call it once."""
        if self._buffer is not None:
            return memoryview(self._buffer)[: self.filled]
        pieces, self._pieces = self._pieces, []
        return b"".join(pieces)

    def done(self) -> None:
        """What `raw` gave is not needed any more."""
        if self._buffer is not None:
            self._pool.give_back(self._buffer)
            self._buffer = None

    def _copy(self, data: Data, end: int) -> None:
        buffer = self._buffer
        if buffer is None:
            buffer = self._buffer = self._pool.take()
        if end > len(buffer):
            # One chunk larger than a block, or the last one of a block: the memory stays for the blocks that follow.
            larger = bytearray(end + (end >> 2))
            larger[: self.filled] = memoryview(buffer)[: self.filled]
            buffer = self._buffer = larger
        buffer[self.filled : end] = data


class BufferPool:
    """Buffers of about one size. Any thread may take and give back."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._free: list[bytearray] = []
        self._lock = threading.Lock()

    def group(self) -> Group:
        """A new group; it takes a buffer when it needs one."""
        return Group(self)

    def take(self) -> bytearray:
        """Used memory, where there is some."""
        with self._lock:
            return self._free.pop() if self._free else bytearray(self._size)

    def give_back(self, buffer: bytearray) -> None:
        with self._lock:
            self._free.append(buffer)
