"""The specification of the chunker: where a stream is cut, in plain Python.

The C kernel (_gear.c) must give the same cuts for every input; an installation without a
compiler uses this file, at about 1/500 of the speed.

**The hash.** A secret table G holds 256 numbers of 64 bits, derived from the repository's chunker
key. The hash at position p of a stream is that of the 64 bytes that end there:

    H(p) = sum of G[byte(p - 1 - k)] << k  for k = 0 .. 63,  modulo 2^64

It can be rolled: H(p + 1) = (H(p) << 1) + G[byte(p)], since a byte 64 positions back has left the
64 bits. (Gear: Xia et al., "Ddelta", Performance Evaluation 79, 2014.) H(p) is a *candidate* at n
bits if its n highest bits are zero; the highest bits are the ones that all 64 bytes reach.

**The cut.** A chunk that begins at s ends at the first position p for which
1. p - s >= minimum, and
2. H(p) is a candidate at `strict_bits` if p - s < normal, at `loose_bits` otherwise,

but never later than at s + maximum, nor than the end of the stream. Nothing in the first
minimum - 64 bytes is looked at. The rule reads at least 64 bytes of this chunk and none of
the one before: where a chunk ends depends on its own bytes alone.

**Pages.** With a page size only positions at a multiple of it from the stream's start (thus from
the chunk's) are tried, and 64 zero bytes before a position are never a candidate, or a file's
unused space would be cut into its smallest pieces. minimum, normal and maximum are whole pages.

**Buffers.** A call cuts what it can decide from the bytes at hand: while at least `maximum` bytes
are left, or any are left and `final` says that the stream ends here. So the cuts do not
depend on how a stream is divided into buffers.
"""

from __future__ import annotations

from typing import Final

from dedupstore.chunking.params import WINDOW, CutRule
from dedupstore.types import Data

TABLE_SIZE: Final = 256 * 8
"""Bytes of a gear table: 256 little-endian numbers of 64 bits."""

_LOW_64_BITS = 2**64 - 1
_ZEROS = bytes(WINDOW)


class Gear:
    """A gear table and the cuts it makes. Immutable, so threads may share it."""

    def __init__(self, table: bytes) -> None:
        if len(table) != TABLE_SIZE:
            raise ValueError(f"a gear table has {TABLE_SIZE} bytes, not {len(table)}")
        self._gear = [int.from_bytes(table[at : at + 8], "little") for at in range(0, TABLE_SIZE, 8)]

    def cuts(self, buffer: Data, length: int, rule: CutRule, final: bool) -> list[int]:
        """The end of every chunk in the first `length` bytes; the buffer begins where a chunk does."""
        data = memoryview(buffer).cast("B")
        if not 0 <= length <= len(data):
            raise ValueError(f"length {length} is outside the buffer of {len(data)} bytes")
        data = data[:length]
        ends: list[int] = []
        start = 0
        while length - start >= rule.maximum or (final and start < length):
            start = self._end_of_chunk(data, start, rule)
            ends.append(start)
        return ends

    def cuts_of_all(self, streams: tuple[bytes, ...], rule: CutRule) -> list[list[int]]:
        """The cuts of each of many streams that are whole."""
        return [self.cuts(stream, len(stream), rule, True) for stream in streams]

    def _end_of_chunk(self, data: memoryview, start: int, rule: CutRule) -> int:
        first = start + rule.minimum
        limit = min(start + rule.maximum, len(data))
        normal = min(start + rule.normal, limit)
        candidate = self._first_page_candidate if rule.page_size else self._first_candidate
        found = candidate(data, first, normal, rule.strict_bits, rule.page_size)
        if found is None:
            found = candidate(data, max(first, normal), limit, rule.loose_bits, rule.page_size)
        return limit if found is None else found

    def _first_candidate(self, data: memoryview, first: int, limit: int, bits: int, _page_size: int) -> int | None:
        """The first p in [first, limit) with a candidate H(p), by rolling."""
        if first >= limit:
            return None
        gear = self._gear
        candidates_below = 1 << 64 - bits
        hashed = self._hash(data[first - WINDOW : first])
        if hashed < candidates_below:
            return first
        for position, byte in enumerate(data[first : limit - 1], first + 1):
            hashed = (hashed << 1) + gear[byte] & _LOW_64_BITS
            if hashed < candidates_below:
                return position
        return None

    def _first_page_candidate(self, data: memoryview, first: int, limit: int, bits: int, page_size: int) -> int | None:
        """The first p in [first, limit), page by page, with a candidate H(p)."""
        candidates_below = 1 << 64 - bits
        for position in range(first, limit, page_size):
            window = data[position - WINDOW : position]
            if self._hash(window) < candidates_below and window != _ZEROS:
                return position
        return None

    def _hash(self, window: memoryview) -> int:
        hashed = 0
        for byte in window:
            hashed = (hashed << 1) + self._gear[byte] & _LOW_64_BITS
        return hashed
