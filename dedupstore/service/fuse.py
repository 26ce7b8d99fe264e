"""The file system that the kernel sees, by mfusepy: translates calls and errors, and knows nothing of repositories.

Importing this module needs mfusepy and libfuse; service/mount.py says what to install when they are missing.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import signal
import stat
from collections.abc import Callable, Iterator
from typing import TypedDict

import mfusepy

from dedupstore.engine.mounted import MountedSnapshots, Node, OpenFile
from dedupstore.model.entry import (
    BLOCK_DEVICE,
    CHARACTER_DEVICE,
    DIRECTORY,
    FIFO,
    FILE,
    SECOND,
    SOCKET,
    SYMLINK,
)

ENDED_BY_SIGNAL = 8
"""What libfuse returns when a signal ended its loop and everything is unmounted."""

_TYPES = {
    FILE: stat.S_IFREG,
    DIRECTORY: stat.S_IFDIR,
    SYMLINK: stat.S_IFLNK,
    FIFO: stat.S_IFIFO,
    SOCKET: stat.S_IFSOCK,
    CHARACTER_DEVICE: stat.S_IFCHR,
    BLOCK_DEVICE: stat.S_IFBLK,
}
_KEPT_SECONDS = 60
"""How long the kernel may keep what it was told of a name: nothing in a snapshot changes."""

_BLOCK = 512


class Attributes(TypedDict):
    st_mode: int
    st_ino: int
    st_nlink: int
    st_uid: int
    st_gid: int
    st_rdev: int
    st_size: int
    st_blocks: int
    st_blksize: int
    st_mtime: int
    st_ctime: int
    st_atime: int


class SnapshotOperations:
    """What the kernel asks. Names come as text, with bytes that are no UTF-8 as surrogates."""

    use_ns = True

    def __init__(self, mounted: MountedSnapshots, ready: Callable[[], None]) -> None:
        self._mounted = mounted
        self._ready = ready
        self._open: dict[int, OpenFile] = {}
        self._numbers = itertools.count(1)

    def init_with_config(self, connection: object, config: object) -> None:
        self._ready()

    def getattr(self, path: str, fh: int | None = None) -> Attributes:
        return _attributes(self._mounted.find(_bytes(path)))

    def readlink(self, path: str) -> str:
        entry = self._mounted.find(_bytes(path)).entry
        if entry.kind != SYMLINK:
            raise OSError(errno.EINVAL, "not a link")
        return entry.target.decode("utf-8", "surrogateescape")

    def readdir(self, path: str, fh: int) -> Iterator[tuple[str, dict[str, int], int]]:
        for dots in (".", ".."):
            yield dots, {"st_mode": stat.S_IFDIR}, 0
        for name, node in self._mounted.names(_bytes(path)):
            text = name.decode("utf-8", "surrogateescape")
            yield text, {"st_mode": _TYPES[node.entry.kind] | node.entry.mode, "st_ino": node.inode}, 0

    def open(self, path: str, flags: int) -> int:
        if flags & (os.O_WRONLY | os.O_RDWR):
            raise OSError(errno.EROFS, "read-only")
        number = next(self._numbers)
        self._open[number] = self._mounted.open(_bytes(path))
        return number

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        return self._open[fh].read(offset, size)

    def release(self, path: str, fh: int) -> int:
        self._open.pop(fh, None)
        return 0

    def listxattr(self, path: str) -> list[str]:
        entry = self._mounted.find(_bytes(path)).entry
        return [name.decode("utf-8", "surrogateescape") for name, _ in entry.xattrs]

    def getxattr(self, path: str, name: str, position: int = 0) -> bytes:
        wanted = name.encode("utf-8", "surrogateescape")
        for found, value in self._mounted.find(_bytes(path)).entry.xattrs:
            if found == wanted:
                return value
        raise OSError(errno.ENODATA, "no such attribute")


def serve(mounted: MountedSnapshots, target: str, ready: Callable[[], None], *, allow_other: bool) -> int:
    """Show the snapshots at `target` until it is unmounted or a signal comes; then it is unmounted. Returns what
    libfuse says: 0 when all is well.
    """
    options: dict[str, object] = {
        "ro": True,
        "fsname": "dedup",
        "subtype": "dedup",
        "kernel_cache": True,
        "attr_timeout": _KEPT_SECONDS,
        "entry_timeout": _KEPT_SECONDS,
    }
    if allow_other:
        # Others may see only what the modes of the files allow; who mounts sees all that his key opens.
        options |= {"allow_other": True, "default_permissions": True}
    with _default_signals():
        try:
            # One thread: Python runs one at a time anyway, and reading ahead is the kernel's.
            mfusepy.FUSE(
                SnapshotOperations(mounted, ready), target, foreground=True, nothreads=True, use_ino=True, **options
            )
        except RuntimeError as error:
            code = error.args[0] if error.args else 1
            return 0 if code == ENDED_BY_SIGNAL else int(code)
    return 0


@contextlib.contextmanager
def _default_signals() -> Iterator[None]:
    """libfuse handles signals by unmounting, but only those that nobody else handles."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, signal.SIG_DFL) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _attributes(node: Node) -> Attributes:
    entry = node.entry
    size = len(entry.target) if entry.kind == SYMLINK else entry.size
    return Attributes(
        st_mode=_TYPES[entry.kind] | entry.mode,
        st_ino=node.inode,
        # Of a file with several names the number is not known, only that it is not one; of a directory 1 says the same.
        st_nlink=2 if entry.link_group else 1,
        st_uid=entry.uid,
        st_gid=entry.gid,
        st_rdev=os.makedev(*entry.device) if entry.device is not None else 0,
        st_size=size,
        st_blocks=-(-entry.data_size // _BLOCK) if entry.kind == FILE else 0,
        st_blksize=1 << 17,
        st_mtime=entry.mtime,
        st_ctime=entry.ctime * SECOND if entry.ctime else entry.mtime,
        st_atime=entry.mtime,
    )


def _bytes(path: str) -> bytes:
    return path.strip("/").encode("utf-8", "surrogateescape")
