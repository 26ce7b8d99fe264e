"""Snapshots as a tree of directories, read-only, for whoever shows it as a file system.

    by-time/2026-11-21_2310_4kq2-m8/      every snapshot
    by-source/site/2026-11-21_2310_4kq2-m8/
    by-source/site/latest                 a link to the newest one

or one snapshot alone as the top. Nothing is read before somebody looks at it; caches are bounded. Errors are OSError:
ENOENT for what is not there, EIO for what cannot be read, which is told to `trouble` as well.
"""

from __future__ import annotations

import errno
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from dedupstore.codec.hashing import digest
from dedupstore.engine.directories import Directories
from dedupstore.engine.file_content import file_content
from dedupstore.engine.link_groups import link_key
from dedupstore.errors import DedupError, IntegrityError, ObjectNotFound
from dedupstore.model.entry import DIRECTORY, SYMLINK, Entry
from dedupstore.model.snapshot import Snapshot
from dedupstore.repo.repository import Repository
from dedupstore.types import SnapshotId
from dedupstore.units import printable, short_id

REFRESH_SECONDS = 5.0
"""How old a list of snapshots may be when somebody looks at it."""

BY_TIME, BY_SOURCE, LATEST = b"by-time", b"by-source", b"latest"
_TOP_LEVELS = 3
"""So many names may stand for what is made up; below them nothing changes."""

_MAX_PATHS = 20_000
_MAX_TOLD = 10_000

Answer = TypeVar("Answer")


