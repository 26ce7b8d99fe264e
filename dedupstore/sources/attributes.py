"""What is known of a file beside its content: kind, owner, times, extended attributes, flags, marks."""

from __future__ import annotations

import errno
import fcntl
import grp
import os
import pwd
import stat as modes
import struct
import sys

from dedupstore.model.entry import (
    BLOCK_DEVICE,
    CHARACTER_DEVICE,
    DIRECTORY,
    FIFO,
    FILE,
    SECOND,
    SOCKET,
    SYMLINK,
    Entry,
)
from dedupstore.sources.base import AttributesUnreadable, Unreadable, Vanished, file_error

MAX_XATTR_BYTES = 1 << 20
"""Names and values of one file together; Linux file systems hold 64 KiB each, ext4 4 KiB in all."""

KINDS = {
    modes.S_IFREG: FILE,
    modes.S_IFDIR: DIRECTORY,
    modes.S_IFLNK: SYMLINK,
    modes.S_IFIFO: FIFO,
    modes.S_IFSOCK: SOCKET,
    modes.S_IFCHR: CHARACTER_DEVICE,
    modes.S_IFBLK: BLOCK_DEVICE,
}
"""The kind of an entry by the type bits of its mode."""

_LAST_NS = (1 << 63) - 1
_NO_ATTRIBUTES = frozenset((errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS))
_OPEN_HERE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

_FLAGS_REQUEST = 2 << 30 | struct.calcsize("l") << 16 | ord("f") << 8 | 1  # FS_IOC_GETFLAGS
_FLAG_NODUMP = 0x40
_MACOS_NODUMP = 0x01

_CACHEDIR_TAG = b"CACHEDIR.TAG"
_CACHEDIR_SIGNATURE = b"Signature: 8a477f597d28d172789f06886806bc55"  # https://bford.info/cachedir/

_SQLITE_MAGIC = b"SQLite format 3\0"
HEAD_BYTES = 64
"""How much of a file's beginning `page_size_of` wants to see."""


class _UserNames(dict[int, str]):
    def __missing__(self, uid: int) -> str:
        try:
            name = pwd.getpwuid(uid).pw_name
        except (KeyError, OverflowError):
            name = ""
        self[uid] = name
        return name


class _GroupNames(dict[int, str]):
    def __missing__(self, gid: int) -> str:
        try:
            name = grp.getgrgid(gid).gr_name
        except (KeyError, OverflowError):
            name = ""
        self[gid] = name
        return name


class Owners:
    """Names of users and groups by number, each asked for once; "" for one that has no name here."""

    __slots__ = ("groups", "users")

    def __init__(self) -> None:
        self.users: dict[int, str] = _UserNames()
        self.groups: dict[int, str] = _GroupNames()


def make_entry(name: bytes, stat: os.stat_result, owners: Owners) -> Entry:
    """The entry of a name, without what must be read from it: content, holes, target, attributes, tree."""
    mode = stat.st_mode
    kind = KINDS.get(mode & 0o170000)
    if kind is None:
        raise Unreadable("is neither a file nor a directory, link, pipe, socket or device")
    uid, gid = stat.st_uid, stat.st_gid
    mtime = stat.st_mtime_ns
    # File systems know years after 2262, 63 bits of nanoseconds do not.
    if not -_LAST_NS <= mtime <= _LAST_NS:
        mtime = _LAST_NS if mtime > 0 else -_LAST_NS
    entry = Entry(
        name=name,
        kind=kind,
        mode=mode & 0o7777,
        uid=uid,
        gid=gid,
        user=owners.users[uid],
        group=owners.groups[gid],
        mtime=mtime,
        ctime=stat.st_ctime_ns // SECOND,
    )
    if kind == FILE:
        entry.size = stat.st_size
    elif kind in (CHARACTER_DEVICE, BLOCK_DEVICE):
        entry.device = (os.major(stat.st_rdev), os.minor(stat.st_rdev))
    return entry


