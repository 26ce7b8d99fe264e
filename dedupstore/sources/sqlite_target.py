"""A SQLite database put back: first beside, checked, under a name that nobody has; then, as a step of its own, in place.

Whoever opens a database also reads `-wal` and `-journal` beside it. Such a file left by another database would be applied to
this one, so nothing is put where one lies, and a swap takes them away with the database that they belong to.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from types import TracebackType
from typing import Self

from dedupstore.errors import Refused, TargetFailed
from dedupstore.sources.sqlite import MAGIC, connect, faults
from dedupstore.units import printable

_BESIDE = (b"-wal", b"-shm", b"-journal")
_UNFINISHED = b".dedup-restoring"


class NewDatabase:
    """A database that gets its name when all of it is there and sound. Raises Refused when the name is taken."""

    def __init__(self, path: bytes) -> None:
        self._path = os.path.abspath(path)
        self._unfinished = self._path + _UNFINISHED

    def __enter__(self) -> Self:
        require_free(self._path)
        try:
            self._remove_left()
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            self._fd = os.open(self._unfinished, flags, 0o600)
            with suppress(OSError):  # some network file systems have no locks
                fcntl.flock(self._fd, fcntl.LOCK_EX)
        except OSError as error:
            raise _cannot_write(self._path, error) from error
        return self

    def _remove_left(self) -> None:
        """What a restore that was killed left; one that is still running holds a lock. Raises Refused."""
        try:
            fd = os.open(self._unfinished, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Refused(
                f"{printable(self._path)} is being restored by someone else",
                why=f"{printable(self._unfinished)} is locked",
                hints=["choose another name, or wait"],
                code="database.exists",
            ) from error
        except OSError:
            # No locks here: nobody can hold one.
            pass
        finally:
            os.close(fd)
        os.unlink(self._unfinished)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._fd)
        for name in (self._unfinished, *(self._unfinished + end for end in _BESIDE)):
            with suppress(FileNotFoundError):
                os.unlink(name)

    def write(self, data: bytes | memoryview) -> None:
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[os.write(self._fd, rest) :]
        except OSError as error:
            raise _cannot_write(self._path, error) from error

    def execute(self, lines: Iterator[str]) -> None:
        """Instead of `write`: make it by SQL. Raises TargetFailed."""
        try:
            with closing(connect(self._unfinished, "rw")) as database:
                database.set_authorizer(_within_the_file)
                database.execute("PRAGMA synchronous=OFF")
                statement = ""
                for line in lines:
                    statement += line
                    if line.endswith(";\n") and sqlite3.complete_statement(statement):
                        database.execute(statement)
                        statement = ""
                if statement.strip():
                    raise sqlite3.DataError("the last statement has no end")
        except (sqlite3.Error, sqlite3.Warning) as error:
            raise TargetFailed(
                f"cannot make {printable(self._path)} from SQL", why=str(error), code="database.restore_failed"
            ) from error

    def finish(self, mode: int, owner: tuple[int, int] | None) -> None:
        """Check it, make it durable and give it its name. Raises TargetFailed, Refused; then it is not there."""
        found = faults(self._unfinished, thorough=True) if os.fstat(self._fd).st_size else []
        if found:
            raise TargetFailed(
                f"what was restored as {printable(self._path)} is damaged",
                why="; ".join(found),
                hints=["prove what is stored: dedup check --read-data", "take an earlier snapshot: --at TIME"],
                code="database.damaged",
            )
        try:
            if owner is not None:
                os.fchown(self._fd, *owner)
            os.fchmod(self._fd, mode & 0o777)
            os.fsync(self._fd)
            # A link, not a renaming: what came to have the name meanwhile is not replaced.
            os.link(self._unfinished, self._path)
            os.unlink(self._unfinished)
            _sync_directory(self._path)
        except FileExistsError as error:
            raise _exists(self._path) from error
        except OSError as error:
            raise _cannot_write(self._path, error) from error


def _within_the_file(action: int, *about: str | None) -> int:
    """Definitions come from whoever made the database, and one may hide more than it says: no other file is opened."""
    others = (sqlite3.SQLITE_ATTACH, sqlite3.SQLITE_DETACH)
    return sqlite3.SQLITE_DENY if action in others else sqlite3.SQLITE_OK


def require_free(path: bytes) -> None:
    """Raise Refused when a database of that name, or what one left, is there."""
    if os.path.lexists(path):
        raise _exists(path)
    left = [path + end for end in _BESIDE if os.path.lexists(path + end)]
    if left:
        raise Refused(
            f"{printable(left[0])} lies where the database would be",
            why="SQLite would apply it to the restored database, which it does not belong to",
            hints=["choose another name", "or move it away"],
            code="database.exists",
        )


def swap(new: bytes, live: bytes, kept: bytes) -> None:
    """Put the database `new` in the place of `live`, which from then on is called `kept`. All three in one directory.

    There is a whole database called `live` at every instant. Raises Refused when somebody has it open, TargetFailed.
    """
    if len({os.path.dirname(path) for path in (new, live, kept)}) > 1:
        raise Refused(
            f"{printable(new)} and {printable(live)} are not in one directory",
            why="the change has to happen at once",
            hints=["restore it beside: dedup restore --as " + printable(live) + ".restored"],
        )
    for path in (new, live):
        if not os.path.isfile(path):
            raise Refused(f"there is no database {printable(path)}", hints=["dedup restore --as PATH"])
        if os.path.islink(path):
            raise Refused(
                f"{printable(path)} is a symbolic link",
                why="the link would be replaced, and the database that it leads to would go on being used",
                hints=[f"name the file itself: {printable(os.path.realpath(path))}"],
            )
    if any(os.path.lexists(new + end) for end in _BESIDE):
        raise Refused(
            f"{printable(new)} is in use, or was not closed", hints=["close it first"], code="database.in_use"
        )
    found = faults(new, thorough=True)
    if found:
        raise TargetFailed(f"{printable(new)} is damaged", why="; ".join(found), code="database.damaged")
    require_free(kept)
    _require_unused(live)
    owner = os.stat(live)
    try:
        _settle(live)
        os.link(live, kept)
        for end in _BESIDE:
            # Before the new one has the name: it must never stand beside the log of another database.
            with suppress(FileNotFoundError):
                os.rename(live + end, kept + end)
        if os.geteuid() == 0:
            os.chown(new, owner.st_uid, owner.st_gid)
        os.chmod(new, owner.st_mode & 0o777)
        os.rename(new, live)
        _sync_directory(live)
    except OSError as error:
        raise _cannot_write(live, error) from error


def _settle(live: bytes) -> None:
    """Bring what only the log holds into the database, and see that nobody else is using it.

    A damaged database, which may be why it is replaced, cannot be settled: it keeps its log beside it.
    """
    with open(live, "rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            # SQLite would throw away the log of what it does not take for a database.
            return
    try:
        with closing(connect(live, "rw", timeout=2.0)) as database:
            # Leaving WAL mode takes the database for oneself, which fails while anybody has it open.
            was = database.execute("PRAGMA journal_mode").fetchone()[0]
            database.execute("PRAGMA journal_mode=DELETE")
            database.execute("BEGIN EXCLUSIVE")
            database.execute("COMMIT")
            if was == "wal" and any(os.path.lexists(live + end) for end in _BESIDE[:2]):
                raise _in_use(live, "its log could not be closed")
    except sqlite3.OperationalError as error:
        if "locked" in str(error) or "busy" in str(error):
            raise _in_use(live, str(error)) from error
    except sqlite3.DatabaseError:
        return


def _require_unused(path: bytes) -> None:
    """Raise Refused when a process that we may look at has the database open: without a lock nothing else tells."""
    stat = os.stat(path)
    for process in filter(str.isdigit, os.listdir("/proc") if os.path.isdir("/proc") else []):
        if int(process) == os.getpid():
            continue
        with suppress(OSError):
            for fd in os.listdir(f"/proc/{process}/fd"):
                with suppress(OSError):
                    other = os.stat(f"/proc/{process}/fd/{fd}")
                    if (other.st_dev, other.st_ino) == (stat.st_dev, stat.st_ino):
                        with open(f"/proc/{process}/comm", encoding="utf-8", errors="replace") as file:
                            raise _in_use(path, f"process {process} ({file.read().strip()}) has it open")


def _in_use(path: bytes, why: str) -> Refused:
    return Refused(
        f"the database {printable(path)} is in use",
        why=why,
        hints=["stop the program that uses it, and swap again", "or tell that program the new name"],
        code="database.in_use",
    )


def _exists(path: bytes) -> Refused:
    return Refused(
        f"{printable(path)} exists",
        why="a restore never replaces a database",
        hints=["choose another name: --as " + printable(path) + ".restored", "and then: dedup db swap"],
        code="database.exists",
    )


def _cannot_write(path: bytes, error: OSError) -> TargetFailed:
    return TargetFailed(f"cannot write {printable(path)}", why=(error.strerror or str(error)).lower())


def _sync_directory(path: bytes) -> None:
    fd = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
