"""The top of a snapshot: one entry for each root the user named, below directories that exist only there."""

from __future__ import annotations

import os
import stat as modes
from collections.abc import Sequence

from dedupstore.engine.archive import Archiver
from dedupstore.engine.items import Place
from dedupstore.errors import IntegrityError, ObjectNotFound, SourceFailed
from dedupstore.model.entry import DIRECTORY, Entry
from dedupstore.model.tree import TreeWriter, read_tree
from dedupstore.sources.base import SourceFileError
from dedupstore.sources.filesystem import open_directory
from dedupstore.sources.roots import Root
from dedupstore.types import ChunkId, Kind
from dedupstore.units import printable


def archive_roots(archiver: Archiver, roots: Sequence[Root], previous: ChunkId | None) -> ChunkId:
    """The id of the root manifest. Raises SourceFailed when a root itself cannot be read."""
    return _level(archiver, [(root.parts, root) for root in roots], previous)


def _level(archiver: Archiver, roots: Sequence[tuple[tuple[bytes, ...], Root]], previous: ChunkId | None) -> ChunkId:
    """One level of names: roots that end here, and directories made up for the longer ones."""
    before = _entries(archiver, previous)
    like = (previous,) if previous is not None else ()
    writer = TreeWriter(lambda data, first: archiver.sink.save(Kind.MANIFEST, data, like))
    for name in sorted({parts[0] for parts, _ in roots}):
        here = [(parts[1:], root) for parts, root in roots if parts[0] == name]
        known = before.get(name)
        if here[0][0]:
            tree = _level(archiver, here, known.tree if known is not None else None)
            writer.add(Entry(name=name, kind=DIRECTORY, mode=0o755, tree=tree))
        else:
            writer.add(_root(archiver, name, here[0][1], known))
    return writer.finish()


def _root(archiver: Archiver, name: bytes, root: Root, known: Entry | None) -> Entry:
    path, stat = root.path, root.stat
    if not modes.S_ISDIR(stat.st_mode):
        above, last = os.path.split(path)
        directory = _open(above)
        try:
            entry = archiver.archive_name(last, root.name, directory, stat, known)
        finally:
            os.close(directory)
        if entry is None:
            raise _unreadable(archiver, path)
        entry.name = name
        return entry
    fd = _open(path)
    place = Place(name, root.name, b"", fd, os.fstat(fd), known.tree if known is not None else None, stat.st_dev)
    visited = archiver.archive_directory(place)
    if visited is None:
        raise _unreadable(archiver, path)
    return visited.entry


def _open(path: bytes) -> int:
    try:
        return open_directory(path)
    except SourceFileError as error:
        raise SourceFailed(
            f"cannot read {printable(path)}", why=error.message, hints=["check the path and its rights"]
        ) from error


def _unreadable(archiver: Archiver, path: bytes) -> SourceFailed:
    why = archiver.tally.findings[-1].message if archiver.tally.findings else ""
    return SourceFailed(f"cannot read {printable(path)}", why=why, hints=["check the path and its rights"])


def _entries(archiver: Archiver, tree: ChunkId | None) -> dict[bytes, Entry]:
    if tree is None:
        return {}
    try:
        return {entry.name: entry for entry in read_tree(archiver.load, tree)}
    except (IntegrityError, ObjectNotFound):
        return {}
