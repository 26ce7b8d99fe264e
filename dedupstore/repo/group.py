"""Chunks on their way into one block, copied once into memory that is used again for the next block.

Fresh memory is dear: every page of it costs a fault (4 us each on a virtual machine, measured, so 2 ms for a block
of 2 MiB, half of what compressing it takes).
"""

from __future__ import annotations

import threading

from dedupstore.types import ChunkId, Data


class Group:
    """Chunks that will share a block, and the bases they are compressed against."""

    __slots__ = ("base_bytes", "bases", "buffer", "filled", "ids", "lengths")

    def __init__(self, buffer: bytearray) -> None:
        self.buffer = buffer
        self.filled = 0
        """Bytes of raw data collected."""
        self.ids: list[ChunkId] = []
        self.lengths: list[int] = []
        self.bases: dict[ChunkId, int] = {}
        """Base ids with their lengths, in the order of the dictionary."""
        self.base_bytes = 0

    def add(self, chunk: ChunkId, data: Data) -> None:
        """Append one chunk; the data is copied."""
        length = len(data)
        end = self.filled + length
        if end > len(self.buffer):
            # One chunk larger than a block, or the last one of a block: the memory stays for the blocks that follow.
            larger = bytearray(end + (end >> 2))
            larger[: self.filled] = memoryview(self.buffer)[: self.filled]
            self.buffer = larger
        self.buffer[self.filled : end] = data
        self.filled = end
        self.ids.append(chunk)
        self.lengths.append(length)

    def add_bases(self, bases: list[tuple[ChunkId, int]]) -> None:
        for base, size in bases:
            if base not in self.bases:
                self.bases[base] = size
                self.base_bytes += size

    def raw(self) -> memoryview:
        """The chunks, concatenated. Valid until the buffer is given back."""
        return memoryview(self.buffer)[: self.filled]


class BufferPool:
    """Buffers of about one size. Any thread may take and give back."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._free: list[bytearray] = []
        self._lock = threading.Lock()

    def group(self) -> Group:
        """A new group in used memory, where there is some."""
        with self._lock:
            buffer = self._free.pop() if self._free else bytearray(self._size)
        return Group(buffer)

    def give_back(self, group: Group) -> None:
        with self._lock:
            self._free.append(group.buffer)
