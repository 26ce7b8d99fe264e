"""Owner, extended attributes, mode and times, in that order; what needs rights only when asked."""

from __future__ import annotations

import errno
import functools
import grp
import os
import pwd
import stat
import threading

from dedupstore.engine.restore_options import Dropped
from dedupstore.engine.target import Folder
from dedupstore.model.entry import SYMLINK, Entry

SPECIAL_BITS = stat.S_ISUID | stat.S_ISGID
_OPEN_ATTRIBUTES = (b"user.", b"system.posix_acl_")
_SPECIAL_ATTRIBUTES = (b"security.", b"trusted.")
# A label is the target system's own affair: it is there on every file and cannot be removed.
_NEVER_COMPARED = frozenset((b"security.selinux",))
OWNER_REFUSED = frozenset((errno.EPERM, errno.EINVAL, errno.ENOTSUP))
_UNSUPPORTED = frozenset((errno.ENOTSUP, errno.EPERM, errno.EACCES, errno.EINVAL, errno.ENODATA, errno.E2BIG))

Owner = tuple[int, int]


class Metadata:
    """Applies and compares what an entry says beside its content. For any thread.

    `dropped` counts what was left out because nobody asked for it or the process may not do it.
    """

    def __init__(self, *, owners: bool, special: bool) -> None:
        self.dropped = Dropped()
        self._lock = threading.Lock()
        self._special = special
        self._ids = (os.geteuid(), os.getegid())
        self._owners = owners and self._ids[0] == 0
        self._umask = _current_umask()

    def drop(self, what: str) -> None:
        with self._lock:
            self.dropped[what] += 1

    def owner(self, entry: Entry) -> Owner | None:
        """The ids to set, by name where the name is known here; None leaves the owner as it is made."""
        if not self._owners:
            if entry.uid != self._ids[0]:
                self.drop("owner")
            return None
        uid = _user(entry.user) if entry.user else None
        gid = _group(entry.group) if entry.group else None
        return _settable(entry.uid) if uid is None else uid, _settable(entry.gid) if gid is None else gid

    def mode(self, entry: Entry) -> int:
        mode = entry.mode
        if mode & SPECIAL_BITS and not self._special:
            self.drop("setuid")
            mode &= ~SPECIAL_BITS
        return mode

    def _give(self, place: int | bytes, owner: Owner, dir_fd: int | None = None) -> bool:
        """Set the owner; False where not even root may: in a container, on a file system that has none."""
        try:
            os.chown(place, *owner, dir_fd=dir_fd, follow_symlinks=isinstance(place, int))
        except OSError as exc:
            if exc.errno not in OWNER_REFUSED:
                raise
            self.drop("refused owner")
            return False
        return True

    def _mode_of(self, entry: Entry, given: bool) -> int:
        """Without its owner a setuid file would act for somebody else."""
        return self.mode(entry) if given else self.mode(entry) & ~SPECIAL_BITS

    def creation(self, folder: Folder, entry: Entry) -> tuple[int, Owner | None]:
        """The mode to create a file with, and the owner to set after that.

        The mode is the final one when that is exact and opens nothing early, because it saves a call, else 0600.
        """
        owner, mode = self.owner(entry), entry.mode
        if not folder.exact:
            return 0o600, owner
        if owner == self._ids:
            owner = None
        if owner is None and mode < 0o1000 and not mode & self._umask and not entry.xattrs:
            return mode, None
        return 0o600, owner

    def plan(self, folder: Folder, entry: Entry) -> tuple[int, int, int, int]:
        """What `creation` and then `to_file` do to a file without attributes: mode to create it with; mode, user and
        group to set, -1 for what stays as made."""
        mode = entry.mode
        if not self._owners and folder.exact and mode < 0o1000 and not mode & self._umask:
            # Nearly all files of nearly all restores.
            if entry.uid != self._ids[0]:
                self.drop("owner")
            return mode, -1, -1, -1
        created, owner = self.creation(folder, entry)
        if owner is not None:
            return created, self.mode(entry), *owner
        return created, -1 if created == mode else self.mode(entry), -1, -1

    def to_file(self, fd: int, entry: Entry, created: tuple[int, Owner | None]) -> None:
        """Everything onto a new file that was made as `creation` said."""
        mode, owner = created
        given = owner is None or self._give(fd, owner)
        if entry.xattrs:
            self._set_attributes(fd, entry)
        if mode != entry.mode or owner is not None:
            os.fchmod(fd, self._mode_of(entry, given))
        os.utime(fd, ns=(entry.mtime, entry.mtime))

    def to_made_folder(self, fd: int, entry: Entry) -> None:
        """Onto a directory without attributes that this run made as its own, with mode 0700 (`Folder.exact`)."""
        owner = self.owner(entry)
        given = owner is None or owner == self._ids or self._give(fd, owner)
        mode = self._mode_of(entry, given)
        if mode != 0o700:
            os.fchmod(fd, mode)
        os.utime(fd, ns=(entry.mtime, entry.mtime))

    def to_existing(self, fd: int, entry: Entry, status: os.stat_result) -> None:
        """What differs onto a file or directory that is already there."""
        owner = self.owner(entry)
        given = owner is None or owner == (status.st_uid, status.st_gid) or self._give(fd, owner)
        self._match_attributes(fd, entry)
        mode = self._mode_of(entry, given)
        if not self._special:
            # What stays where it is keeps the rights it already has.
            mode |= entry.mode & status.st_mode & SPECIAL_BITS
        if mode != stat.S_IMODE(os.fstat(fd).st_mode):
            os.fchmod(fd, mode)
        os.utime(fd, ns=(entry.mtime, entry.mtime))

    def to_name(self, parent_fd: int, name: bytes, entry: Entry, *, is_link: bool) -> None:
        """Onto a link, pipe or device: nothing is opened, no link is followed."""
        owner = self.owner(entry)
        given = owner is None or self._give(name, owner, parent_fd)
        self._match_attributes(b"/proc/self/fd/%d/%s" % (parent_fd, name), entry)
        if not is_link:
            # A descriptor that only names: opening a pipe or a device for real may block or act.
            fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent_fd)
            try:
                os.chmod(f"/proc/self/fd/{fd}", self._mode_of(entry, given))
            finally:
                os.close(fd)
        os.utime(name, ns=(entry.mtime, entry.mtime), dir_fd=parent_fd, follow_symlinks=False)

    def differs(self, parent_fd: int, entry: Entry, status: os.stat_result) -> bool:
        """Whether owner, mode or attributes of an existing name are not what the entry says; times are not asked."""
        mode = entry.mode
        if not self._special:
            mode &= status.st_mode | ~SPECIAL_BITS
        # A link's own mode means nothing.
        if stat.S_IMODE(status.st_mode) != mode and entry.kind != SYMLINK:
            return True
        if self._owners and self.owner(entry) != (status.st_uid, status.st_gid):
            return True
        return self.attributes_differ(b"/proc/self/fd/%d/%s" % (parent_fd, entry.name), entry)

    def attributes_differ(self, place: int | bytes, entry: Entry) -> bool:
        try:
            return self._actual(place) != dict(self._wanted(entry))
        except OSError:
            return bool(entry.xattrs)

    def _wanted(self, entry: Entry) -> list[tuple[bytes, bytes]]:
        return [(name, value) for name, value in entry.xattrs if self._allowed(name)]

    def _allowed(self, name: bytes) -> bool:
        return name.startswith(_OPEN_ATTRIBUTES) or (self._special and name.startswith(_SPECIAL_ATTRIBUTES))

    def _actual(self, place: int | bytes) -> dict[bytes, bytes]:
        follow = isinstance(place, int)
        names = [os.fsencode(name) for name in os.listxattr(place, follow_symlinks=follow)]
        return {
            name: os.getxattr(place, name, follow_symlinks=follow)
            for name in names
            if self._allowed(name) and name not in _NEVER_COMPARED
        }

    def _match_attributes(self, place: int | bytes, entry: Entry) -> None:
        if not self.attributes_differ(place, entry):
            # What is left out all the same is told.
            for name, _ in entry.xattrs:
                if not self._allowed(name):
                    self.drop("attribute")
            return
        for extra in self._actual(place).keys() - dict(self._wanted(entry)).keys():
            os.removexattr(place, extra, follow_symlinks=isinstance(place, int))
        self._set_attributes(place, entry)

    def _set_attributes(self, place: int | bytes, entry: Entry) -> None:
        for name, value in entry.xattrs:
            if not self._allowed(name):
                self.drop("attribute")
                continue
            try:
                os.setxattr(place, name, value, follow_symlinks=isinstance(place, int))
            except OSError as exc:
                if exc.errno not in _UNSUPPORTED:
                    raise
                self.drop("unsupported")


def _settable(number: int) -> int:
    """The one number that no file can belong to means "leave it" to the system; `write_files` knows it as -1 only."""
    return -1 if number == (1 << 32) - 1 else number


@functools.cache
def _user(name: str) -> int | None:
    try:
        return pwd.getpwnam(name).pw_uid
    except (KeyError, ValueError):
        return None


@functools.cache
def _group(name: str) -> int | None:
    try:
        return grp.getgrnam(name).gr_gid
    except (KeyError, ValueError):
        return None


def _current_umask() -> int:
    """The process's umask, read without changing it: other threads create files too."""
    try:
        with open("/proc/self/status", "rb") as status:
            for line in status:
                if line.startswith(b"Umask:"):
                    return int(line.split()[1], 8)
    except OSError:
        pass
    # Every bit counts as masked, so modes are always set explicitly.
    return 0o777
