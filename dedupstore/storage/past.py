"""A store as it was at an earlier time: for getting at what was deleted or overwritten since, where versions are kept.

Of each object the newest version that was there then; none where a marker said that it is deleted. What is listed once is not
asked for again: the past does not change. Safe from many threads.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

from dedupstore.errors import ObjectNotFound, StoreError, StoreReadOnly
from dedupstore.storage.base import ObjectInfo, ObjectStore, place_of
from dedupstore.storage.names import check_key, check_prefix
from dedupstore.storage.versions import Version, Versions
from dedupstore.types import Data, Span


class PastStore:
    """Read-only. `past_ns`: nanoseconds since the epoch by the clock of the server, which keeps whole seconds, or finer."""

    def __init__(self, inner: ObjectStore, versions: Versions, past_ns: int) -> None:
        self.inner = inner
        self.past_ns = past_ns
        self._versions = versions
        self._lock = threading.Lock()
        self._known: dict[str, Version] = {}
        self._listed: set[str] = set()

    @property
    def url(self) -> str:
        return self.inner.url

    @property
    def place(self) -> str:
        """Another place than today's: what was there then may be brought back to where it was."""
        return f"{place_of(self.inner)} at {self.past_ns}"

    def put(self, key: str, parts: Sequence[Data]) -> None:
        raise self._read_only(f"write {key}")

    def get(self, key: str, span: Span | None = None) -> bytes:
        return self._versions.read(self._find(key), span)

    def head(self, key: str) -> int:
        return self._find(key).size

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        check_prefix(prefix)
        for version in self._as_of(prefix):
            with self._lock:
                self._known[version.key] = version
            yield ObjectInfo(version.key, version.size, version.modified_ns)
        with self._lock:
            self._listed.add(prefix)

    def delete(self, key: str) -> None:
        raise self._read_only(f"delete {key}")

    def barrier(self) -> None:
        """Nothing was put."""

    def close(self) -> None:
        self.inner.close()

    def _find(self, key: str) -> Version:
        check_key(key)
        with self._lock:
            found = self._known.get(key)
            absent = found is None and any(key.startswith(prefix) for prefix in self._listed)
        if found is None and not absent:
            found = next((version for version in self._as_of(key) if version.key == key), None)
        if found is None:
            raise ObjectNotFound(f"there was no {key} in {self.url}")
        with self._lock:
            self._known[key] = found
        return found

    def _as_of(self, prefix: str) -> Iterator[Version]:
        """What was there then, by key."""
        last = ""
        for version in self._versions.all_of(prefix):
            if version.key == last or version.modified_ns > self.past_ns or not _is_key(version.key):
                continue
            last = version.key
            if not version.marker:
                yield version

    def _read_only(self, what: str) -> StoreError:
        return StoreReadOnly(
            f"cannot {what} in {self.url}",
            why="this is the storage as it was at an earlier time, and that stays as it was",
            hints=["bring it to a new place: dedup mirror --to URL --init", "leave --at-store-time out to write"],
        )


def _is_key(name: str) -> bool:
    try:
        check_key(name)
    except StoreError:
        return False
    return True
