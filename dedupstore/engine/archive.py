"""The walk: a directory tree becomes a manifest tree, and only what changed is read and written.

A directory whose fingerprint and subdirectories are what they were is taken over by the id of its manifest, without
reading that. Otherwise its entries are merged, in name order, with those of its previous manifest: an entry
with the same size, times and inode is taken over, the rest is read. The walk keeps an explicit stack
(generators), so depth is bounded by nothing but memory.
"""

from __future__ import annotations

import os
import stat as modes
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field

from dedupstore.cancel import CancelToken
from dedupstore.clock import Clock
from dedupstore.engine.content import ContentStore
from dedupstore.engine.directory_cache import DirectoryCache
from dedupstore.engine.filestore import SMALL_BYTES, FileStore
from dedupstore.engine.items import MANY_NAMES, Items, Place, join
from dedupstore.engine.parent import DirectoryRow, PageHints
from dedupstore.engine.previous import RACY_NS, PreviousEntries, is_same
from dedupstore.engine.sink import ChunkSink
from dedupstore.engine.small_contents import Named
from dedupstore.engine.tally import Tally
from dedupstore.errors import IntegrityError, ObjectNotFound
from dedupstore.model.entry import FILE, Entry
from dedupstore.model.tree import Load, TreeWriter, read_content
from dedupstore.sources.attributes import Owners, make_entry, read_xattrs
from dedupstore.sources.base import SourceFileError
from dedupstore.sources.exclude import Excluder
from dedupstore.sources.filesystem import list_names, open_directory
from dedupstore.sources.many_names import Item, pack_items
from dedupstore.types import ChunkId, Kind

OPEN_LEVELS = 64
"""Directories held open at a time; those above are found again through `..`, which proves their identity."""

_TYPE_BITS = 0o170000
_READ_AT_ONCE = 64
_READ_BYTES_AT_ONCE = 4 << 20
"""Small files whose contents are in memory at a time, by number and by bytes."""


@dataclass(slots=True)
class Visited:
    """What a directory has become."""

    tree: ChunkId
    entry: Entry


Visit = Generator[Place, "Visited | None", ChunkId]

_Seen = tuple[bytes, os.stat_result, Entry | None, bool, Named | None]
"""A name, what it is and was, whether it is the same, and its content if that is small and had to be read."""


@dataclass(slots=True, kw_only=True)
class WalkSettings:
    """What the walk is told. `parent_read_ns` is when the parent's files began to be read; 0 without a parent."""

    excluder: Excluder
    parent_read_ns: int = 0
    force: bool = False
    """Read everything, trust no earlier look."""


