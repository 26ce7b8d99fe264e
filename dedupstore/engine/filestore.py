"""One name that is not a directory, from the file system into an entry with its content stored."""

from __future__ import annotations

import os
import stat as modes
from collections.abc import Sequence
from dataclasses import replace
from hashlib import blake2b

from dedupstore.engine.content import BUFFER_BYTES, ContentStore
from dedupstore.engine.parent import align
from dedupstore.engine.sink import ChunkSink
from dedupstore.engine.small_contents import Named
from dedupstore.engine.tally import Tally
from dedupstore.model.entry import FILE, SECOND, SYMLINK, Entry
from dedupstore.model.tree import Load
from dedupstore.sources.attributes import HEAD_BYTES, Owners, make_entry, page_size_of, xattrs_at
from dedupstore.sources.base import AttributesUnreadable, ChangedWhileRead
from dedupstore.sources.filesystem import OpenFile, read_link, stat_entry
from dedupstore.sources.many_names import Item
from dedupstore.sources.small_files import read_small_files

ATTEMPTS = 3
"""How often a file that changes while it is read is read; the last version is kept and reported."""

_LOGS = (b"-wal", b"-journal")
"""What the names of a SQLite database's logs end with."""

_PAGED_FROM = 1 << 20
"""Smaller databases are cut like any file: aligning pays when there are many chunks."""

SMALL_BYTES = _PAGED_FROM - 1
"""Files up to here are read many at once."""


