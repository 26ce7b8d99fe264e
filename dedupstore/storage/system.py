"""Every call by which a local store touches the disk, in one object, and what its failures mean.

Tests replace it to record the order of operations, to make one of them fail, and to build the
states a crash could leave behind.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager

from dedupstore.errors import StoreError, StoreFull, StoreReadOnly

_fdatasync = getattr(os, "fdatasync", os.fsync)
# POSIX promises 16; Linux takes 1024 buffers in one call.
_MOST_PARTS = max(16, os.sysconf("SC_IOV_MAX"))
MOST_BYTES = 1 << 20
"""One call writes so much at most. For 2 MiB at once Linux looks for a free huge page to cache them in, and in a virtual
machine those are what was given back to the host: 1.5 GB took 4.3 s of CPU in calls of 2 MiB, 0.4 s in calls of 1 MiB.
"""
PASSING_BYTES = 256 << 10
"""From here on a call passes the cache by: a request to the disk for each small piece would cost more than it saves."""

_CURRENT_POSITION = -1

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
DENIED = frozenset({errno.EACCES, errno.EPERM})
UNSUPPORTED = frozenset({errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP})
GONE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ENOTCONN, errno.ENODEV, errno.ENXIO, errno.ESTALE})
_TRANSIENT = frozenset(
    {errno.EAGAIN, errno.EBUSY, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ESTALE, errno.ETIMEDOUT}
)


def flag_for_passing(release: str) -> int:
    """Linux's RWF_DONTCACHE, which Python does not name, where the kernel of this `release` has it right; else 0.

    6.14 could drop pages that were dirty again; 6.15 does not know the flag any more.
    """
    found = re.match(r"(\d+)\.(\d+)", release)
    # Without RWF_DSYNC Python has no flags for writes at all.
    if found is None or not hasattr(os, "RWF_DSYNC") or tuple(map(int, found.groups())) < (6, 16):
        return 0
    return 0x80


_RWF_DONTCACHE = flag_for_passing(os.uname().release)


class System:
    """The operating system's file calls; each raises OSError exactly as `os` does."""

    def open(self, path: str, flags: int, mode: int = 0o600) -> int:
        return os.open(path, flags, mode)

    def close(self, descriptor: int) -> None:
        os.close(descriptor)

    def writev(self, descriptor: int, parts: Sequence[memoryview]) -> int:
        """Write at the current position what is synced next; may write less than it was given."""
        written = _pass_through(descriptor, parts, _CURRENT_POSITION)
        return os.writev(descriptor, parts) if written is None else written

    def pread(self, descriptor: int, length: int, offset: int) -> bytes:
        return os.pread(descriptor, length, offset)

    def pread_into(self, descriptor: int, buffer: memoryview, offset: int) -> int:
        """Read into `buffer`; how many bytes, 0 at the end of the file."""
        return os.preadv(descriptor, [buffer], offset)

    def fdatasync(self, descriptor: int) -> None:
        _fdatasync(descriptor)

    def fsync(self, descriptor: int) -> None:
        os.fsync(descriptor)

    def fstat(self, descriptor: int) -> os.stat_result:
        return os.fstat(descriptor)

    def stat(self, path: str) -> os.stat_result:
        return os.stat(path)

    def lstat(self, path: str) -> os.stat_result:
        return os.lstat(path)

    def statvfs(self, path: str) -> os.statvfs_result:
        return os.statvfs(path)

    def scandir(self, path: str) -> AbstractContextManager[Iterator[os.DirEntry[str]]]:
        return os.scandir(path)

    def link(self, source: str, target: str) -> None:
        os.link(source, target)

    def rename(self, source: str, target: str) -> None:
        os.rename(source, target)

    def unlink(self, path: str) -> None:
        os.unlink(path)

    def mkdir(self, path: str, mode: int) -> None:
        os.mkdir(path, mode)

    def token(self) -> str:
        """32 random hex digits: a name no other put on any host picks."""
        return os.urandom(16).hex()


