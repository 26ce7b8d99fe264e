"""A batch of small files written at once: in C with one release of the GIL, or in Python where that is missing."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable

from dedupstore.types import Data

SmallFile = tuple[int, bytes, bytes, Data, int, int, int, int, int]
"""One file to write. A plain tuple, because one is made for every file:

| field | |
|---|---|
| directory | a descriptor; stays open until the call returns |
| temporary, name | bytes, in that directory |
| data | all of it |
| created mode | what it is created with: 0600, unless that of the finished file opens nothing early |
| mode | what it has in the end; -1: what it was created with |
| user, group | -1 for both: leave the owner |
| time | of modification and last access, in ns |
"""

try:
    from dedupstore.engine import _write
except ImportError:  # built without a compiler
    _HAVE_KERNEL = False
else:
    _HAVE_KERNEL = True

_FLAGS = os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_WRONLY
_UNCHANGED = (1 << 32) - 1
_turn = threading.Lock()


def write_files_in_python(batch: list[SmallFile], /) -> list[int]:
    """Write every file to its temporary, then rename it; for each 0, or the errno of what failed.

    A file is visible under its name complete with its metadata, or not at all; after a failure its temporary is
    gone. A temporary that exists is left alone and fails with EEXIST; neither name is ever followed as a link, and
    what has the final name is replaced as by rename(2). One failure does not keep the others from being tried.
    """
    for file in batch:
        _check_range(*file)
    # One batch at a time: threads that take turns at the interpreter after each system call are slower than one.
    with _turn:
        return [_write_file(*file) for file in batch]


def _check_range(
    dir_fd: int, temporary: bytes, name: bytes, data: Data, created_mode: int, mode: int, uid: int, gid: int, mtime: int
) -> None:
    if b"\0" in temporary or b"\0" in name:
        raise ValueError("embedded null byte")
    if not 0 <= dir_fd < 1 << 31 or not all(-1 <= number < _UNCHANGED for number in (created_mode, mode, uid, gid)):
        raise OverflowError("a descriptor, a mode or an owner is out of range")
    if not -1 << 63 <= mtime < 1 << 63:
        raise OverflowError("a time is out of range")
    if not memoryview(data).c_contiguous:
        raise BufferError("the data are not in one piece")


def _write_file(
    dir_fd: int, temporary: bytes, name: bytes, data: Data, created_mode: int, mode: int, uid: int, gid: int, mtime: int
) -> int:
    if not (_is_plain_name(temporary) and _is_plain_name(name)):
        return errno.EINVAL
    try:
        fd = os.open(temporary, _FLAGS, created_mode, dir_fd=dir_fd)
    except OSError as exc:
        return exc.errno or errno.EIO
    try:
        try:
            _write_all(fd, data)
            if uid != -1 or gid != -1:
                os.fchown(fd, uid, gid)
            if mode != -1:
                os.fchmod(fd, mode)
            os.utime(fd, ns=(mtime, mtime))
        finally:
            # Closed before it gets its name: network file systems tell here that there was no room.
            os.close(fd)
        os.rename(temporary, name, src_dir_fd=dir_fd, dst_dir_fd=dir_fd)
    except BaseException as exc:
        _remove(dir_fd, temporary)
        if isinstance(exc, OSError):
            return exc.errno or errno.EIO
        raise
    return 0


def _is_plain_name(name: bytes) -> bool:
    return bool(name) and b"/" not in name and name not in (b".", b"..")


def _write_all(fd: int, data: Data) -> None:
    rest = memoryview(data).cast("B")
    while rest:
        written = os.write(fd, rest)
        if written == 0:
            raise OSError(errno.EIO, "nothing could be written")
        rest = rest[written:]


def _remove(dir_fd: int, name: bytes) -> None:
    try:
        os.unlink(name, dir_fd=dir_fd)
    except OSError:
        return


write_files: Callable[[list[SmallFile]], list[int]]
write_files = _write.write_files if _HAVE_KERNEL else write_files_in_python
