"""A bounded set of open file descriptors: more directories and files than the process may open at once."""

from __future__ import annotations

import os
import threading
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager


class Held(ABC):
    """Something behind a descriptor that may be closed while idle and opened again. `fd` is -1 while closed."""

    __slots__ = ("doomed", "fd", "pins")

    def __init__(self) -> None:
        self.fd = -1
        self.pins = 0
        self.doomed = False

    @abstractmethod
    def open_again(self) -> int:
        """A new descriptor of the very same object; OSError when another one stands in its place."""


class DescriptorCache:
    """Keeps at most `limit` idle descriptors open, the least recently used go first. For any thread.

    A pinned descriptor is never closed, so `limit` may be exceeded by what is in use at one moment.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._idle: OrderedDict[Held, None] = OrderedDict()
        # Opening happens under the lock: while it is held no descriptor of the path can be closed.
        self.lock = threading.RLock()

    def adopt(self, held: Held, fd: int) -> None:
        """Take over a descriptor just opened; it is idle from now on."""
        with self.lock:
            held.fd = fd
            if not held.pins:
                self._idle[held] = None
                self._evict()

    def pin(self, held: Held) -> int:
        """The descriptor, opened again if needed, for use until `unpin`."""
        with self.lock:
            if held.fd < 0:
                held.fd = held.open_again()
            elif not held.pins:
                self._idle.pop(held, None)
            held.pins += 1
            return held.fd

    def unpin(self, held: Held) -> None:
        with self.lock:
            held.pins -= 1
            if held.pins or held.fd < 0:
                return
            if held.doomed:
                os.close(held.fd)
                held.fd = -1
            else:
                self._idle[held] = None
                if len(self._idle) > self._limit:
                    self._evict()

    @contextmanager
    def use(self, held: Held) -> Iterator[int]:
        fd = self.pin(held)
        try:
            yield fd
        finally:
            self.unpin(held)

    def close(self, held: Held) -> None:
        """Close it, or let the last user close it: a number in use must never come to mean another file."""
        with self.lock:
            self._idle.pop(held, None)
            if held.pins:
                held.doomed = True
            elif held.fd >= 0:
                os.close(held.fd)
                held.fd = -1

    def close_all(self) -> None:
        with self.lock:
            for held in list(self._idle):
                self.close(held)

    def _evict(self) -> None:
        while len(self._idle) > self._limit:
            held, _ = self._idle.popitem(last=False)
            os.close(held.fd)
            held.fd = -1
