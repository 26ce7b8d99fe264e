"""Pieces of files that arrived before the hash of their file got to them, kept in memory up to a limit."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from typing import NamedTuple

Parts = tuple[memoryview, ...]


class Held(NamedTuple):
    """Adjacent pieces of one file, taken by `EarlyPieces.hold` and to be given back to `release`."""

    parts: Parts


class EarlyPieces:
    """Shared by all files of one restore, for any thread.

    What counts is what is kept alive: a view keeps its whole block, and many views of one block keep it once.
    """

    def __init__(self, limit: int) -> None:
        self.used = 0
        self._limit = limit
        self._users: dict[int, int] = {}
        """How many Held keep an object alive, by its `id`: while one does, no other object can have it."""

        self._lock = threading.Lock()

    def hold(self, parts: Sequence[memoryview]) -> Held | None:
        """Keep these bytes; None when there is no room for them."""
        kept = tuple(parts)
        owners = _owners(kept)
        length = sum(map(len, kept))
        with self._lock:
            new = sum(size for owner, size in owners.items() if owner not in self._users)
            if 2 * length < new:
                # A few chunks out of a block: a copy is smaller than what they would keep alive.
                if self.used + length > self._limit:
                    return None
                kept = (memoryview(b"".join(kept)),)
                owners = _owners(kept)
                new = length
            elif self.used + new > self._limit:
                return None
            self.used += new
            for owner in owners:
                self._users[owner] = self._users.get(owner, 0) + 1
        return Held(kept)

    def release(self, held: Held) -> None:
        with self._lock:
            for owner, size in _owners(held.parts).items():
                left = self._users[owner] - 1
                if left:
                    self._users[owner] = left
                else:
                    del self._users[owner]
                    self.used -= size


def _owners(parts: Iterable[memoryview]) -> dict[int, int]:
    """The objects that views keep alive: size in bytes by `id`."""
    return {id(part.obj): memoryview(part.obj).nbytes for part in parts}
