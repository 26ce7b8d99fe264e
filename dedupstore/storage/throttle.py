"""Limits of bandwidth: so many bytes a second, other limits at other hours."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence

from dedupstore.clock import Clock, SystemClock
from dedupstore.storage.base import ObjectInfo, ObjectStore
from dedupstore.types import Data, Span

PIECE_BYTES = 64 << 10
"""What is sent or read between two looks at the limit."""

_BURST_SECONDS = 0.1
"""What was not used for so long may be used later: without it every delay of the machine would be lost."""

_LONGEST_NAP_SECONDS = 1.0
"""The limit of the next hour must not wait for a nap that began in this one."""

RateAt = Callable[[int], float | None]
"""Bytes a second at an instant (nanoseconds since the epoch); None: as fast as it goes."""


class Pace:
    """One limit, shared by all transfers in one direction. Safe from many threads."""

    def __init__(
        self, rate_at: RateAt, *, clock: Clock | None = None, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._rate_at = rate_at
        self._clock = clock or SystemClock()
        self._sleep = sleep
        self._lock = threading.Lock()
        self._left = 0.0
        self._at = self._clock.monotonic()

    def take(self, count: int) -> None:
        """Return once `count` bytes may be moved."""
        with self._lock:
            self._earn()
            self._left -= count
        while True:
            with self._lock:
                rate = self._earn()
                # A fraction of a byte is too short a nap for any clock.
                if rate is None or self._left > -1:
                    return
                nap = min(-self._left / rate, _LONGEST_NAP_SECONDS)
            self._sleep(nap)

    def _earn(self) -> float | None:
        now = self._clock.monotonic()
        rate = self._rate_at(self._clock.now_ns())
        if rate is None:
            self._left = 0.0
        else:
            self._left = min(self._left + (now - self._at) * rate, rate * _BURST_SECONDS)
        self._at = now
        return rate


class ThrottledStore:
    """A store whose transfers keep to a pace: for stores that move an object in one step."""

    def __init__(self, inner: ObjectStore, *, upload: Pace | None, download: Pace | None) -> None:
        self.inner = inner
        self._upload = upload
        self._download = download

    @property
    def url(self) -> str:
        return self.inner.url

    def put(self, key: str, parts: Sequence[Data]) -> None:
        if self._upload is not None:
            self._upload.take(sum(memoryview(part).nbytes for part in parts))
        self.inner.put(key, parts)

    def get(self, key: str, span: Span | None = None) -> bytes:
        data = self.inner.get(key, span)
        if self._download is not None:
            self._download.take(len(data))
        return data

    def head(self, key: str) -> int:
        return self.inner.head(key)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        return self.inner.list(prefix)

    def delete(self, key: str) -> None:
        self.inner.delete(key)

    def barrier(self) -> None:
        self.inner.barrier()

    def close(self) -> None:
        self.inner.close()
