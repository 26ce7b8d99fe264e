"""The names in one directory of the walk, with what each of them is."""

from __future__ import annotations

import os
import stat as modes
from collections.abc import Iterator
from dataclasses import dataclass

from dedupstore.engine.tally import Tally
from dedupstore.sources.base import SourceFileError
from dedupstore.sources.exclude import Excluder
from dedupstore.sources.filesystem import stat_entries
from dedupstore.sources.many_names import Item
from dedupstore.types import ChunkId

MANY_NAMES = 50_000
"""A directory of more names is looked at name by name instead of being held in memory as a whole."""

_LOOKED_AT_ONCE = 2048
"""Names of a directory that is not held in memory; one call finds out what all of them are."""


@dataclass(slots=True)
class Place:
    """One directory of the walk. `path` is where it lies in the snapshot, `below` the part of it under its root."""

    name: bytes
    path: bytes
    below: bytes
    fd: int
    stat: os.stat_result
    previous: ChunkId | None
    """Its manifest as found where its parent directory was compared: in the parent snapshot, or in a newer one."""

    device: int
    vouched: bool = True
    """`previous` is of the parent snapshot: all below it is stored as long as no pack is lost or condemned."""


class Items:
    """The names of a directory with their `stat`, in order, without what is excluded. Can be walked again."""

    def __init__(self, place: Place, names: list[bytes], excluder: Excluder, tally: Tally) -> None:
        self._place = place
        self._names = names
        self._excluder = excluder
        self._tally = tally
        self.kept: list[Item] | None = list(self._look()) if len(names) <= MANY_NAMES else None

    def __iter__(self) -> Iterator[Item]:
        return iter(self.kept) if self.kept is not None else self._look()

    def _look(self) -> Iterator[Item]:
        for first in range(0, len(self._names), _LOOKED_AT_ONCE):
            # The descriptor is asked for again: since the last names the walk may have closed and reopened it.
            found = stat_entries(self._names[first : first + _LOOKED_AT_ONCE], self._place.fd, self._failed)
            yield from filter(self._wanted, found) if self._excluder.active else found

    def _failed(self, name: bytes, error: SourceFileError) -> None:
        self._tally.failed(join(self._place.path, name), error)

    def _wanted(self, item: Item) -> bool:
        name, stat = item
        path, directory = join(self._place.below, name), modes.S_ISDIR(stat.st_mode)
        return self._excluder.excludes(path, directory, stat, self._place.fd) is None


def join(path: bytes, name: bytes) -> bytes:
    return path + b"/" + name if path else name
