"""Small files, many at once: opened, proved, read, proved again and closed, in C with one release of the GIL for 64.

All are asked for before the first is read: a disk that has to fetch them gets as many requests at once.
"""

from __future__ import annotations

import errno
import os
import stat as modes
from collections.abc import Callable

from dedupstore.sources.attributes import read_xattrs
from dedupstore.sources.base import SourceFileError
from dedupstore.sources.many_names import Item

try:
    from dedupstore.sources import _small_files
except ImportError:  # built without a compiler
    _HAVE_KERNEL = False
else:
    _HAVE_KERNEL = True

_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_O_NOATIME = getattr(os, "O_NOATIME", 0)
_BLOCK = 512


def read_small_files_in_python(dir_fd: int, items: list[Item], limit: int, /) -> list[bytes | None]:
    """All bytes of each ordinary file of 1 to `limit` bytes that was the same before and after it was read.

    None for everything else, which is for OpenFile to find out about and to tell: another kind of file, one that is
    empty, longer, sparse, changed, replaced or gone, one with extended attributes, and every error. All are held in
    memory: the caller sees to it that they are not too many.
    """
    return [_read_small(dir_fd, name, expected, limit) for name, expected in items]


def _read_small(dir_fd: int, name: bytes, expected: os.stat_result, limit: int) -> bytes | None:
    if not modes.S_ISREG(expected.st_mode) or not 0 < expected.st_size <= limit:
        return None
    try:
        fd = _open(dir_fd, name)
    except OSError:
        return None
    try:
        found = os.fstat(fd)
        if not _is_still(found, expected) or found.st_blocks * _BLOCK < found.st_size or read_xattrs(fd):
            return None
        data = os.pread(fd, expected.st_size, 0)
        return data if len(data) == expected.st_size and _is_still(os.fstat(fd), expected) else None
    except (OSError, SourceFileError):
        return None
    finally:
        os.close(fd)


def _open(dir_fd: int, name: bytes) -> int:
    try:
        return os.open(name, _FLAGS | _O_NOATIME, dir_fd=dir_fd)
    except OSError as error:
        if error.errno != errno.EPERM or not _O_NOATIME:
            raise
        return os.open(name, _FLAGS, dir_fd=dir_fd)


def _is_still(found: os.stat_result, expected: os.stat_result) -> bool:
    return (
        found.st_ino == expected.st_ino
        and found.st_dev == expected.st_dev
        and found.st_mode == expected.st_mode
        and found.st_uid == expected.st_uid
        and found.st_gid == expected.st_gid
        and found.st_size == expected.st_size
        and found.st_mtime_ns == expected.st_mtime_ns
        and found.st_ctime_ns == expected.st_ctime_ns
    )


read_small_files: Callable[[int, list[Item], int], list[bytes | None]]
read_small_files = _small_files.read_small_files if _HAVE_KERNEL else read_small_files_in_python
