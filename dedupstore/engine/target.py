"""Directories of a restore's target, reached through descriptors only.

No path string is ever resolved below a root: every folder is opened by name in its parent's descriptor,
never through a symbolic link, and opened again only if it is still the same directory. A racing process
can therefore make a restore fail, but not write anywhere else. Textual checks of paths have failed again
and again (borg CVE-2026-62268, duplicacy #691, CPython tarfile twice).
"""

from __future__ import annotations

import errno
import fcntl
import itertools
import os
import re
import secrets
import stat
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, suppress

from dedupstore.engine.descriptors import DescriptorCache, Held
from dedupstore.errors import Refused, TargetFailed
from dedupstore.units import printable

FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
CREATE_FLAGS = os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_TEMPORARY = re.compile(rb"\.dedup-[0-9a-f]{8}-[0-9a-f]{8}-[0-9a-f]+")
_DEFAULT_ACL = "system.posix_acl_default"

Identity = tuple[int, int]
"""Device and inode: which object a name stood for."""


def identity_of(status: os.stat_result) -> Identity:
    return status.st_dev, status.st_ino


class Folder(Held):
    """One directory of the tree being restored: its place, and what is known about it on disk."""

    __slots__ = ("parent", "name", "identity", "present", "exact", "made", "status")

    def __init__(self, parent: Folder | None, name: bytes) -> None:
        super().__init__()
        self.parent = parent
        self.name = name
        self.identity: Identity | None = None
        self.present: set[bytes] = set()
        """Names that were there when the restore came; empty for a folder this run made."""
        self.exact = False
        """A file made here gets exactly the owner and mode asked for: no inherited group, no default ACL."""
        self.made = False
        self.status: os.stat_result | None = None
        """As it was before this run had to change anything to get in."""

    @property
    def path(self) -> bytes:
        """As seen inside the snapshot, for messages."""
        parts: list[bytes] = []
        folder: Folder | None = self
        while folder is not None and folder.name:
            parts.append(folder.name)
            folder = folder.parent
        return b"/".join(reversed(parts))

    def child_path(self, name: bytes) -> bytes:
        path = self.path
        return path + b"/" + name if path else name

    def open_again(self) -> int:
        """Walk down from the nearest folder that is open. ESTALE when something else stands in a place."""
        missing: list[Folder] = [self]
        top = self.parent
        while top is not None and top.fd < 0:
            missing.append(top)
            top = top.parent
        if top is None:
            raise OSError(errno.EBADF, "a folder outside every root")
        fd = top.fd
        for folder in reversed(missing):
            try:
                below = os.open(folder.name, FOLDER_FLAGS, dir_fd=fd)
            finally:
                if fd != top.fd:
                    os.close(fd)
            fd = below
            if folder.identity is not None and identity_of(os.fstat(fd)) != folder.identity:
                os.close(fd)
                raise OSError(errno.ESTALE, "the directory was replaced while it was restored")
        return fd