def read_xattrs(file: int | bytes) -> tuple[tuple[bytes, bytes], ...]:
    """All extended attributes of an open file, or of a path without following a link, sorted by name.

    POSIX ACLs are among them. Empty where the file system has none. Raises AttributesUnreadable, Vanished.
    """
    if sys.platform != "linux":
        return ()
    # A descriptor is what it is; "do not follow" makes sense (and is accepted) only for paths.
    follow = isinstance(file, int)
    try:
        names = os.listxattr(file, follow_symlinks=follow)
    except OSError as error:
        if error.errno in _NO_ATTRIBUTES:
            return ()
        raise _attribute_error(error) from error
    if not names:
        return ()
    pairs = []
    total = 0
    for name in sorted(map(os.fsencode, names)):
        try:
            value = os.getxattr(file, name, follow_symlinks=follow)
        except OSError as error:
            if error.errno in (errno.ENODATA, *_NO_ATTRIBUTES):  # Removed since it was listed, or only a name.
                continue
            raise _attribute_error(error) from error
        total += len(name) + len(value)
        if total > MAX_XATTR_BYTES:
            raise AttributesUnreadable("has more than 1 MiB of extended attributes", code="file.attributes_too_large")
        pairs.append((name, value))
    return tuple(pairs)


def xattrs_at(name: bytes, dir_fd: int) -> tuple[tuple[bytes, bytes], ...]:
    """The extended attributes of what cannot be opened: links, pipes, sockets, devices. Empty without /proc."""
    try:
        return read_xattrs(b"/proc/self/fd/%d/%s" % (dir_fd, name))
    except Vanished:
        if os.path.exists("/proc/self/fd"):
            raise
        return ()


def _attribute_error(error: OSError) -> Exception:
    translated = file_error(error)
    if isinstance(translated, Unreadable):
        return AttributesUnreadable(f"extended attributes: {translated.message}")
    return translated


def nodump(name: bytes, dir_fd: int, stat: os.stat_result) -> bool:
    """Whether the owner marked a file or directory as not worth a backup (`chattr +d`); False when nobody can say."""
    if sys.platform != "linux":
        return bool(getattr(stat, "st_flags", 0) & _MACOS_NODUMP)
    if not (modes.S_ISREG(stat.st_mode) or modes.S_ISDIR(stat.st_mode)):
        return False
    try:
        fd = os.open(name, _OPEN_HERE, dir_fd=dir_fd)
    except OSError:
        return False
    try:
        found = os.fstat(fd)
        # The request's number means other things to devices: never ask what has been swapped in.
        if (found.st_ino, found.st_dev) != (stat.st_ino, stat.st_dev):
            return False
        buffer = bytearray(8)
        fcntl.ioctl(fd, _FLAGS_REQUEST, buffer)
        return bool(int.from_bytes(buffer[:4], sys.byteorder) & _FLAG_NODUMP)
    except OSError:
        return False
    finally:
        os.close(fd)


def cachedir_tag(dir_fd: int) -> bool:
    """Whether the directory carries a CACHEDIR.TAG with the right signature."""
    try:
        fd = os.open(_CACHEDIR_TAG, _OPEN_HERE, dir_fd=dir_fd)
    except OSError:
        return False
    try:
        if not modes.S_ISREG(os.fstat(fd).st_mode):
            return False
        return os.read(fd, len(_CACHEDIR_SIGNATURE)) == _CACHEDIR_SIGNATURE
    except OSError:
        return False
    finally:
        os.close(fd)


def page_size_of(head: bytes | memoryview) -> int:
    """The page size of a database file that begins with `head` (HEAD_BYTES are enough), or 0.

    Only SQLite so far: a big-endian u16 at offset 16, where 1 means 65 536 (https://sqlite.org/fileformat.html).
    """
    if len(head) < 18 or bytes(head[:16]) != _SQLITE_MAGIC:
        return 0
    size = int.from_bytes(head[16:18], "big")
    if size == 1:
        return 65536
    return size if 512 <= size <= 32768 and not size & (size - 1) else 0
