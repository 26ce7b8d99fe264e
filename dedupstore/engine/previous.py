"""The previous manifest of a directory, walked in step with the names found now, and what counts as unchanged."""

from __future__ import annotations

import os
from collections.abc import Iterator

from dedupstore.engine.parent import DirectoryRow
from dedupstore.errors import IntegrityError, ObjectNotFound
from dedupstore.model.entry import FILE, SECOND, Entry
from dedupstore.model.snapshot import Snapshot
from dedupstore.model.tree import Load, read_tree
from dedupstore.sources.attributes import KINDS
from dedupstore.types import ChunkId

RACY_NS = 2_000_000_000
"""A file written less than this before it was read may be written again with the same times: never trusted."""

READ_FROM = "read-from"
"""The detail of a record that was given its time: when its files began to be read, in ns by the clock."""


def read_from(snapshot: Snapshot) -> int:
    """When the files of a snapshot began to be read. The time that it was given says nothing of that."""
    told = dict(snapshot.details).get(READ_FROM, "")
    return int(told) if told.isdecimal() else min(snapshot.start_ns, snapshot.end_ns)


class PreviousEntries:
    """The entries of the previous manifest, walked in step with the names found now."""

    def __init__(self, load: Load, tree: ChunkId | None, row: DirectoryRow | None) -> None:
        self._entries = self._read(load, tree) if tree is not None else iter(())
        self._inodes = iter(row.inodes) if row is not None else None
        self._next: Entry | None = None
        self._next_inode = 0
        self._gone = 0
        self._step()

    def at(self, name: bytes) -> tuple[Entry | None, int]:
        """The previous entry of that name with its inode (0: not known). Names must ascend from call to call."""
        while self._next is not None and self._next.name < name:
            self._gone += 1
            self._step()
        if self._next is not None and self._next.name == name:
            found, inode = self._next, self._next_inode
            self._step()
            return found, inode
        return None, 0

    def rest(self) -> int:
        """How many previous names were not asked for: what was removed since."""
        while self._next is not None:
            self._gone += 1
            self._step()
        return self._gone

    def _step(self) -> None:
        self._next = next(self._entries, None)
        if self._inodes is not None:
            self._next_inode = next(self._inodes, 0)

    def _read(self, load: Load, tree: ChunkId) -> Iterator[Entry]:
        try:
            yield from read_tree(load, tree)
        except (IntegrityError, ObjectNotFound):
            # The previous snapshot is damaged here: what cannot be compared is read anew, and so stored anew.
            return


def is_same(before: Entry, stat: os.stat_result, inode: int, read_at: int) -> bool:
    """Whether a file surely is what it was: size, times, inode, and none of the times too close to the reading."""
    return (
        before.ctime == stat.st_ctime_ns // SECOND
        and before.mtime == stat.st_mtime_ns
        and before.mode == stat.st_mode & 0o7777
        and before.kind == KINDS.get(stat.st_mode & 0o170000)
        and (before.kind != FILE or before.size == stat.st_size)
        and before.uid == stat.st_uid
        and before.gid == stat.st_gid
        and (not inode or inode == stat.st_ino)
        and stat.st_ctime_ns < read_at - RACY_NS
    )
