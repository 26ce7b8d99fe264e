"""Delta blocks wait until their bases come by in the packs that are examined anyway.

Fetched one block at a time, the bases of one later snapshot's changes lie in nearly every block of the first: all of it
would be decoded a second time, and once more for every snapshot after it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from dedupstore.types import ChunkId, Data, Kind

MAX_WAITING_BYTES = 64 << 20
"""So much memory may delta blocks take that wait; whatever comes on top is examined at once."""

MAX_HELD_BYTES = 32 << 20
"""So much of bases is kept for blocks that lack others; then the next block that would keep more gives up."""


@dataclass(eq=False, slots=True)
class _Waiter:
    owner: object
    kind: Kind
    bases: Sequence[ChunkId]
    examine: Callable[[bytes | None], None]
    size: int
    found: dict[ChunkId, bytes] = field(default_factory=dict)

    @property
    def held(self) -> int:
        return sum(map(len, self.found.values()))


class PassingBases:
    """What is waited for, by whom. Any thread may call anything."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wanted: dict[Kind, dict[ChunkId, list[_Waiter]]] = {kind: {} for kind in Kind}
        self._waiters: dict[object, list[_Waiter]] = {}
        self._waiting_bytes = 0
        self._held_bytes = 0

    def wait(
        self, owner: object, kind: Kind, bases: Sequence[ChunkId], size: int, examine: Callable[[bytes | None], None]
    ) -> bool:
        """Have `examine` called with the bases, one after the other, once all have come by: by the thread that brings
        the last. False when there is no room for `size` bytes more, all that is kept for it.
        """
        waiter = _Waiter(owner, kind, bases, examine, size)
        with self._lock:
            if self._waiting_bytes + size > MAX_WAITING_BYTES:
                return False
            self._waiting_bytes += size
            self._waiters.setdefault(owner, []).append(waiter)
            for base in set(bases):
                self._wanted[kind].setdefault(base, []).append(waiter)
        return True

    def pass_by(self, kind: Kind, ids: Sequence[ChunkId], chunks: Sequence[Data]) -> None:
        """Show the chunks of one block, each of which was compared with its id."""
        ready = []
        with self._lock:
            wanted = self._wanted[kind]
            if not wanted:
                return
            for identifier, chunk in zip(ids, chunks, strict=True):
                if identifier in wanted:
                    ready.extend(self._give(identifier, bytes(chunk), wanted[identifier]))
        for waiter in ready:
            waiter.examine(b"".join([waiter.found[base] for base in waiter.bases]))

    def conclude(self, owner: object) -> None:
        """Examine what still waits for `owner`, with None: its bases did not come by."""
        with self._lock:
            left = list(self._waiters.get(owner, ()))
            for waiter in left:
                self._forget(waiter)
                self._drop(waiter)
        for waiter in left:
            waiter.examine(None)

    def _give(self, identifier: ChunkId, data: bytes, waiters: list[_Waiter]) -> list[_Waiter]:
        """Those that lack nothing more."""
        ready = []
        for waiter in list(waiters):
            if identifier in waiter.found:
                continue
            if self._held_bytes + len(data) > MAX_HELD_BYTES:
                # It stays among its owner's, to be concluded.
                self._forget(waiter)
                continue
            waiter.found[identifier] = data
            self._held_bytes += len(data)
            if len(waiter.found) == len(set(waiter.bases)):
                found = waiter.found
                self._forget(waiter)
                self._drop(waiter)
                waiter.found = found
                ready.append(waiter)
        return ready

    def _forget(self, waiter: _Waiter) -> None:
        """It wants nothing more and holds nothing."""
        wanted = self._wanted[waiter.kind]
        for base in set(waiter.bases):
            waiters = wanted.get(base, [])
            if waiter in waiters:
                waiters.remove(waiter)
                if not waiters:
                    del wanted[base]
        self._held_bytes -= waiter.held
        waiter.found = {}

    def _drop(self, waiter: _Waiter) -> None:
        self._waiting_bytes -= waiter.size
        waiters = self._waiters[waiter.owner]
        waiters.remove(waiter)
        if not waiters:
            del self._waiters[waiter.owner]