class Target:
    """The roots a restore writes below, its folders, and the names of its temporary files. For any thread.

    `snapshot` marks the temporaries, so that a later run of the same restore recognises and removes them.
    """

    def __init__(self, snapshot: bytes, *, max_open: int) -> None:
        self.folders = DescriptorCache(max_open)
        self._roots: dict[Identity, Folder] = {}
        self._tag = b".dedup-" + snapshot.hex()[:8].encode()
        self._run = self._tag + b"-" + secrets.token_hex(4).encode() + b"-"
        self._numbers = itertools.count(1)
        self._ids = (os.geteuid(), os.getegid())

    def close(self) -> None:
        self.folders.close_all()
        for root in self._roots.values():
            root.pins = 0
            self.folders.close(root)

    def root(self, path: bytes, *, create: bool) -> Folder | None:
        """The folder at `path`, held open and locked against a second restore; None when it is missing.

        The path itself is the user's choice: links in it are followed. Nothing below it ever is.
        """
        if create:
            _make_parents(path)
        try:
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        except OSError as exc:
            raise TargetFailed(f"cannot restore into {printable(path)}", why=exc.strerror or str(exc)) from exc
        status = os.fstat(fd)
        known = self._roots.get(identity_of(status))
        if known is not None:
            os.close(fd)
            return known
        if create:
            _lock(fd, path)
        folder = Folder(None, b"")
        folder.identity, folder.status, folder.fd = identity_of(status), status, fd
        folder.pins = 1
        folder.present = self._list(fd, sweep=create)
        self._roots[identity_of(status)] = folder
        return folder

    def use(self, folder: Folder) -> AbstractContextManager[int]:
        return self.folders.use(folder)

    def temporary_name(self) -> bytes:
        return self._run + b"%x" % next(self._numbers)

    def is_own(self, name: bytes) -> bool:
        """Whether `name` is a temporary of this run."""
        return name.startswith(self._run)

    def lstat(self, folder: Folder, name: bytes) -> os.stat_result | None:
        with self.use(folder) as fd:
            try:
                return os.stat(name, dir_fd=fd, follow_symlinks=False)
            except FileNotFoundError:
                return None

    def make_folder(self, folder: Folder) -> None:
        """Create the directory, for its owner only, and open it."""
        parent = folder.parent
        assert parent is not None
        with self.use(parent) as parent_fd:
            os.mkdir(folder.name, 0o700, dir_fd=parent_fd)
            fd = os.open(folder.name, FOLDER_FLAGS, dir_fd=parent_fd)
        status = os.fstat(fd)
        if status.st_uid != self._ids[0]:
            os.close(fd)
            raise OSError(errno.ESTALE, "the directory was replaced while it was restored")
        folder.identity, folder.status, folder.made = identity_of(status), status, True
        plain = stat.S_IMODE(status.st_mode) == 0o700 and status.st_gid == self._ids[1]
        folder.exact = plain and (parent.exact or not _has_default_acl(fd))
        self.folders.adopt(folder, fd)

    def open_folder(self, folder: Folder, *, sweep: bool) -> None:
        """Open a directory that exists and list it; with `sweep`, remove what an interrupted run left behind."""
        parent = folder.parent
        assert parent is not None
        with self.use(parent) as parent_fd:
            before = self._make_readable(parent_fd, folder.name) if sweep else None
            fd = os.open(folder.name, FOLDER_FLAGS, dir_fd=parent_fd)
        try:
            status = os.fstat(fd)
            folder.identity, folder.status = identity_of(status), before or status
            if sweep:
                self._make_writable(fd, status)
            folder.present = self._list(fd, sweep=sweep)
        except OSError:
            with suppress(OSError):
                self.close_up(folder, fd)
            os.close(fd)
            raise
        self.folders.adopt(folder, fd)

    def names(self, folder: Folder) -> list[bytes]:
        """What the folder holds now, sorted, without this run's temporaries."""
        with self.use(folder) as fd:
            found = sorted(os.fsencode(name) for name in os.listdir(fd))
        return [name for name in found if not self.is_own(name)]

    def descend(self, root: Folder, names: Sequence[bytes]) -> Folder:
        """A folder below `root` by its names, each opened without following links."""
        folder = root
        for name in names:
            folder = Folder(folder, name)
        return folder

    def close_folder(self, folder: Folder) -> None:
        if folder.parent is not None:
            self.folders.close(folder)

    def remove(self, folder: Folder, name: bytes, *, trees: bool) -> int:
        """Remove a name; how many names went. A directory goes only when empty, or with `trees` as a whole."""
        with self.use(folder) as fd:
            try:
                os.unlink(name, dir_fd=fd)
                return 1
            except (IsADirectoryError, PermissionError):
                status = os.stat(name, dir_fd=fd, follow_symlinks=False)
                if not stat.S_ISDIR(status.st_mode):
                    raise
            if not trees:
                os.rmdir(name, dir_fd=fd)
                return 1
            return _remove_tree(fd, name)

    def _list(self, fd: int, *, sweep: bool) -> set[bytes]:
        """The names in a directory; with `sweep`, after removing stale temporaries of the same snapshot's restore."""
        names = {os.fsencode(name) for name in os.listdir(fd)}
        if sweep:
            for name in [name for name in names if name.startswith(self._tag)]:
                if _TEMPORARY.fullmatch(name) and not self.is_own(name):
                    if stat.S_ISREG(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode):
                        os.unlink(name, dir_fd=fd)
                        names.discard(name)
        return names

    def close_up(self, folder: Folder, fd: int) -> None:
        """Give a directory that was there before the mode back which it had then."""
        if folder.status is not None and self._ids[0]:
            mode = stat.S_IMODE(folder.status.st_mode)
            if mode != stat.S_IMODE(os.fstat(fd).st_mode):
                os.fchmod(fd, mode)

    def _make_readable(self, parent_fd: int, name: bytes) -> os.stat_result | None:
        """Let ourselves into a directory of ours that not even its owner may read; as it was before, if that was needed."""
        if not self._ids[0] or not hasattr(os, "O_PATH"):
            return None
        handle = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent_fd)
        try:
            status = os.fstat(handle)
            if status.st_uid != self._ids[0] or status.st_mode & 0o500 == 0o500:
                return None
            # Through the descriptor: a link may stand in the name's place by now.
            os.chmod(b"/proc/self/fd/%d" % handle, stat.S_IMODE(status.st_mode) | 0o700)
            return status
        finally:
            os.close(handle)

    def _make_writable(self, fd: int, status: os.stat_result) -> None:
        # Our own read-only directory (Go's module cache): its mode is set again when it is left.
        if self._ids[0] and status.st_uid == self._ids[0] and status.st_mode & 0o300 != 0o300:
            os.fchmod(fd, stat.S_IMODE(status.st_mode) | 0o700)


