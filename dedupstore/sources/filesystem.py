"""Directories and files, read through descriptors so that nothing swapped in is ever followed or waited for.

Every open is `name` below a directory's descriptor, O_NOFOLLOW and O_NONBLOCK, and what was opened is compared
with what was seen before. A walk of any depth needs no more than a few descriptors: `open_directory(b"..",
dir_fd=child, expected=...)` finds the way up again and proves that it is the same directory.
"""

from __future__ import annotations

import errno
import os
import stat as modes
from collections.abc import Callable
from types import TracebackType
from typing import Self, cast

from dedupstore.errors import SourceFailed
from dedupstore.sources import many_names
from dedupstore.sources.attributes import read_xattrs
from dedupstore.sources.base import SourceFileError, Unreadable, file_error, replaced
from dedupstore.sources.many_names import stat_names

ENDLESS_BYTES = 16 << 20
"""A file that does not know its size (/proc) is read up to here; a longer one is refused as endless."""

MAX_HOLES = 4096
"""More holes than this and the smallest are read as the zeros they are."""

_O_NOATIME = getattr(os, "O_NOATIME", 0)
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_FILE_NOATIME = _FILE | _O_NOATIME
_DIRECTORY = _FILE | os.O_DIRECTORY
_PIECE = 1 << 20
_PROBE = 4096
_BLOCK = 512
_REGULAR = modes.S_IFREG
_TYPE_BITS = 0o170000

# File systems whose files are made up by the kernel as they are read; their sizes mean nothing.
_MADE_UP = frozenset(
    (
        "binfmt_misc", "bpf", "cgroup", "cgroup2", "configfs", "debugfs", "devpts", "efivarfs", "fusectl", "mqueue",
        "nsfs", "proc", "pstore", "rpc_pipefs", "securityfs", "selinuxfs", "smackfs", "sysfs", "tracefs",
    )
)  # fmt: skip


def _open_again(error: OSError, name: bytes, flags: int, dir_fd: int | None, stat: os.stat_result | None) -> int:
    """After `error`: open without O_NOATIME, which is for the owner and root only, or raise what `error` means."""
    if error.errno != errno.EPERM or not _O_NOATIME:
        raise file_error(error, stat) from error
    try:
        return os.open(name, flags, dir_fd=dir_fd)
    except OSError as second:
        raise file_error(second, stat) from second


def open_directory(name: bytes, *, dir_fd: int | None = None, expected: os.stat_result | None = None) -> int:
    """A descriptor of a directory, never through a link in the last component; the caller closes it.

    With `expected`, raises ChangedWhileRead unless it is that very directory (device and inode).
    """
    try:
        fd = os.open(name, _DIRECTORY | _O_NOATIME, dir_fd=dir_fd)
    except OSError as error:
        fd = _open_again(error, name, _DIRECTORY, dir_fd, expected)
    if expected is not None:
        found = os.fstat(fd)
        if found.st_ino != expected.st_ino or found.st_dev != expected.st_dev:
            os.close(fd)
            raise replaced()
    return fd


def list_names(fd: int) -> list[bytes]:
    """The names in an open directory, in byte order. About 100 bytes of memory each."""
    try:
        return many_names.list_names(fd)
    except OSError as error:
        raise file_error(error) from error


def stat_entry(name: bytes, fd: int) -> os.stat_result:
    """What a name in an open directory is; links are not followed."""
    try:
        return os.lstat(name, dir_fd=fd)
    except OSError as error:
        raise file_error(error) from error


