"""What the chunks of another repository are called here: kept in this machine's index, so that no byte is read twice.

| row | of | says |
|---|---|---|
| 32 times 40 bytes | neighbours in a block of a data pack of the source | id here[32], then 8 bytes of the id there; zeros: unknown |
| 48 bytes | a directory | its id here, and the snapshot that was being copied when it was written |

Neither says that anything is *there*: for a chunk the writer is asked, and a directory is taken, with all that is below
it, only while the snapshot of its row is committed. So rows may reach the disk at any time, and losing them costs time.

An id here is true for ever: it and the id there are hashes of the same bytes, and each row carries enough of the latter to
tell whose it is. A row of its own for every chunk would be as true, and lie at a random place: in a repository of many
chunks each row that is put would change a page. Those of one pack lie side by side, and are put when the pack is read.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

from dedupstore.codec.hashing import Keyed
from dedupstore.repo.index import Index, Location
from dedupstore.types import ChunkId, RepositoryId, SnapshotId

KEY_BYTES = 20
CHUNKS_PER_ROW = 32
"""What LMDB keeps in a page beside others: three such rows fill one."""

HELD_ROWS = 4096
"""Rows of chunks kept in memory, 6 MB: files that were stored together are met together."""

_ID_BYTES = 32
_MARK_BYTES = 8
_SLOT_BYTES = _ID_BYTES + _MARK_BYTES
_UNKNOWN = bytes(CHUNKS_PER_ROW * _SLOT_BYTES)
_BATCH = 2048
_MAX_PREFIXES = 1024
_TREE = b"copy\0"
_PACK = b"copied pack\0"


class TreeRow(NamedTuple):
    """A directory as it is called here (None: met and not written yet), and the snapshot that row belongs to."""

    tree: ChunkId | None
    snapshot: SnapshotId


class CopyMemory:
    """Rows of one source repository, with `there` its index, in `index`, the one of the target. Not for several threads."""

    def __init__(self, index: Index, cache_key: bytes, source: RepositoryId, there: Index) -> None:
        self._index = index
        self._there = there
        self._keyed = Keyed(cache_key)
        self._source = source
        self._trees: dict[bytes, bytes] = {}
        self._held: OrderedDict[bytes, bytearray] = OrderedDict()
        self._changed: set[bytes] = set()
        self._prefixes: dict[int, bytes] = {}

    def chunk(self, foreign: ChunkId) -> ChunkId | None:
        """The id here of a data chunk of the source, if it was ever read by this machine."""
        return self.chunk_at(self._there.find(foreign), foreign)

    def chunk_at(self, place: Location | None, foreign: ChunkId) -> ChunkId | None:
        """As `chunk`; `place` is what the source's index finds, for callers that have asked: that is not cheap."""
        if place is None:
            return None
        row, at = self._slot(place)
        own = bytes(row[at : at + _ID_BYTES])
        mark = row[at + _ID_BYTES : at + _SLOT_BYTES]
        return ChunkId(own) if mark == foreign[:_MARK_BYTES] and any(own) else None

    def put_chunk(self, place: Location, foreign: ChunkId, own: ChunkId) -> None:
        """Remember a name. `place`: what the source's index finds, though the chunk was read elsewhere.

        The place learned first stays the first when a prune there has moved the chunk.
        """
        row, at = self._slot(place)
        row[at : at + _SLOT_BYTES] = own + foreign[:_MARK_BYTES]
        self._changed.add(self._row_key(place))
        if len(self._changed) >= _BATCH:
            self.flush()

    def tree(self, foreign: ChunkId) -> TreeRow | None:
        key = self._tree_key(foreign)
        row = self._trees.get(key) or self._index.get_directory(key)
        if row is None or len(row) != _ID_BYTES + 16:
            return None
        own = ChunkId(row[:_ID_BYTES])
        return TreeRow(own if any(own) else None, SnapshotId(row[_ID_BYTES:]))

    def put_tree(self, foreign: ChunkId, own: ChunkId | None, snapshot: SnapshotId) -> None:
        self._trees[self._tree_key(foreign)] = (own or bytes(_ID_BYTES)) + snapshot
        if len(self._trees) >= _BATCH:
            self.flush()

    def flush(self) -> None:
        rows, self._trees = self._trees, {}
        changed, self._changed = self._changed, set()
        rows |= {key: bytes(self._held[key]) for key in changed}
        if rows:
            self._index.put_directories(sorted(rows.items()))

    def _slot(self, place: Location) -> tuple[bytearray, int]:
        """The row that a chunk belongs to, and where in it."""
        key = self._row_key(place)
        row = self._held.get(key)
        if row is not None:
            self._held.move_to_end(key)
        else:
            stored = self._index.get_directory(key)
            row = bytearray(stored if stored is not None and len(stored) == len(_UNKNOWN) else _UNKNOWN)
            self._held[key] = row
            if len(self._held) > HELD_ROWS:
                self._drop()
        return row, place.position % CHUNKS_PER_ROW * _SLOT_BYTES

    def _drop(self) -> None:
        """Make room; what was changed is put first, for the oldest may be among it."""
        if next(iter(self._held)) in self._changed:
            self.flush()
        self._held.popitem(last=False)

    def _row_key(self, place: Location) -> bytes:
        prefix = self._prefixes.get(place.pack_no)
        if prefix is None:
            if len(self._prefixes) >= _MAX_PREFIXES:
                self._prefixes.clear()
            # By the pack's id: its number is this machine's, and another one once the source's index is built anew.
            pack = self._there.pack(place.pack_no).id
            prefix = self._keyed.digest(_PACK + self._source + pack)[: KEY_BYTES - 4]
            self._prefixes[place.pack_no] = prefix
        return prefix + place.block_no.to_bytes(2, "big") + (place.position // CHUNKS_PER_ROW).to_bytes(2, "big")

    def _tree_key(self, foreign: ChunkId) -> bytes:
        return self._keyed.digest(_TREE + self._source + foreign)[:KEY_BYTES]
