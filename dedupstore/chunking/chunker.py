"""Cut a stream into content-defined chunks: the same bytes give the same chunks wherever they stand."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from dedupstore.chunking import kernel
from dedupstore.chunking.params import ChunkerParams, CutRule
from dedupstore.chunking.reference import TABLE_SIZE
from dedupstore.errors import UsageError
from dedupstore.types import Data
from dedupstore.units import MIB

DEFAULT_BUFFER_SIZE = 8 * MIB


class Chunker:
    """A repository's way to cut streams. Keeps nothing between calls, so threads may share one."""

    def __init__(self, params: ChunkerParams, table: bytes) -> None:
        """`table` is 2048 bytes derived from the chunker key; another table cuts elsewhere."""
        if len(table) != TABLE_SIZE:
            raise UsageError(f"a gear table has {TABLE_SIZE} bytes, not {len(table)}")
        self.params = params
        self._gear = kernel.gear(table)
        self._plain = params.rule()

    def cuts(self, buffer: Data, length: int, *, final: bool, page_size: int = 0) -> list[int]:
        """The end offset of every chunk in the first `length` bytes of the buffer.

        The buffer must begin where a chunk does. Unless `final`, fewer than `rule(page_size).maximum`
        bytes stay uncut: move them to the front, add more of the stream, call again. The C kernel
        releases the GIL.
        """
        return self._gear.cuts(buffer, length, self.rule(page_size), final)

    def cuts_of_all(self, streams: tuple[bytes, ...]) -> list[list[int]]:
        """`cuts` of many small files at once: without pages, and each is whole. The C kernel releases the GIL once."""
        return self._gear.cuts_of_all(streams, self._plain)

    def rule(self, page_size: int = 0) -> CutRule:
        return self.params.rule(page_size) if page_size else self._plain


def stream_chunks(
    chunker: Chunker,
    readinto: Callable[[memoryview], int],
    *,
    page_size: int = 0,
    buffer_size: int = DEFAULT_BUFFER_SIZE,
    buffer: bytearray | None = None,
) -> Iterator[memoryview]:
    """Yield a stream's chunks in order, each valid only until the next is asked for.

    `readinto` fills a part of the memory it is given and says how much; 0 is the end of the
    stream. Its errors pass through at once: the stream cannot go on, and chunks read but not yet
    yielded are lost.
    The buffer has at least twice the size of the longest chunk. Pass `buffer` to use one again for
    many small streams (a new one costs 0.3 ms, more than a small file); it must not be in use by
    another stream and cannot be resized meanwhile.
    """
    smallest = 2 * chunker.rule(page_size).maximum
    if buffer is None:
        buffer = bytearray(max(buffer_size, smallest))
    elif len(buffer) < smallest:
        raise UsageError(f"the buffer has {len(buffer)} bytes and needs {smallest}")
    with memoryview(buffer) as view:
        kept = 0
        final = False
        while not final:
            filled, final = _fill(view, kept, readinto)
            start = 0
            for end in chunker.cuts(view, filled, final=final, page_size=page_size):
                with view[start:end] as chunk:
                    yield chunk
                start = end
            kept = filled - start
            view[:kept] = view[start:filled]


def _fill(view: memoryview, filled: int, readinto: Callable[[memoryview], int]) -> tuple[int, bool]:
    """How many bytes the buffer holds now, and whether the stream has ended."""
    while filled < len(view):
        with view[filled:] as space:
            count = readinto(space)
        if count == 0:
            return filled, True
        filled += count
    return filled, False
