"""A stream read and hashed by a thread of its own, some buffers ahead of the thread that cuts and names its chunks."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from dedupstore.codec.hashing import StreamHash

READ_AHEAD = 2
"""Buffers being filled while the calling thread works on another."""


@dataclass(slots=True)
class Piece:
    """The next bytes of a stream: `buffer[room:end]`; what lies before is free for what was left of the last piece."""

    buffer: bytearray
    room: int
    end: int
    final: bool


class ReadAhead:
    """Reads streams, one at a time, into buffers that are kept from stream to stream.

    Each buffer holds `size` bytes of data behind `room` free ones. Fresh memory would cost a fault for every page.
    """

    def __init__(self, size: int, room: int) -> None:
        self._room = room
        self._buffers = [bytearray(room + size) for _ in range(READ_AHEAD + 1)]

    def pieces(self, readinto: Callable[[memoryview], int], whole: StreamHash) -> Iterator[Piece]:
        """The stream in order, hashed into `whole`. A piece is valid until the next is asked for; the last is final.

        `readinto` fills a part of the memory it is given and says how much; 0 is the end. Its errors are raised here.
        """
        free: queue.SimpleQueue[bytearray | None] = queue.SimpleQueue()
        filled: queue.SimpleQueue[Piece | BaseException] = queue.SimpleQueue()
        for buffer in self._buffers:
            free.put(buffer)
        reader = threading.Thread(
            target=_fill, args=(readinto, whole, self._room, free, filled), name="read-ahead", daemon=True
        )
        reader.start()
        try:
            final = False
            while not final:
                piece = filled.get()
                if isinstance(piece, BaseException):
                    raise piece
                yield piece
                final = piece.final
                free.put(piece.buffer)
        finally:
            free.put(None)
            reader.join()


def _fill(
    readinto: Callable[[memoryview], int],
    whole: StreamHash,
    room: int,
    free: queue.SimpleQueue[bytearray | None],
    filled: queue.SimpleQueue[Piece | BaseException],
) -> None:
    """The reading thread."""
    try:
        final = False
        while not final:
            buffer = free.get()
            if buffer is None:
                return
            end = room
            with memoryview(buffer) as view:
                while end < len(view):
                    with view[end:] as space:
                        count = readinto(space)
                    if count == 0:
                        final = True
                        break
                    end += count
                with view[room:end] as data:
                    whole.update(data)
            filled.put(Piece(buffer, room, end, final))
    except BaseException as error:
        filled.put(error)
