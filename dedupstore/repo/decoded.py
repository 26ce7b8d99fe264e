"""Blocks as they were before they were sealed: the last that were used are kept, and none is decoded by two threads at once.

Threads that seal neighbouring deltas need the same bases at the same time. Of the second dump of a database of 500 MB
305 blocks were decoded when each did so for itself, where 185 are needed.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

Place = tuple[int, int]
"""Pack number and block number."""


class Decoded(NamedTuple):
    """A block as read, with where each of its chunks ends."""

    raw: bytes
    ends: list[int]


class DecodedBlocks:
    """Safe to use from many threads."""

    def __init__(self, limit_bytes: int) -> None:
        """`limit_bytes` is kept at most, but always one block."""
        self._limit = limit_bytes
        self._held = 0
        self._blocks: OrderedDict[Place, Decoded] = OrderedDict()
        self._under_way: dict[Place, threading.Event] = {}
        self._lock = threading.Lock()

    def __contains__(self, place: Place) -> bool:
        return place in self._blocks

    def get(self, place: Place, decode: Callable[[], Decoded]) -> Decoded:
        """The block, from `decode` if it is not kept. Raises what that raises; who has waited for it then tries for himself.

        `decode` may ask for other blocks, as long as nobody goes round in a circle: a delta asks for its bases, which are none.
        """
        while True:
            with self._lock:
                block = self._blocks.get(place)
                if block is not None:
                    self._blocks.move_to_end(place)
                    return block
                other = self._under_way.get(place)
                if other is None:
                    done = self._under_way[place] = threading.Event()
                    break
            other.wait()
        try:
            block = decode()
            self._keep(place, block)
            return block
        finally:
            with self._lock:
                del self._under_way[place]
            done.set()

    def forget(self, place: Place) -> None:
        """It turned out to be damaged."""
        with self._lock:
            dropped = self._blocks.pop(place, None)
            if dropped is not None:
                self._held -= len(dropped.raw)

    def _keep(self, place: Place, block: Decoded) -> None:
        with self._lock:
            self._blocks[place] = block
            self._held += len(block.raw)
            while self._held > self._limit and len(self._blocks) > 1:
                _, dropped = self._blocks.popitem(last=False)
                self._held -= len(dropped.raw)