class FileStore:
    """Stores files, links and devices through one sink. Used by one thread."""

    def __init__(self, *, sink: ChunkSink, load: Load, content: ContentStore, owners: Owners, tally: Tally) -> None:
        self._sink = sink
        self._load = load
        self._content = content
        self._owners = owners
        self._tally = tally
        self._linked: dict[tuple[int, int], Entry] = {}
        self._live: set[bytes] = set()

    def read_small(
        self, dir_fd: int, items: list[Item], before: Sequence[Entry | None], *, stored: bool = False
    ) -> list[Named | None]:
        """The contents of those that are ordinary small files, for `store` to take; see `sources.small_files`.

        `before` has the previous version of each that has one; `stored`: all chunks of those are known to be stored.
        """
        named = self._content.name_all(read_small_files(dir_fd, items, SMALL_BYTES), before)
        if stored:
            for one in named:
                if one is not None:
                    one.stored = one.same
        return named

    def store(
        self,
        name: bytes,
        path: bytes,
        dir_fd: int,
        stat: os.stat_result,
        before: Entry | None,
        content: Named | None = None,
    ) -> Entry:
        """The entry of a name, its content stored: `content` if `read_small` has found it, else what is read now.

        Raises SourceFileError when it is not to be had.
        """
        if stat.st_mode & 0o170000 == modes.S_IFREG:
            if stat.st_size and name.endswith(_LOGS):
                self._note_database_of(name, path, dir_fd)
            if content is not None and content.same and before is not None and stat.st_nlink == 1:
                entry = self._same_content(name, path, stat, content, before)
                if entry is not None:
                    return entry
            if stat.st_nlink > 1:
                return self._linked_file(name, path, dir_fd, stat, before, content)
            return self._file(name, path, dir_fd, stat, before, content)[0]
        entry = make_entry(name, stat, self._owners)
        if stat.st_nlink > 1:
            entry.link_group = link_group(stat)
        if entry.kind == SYMLINK:
            entry.target = read_link(name, dir_fd)
        try:
            entry.xattrs = xattrs_at(name, dir_fd)
        except AttributesUnreadable as error:
            self._tally.failed(path, error)
        self._tally.other()
        return entry

    def _linked_file(
        self,
        name: bytes,
        path: bytes,
        dir_fd: int,
        stat: os.stat_result,
        before: Entry | None,
        content: Named | None,
    ) -> Entry:
        """A file of several names: stored by the first of them that is met."""
        known = self._linked.get((stat.st_dev, stat.st_ino))
        if known is not None and known.ctime == stat.st_ctime_ns // SECOND and known.mtime == stat.st_mtime_ns:
            self._tally.stored(path, known, before, 0)
            return replace(known, name=name)
        entry, steady = self._file(name, path, dir_fd, stat, before, content)
        entry.link_group = link_group(stat)
        if steady:
            self._linked[stat.st_dev, stat.st_ino] = entry
        return entry

    def _file(
        self,
        name: bytes,
        path: bytes,
        dir_fd: int,
        stat: os.stat_result,
        before: Entry | None,
        content: Named | None,
    ) -> tuple[Entry, bool]:
        """The entry, and whether the file held still in one of the attempts."""
        if content is not None:
            if page_size_of(content.data[:HEAD_BYTES]):
                self._note_live_database(name, path, dir_fd)
            return self._small(name, path, stat, content, before), True
        for attempt in range(1, ATTEMPTS + 1):
            entry, steady = self._read(name, path, dir_fd, stat, before)
            if steady:
                return entry, True
            if attempt < ATTEMPTS:
                stat = stat_entry(name, dir_fd)
        self._tally.failed(path, ChangedWhileRead("changed while it was read; the last version read is stored"))
        return entry, False

    def _read(
        self, name: bytes, path: bytes, dir_fd: int, stat: os.stat_result, before: Entry | None
    ) -> tuple[Entry, bool]:
        """One attempt: the entry, and whether the file held still."""
        with OpenFile(name, dir_fd, stat) as file:
            entry = make_entry(name, file.stat, self._owners)
            previous = before if before is not None and before.kind == FILE else None
            alignment = align(self._load, previous)
            try:
                entry.xattrs = file.xattrs()
            except AttributesUnreadable as error:
                self._tally.failed(path, error)
            if file.size <= BUFFER_BYTES:
                data = file.read_all()
                # Size and holes first: the content list is checked against them.
                entry.size, entry.holes = file.size, file.holes
                entry.page_size = page_size_of(data[:HEAD_BYTES]) if len(data) >= _PAGED_FROM else 0
                new_bytes = self._content.store_bytes(data, entry, alignment, entry.page_size)
            else:
                self._tally.progress.current = path
                head = _Head(file)
                entry.page_size = page_size_of(head.peek(HEAD_BYTES))
                new_bytes = self._content.store_stream(head.readinto, entry, alignment, entry.page_size)
                entry.size, entry.holes = file.size, file.holes
            self._tally.stored(path, entry, before, new_bytes)
            if entry.page_size:
                self._note_live_database(name, path, dir_fd)
            return entry, file.finished()

    def _note_live_database(self, name: bytes, path: bytes, dir_fd: int) -> None:
        """A database with an open log: file and log are read one after the other, and may not fit together."""
        for end in _LOGS:
            try:
                log = os.stat(name + end, dir_fd=dir_fd, follow_symlinks=False)
            except OSError:
                continue
            if log.st_size:
                self._note_live(path)
                return

    def _note_database_of(self, log: bytes, path: bytes, dir_fd: int) -> None:
        """The same where only the log has changed: its database is not read then."""
        end = len(log[log.rindex(b"-") :])
        try:
            file = os.open(log[:-end], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=dir_fd)
        except OSError:
            return
        with open(file, "rb", buffering=0) as database:
            is_one = modes.S_ISREG(os.fstat(file).st_mode) and page_size_of(database.read(HEAD_BYTES) or b"")
        if is_one:
            self._note_live(path[:-end])

    def _note_live(self, path: bytes) -> None:
        if path not in self._live:
            self._live.add(path)
            text = "is a SQLite database that is in use; a copy that fits together: dedup snapshot sqlite:PATH"
            self._tally.note("file.live_database", path, text)

    def _same_content(
        self, name: bytes, path: bytes, stat: os.stat_result, named: Named, before: Entry
    ) -> Entry | None:
        """The entry of a file with new times whose bytes still are those of `before`; None where that cannot be.

        Most files of a tree that was unpacked or checked out anew are such. Nothing is cut: the chunks that the file
        had are named again, each where it was.
        """
        # Even where nothing is known to be lost: the index of a machine that has not stored the parent may lack what that
        # names, and here are the bytes.
        if not named.stored and not all(map(self._sink.has, named.ids)):
            return None
        self._tally.read(before.size)
        entry = make_entry(name, stat, self._owners)
        entry.content = before.content
        entry.hash = named.hash
        self._tally.stored(path, entry, before, 0)
        return entry

    def _small(self, name: bytes, path: bytes, stat: os.stat_result, named: Named, before: Entry | None) -> Entry:
        """The entry of a file without holes, attributes and pages, as nearly all are, whose bytes are those of `named`."""
        entry = make_entry(name, stat, self._owners)
        alignment = align(self._load, before if before is not None and before.kind == FILE else None)
        if named.same:
            # Cut where its previous version was, which anyone may have written: what is stored is cut by the rule.
            new_bytes = self._content.store_bytes(named.data, entry, alignment)
        else:
            new_bytes = self._content.store_named(named, entry, alignment)
        self._tally.stored(path, entry, before, new_bytes)
        return entry


class _Head:
    """A stream whose first bytes can be looked at before it is read."""

    def __init__(self, file: OpenFile) -> None:
        self._file = file
        self._kept = b""

    def peek(self, count: int) -> bytes:
        buffer = bytearray(count)
        with memoryview(buffer) as view:
            filled = self._file.readinto(view)
        self._kept = bytes(buffer[:filled])
        return self._kept

    def readinto(self, view: memoryview) -> int:
        if self._kept:
            count = min(len(self._kept), len(view))
            view[:count] = self._kept[:count]
            self._kept = self._kept[count:]
            return count
        return self._file.readinto(view)


def link_group(stat: os.stat_result) -> int:
    """The number that all names of one inode share, the same from snapshot to snapshot; never 0."""
    text = b"%d %d" % (stat.st_dev, stat.st_ino)
    return int.from_bytes(blake2b(text, digest_size=8).digest(), "big") >> 1 | 1
