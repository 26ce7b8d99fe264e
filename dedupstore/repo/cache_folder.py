"""The local folder of a cache: ours alone, and honest about whether its last writes reached the disk.

The index is written without fsync, so after a power loss it may be torn in ways no page would show. Every
process that writes holds a mark file under flock while it has unsynced writes. Whoever opens the cache reads
the marks that are left: locked = a live writer; unlocked with this boot's id = a killed writer, whose pages
the kernel still has; anything else = the machine went down first, and the cache cannot be trusted.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import stat
from enum import Enum
from hashlib import blake2b
from pathlib import Path

from dedupstore.errors import CacheError, Refused
from dedupstore.types import RepositoryId

_MARK = "writing-"
_DAMAGED = "damaged"
_KILLED = "killed"
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class LastWrites(Enum):
    ON_DISK = "on disk"
    IN_KERNEL = "in the kernel"
    LOST = "lost"


def index_folder(path: Path, repository: RepositoryId, place: str) -> Path:
    """Where below the cache folder `path` the index of a repository at that place is kept; "" for the only one."""
    at = f"-{blake2b(os.fsencode(place), digest_size=8).hexdigest()}" if place else ""
    return path / f"{repository.hex()}{at}"


def boot_id() -> str:
    """What changes with every boot; empty where the system does not say (then nothing unsynced is trusted)."""
    try:
        return _BOOT_ID.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def secure_folder(path: Path) -> None:
    """Make the folder, or make sure that it is ours, no link, and closed to everybody else; else Refused."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = os.lstat(path)
    except FileExistsError as exc:
        raise CacheError(f"the cache folder {path} is not a folder") from exc
    except OSError as exc:
        raise CacheError(f"the cache folder {path} cannot be used", why=exc.strerror or str(exc)) from exc
    if not stat.S_ISDIR(found.st_mode):
        raise Refused(
            f"the cache folder {path} is a symbolic link", hints=["name the real folder in the configuration"]
        )
    if found.st_uid != os.geteuid():
        raise Refused(
            f"the cache folder {path} belongs to another user",
            why="its owner could read and alter what is cached there",
            hints=[f"sudo chown -R $(id -u) {path}"],
        )
    if stat.S_IMODE(found.st_mode) & 0o077:
        try:
            os.chmod(path, 0o700)
        except OSError as exc:
            raise CacheError(f"the cache folder {path} cannot be used", why=exc.strerror or str(exc)) from exc


def mark_damaged(folder: Path) -> None:
    """Have the next opener drop this cache. Best effort: it finds the damage itself when this cannot be written."""
    try:
        (folder / _DAMAGED).touch(mode=0o600)
    except OSError:
        return


def is_marked_damaged(folder: Path) -> bool:
    return (folder / _DAMAGED).exists()


def drop_folder(folder: Path) -> None:
    """Take the folder out of use at once, then delete it; processes that have it open keep their files."""
    try:
        os.rename(folder, folder.with_name(f".{folder.name}.dropped-{secrets.token_hex(8)}"))
    except FileNotFoundError:
        pass
    except OSError as exc:
        raise CacheError(f"the damaged cache {folder} cannot be removed", why=exc.strerror or str(exc)) from exc
    for dropped in folder.parent.glob(f".{folder.name}.dropped-*"):
        shutil.rmtree(dropped, ignore_errors=True)


class WritingMark:
    """Held from before the first unsynced write until after the sync."""

    def __init__(self, folder: Path) -> None:
        token = secrets.token_hex(8)
        self._path = folder / f"{_MARK}{token}"
        hidden = folder / f".{token}"
        try:
            self._descriptor = os.open(hidden, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, 0o600)
            try:
                # Locked before it gets its name: an opener must never take a live writer for a dead one.
                fcntl.flock(self._descriptor, fcntl.LOCK_EX)
                os.write(self._descriptor, boot_id().encode("ascii"))
                os.fsync(self._descriptor)
                os.rename(hidden, self._path)
                _sync_folder(folder)
            except OSError:
                os.close(self._descriptor)
                hidden.unlink(missing_ok=True)
                raise
        except OSError as exc:
            raise CacheError(f"the cache {folder} cannot be written", why=exc.strerror or str(exc)) from exc

    def release(self, *, synced: bool) -> None:
        """`synced`: every write is on disk. Else the mark stays, as that of a killed process would."""
        if synced:
            self._path.unlink(missing_ok=True)
        os.close(self._descriptor)


def last_writes(folder: Path) -> LastWrites:
    """What the marks in the folder say. Call `forget_marks` once the cache has been synced."""
    state = LastWrites.ON_DISK
    for path in _dead_marks(folder):
        try:
            written_at = path.read_text("ascii")
        except FileNotFoundError:
            continue
        except (OSError, UnicodeDecodeError):
            return LastWrites.LOST
        if not written_at or written_at != boot_id():
            return LastWrites.LOST
        state = LastWrites.IN_KERNEL
    return state


def forget_marks(folder: Path) -> None:
    for path in _dead_marks(folder):
        path.unlink(missing_ok=True)


def killed_twice(folder: Path) -> bool:
    """Note that a writer was killed here; whether the one before it was, too.

    Being killed harms LMDB not at all. But a rotten page can be what kills: then every next writer dies the same
    way, and nothing but dropping the cache ends it. Costs a rebuild after two unrelated kills in a row.
    """
    note = folder / _KILLED
    if note.exists():
        return True
    try:
        note.touch(mode=0o600)
    except OSError:
        return True
    return False


def ended_well(folder: Path) -> None:
    """A writer has synced and closed: earlier kills were not the cache's fault."""
    (folder / _KILLED).unlink(missing_ok=True)


def _dead_marks(folder: Path) -> list[Path]:
    dead = []
    for path in sorted(folder.glob(f"{_MARK}*")):
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        except FileNotFoundError:
            continue
        except OSError as exc:
            raise CacheError(f"the cache {folder} cannot be read", why=exc.strerror or str(exc)) from exc
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            dead.append(path)
        except OSError:
            continue
        finally:
            os.close(descriptor)
    return dead


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
