"""The names of a directory and what they are, all at once, in C with one release of the GIL for 128 of them.

Looking at every name is all the work there is in a directory where nothing has changed. Per name: 1.8 us in place of
3.0 to find out, of which the system call itself takes 1.1, and 0.2 in place of 1.0 to pack.
"""

from __future__ import annotations

import os
import stat as modes
import struct
from collections.abc import Callable

try:
    from dedupstore.sources import _many_names
except ImportError:  # built without a compiler
    _HAVE_KERNEL = False
else:
    _HAVE_KERNEL = True

Item = tuple[bytes, os.stat_result]

_NUMBERS = struct.Struct("<7Q")
_WORD = (1 << 64) - 1


def list_names_in_python(dir_fd: int, /) -> list[bytes]:
    """The names in an open directory, in byte order, from its start. About 100 bytes of memory each."""
    os.fstat(dir_fd)  # to os.listdir, None and -1 are the working directory
    return sorted(map(os.fsencode, os.listdir(dir_fd)))


def stat_names_in_python(dir_fd: int, names: list[bytes], /) -> list[os.stat_result | int]:
    """What `os.lstat` says about every name, in order; in place of an OSError its errno."""
    lstat = os.lstat
    found: list[os.stat_result | int] = []
    for name in names:
        try:
            found.append(lstat(name, dir_fd=dir_fd))
        except OSError as error:
            found.append(error.errno or 0)
    return found


def pack_items_in_python(items: list[Item], /) -> bytes:
    """Bytes that differ when the names differ, or anything about them that tells of a change.

    For each: the name, a NUL, then mode, uid, gid, size (0 for a directory: it says nothing), mtime and ctime in ns
    and the inode, as u64, little-endian, modulo 2**64.
    """
    pieces = []
    for name, stat in items:
        pieces.append(name + b"\0")
        pieces.append(
            _NUMBERS.pack(
                stat.st_mode,
                stat.st_uid & _WORD,
                stat.st_gid & _WORD,
                stat.st_size if not modes.S_ISDIR(stat.st_mode) else 0,
                stat.st_mtime_ns & _WORD,
                stat.st_ctime_ns & _WORD,
                stat.st_ino,
            )
        )
    return b"".join(pieces)


list_names: Callable[[int], list[bytes]]
stat_names: Callable[[int, list[bytes]], list[os.stat_result | int]]
pack_items: Callable[[list[Item]], bytes]
if _HAVE_KERNEL:
    list_names, stat_names, pack_items = _many_names.list_names, _many_names.stat_names, _many_names.pack_items
else:
    list_names, stat_names, pack_items = list_names_in_python, stat_names_in_python, pack_items_in_python