@dataclass(slots=True)
class Archiver:
    """Stores directory trees through one sink. Used by one thread."""

    sink: ChunkSink
    load: Load
    content: ContentStore
    cache: DirectoryCache
    settings: WalkSettings
    tally: Tally
    clock: Clock
    cancel: CancelToken
    owners: Owners = field(default_factory=Owners)
    files: FileStore = field(init=False)

    def __post_init__(self) -> None:
        self.files = FileStore(
            sink=self.sink, load=self.load, content=self.content, owners=self.owners, tally=self.tally
        )

    def archive_directory(self, place: Place) -> Visited | None:
        """Walk from `place` down; None when the directory could not be read (told to the tally)."""
        stack: list[tuple[Place, Visit]] = [(place, self._visit(place))]
        result: Visited | None = None
        try:
            while stack:
                below, visit = stack[-1]
                try:
                    child = visit.send(result)
                except StopIteration as done:
                    result = self._finish(below, done.value)
                    stack.pop()
                    self._ascend(stack, below)
                    continue
                except SourceFileError as error:
                    self.tally.failed(below.path, error)
                    result = None
                    stack.pop()
                    self._ascend(stack, below)
                    continue
                result = None
                stack.append((child, self._visit(child)))
                if len(stack) > OPEN_LEVELS:
                    _close(stack[-OPEN_LEVELS - 1][0])
        finally:
            for below, visit in stack:
                visit.close()
                _close(below)
        return result

    def archive_name(
        self, name: bytes, path: bytes, dir_fd: int, stat: os.stat_result, before: Entry | None
    ) -> Entry | None:
        """Store one name that is not a directory; None when it could not be read."""
        trusted = not self.settings.force and self.sink.view.whole
        if before is not None and trusted and is_same(before, stat, 0, self.settings.parent_read_ns):
            self.tally.unchanged(stat)
            return before
        return self._store(name, path, dir_fd, stat, before)

    def _finish(self, place: Place, tree: ChunkId) -> Visited | None:
        entry = make_entry(place.name, place.stat, self.owners)
        entry.tree = tree
        try:
            entry.xattrs = read_xattrs(place.fd)
        except SourceFileError as error:
            self.tally.failed(place.path, error)
        return Visited(tree, entry)

    def _ascend(self, stack: list[tuple[Place, Visit]], below: Place) -> None:
        """Close a directory; find its parent again when that was closed on the way down."""
        while stack and stack[-1][0].fd < 0:
            above = stack[-1][0]
            try:
                above.fd = open_directory(b"..", dir_fd=below.fd, expected=above.stat)
            except SourceFileError as error:
                # Moved elsewhere while we were inside: what is left of it cannot be found any more.
                self.tally.failed(above.path, error)
                stack.pop()[1].close()
                if stack and stack[-1][0].fd < 0:
                    raise
                break
        _close(below)

    def _visit(self, place: Place) -> Visit:
        self.cancel.check()
        read_at = self.clock.now_ns()
        names = list_names(place.fd)
        reason = self.settings.excluder.excludes_content(place.fd, names, place.stat, place.device)
        items = Items(place, names if reason is None else sorted(reason[1]), self.settings.excluder, self.tally)
        fingerprint = self._fingerprint(items)
        row = self.cache.get(place.path)
        trusted = place.previous is not None and place.vouched and self.sink.view.whole
        done: dict[bytes, ChunkId] = {}
        entries: dict[bytes, Entry] = {}
        same = (
            row is not None
            and trusted
            and not self.settings.force
            and row.settled
            and row.tree == place.previous
            and row.fingerprint == fingerprint
        )
        if same and row is not None:
            whole = yield from self._visit_children(place, items, row, done, entries)
            if whole:
                self.tally.same_directory(items)
                return row.tree
        tree = yield from self._rebuild(place, items, row, read_at, fingerprint, done, entries)
        self.sink.checkpoint()
        return tree

    def _visit_children(
        self, place: Place, items: Items, row: DirectoryRow, done: dict[bytes, ChunkId], entries: dict[bytes, Entry]
    ) -> Generator[Place, Visited | None, bool]:
        """Walk only the subdirectories; whether all of them are what they were."""
        children = iter(row.children)
        whole = True
        for name, stat in items:
            if not modes.S_ISDIR(stat.st_mode):
                continue
            before = next(children, None)
            child = self._enter(place, name, stat, before, vouched=True)
            visited = (yield child) if child is not None else None
            if visited is None:
                whole = False
                done[name] = ChunkId(b"")
                continue
            done[name] = visited.tree
            if visited.tree != before:
                whole = False
                entries[name] = visited.entry
        return whole

    def _rebuild(
        self,
        place: Place,
        items: Items,
        row: DirectoryRow | None,
        read_at: int,
        fingerprint: bytes,
        done: dict[bytes, ChunkId],
        entries: dict[bytes, Entry],
    ) -> Visit:
        base, checked, base_read_at = self._base(place, row)
        # What stands below a manifest that nothing vouches for is not vouched for either.
        vouched = place.vouched and base == place.previous
        previous = PreviousEntries(self.load, base, row if row is not None and row.tree == base else None)
        # As for what is unchanged: this machine has stored that manifest, and nothing was lost since.
        stored = not checked and row is not None and row.tree == base and not self.settings.force
        hints = PageHints(self.load, place.previous if place.previous is not None else base)
        writer = TreeWriter(lambda data, first: self.sink.save(Kind.MANIFEST, data, hints.like(first)))
        children: list[ChunkId] = []
        inodes: list[int] = []
        newest = 0
        for name, stat, before, same, content in self._read_ahead(
            place, items, previous, base_read_at, checked=checked, stored=stored
        ):
            entry: Entry | None
            if stat.st_mode & _TYPE_BITS == modes.S_IFDIR:
                entry = yield from self._subdirectory(place, name, stat, before, done, entries, vouched=vouched)
            else:
                newest = max(newest, stat.st_ctime_ns)
                if same:
                    entry = before
                    self.tally.unchanged(stat)
                else:
                    entry = self._store(name, join(place.path, name), place.fd, stat, before, content)
            if entry is None:
                # Left out: the row must not say that this directory was read completely.
                newest = read_at
                continue
            writer.add(entry)
            inodes.append(stat.st_ino)
            if entry.tree is not None:
                children.append(entry.tree)
        self.tally.removed(previous.rest())
        tree = writer.finish()
        self.tally.directory()
        if len(inodes) <= MANY_NAMES:
            settled = newest < read_at - RACY_NS
            self.cache.put(
                place.path,
                DirectoryRow(
                    fingerprint=fingerprint,
                    tree=tree,
                    read_at=read_at,
                    settled=settled,
                    children=children,
                    inodes=inodes,
                ),
            )
        return tree

    def _read_ahead(
        self, place: Place, items: Items, previous: PreviousEntries, read_at: int, *, checked: bool, stored: bool
    ) -> Iterator[_Seen]:
        """The names of a directory with what is known of each, and the contents of small files that must be stored.

        `checked`: chunks of the previous version must be looked up; `stored`: they need not even where times differ.
        """
        force = self.settings.force
        waiting: list[tuple[bytes, os.stat_result, Entry | None, bool]] = []
        wanted: list[Item] = []
        size = 0
        for item in items:
            name, stat = item
            before, inode = previous.at(name)
            if stat.st_mode & _TYPE_BITS == modes.S_IFDIR:
                # It is entered next: nothing is to wait in memory meanwhile.
                yield from self._contents(place, waiting, wanted, stored=stored)
                waiting, wanted, size = [], [], 0
                yield name, stat, before, False, None
                continue
            same = (
                before is not None
                and not force
                and is_same(before, stat, inode, read_at)
                and (not checked or self._usable(before))
            )
            waiting.append((name, stat, before, same))
            if not same:
                wanted.append(item)
                if stat.st_size <= SMALL_BYTES:
                    size += stat.st_size
            if len(waiting) >= _READ_AT_ONCE or size >= _READ_BYTES_AT_ONCE:
                yield from self._contents(place, waiting, wanted, stored=stored)
                waiting, wanted, size = [], [], 0
        yield from self._contents(place, waiting, wanted, stored=stored)

    def _contents(
        self,
        place: Place,
        waiting: list[tuple[bytes, os.stat_result, Entry | None, bool]],
        wanted: list[Item],
        *,
        stored: bool,
    ) -> Iterator[_Seen]:
        before = [entry for _, _, entry, same in waiting if not same]
        contents = iter(self.files.read_small(place.fd, wanted, before, stored=stored)) if wanted else iter(())
        for name, stat, entry, same in waiting:
            yield name, stat, entry, same, None if same else next(contents)

    def _subdirectory(
        self,
        place: Place,
        name: bytes,
        stat: os.stat_result,
        before: Entry | None,
        done: dict[bytes, ChunkId],
        entries: dict[bytes, Entry],
        *,
        vouched: bool,
    ) -> Generator[Place, Visited | None, Entry | None]:
        known = done.get(name)
        if known is not None:
            # Visited already, when this directory still looked as if nothing had changed in it.
            entry = entries.get(name)
            return entry if entry is not None else before if known else None
        child = self._enter(place, name, stat, before.tree if before is not None else None, vouched=vouched)
        visited = (yield child) if child is not None else None
        return visited.entry if visited is not None else None

    def _enter(
        self, place: Place, name: bytes, stat: os.stat_result, previous: ChunkId | None, *, vouched: bool
    ) -> Place | None:
        path = join(place.path, name)
        try:
            fd = open_directory(name, dir_fd=place.fd, expected=stat)
        except SourceFileError as error:
            self.tally.failed(path, error)
            return None
        return Place(name, path, join(place.below, name), fd, os.fstat(fd), previous, place.device, vouched)

    def _base(self, place: Place, row: DirectoryRow | None) -> tuple[ChunkId | None, bool, int]:
        """The manifest to compare with; whether its chunks must be looked up one by one; when its files were read.

        The parent's own manifest is complete as long as no pack is lost. A newer one that an interrupted run left
        behind helps to continue there, but nothing vouches for its chunks, nor for those of its subdirectories.
        """
        trusted = place.vouched and self.sink.view.whole
        if row is not None and (row.tree == place.previous or self.sink.has(row.tree)):
            return row.tree, row.tree != place.previous or not trusted, row.read_at
        return place.previous, not trusted, self.settings.parent_read_ns

    def _usable(self, entry: Entry) -> bool:
        if entry.kind != FILE:
            return True
        try:
            if entry.pages is not None and not self.sink.has(entry.pages[1]):
                return False
            return all(self.sink.has(chunk) for chunk, _ in read_content(self.load, entry))
        except (IntegrityError, ObjectNotFound):
            return False

    def _store(
        self,
        name: bytes,
        path: bytes,
        dir_fd: int,
        stat: os.stat_result,
        before: Entry | None,
        content: Named | None = None,
    ) -> Entry | None:
        self.cancel.check()
        try:
            return self.files.store(name, path, dir_fd, stat, before, content)
        except SourceFileError as error:
            self.tally.failed(path, error)
            return None

    def _fingerprint(self, items: Items) -> bytes:
        """A keyed hash of everything `stat` says about the names, in order."""
        return self.cache.fingerprint(pack_items(items.kept)) if items.kept is not None else b""


def _close(place: Place) -> None:
    if place.fd >= 0:
        os.close(place.fd)
        place.fd = -1
