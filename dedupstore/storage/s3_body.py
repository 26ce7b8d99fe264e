"""What a request puts, as the parts it comes in: hashed and sent from where they lie.

Several packs are sent at a time. Joined for it, each would lie in memory twice until its answer has come.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate

from dedupstore.storage.throttle import PIECE_BYTES, Pace
from dedupstore.types import Data


class Body:
    """A file to botocore, which asks for its length and hashes it. What is to be sent is `outgoing`."""

    def __init__(self, parts: Sequence[Data], pace: Pace | None = None) -> None:
        self.parts = [view for part in parts if (view := memoryview(part).cast("B"))]
        self.outgoing = Outgoing(self.parts, pace)
        self._ends = list(accumulate(map(len, self.parts)))
        self._at = 0

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int) -> None:
        self._at = offset

    def read(self, size: int) -> Data:
        """What follows, as it lies there: never more than `size` bytes, nor beyond the end of a part."""
        number = bisect_right(self._ends, self._at)
        if number == len(self.parts):
            return b""
        part = self.parts[number]
        start = self._at - (self._ends[number] - len(part))
        piece = part[start : start + size]
        self._at += len(piece)
        return piece


class Outgoing:
    """The parts for the socket, whole where no pace is kept: of a file urllib3 would send 16 KiB at a time."""

    def __init__(self, parts: Sequence[memoryview], pace: Pace | None) -> None:
        self._parts = parts
        self._pace = pace

    def __iter__(self) -> Iterator[memoryview]:
        if self._pace is None:
            yield from self._parts
            return
        for part in self._parts:
            for start in range(0, len(part), PIECE_BYTES):
                piece = part[start : start + PIECE_BYTES]
                self._pace.take(len(piece))
                yield piece

    def seek(self, offset: int) -> None:
        """What botocore does before it sends to another region; each iteration begins at the first byte anyway."""