class Node(NamedTuple):
    """What is at a path. `snapshot` is None for the directories made up above the snapshots."""

    entry: Entry
    inode: int
    snapshot: Snapshot | None
    made_up: Mapping[bytes, Node] | None = None
    """The names below a directory that is made up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """`one`: only this snapshot, as the top. `stamp` writes a time as part of a name."""

    stamp: Callable[[int], str]
    one: Snapshot | None = None


class MountedSnapshots:
    """Safe to call from many threads. Paths are names from the top, no empty ones among them."""

    def __init__(self, repository: Repository, view: View, trouble: Callable[[bytes, DedupError], None]) -> None:
        self._repository = repository
        self._view = view
        self._trouble = trouble
        self._told: set[bytes] = set()
        self._lock = threading.RLock()
        self._snapshots: dict[SnapshotId, Snapshot] = {}
        self._unreadable: set[SnapshotId] = set()
        self._refreshed = float("-inf")
        self._looked = float("-inf")
        self._looks = 0
        self._top = _made_up({})
        self._paths: OrderedDict[bytes, Node] = OrderedDict()
        self._directories = Directories(repository.reader.load_manifest)
        if view.one is not None:
            repository.look()
            entry = Entry(name=b"/", kind=DIRECTORY, mode=0o555, mtime=view.one.time_ns, tree=view.one.root)
            self._top = Node(entry, _inode(view.one, b""), view.one)
        else:
            self._refresh()

    def find(self, path: bytes) -> Node:
        """What is at a path. Raises OSError."""
        if path.count(b"/") < _TOP_LEVELS:
            self._refresh()
        return self._guarded(path, lambda: self._find(path))

    def names(self, path: bytes) -> Iterator[tuple[bytes, Node]]:
        """The names in a directory. Raises OSError, also half-way."""
        node = self.find(path)
        if node.made_up is not None:
            yield from node.made_up.items()
            return
        tree = node.entry.tree
        if tree is None:
            raise OSError(errno.ENOTDIR, "not a directory")
        entries = self._directories.entries(tree)
        # Not tried twice: after an error an iterator is at its end, and half a directory would pass for a whole one.
        while (entry := self._guarded(path, lambda: next(entries, None), again=False)) is not None:
            yield entry.name, self._below(node, _join(path, entry.name), entry)

    def open(self, path: bytes) -> OpenFile:
        return OpenFile(self, path, self.find(path).entry)

    def guarded_read(self, path: bytes, read: Callable[[], Answer]) -> Answer:
        """What `read` gives; its errors as those of a file system."""
        return self._guarded(path, read)

    def content(self, entry: Entry, offset: int) -> Iterator[bytes | memoryview]:
        return file_content(self._repository.reader, entry, offset)

    def _find(self, path: bytes) -> Node:
        node, above = self._nearest(path)
        rest = path[len(above) :].lstrip(b"/")
        for name in rest.split(b"/") if rest else ():
            above = _join(above, name)
            node = self._child(node, name, above)
        return node

    def _nearest(self, path: bytes) -> tuple[Node, bytes]:
        """The directory furthest down the path that is known already."""
        with self._lock:
            while path:
                known = self._paths.get(path)
                if known is not None:
                    self._paths.move_to_end(path)
                    return known, path
                path = path.rpartition(b"/")[0]
            return self._top, b""

    def _child(self, parent: Node, name: bytes, path: bytes) -> Node:
        if parent.made_up is not None:
            made_up = parent.made_up.get(name)
            if made_up is None:
                raise FileNotFoundError(errno.ENOENT, "no such file")
            return made_up
        tree = parent.entry.tree
        entry = self._directories.entry(tree, name) if tree is not None else None
        if entry is None:
            raise FileNotFoundError(errno.ENOENT, "no such file")
        node = self._below(parent, path, entry)
        if entry.tree is not None:
            with self._lock:
                self._paths[path] = node
                if len(self._paths) > _MAX_PATHS:
                    self._paths.popitem(last=False)
        return node

    def _below(self, parent: Node, path: bytes, entry: Entry) -> Node:
        snapshot = parent.snapshot
        assert snapshot is not None
        # One file has one number, whichever of its names and of the two ways to the snapshot was taken.
        inside = path if self._view.one is not None else b"/".join(path.split(b"/")[_depth(path) :])
        return Node(entry, _inode(snapshot, inside, link_key(entry)), snapshot)

    def _guarded(self, path: bytes, work: Callable[[], Answer], *, again: bool = True) -> Answer:
        looks = self._looks
        try:
            try:
                return work()
            except (IntegrityError, ObjectNotFound):
                # A prune may have moved it to another pack meanwhile.
                if not self._look_again(looks) or not again:
                    raise
                return work()
        except DedupError as error:
            with self._lock:
                news = path not in self._told and len(self._told) < _MAX_TOLD
                if news:
                    self._told.add(path)
            if news:
                self._trouble(path, error)
            raise OSError(errno.EIO, printable(error.message.encode("utf-8", "replace"))) from error

    def _look_again(self, looks: int) -> bool:
        """Whether there was a look after so many: this one, or that of somebody who met the same at the same time."""
        with self._lock:
            if self._looks > looks:
                return True
            now = self._repository.clock.monotonic()
            if now - self._looked < REFRESH_SECONDS:
                return False
            self._looked = now
            self._repository.look()
            self._looks += 1
            return True

    def _refresh(self) -> None:
        """Have snapshots that were made or removed since appear and disappear. A failure keeps what is known."""
        if self._view.one is not None:
            return
        with self._lock:
            now = self._repository.clock.monotonic()
            if now - self._refreshed < REFRESH_SECONDS:
                return
            self._refreshed = now
            try:
                self._update()
            except DedupError as error:
                self._trouble(b"", error)

    def _update(self) -> None:
        committed = self._repository.catalog.committed()
        news = committed - self._snapshots.keys() - self._unreadable
        gone = self._snapshots.keys() - committed
        for identifier in gone:
            del self._snapshots[identifier]
        for identifier in news:
            try:
                self._snapshots[identifier] = self._repository.catalog.get(identifier)
            except (IntegrityError, ObjectNotFound) as error:
                self._unreadable.add(identifier)
                self._trouble(short_id(identifier).encode("ascii"), error)
        if news:
            self._repository.look()
        if news or gone:
            self._top = _layout(sorted(self._snapshots.values(), key=_order), self._view.stamp)
            self._paths.clear()


class OpenFile:
    """One open file, read mostly from its beginning to its end. Safe to call from many threads."""

    def __init__(self, mounted: MountedSnapshots, path: bytes, entry: Entry) -> None:
        self._mounted = mounted
        self._path = path
        self._entry = entry
        self._lock = threading.Lock()
        self._position = -1
        self._pieces: Iterator[bytes | memoryview] = iter(())
        self._rest = memoryview(b"")

    def read(self, offset: int, size: int) -> bytes:
        """Up to `size` bytes from `offset` on, fewer only at the end. Raises OSError EIO."""
        with self._lock:
            return self._mounted.guarded_read(self._path, lambda: self._read(offset, min(size, self._left(offset))))

    def _left(self, offset: int) -> int:
        return max(0, self._entry.size - offset)

    def _read(self, offset: int, size: int) -> bytes:
        if offset != self._position:
            self._pieces, self._rest = self._mounted.content(self._entry, offset), memoryview(b"")
        # Nothing is known of where we are until the read has succeeded.
        self._position = -1
        parts: list[memoryview] = []
        left = size
        while left > 0:
            self._rest = self._rest or memoryview(next(self._pieces))
            parts.append(self._rest[:left])
            self._rest = self._rest[left:]
            left -= len(parts[-1])
        self._position = offset + size
        return b"".join(parts)


def _layout(snapshots: list[Snapshot], stamp: Callable[[int], str]) -> Node:
    by_time: dict[bytes, Node] = {}
    by_source: dict[str, dict[bytes, Node]] = {}
    for snapshot in snapshots:
        name = f"{stamp(snapshot.time_ns)}_{short_id(snapshot.id)}".encode()
        entry = Entry(name=name, kind=DIRECTORY, mode=0o555, mtime=snapshot.time_ns, tree=snapshot.root)
        node = Node(entry, _inode(snapshot, b""), snapshot)
        by_time[name] = node
        by_source.setdefault(snapshot.source, {})[name] = node
    sources: dict[bytes, Node] = {}
    for source, nodes in sorted(by_source.items()):
        newest = next(reversed(nodes))
        link = Entry(name=LATEST, kind=SYMLINK, mode=0o777, mtime=nodes[newest].entry.mtime, target=newest)
        nodes[LATEST] = Node(link, _inode(None, b"latest\0" + source.encode()), None)
        name = _source_name(source, sources)
        sources[name] = _made_up(nodes, b"source\0" + source.encode(), link.mtime)
    newest_ns = snapshots[-1].time_ns if snapshots else 0
    return _made_up(
        {
            BY_TIME: _made_up(by_time, BY_TIME, newest_ns),
            BY_SOURCE: _made_up(sources, BY_SOURCE, newest_ns),
        },
        mtime=newest_ns,
    )


def _source_name(source: str, taken: Mapping[bytes, Node]) -> bytes:
    """A source's name as one name: those given by their paths have slashes."""
    plain = printable(source.strip("/").replace("/", "_").encode("utf-8", "surrogateescape"))[:200]
    name = f"_{plain}" if not plain or plain.startswith(".") else plain
    unique, number = name, 2
    while unique.encode() in taken:
        unique, number = f"{name}~{number}", number + 1
    return unique.encode()


def _made_up(names: Mapping[bytes, Node], key: bytes = b"", mtime: int = 0) -> Node:
    entry = Entry(name=key or b"/", kind=DIRECTORY, mode=0o555, mtime=mtime)
    return Node(entry, _inode(None, key), None, names)


def _inode(snapshot: Snapshot | None, path: bytes, group: int = 0) -> int:
    """The same at every mount. Files that are one file share it."""
    owner = snapshot.id if snapshot is not None else b""
    what = b"link\0%d" % group if group else b"path\0" + path
    return int.from_bytes(digest([owner, what])[:8], "big") >> 1 | 1 << 32


def _depth(path: bytes) -> int:
    """How many names come before those of the snapshot."""
    return 2 if path.startswith(BY_TIME + b"/") else 3


def _join(path: bytes, name: bytes) -> bytes:
    return path + b"/" + name if path else name


def _order(snapshot: Snapshot) -> tuple[int, bytes]:
    return snapshot.time_ns, snapshot.id