def stat_entries(
    names: list[bytes], fd: int, failed: Callable[[bytes, SourceFileError], None]
) -> list[tuple[bytes, os.stat_result]]:
    """The names in an open directory with what they are, in the order given.

    Names that vanished meanwhile or cannot be looked at are left out and told to `failed`. About 1 KiB of memory
    each: of a directory of a million names ask for some thousand at a time.
    """
    found = stat_names(fd, names)
    if int not in map(type, found):
        return list(zip(names, cast("list[os.stat_result]", found), strict=True))
    entries = []
    for name, stat in zip(names, found, strict=True):
        if isinstance(stat, int):
            trouble = file_error(OSError(stat, os.strerror(stat)))
            if isinstance(trouble, SourceFailed):
                raise trouble
            failed(name, trouble)
        else:
            entries.append((name, stat))
    return entries


def scan(fd: int, failed: Callable[[bytes, SourceFileError], None]) -> list[tuple[bytes, os.stat_result]]:
    """The names in an open directory with what they are, in byte order; `failed` as in `stat_entries`."""
    return stat_entries(list_names(fd), fd, failed)


def read_link(name: bytes, dir_fd: int) -> bytes:
    """The text of a symbolic link."""
    try:
        return os.readlink(name, dir_fd=dir_fd)
    except OSError as error:
        if error.errno == errno.EINVAL:
            raise replaced() from error
        raise file_error(error) from error


class OpenFile:
    """A regular file being read: its data bytes in order, holes left out, never more than it had when opened.

    Opening raises Vanished, Unreadable, or ChangedWhileRead when the name no longer is the file `expected` (a
    link, a pipe or another file took its place). A file that grows or shrinks meanwhile raises nothing:
    `finished()` tells. After the last byte `size` and `holes` fit the bytes that were really read.
    """

    __slots__ = ("_data_end", "_fd", "_hole", "_position", "_unsized", "holes", "size", "stat")

    def __init__(self, name: bytes, dir_fd: int, expected: os.stat_result) -> None:
        try:
            fd = os.open(name, _FILE_NOATIME, dir_fd=dir_fd)
        except OSError as error:
            fd = _open_again(error, name, _FILE, dir_fd, expected)
        stat = os.fstat(fd)
        if stat.st_ino != expected.st_ino or stat.st_dev != expected.st_dev or stat.st_mode & _TYPE_BITS != _REGULAR:
            os.close(fd)
            raise replaced()
        size = stat.st_size
        self._fd = fd
        self.stat = stat
        self.size = size
        """Bytes of the file, holes included. Final after the end has been read."""
        self.holes: tuple[int, ...] = ()
        """Offset, length, offset, length ... of what is not delivered and reads as zeros."""
        self._position = 0
        self._hole = 0
        self._data_end = size
        self._unsized = size == 0
        if stat.st_blocks * _BLOCK < size:
            try:
                self._look_closer()
            except BaseException:
                os.close(fd)
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._fd)

    def read_all(self) -> bytes:
        """All data bytes at once: for small files, one read in the ordinary case. Only before any `readinto`."""
        size = self.size
        if self.holes:
            return self._read_pieces()
        try:
            # Not one byte more than `size`: a file that grows is cut where it ended when it was opened.
            data = os.pread(self._fd, size or _PROBE, 0)
        except OSError as error:
            raise file_error(error, self.stat) from error
        self._position = len(data)
        return data if len(data) == size else data + self._read_pieces()

    def readinto(self, view: memoryview, /) -> int:
        """Fill `view` with the next data bytes; fewer than fit only at the end, 0 when nothing is left."""
        filled = 0
        wanted = len(view)
        while filled < wanted:
            position = self._position
            room = wanted - filled if self._unsized else min(self._data_end - position, wanted - filled)
            if room <= 0:
                if not self._next_extent():
                    break
                continue
            try:
                count = os.preadv(self._fd, [view[filled : filled + room]], position)
            except OSError as error:
                raise file_error(error, self.stat) from error
            if count == 0:
                self._end_here()
                break
            filled += count
            self._position = position + count
            if self._unsized and self._position > ENDLESS_BYTES:
                raise _endless()
        return filled

    def xattrs(self) -> tuple[tuple[bytes, bytes], ...]:
        return read_xattrs(self._fd)

    def finished(self) -> bool:
        """Whether the file still is what it was when opened: same size and times. Ask after the last byte."""
        try:
            now = os.fstat(self._fd)
        except OSError as error:
            raise file_error(error, self.stat) from error
        before = self.stat
        return (
            now.st_mtime_ns == before.st_mtime_ns
            and now.st_ctime_ns == before.st_ctime_ns
            and now.st_size == before.st_size
        )

    def _read_pieces(self) -> bytes:
        pieces = bytearray()
        view = memoryview(bytearray(min(_PIECE, max(self.size - self._position, 1 << 16))))
        while count := self.readinto(view):
            pieces += view[:count]
        return bytes(pieces)

    def _next_extent(self) -> bool:
        """Step over the next hole; False at the end of the file."""
        if self._hole >= len(self.holes):
            return False
        start, length = self.holes[self._hole : self._hole + 2]
        self._hole += 2
        self._position = start + length
        self._data_end = self.holes[self._hole] if self._hole < len(self.holes) else self.size
        return True

    def _end_here(self) -> None:
        """The file ended earlier (or, without a size, somewhere): make size and holes fit what was read."""
        position = self._position
        # Holes that were stepped over lie before the position; a hole at the very end is part of the size no more.
        self.holes = self.holes[: self._hole]
        self.size = self._data_end = position
        self._unsized = False

    def _look_closer(self) -> None:
        """Fewer blocks than bytes: a file with holes, a compressed one, or one made up by the kernel."""
        if self.stat.st_blocks == 0 and self.size > ENDLESS_BYTES and made_up(self.stat.st_dev):
            raise _endless()
        self.holes = find_holes(self._fd, self.size)
        if self.holes:
            self._data_end = self.holes[0]


