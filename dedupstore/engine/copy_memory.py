"""What the chunks of another repository are called here: kept in this machine's index, so that no byte is read twice.

| row | of | says |
|---|---|---|
| 32 bytes | a data chunk | its id here: true for ever, for both ids are hashes of the same bytes |
| 48 bytes | a directory | its id here, and the snapshot that was being copied when it was written |

Neither says that anything is *there*: for a chunk the writer is asked, and a directory is taken, with all that is below
it, only while the snapshot of its row is committed. So rows may reach the disk at any time, and losing them costs time.
"""

from __future__ import annotations

from typing import NamedTuple

from dedupstore.codec.hashing import Keyed
from dedupstore.repo.index import Index
from dedupstore.types import ChunkId, RepositoryId, SnapshotId

KEY_BYTES = 20
_ID_BYTES = 32
_BATCH = 8192
_LABEL = b"copy\0"


class TreeRow(NamedTuple):
    """A directory as it is called here (None: met and not written yet), and the snapshot that row belongs to."""

    tree: ChunkId | None
    snapshot: SnapshotId


class CopyMemory:
    """Rows of one source repository in the index of the target. Not for several threads."""

    def __init__(self, index: Index, cache_key: bytes, source: RepositoryId) -> None:
        self._index = index
        self._keyed = Keyed(cache_key)
        self._prefix = _LABEL + source
        self._rows: dict[bytes, bytes] = {}

    def chunk(self, foreign: ChunkId) -> ChunkId | None:
        """The id here of a data chunk of the source, if it was ever read by this machine."""
        row = self._get(foreign)
        return ChunkId(row) if row is not None and len(row) == _ID_BYTES else None

    def put_chunk(self, foreign: ChunkId, own: ChunkId) -> None:
        self._put(foreign, own)

    def tree(self, foreign: ChunkId) -> TreeRow | None:
        row = self._get(foreign)
        if row is None or len(row) != _ID_BYTES + 16:
            return None
        own = ChunkId(row[:_ID_BYTES])
        return TreeRow(own if any(own) else None, SnapshotId(row[_ID_BYTES:]))

    def put_tree(self, foreign: ChunkId, own: ChunkId | None, snapshot: SnapshotId) -> None:
        self._put(foreign, (own or bytes(_ID_BYTES)) + snapshot)

    def flush(self) -> None:
        rows, self._rows = self._rows, {}
        if rows:
            self._index.put_directories(sorted(rows.items()))

    def _get(self, foreign: ChunkId) -> bytes | None:
        key = self._key(foreign)
        row = self._rows.get(key)
        return row if row is not None else self._index.get_directory(key)

    def _put(self, foreign: ChunkId, row: bytes) -> None:
        self._rows[self._key(foreign)] = row
        if len(self._rows) >= _BATCH:
            self.flush()

    def _key(self, foreign: ChunkId) -> bytes:
        return self._keyed.digest(self._prefix + foreign)[:KEY_BYTES]
