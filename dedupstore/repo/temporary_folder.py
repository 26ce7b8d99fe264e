"""Temporary folders of local indexes: gone with their owner, and swept by the next one when it was killed.

An owner holds a file in its folder under flock. A folder whose file is not locked has lost its owner, and whoever makes a
new one deletes it; one without that file, too, when it is a day old. Who has files of a deleted folder open keeps them.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

from dedupstore.errors import CacheError

_PREFIX = "dedup-index-"
_OWNER = "owner"
_UNOWNED_LIFETIME_NS = 24 * 3600 * 10**9


class TemporaryFolder:
    """A new folder under `parent` (or the system's place for such), until `remove`. Raises CacheError where none can be."""

    def __init__(self, parent: Path | None = None) -> None:
        try:
            self.path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
            try:
                self._descriptor = _own(self.path)
            except OSError:
                shutil.rmtree(self.path, ignore_errors=True)
                raise
            _sweep(self.path)
        except OSError as exc:
            raise CacheError("no place for a temporary index", why=exc.strerror or str(exc)) from exc

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        # Last: until it is gone nobody else is to sweep it.
        os.close(self._descriptor)


def _sweep(new: Path) -> None:
    """Delete what owners that were killed left beside a folder just made. What cannot be deleted stays."""
    with suppress(OSError):
        # By the clock of the file system: the machine's may differ.
        since_ns = os.lstat(new).st_mtime_ns - _UNOWNED_LIFETIME_NS
        with os.scandir(new.parent) as entries:
            found = [Path(entry.path) for entry in entries if entry.name.startswith(_PREFIX) and _is_ours(entry)]
        for folder in found:
            _sweep_one(folder, since_ns)


def _own(folder: Path) -> int:
    hidden = folder / f".{secrets.token_hex(8)}"
    descriptor = os.open(hidden, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        # Locked before it gets its name: a sweeper must never take a living owner for a dead one.
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        os.rename(hidden, folder / _OWNER)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _is_ours(entry: os.DirEntry[str]) -> bool:
    """In a place that everybody writes to, nothing of others and no link is touched."""
    try:
        status = entry.stat(follow_symlinks=False)
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()


def _sweep_one(folder: Path, since_ns: int) -> None:
    """`since_ns`: a folder without a file of an owner that is younger may be one that is being made."""
    try:
        descriptor = os.open(folder / _OWNER, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        with suppress(OSError):
            if os.lstat(folder).st_mtime_ns < since_ns:
                shutil.rmtree(folder, ignore_errors=True)
        return
    try:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(descriptor)
