"""Remembers where the first name of each hard-linked file went, in about a hundred bytes per group."""

from __future__ import annotations

import struct
import tempfile
import threading
from typing import NamedTuple

from dedupstore.engine.target import Folder, Identity

MAX_GROUPS = 1 << 22
"""Beyond this many groups further names become files of their own: memory is bounded before it is generous."""

_IN_MEMORY = 4 << 20
_RECORD = struct.Struct(">IQQ?H")
"""Root number, device, inode, whether the file is there, length of the path that follows."""


class First(NamedTuple):
    root: Folder
    names: tuple[bytes, ...]
    identity: Identity | None
    """None when the file could not be restored."""


class LinkTable:
    """One record per group, in a spooled temporary file once they are many. For any thread."""

    def __init__(self) -> None:
        # The numbers of groups are large: hashes of inodes, the same from snapshot to snapshot.
        self._offsets: dict[int, int] = {}
        self._records = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115 - closed by close()
        self._roots: list[Folder] = []
        self._end = 0
        self._lock = threading.Lock()

    def close(self) -> None:
        self._records.close()

    def knows(self, group: int) -> bool:
        return group in self._offsets

    def claim(self, group: int, folder: Folder, name: bytes) -> None:
        """Record the first name of a group; the file itself is still to come."""
        if len(self._offsets) >= MAX_GROUPS:
            return
        names = [name]
        root = folder
        while root.parent is not None:
            names.append(root.name)
            root = root.parent
        path = b"/".join(reversed(names))
        with self._lock:
            if root not in self._roots:
                self._roots.append(root)
            self._offsets[group] = self._end
            self._records.seek(self._end)
            self._records.write(_RECORD.pack(self._roots.index(root), 0, 0, False, min(len(path), 0xFFFF)) + path)
            self._end += _RECORD.size + len(path)

    def settle(self, group: int, identity: Identity) -> None:
        """The file of a group is in place, and this is it."""
        with self._lock:
            if not self.knows(group):
                return
            start = self._offsets[group]
            self._records.seek(start)
            root, _, _, _, length = _RECORD.unpack(self._records.read(_RECORD.size))
            self._records.seek(start)
            self._records.write(_RECORD.pack(root, *identity, True, length))

    def find(self, group: int) -> First:
        with self._lock:
            self._records.seek(self._offsets[group])
            root, device, inode, there, length = _RECORD.unpack(self._records.read(_RECORD.size))
            path = self._records.read(length)
        return First(self._roots[root], tuple(path.split(b"/")), (device, inode) if there else None)
