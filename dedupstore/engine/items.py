"""The names in one directory of the walk, with what each of them is."""

from __future__ import annotations

import os
import stat as modes
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from dedupstore.engine.small_contents import Named
from dedupstore.engine.tally import Tally
from dedupstore.sources.base import SourceFileError
from dedupstore.sources.exclude import Excluder
from dedupstore.sources.filesystem import list_names, stat_entries
from dedupstore.sources.many_names import Item
from dedupstore.types import ChunkId

MANY_NAMES = 50_000
"""A directory of more names is looked at name by name instead of being held in memory as a whole."""

LOOKED_AT_ONCE = 2048
"""Names of a directory that is not held in memory; one call finds out what all of them are."""


@dataclass(slots=True)
class Looked:
    """What was found in a directory."""

    fd: int
    stat: os.stat_result
    read_at: int
    """When its names were read, or just before that, in ns since the epoch."""
    names: list[bytes]
    """In byte order; of one whose content is excluded, only those that stay."""
    found: list[Item] | None = None
    """What the names are, where that was asked for already; without those in `failed`."""
    failed: list[tuple[bytes, SourceFileError]] = field(default_factory=list)
    contents: dict[bytes, Named] = field(default_factory=dict)
    """Small files that were read when they were what `found` says."""


def look(fd: int, device: int, excluder: Excluder, now_ns: Callable[[], int]) -> Looked:
    """List an open directory. Any thread may call it. Raises SourceFileError."""
    read_at = now_ns()
    stat = os.fstat(fd)
    names = list_names(fd)
    excluded = excluder.excludes_content(fd, names, stat, device)
    return Looked(fd, stat, read_at, names if excluded is None else sorted(excluded[1]))


@dataclass(slots=True, eq=False)
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

    above: Place | None = None
    looked: Looked | None = None
    """What was found in it ahead of the walk."""

    upcoming: list[Item] | None = None
    """Its subdirectories that were not entered yet, the next one last; None where that is not known."""


class Items:
    """The names of a directory with their `stat`, in order, without what is excluded. Can be walked again."""

    def __init__(self, place: Place, looked: Looked, excluder: Excluder, tally: Tally) -> None:
        self._place = place
        self._looked = looked
        self._excluder = excluder
        self._tally = tally
        for name, error in looked.failed:
            self._failed(name, error)
        self.kept: list[Item] | None = list(self._look()) if len(looked.names) <= MANY_NAMES else None

    def __iter__(self) -> Iterator[Item]:
        return iter(self.kept) if self.kept is not None else self._look()

    def _look(self) -> Iterator[Item]:
        names, known = self._looked.names, self._looked.found
        for first in range(0, len(names), LOOKED_AT_ONCE):
            if known is not None:
                # All of them: what is looked at ahead has no more names than are looked at here at a time.
                found = known
            else:
                # The descriptor is asked for again: since the last names the walk may have closed and reopened it.
                found = stat_entries(names[first : first + LOOKED_AT_ONCE], self._place.fd, self._failed)
            yield from filter(self._wanted, found) if self._excluder.active else found

    def _failed(self, name: bytes, error: SourceFileError) -> None:
        self._tally.failed(join(self._place.path, name), error)

    def _wanted(self, item: Item) -> bool:
        name, stat = item
        path, directory = join(self._place.below, name), modes.S_ISDIR(stat.st_mode)
        return self._excluder.excludes(path, directory, stat, self._place.fd) is None


def join(path: bytes, name: bytes) -> bytes:
    return path + b"/" + name if path else name


def close_place(place: Place) -> None:
    if place.fd >= 0:
        os.close(place.fd)
        place.fd = -1
