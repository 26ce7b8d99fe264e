"""Counting what a store is asked: requests cost money and time, bytes cost bandwidth."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from dedupstore.storage.base import ObjectInfo, ObjectStore
from dedupstore.types import Data, Span

VERBS = ("put", "get", "head", "list", "delete", "barrier")


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Totals since the meter was made. Failed operations count as asked, but move no bytes."""

    operations: Mapping[str, int] = field(default_factory=dict)
    """How often each of `VERBS` was asked."""
    bytes_written: int = 0
    bytes_read: int = 0
    rows_listed: int = 0


class MeteredStore:
    """A store that passes everything on to `inner` and counts it. `usage()` may be asked at any time."""

    def __init__(self, inner: ObjectStore) -> None:
        self.inner = inner
        self._lock = threading.Lock()
        self._operations: Counter[str] = Counter()
        self._bytes_written = 0
        self._bytes_read = 0
        self._rows_listed = 0

    def usage(self) -> Usage:
        with self._lock:
            return Usage(
                operations={verb: self._operations[verb] for verb in VERBS},
                bytes_written=self._bytes_written,
                bytes_read=self._bytes_read,
                rows_listed=self._rows_listed,
            )

    @property
    def url(self) -> str:
        return self.inner.url

    def put(self, key: str, parts: Sequence[Data]) -> None:
        self._count("put")
        self.inner.put(key, parts)
        with self._lock:
            self._bytes_written += sum(memoryview(part).nbytes for part in parts)

    def get(self, key: str, span: Span | None = None) -> bytes:
        self._count("get")
        data = self.inner.get(key, span)
        with self._lock:
            self._bytes_read += len(data)
        return data

    def head(self, key: str) -> int:
        self._count("head")
        return self.inner.head(key)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        self._count("list")
        return self._counted(self.inner.list(prefix))

    def delete(self, key: str) -> None:
        self._count("delete")
        self.inner.delete(key)

    def barrier(self) -> None:
        self._count("barrier")
        self.inner.barrier()

    def close(self) -> None:
        self.inner.close()

    def _count(self, verb: str) -> None:
        with self._lock:
            self._operations[verb] += 1

    def _counted(self, rows: Iterator[ObjectInfo]) -> Iterator[ObjectInfo]:
        seen = 0
        try:
            for row in rows:
                seen += 1
                yield row
        finally:
            with self._lock:
                self._rows_listed += seen
