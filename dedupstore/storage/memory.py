"""Objects in a dictionary: for tests, demos and dry runs. Everything is gone when the process ends."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

from dedupstore.errors import ObjectNotFound, StoreError
from dedupstore.storage.base import ObjectInfo
from dedupstore.storage.names import check_key, check_prefix
from dedupstore.types import Data, Span


class MemoryStore:
    """An object store without a disk, with the same checks and errors as the others."""

    def __init__(self, url: str = "memory:") -> None:
        self._url = url
        self._lock = threading.Lock()
        self.objects: dict[str, bytes] = {}
        """What is stored. A test may change it to play the part of a failing disk."""

    @property
    def url(self) -> str:
        return self._url

    def put(self, key: str, parts: Sequence[Data]) -> None:
        check_key(key)
        data = b"".join(parts)
        with self._lock:
            existing = self.objects.setdefault(key, data)
        if len(existing) != len(data):
            raise StoreError(
                f"cannot write {key} to {self._url}",
                why=f"something else has this name already: {len(existing)} bytes instead of {len(data)}",
                code="store.conflict",
            )

    def get(self, key: str, span: Span | None = None) -> bytes:
        data = self._find(key)
        if span is None:
            return data
        if span.start < 0 or span.length < 0 or span.end > len(data):
            raise StoreError(
                f"cannot read {key} from {self._url}",
                why=f"bytes {span.start} to {span.end} were asked for, but it has {len(data)}",
                code="store.short_object",
            )
        return data[span.start : span.end]

    def head(self, key: str) -> int:
        return len(self._find(key))

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        check_prefix(prefix)
        with self._lock:
            rows = [ObjectInfo(key, len(data)) for key, data in list(self.objects.items()) if key.startswith(prefix)]
        rows.sort(key=lambda row: row.key)
        return iter(rows)

    def delete(self, key: str) -> None:
        check_key(key)
        with self._lock:
            self.objects.pop(key, None)

    def barrier(self) -> None:
        pass

    def close(self) -> None:
        pass

    def _find(self, key: str) -> bytes:
        check_key(key)
        with self._lock:
            data = self.objects.get(key)
        if data is None:
            raise ObjectNotFound(f"there is no {key} in {self._url}")
        return data