def find_holes(fd: int, size: int) -> tuple[int, ...]:
    """Offset, length, ... of the holes in the first `size` bytes, at most MAX_HOLES, the largest ones.

    Takes two calls a hole and bounded memory. Empty where the file system cannot tell.
    """
    holes: list[tuple[int, int]] = []
    least = 1
    position = 0
    while position < size:
        try:
            start = os.lseek(fd, position, os.SEEK_HOLE)
        except OSError:
            break
        if start >= size:
            break
        try:
            end = min(os.lseek(fd, start, os.SEEK_DATA), size)
        except OSError as error:
            if error.errno != errno.ENXIO:  # ENXIO: no data up to the end.
                break
            end = size
        if end - start >= least:
            holes.append((start, end - start))
            if len(holes) > 2 * MAX_HOLES:
                holes = _largest(holes)
                least = holes[-1][1] + 1
        position = end
    if len(holes) > MAX_HOLES:
        holes = _largest(holes)
    holes.sort()
    return tuple(number for hole in holes for number in hole)


def _largest(holes: list[tuple[int, int]]) -> list[tuple[int, int]]:
    return sorted(holes, key=lambda hole: hole[1], reverse=True)[:MAX_HOLES]


_verdicts: dict[int, bool] = {}


def made_up(device: int) -> bool:
    """Whether the file system with this st_dev is the kernel's own (/proc, /sys ...), by /proc/self/mountinfo."""
    verdict = _verdicts.get(device)
    if verdict is None:
        number = b"%d:%d" % (os.major(device), os.minor(device))
        verdict = False
        try:
            with open("/proc/self/mountinfo", "rb") as mounts:
                for line in mounts:
                    # 36 35 98:0 /root /mount options - type source options
                    fields, _, rest = line.partition(b" - ")
                    if fields.split(b" ", 3)[2] == number:
                        verdict = rest.split(b" ", 1)[0].decode("ascii", "replace") in _MADE_UP
                        break
        except (OSError, IndexError):
            pass
        _verdicts[device] = verdict
    return verdict


def _endless() -> Unreadable:
    return Unreadable("is made up as it is read and does not end", code="file.endless")