def write_passing(descriptor: int, parts: Sequence[memoryview], offset: int) -> int:
    """Write at an offset what nobody is expected to read soon; may write less than it was given."""
    written = _pass_through(descriptor, parts, offset)
    return os.pwritev(descriptor, parts, offset) if written is None else written


def _pass_through(descriptor: int, parts: Sequence[memoryview], offset: int) -> int | None:
    """Write without leaving the bytes in the system's cache; None where that is not to be had, or not worth it.

    The system begins to write at once, and a page is free for other bytes as soon as it is on the disk. So a few pages
    serve for data of any amount, and it pushes out nothing that others use. An error shows at the next sync, as always.
    """
    if not _RWF_DONTCACHE or sum(part.nbytes for part in parts) < PASSING_BYTES:
        return None
    try:
        return os.pwritev(descriptor, parts, offset, _RWF_DONTCACHE)
    except OSError as error:
        # A file system that cannot, or a sandbox without the call: what else is wrong shows again without the flag.
        if error.errno not in UNSUPPORTED and error.errno != errno.ENOSYS:
            raise
    return None


def write_all(system: System, descriptor: int, views: Sequence[memoryview]) -> None:
    """Write every byte of `views` at the current position."""
    write_pieces(lambda pieces, done: system.writev(descriptor, pieces), views)


def write_pieces(write: Callable[[Sequence[memoryview], int], int], views: Sequence[memoryview]) -> None:
    """Hand every byte of `views` (flat) to `write`, in order, in as few calls as are good for the system.

    `write` is given pieces and how many bytes it took before; it returns how many it took. OSError when it takes none.
    """
    left = [view for view in views if view.nbytes]
    position = done = 0
    while position < len(left):
        written = write(_next_pieces(left, position), done)
        if written <= 0:
            raise OSError(errno.EIO, "nothing was written")
        done += written
        while position < len(left) and written >= left[position].nbytes:
            written -= left[position].nbytes
            position += 1
        if written:
            left[position] = left[position][written:]


def _next_pieces(views: Sequence[memoryview], position: int) -> list[memoryview]:
    pieces: list[memoryview] = []
    room = MOST_BYTES
    for view in views[position : position + _MOST_PARTS]:
        pieces.append(view[:room])
        room -= pieces[-1].nbytes
        if not room:
            break
    return pieces


def read_all(system: System, descriptor: int, length: int, offset: int) -> bytes:
    """`length` bytes from `offset`; fewer only where the file ends."""
    data = system.pread(descriptor, length, offset)
    if len(data) == length:
        return data
    pieces, have = [data], len(data)
    while data and have < length:
        data = system.pread(descriptor, length - have, offset + have)
        pieces.append(data)
        have += len(data)
    return b"".join(pieces)


_NO_ROOM = "that frees what was forgotten; forgetting takes some kB itself, so make room for these on that disk first"


def store_error(error: OSError, *, what: str, where: str, writing: bool) -> StoreError:
    """The store's error for a failed system call. `what` completes "cannot …"; `where` is the store's URL."""
    number = error.errno or errno.EIO
    message = f"cannot {what}"
    reason = os.strerror(number)
    if number in FULL:
        quota = "the quota is used up" if number == errno.EDQUOT else "no space left on the disk"
        return StoreFull(message, why=quota, hints=[f"free space: dedup prune -r {where}", _NO_ROOM])
    if number == errno.EROFS:
        return StoreReadOnly(message, why="the disk is mounted read-only", hints=["mount it writable and try again"])
    if number in DENIED:
        hints = [f"see who owns it: ls -ld {where}"]
        if writing:
            return StoreReadOnly(message, why=f"permission denied ({reason})", hints=hints)
        return StoreError(message, why=f"permission denied ({reason})", hints=hints, code="store.permission")
    if number == errno.EXDEV:
        return StoreError(message, why="the repository is spread over two file systems; it must be on one")
    if number == errno.ELOOP:
        return StoreError(message, why="there is a symbolic link where an object should be")
    if number == errno.EIO and not writing:
        return StoreError(message, why=reason, hints=["ask the disk how it is: smartctl -a"], code="store.unreadable")
    return StoreError(message, why=reason, transient=number in _TRANSIENT)