def _make_parents(path: bytes) -> None:
    try:
        os.makedirs(path, 0o700, exist_ok=True)
    except OSError as exc:
        raise TargetFailed(f"cannot create {printable(path)}", why=exc.strerror or str(exc)) from exc


def _lock(fd: int, path: bytes) -> None:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as exc:
        os.close(fd)
        raise Refused(
            f"another restore is writing into {printable(path)}",
            hints=["wait for it, or restore into another directory"],
            code="target.busy",
        ) from exc
    except OSError:
        # Some network file systems cannot lock; the lock is a courtesy, names stay unique without it.
        return


def _has_default_acl(fd: int) -> bool:
    try:
        return bool(os.getxattr(fd, _DEFAULT_ACL))
    except OSError:
        return False


def _remove_tree(parent_fd: int, name: bytes) -> int:
    """Remove a directory with all below it, following no link and crossing into no other file system."""
    device = os.fstat(parent_fd).st_dev
    removed = 0
    stack: list[tuple[int, bytes, Iterator[bytes]]] = []
    parent, current = parent_fd, name
    try:
        while True:
            fd = os.open(current, FOLDER_FLAGS, dir_fd=parent)
            stack.append((fd, current, iter([os.fsencode(entry) for entry in os.listdir(fd)])))
            if os.fstat(fd).st_dev != device:
                raise OSError(errno.EXDEV, "another file system is mounted there")
            below, count = _remove_files(stack[-1])
            removed += count
            while below is None:
                fd, current, _ = stack.pop()
                os.close(fd)
                parent = stack[-1][0] if stack else parent_fd
                os.rmdir(current, dir_fd=parent)
                removed += 1
                if not stack:
                    return removed
                below, count = _remove_files(stack[-1])
                removed += count
            parent, current = stack[-1][0], below
    finally:
        for fd, _, _ in stack:
            os.close(fd)


def _remove_files(level: tuple[int, bytes, Iterator[bytes]]) -> tuple[bytes | None, int]:
    """Unlink what is no directory; the next directory met, or None when the level is empty."""
    fd, _, names = level
    removed = 0
    for name in names:
        status = os.stat(name, dir_fd=fd, follow_symlinks=False)
        if stat.S_ISDIR(status.st_mode):
            return name, removed
        os.unlink(name, dir_fd=fd)
        removed += 1
    return None, removed
