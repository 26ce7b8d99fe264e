"""This machine's memory of directories, kept in the local index; losing it costs time and nothing else."""

from __future__ import annotations

from dedupstore.codec.hashing import Keyed
from dedupstore.engine.parent import DirectoryRow
from dedupstore.errors import CacheError, CorruptObject
from dedupstore.repo.index import Index

KEY_BYTES = 20
FINGERPRINT_BYTES = 16
_BATCH = 1000


class DirectoryCache:
    """Rows by source and path. Names are hashed under a key of the repository: a stolen disk tells none."""

    def __init__(self, index: Index, cache_key: bytes, source: str, *, enabled: bool = True) -> None:
        self._index = index
        self._keyed = Keyed(cache_key)
        self._prefix = source.encode() + b"\0"
        self._enabled = enabled
        self._rows: dict[bytes, bytes] = {}

    def fingerprint(self, data: bytes) -> bytes:
        return self._keyed.digest(data)[:FINGERPRINT_BYTES]

    def get(self, path: bytes) -> DirectoryRow | None:
        if not self._enabled:
            return None
        row = self._index.get_directory(self._key(path))
        if row is None:
            return None
        try:
            return DirectoryRow.decode(row)
        except CorruptObject:
            return None

    def put(self, path: bytes, row: DirectoryRow) -> None:
        """Remember a directory. A row may reach the disk before the chunks it names: readers look those up."""
        if self._enabled:
            self._rows[self._key(path)] = row.encode()
            if len(self._rows) >= _BATCH:
                self.flush()

    def flush(self) -> None:
        rows, self._rows = self._rows, {}
        if rows:
            try:
                self._index.put_directories(sorted(rows.items()))
            except CacheError:
                self._enabled = False

    def _key(self, path: bytes) -> bytes:
        return self._keyed.digest(self._prefix + path)[:KEY_BYTES]
