"""Objects as files below one directory of a local or mounted disk.

An object appears under its name only when its bytes are durable: written to `tmp/`, synced, then
linked into place. The name is durable after `barrier()`. See `directories.py` for why descriptors of
directories are opened before the link, and ATC'20 "Can applications recover from fsync failures?"
for why a file whose sync failed is thrown away and never synced again.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from operator import itemgetter
from typing import TypeAlias

from dedupstore.errors import ObjectNotFound, Refused, StoreError, StoreMissing
from dedupstore.storage.base import ObjectInfo
from dedupstore.storage.directories import ChangedDirectories
from dedupstore.storage.names import TEMPORARY, check_key, check_prefix, is_name
from dedupstore.storage.system import GONE, MOST_BYTES, System, read_all, store_error
from dedupstore.storage.temporary import Fill, TemporaryFiles
from dedupstore.types import Data, Span
from dedupstore.units import GIB, printable

LARGEST_WHOLE_GET_BYTES = GIB
"""No object of ours is larger; a planted sparse file must not take all memory."""

PIECE_BYTES = MOST_BYTES
"""What is read at a time of an object that is not held whole: as much as one call writes."""

# Non-blocking, so that a planted FIFO is an error and not a hang.
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
# File systems without hard links: FAT and exFAT say EPERM, FUSE and network ones the others.
_NO_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})
_MOUNT_POINT_CONTENT = frozenset({"lost+found"})


# Spelled here because inside the class `list` is the method.
Row: TypeAlias = tuple[str, int | None, int]
Rows: TypeAlias = list[Row]
Paths: TypeAlias = list[str]


class LocalStore:
    """An object store in a directory. Opening it does no I/O: a missing directory shows at the first use."""

    def __init__(self, path: str, *, system: System | None = None) -> None:
        self._root = os.path.abspath(path)
        self._shown = printable(os.fsencode(self._root))
        self._system = system or System()
        self._directories = ChangedDirectories(self._system)
        self._temporary = TemporaryFiles(self._system, f"{self._root}/{TEMPORARY}", self._require_content)

    @classmethod
    def open(cls, location: str) -> LocalStore:
        return cls(location)

    @classmethod
    def create(cls, location: str, *, system: System | None = None) -> LocalStore:
        """Make the directory (mode 0700, parents as needed) with all it needs; durable on return.

        Repeating an interrupted create completes it. Raises `Refused` for a directory with other content.
        """
        store = cls(location, system=system)
        packs = f"{store._root}/packs"
        try:
            store._make_root()
            store._make([store._root], [f"{store._root}/{TEMPORARY}", packs])
            store._make([packs], [f"{packs}/{first:02x}" for first in range(256)])
        except OSError as error:
            what = f"create a repository at {store._shown}"
            raise store_error(error, what=what, where=store._shown, writing=True) from error
        store.barrier()
        return store

    @property
    def url(self) -> str:
        return self._root

    @property
    def weak_durability(self) -> bool:
        """True once the file system refused to fsync a directory: a power cut may lose acknowledged names."""
        return self._directories.weak

    def put(self, key: str, parts: Sequence[Data]) -> None:
        self._put(key, lambda: [parts])

    def put_pieces(self, key: str, read: Callable[[], Iterable[Data]]) -> None:
        self._put(key, lambda: ([piece] for piece in read()))

    def get(self, key: str, span: Span | None = None) -> bytes:
        check_key(key)
        with self._errors(f"read {key} from {self._shown}", key=key), self._opened(key) as (descriptor, size):
            span = self._checked_span(key, span, size)
            data = read_all(self._system, descriptor, span.length, span.start)
        if len(data) != span.length:
            raise self._too_short(key, span, span.start + len(data))
        return data

    def get_pieces(self, key: str) -> Iterator[memoryview]:
        check_key(key)
        with self._errors(f"read {key} from {self._shown}", key=key), self._opened(key) as (descriptor, size):
            span = self._checked_span(key, None, size)
            piece = memoryview(bytearray(min(size, PIECE_BYTES)))
            done = 0
            while done < size:
                got = self._system.pread_into(descriptor, piece[: size - done], done)
                if not got:
                    raise self._too_short(key, span, done)
                done += got
                yield piece[:got]

    def head(self, key: str) -> int:
        check_key(key)
        with self._errors(f"look up {key} in {self._shown}", key=key):
            status = self._system.lstat(self._path(key))
        if not stat.S_ISREG(status.st_mode):
            raise self._not_found(key)
        return status.st_size

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        check_prefix(prefix)
        return self._walk(prefix)

    def delete(self, key: str) -> None:
        check_key(key)
        with self._errors(f"delete {key} from {self._shown}", writing=True):
            folders = self._directories_of(key)
            try:
                # IsADirectoryError: a folder of that name is no object.
                with (
                    self._directories.changing(folders, create=False),
                    suppress(FileNotFoundError, IsADirectoryError),
                ):
                    self._system.unlink(self._path(key))
            except (FileNotFoundError, NotADirectoryError):
                # The folder is not there, so neither is the object; the root must be.
                self._require_root()

    def barrier(self) -> None:
        with self._errors(f"make the last writes to {self._shown} durable", writing=True):
            self._directories.barrier()

    def close(self) -> None:
        self._directories.close()

    def free_bytes(self) -> int:
        """What an unprivileged user may still write on this disk."""
        with self._errors(f"measure free space at {self._shown}"):
            status = self._system.statvfs(self._root)
            return status.f_bavail * status.f_frsize

    def sweep_temporary(self, now_ns: int) -> int:
        """Remove what puts that died more than a day before `now_ns` left in `tmp/`; say how many files.

        A put that is still writing such a file (a clock went wrong) fails; nothing stored is lost.
        """
        with self._errors(f"clean up {self._shown}", writing=True):
            try:
                return self._temporary.sweep(now_ns)
            except FileNotFoundError:
                self._require_root()
                return 0

    # Writing

    def _put(self, key: str, fill: Fill) -> None:
        check_key(key)
        with self._errors(f"write {key} to {self._shown}", writing=True):
            temporary, size = self._temporary.write(fill)
            try:
                with self._directories.changing(self._directories_of(key), create=True):
                    self._publish(temporary, key, size)
            finally:
                self._temporary.discard(temporary)

    def _publish(self, temporary: str, key: str, size: int) -> None:
        """Give the finished file its name. An object that has the name already stays."""
        target = self._path(key)
        try:
            self._system.link(temporary, target)
        except FileExistsError:
            self._require_same(key, size)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            # Rename replaces silently, so look first. What slips in between has identical bytes:
            # names are bound to content or random.
            try:
                self._require_same(key, size)
            except FileNotFoundError:
                self._system.rename(temporary, target)

    def _require_same(self, key: str, size: int) -> None:
        status = self._system.lstat(self._path(key))
        if not stat.S_ISREG(status.st_mode) or status.st_size != size:
            raise StoreError(
                f"cannot write {key} to {self._shown}",
                why=f"something else has this name already: {status.st_size} bytes instead of {size}",
                hints=[f"look for damage: dedup check -r {self._shown}"],
                code="store.conflict",
            )

    # Creating

    def _make_root(self) -> None:
        missing: Paths = []
        path = self._root
        while not self._exists(path):
            missing.append(path)
            path = os.path.dirname(path)
        if not missing:
            self._require_fresh()
        for path in reversed(missing):
            self._make([os.path.dirname(path)], [path], mode=0o700 if path == self._root else 0o777)

    def _make(self, parents: Sequence[str], paths: Sequence[str], *, mode: int = 0o700) -> None:
        with self._directories.changing(parents, create=False):
            for path in paths:
                with suppress(FileExistsError):
                    self._system.mkdir(path, mode)

    def _require_fresh(self) -> None:
        names = self._names_in_root()
        # An interrupted create has made tmp/ first, then packs/.
        if names and "packs" not in names and names != {TEMPORARY}:
            raise Refused(
                f"cannot create a repository at {self._shown}",
                why="the directory is not empty",
                hints=["name a new directory, or an empty one"],
                code="store.not_empty",
            )

    # Reading

    @contextmanager
    def _opened(self, key: str) -> Iterator[tuple[int, int]]:
        """A descriptor of the object, and its size in bytes."""
        descriptor = self._system.open(self._path(key), _READ)
        try:
            status = self._system.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise self._not_found(key)
            yield descriptor, status.st_size
        finally:
            self._system.close(descriptor)

    def _checked_span(self, key: str, span: Span | None, size: int) -> Span:
        if span is None:
            if size > LARGEST_WHOLE_GET_BYTES:
                raise StoreError(f"cannot read {key} from {self._shown}", why=f"{size} bytes is larger than any object")
            return Span(0, size)
        if span.start < 0 or span.length < 0 or span.end > size:
            raise self._too_short(key, span, size)
        return span

    def _too_short(self, key: str, span: Span, size: int) -> StoreError:
        return StoreError(
            f"cannot read {key} from {self._shown}",
            why=f"bytes {span.start} to {span.end} were asked for, but it has {size}",
            code="store.short_object",
        )

    def _walk(self, prefix: str) -> Iterator[ObjectInfo]:
        for name, size, modified_ns in self._scan(prefix):
            if size is None:
                yield from self._walk(prefix + name)
            else:
                yield ObjectInfo(prefix + name, size, modified_ns)

    def _scan(self, prefix: str) -> Sequence[Row]:
        """One folder's objects with sizes and times, and its folders (a slash at the end, no size), in key order."""
        rows: Rows = []
        with self._errors(f"list {prefix or 'everything'} in {self._shown}"):
            try:
                with self._system.scandir(f"{self._root}/{prefix}") as entries:
                    for entry in entries:
                        self._add_row(rows, entry)
            except (FileNotFoundError, NotADirectoryError):
                self._require_root()
                return []
        if not prefix:
            rows = [row for row in rows if row[0] != f"{TEMPORARY}/"]
        # With its slash a folder `a` sorts as its keys do: after `a-b` and `a.b`, before `a0`.
        rows.sort(key=itemgetter(0))
        return rows

    def _add_row(self, rows: Rows, entry: os.DirEntry[str]) -> None:
        name = entry.name
        if not is_name(name):
            return
        if entry.is_file(follow_symlinks=False):
            # Deleted while we list: then it is not there.
            with suppress(FileNotFoundError):
                rows.append((name, (found := entry.stat(follow_symlinks=False)).st_size, found.st_mtime_ns))
        elif entry.is_dir(follow_symlinks=False):
            rows.append((name + "/", None, 0))
        elif entry.is_symlink() and entry.is_dir():
            # Skipping a whole folder would make a listing that looks complete and is not.
            raise OSError(errno.EXDEV, "a symbolic link to a folder")

    # Paths and errors

    def _path(self, key: str) -> str:
        return f"{self._root}/{key}"

    def _directories_of(self, key: str) -> Sequence[str]:
        """The root and every folder down to the object: a folder's own name must become durable as well."""
        folders = key.split("/")[:-1]
        return [self._root, *("/".join([self._root, *folders[: depth + 1]]) for depth in range(len(folders)))]

    def _exists(self, path: str) -> bool:
        try:
            self._system.stat(path)
        except FileNotFoundError:
            return False
        return True

    def _names_in_root(self) -> set[str]:
        with self._system.scandir(self._root) as entries:
            return {entry.name for entry in entries} - _MOUNT_POINT_CONTENT

    def _require_root(self) -> None:
        try:
            if stat.S_ISDIR(self._system.stat(self._root).st_mode):
                return
            raise self._missing("it is not a directory")
        except OSError as error:
            if error.errno not in GONE:
                raise
            raise self._missing("the directory does not exist; is the disk mounted?") from error

    def _require_content(self) -> None:
        """Refuse to fill the empty directory an unmounted disk leaves behind."""
        self._require_root()
        if not self._names_in_root():
            raise self._missing("the directory is empty; is the disk mounted?")

    def _missing(self, why: str) -> StoreMissing:
        return StoreMissing(
            f"no repository at {self._shown}",
            why=why,
            hints=[f"mount it, or create one: dedup init -r {self._shown}"],
        )

    def _not_found(self, key: str) -> ObjectNotFound:
        return ObjectNotFound(f"there is no {key} in {self._shown}")

    @contextmanager
    def _errors(self, what: str, *, key: str = "", writing: bool = False) -> Iterator[None]:
        """Let no OSError out. `key`: the object whose absence is an `ObjectNotFound`."""
        try:
            yield
        except OSError as error:
            if error.errno in GONE:
                try:
                    self._require_root()
                except OSError:
                    pass
                else:
                    if key and error.errno in (errno.ENOENT, errno.ENOTDIR):
                        raise self._not_found(key) from error
            raise store_error(error, what=what, where=self._shown, writing=writing) from error
