"""One SQLite database, copied while others write to it.

The copy is made by SQLite's online backup (https://sqlite.org/backup.html) in a single step, under one read lock: small
steps begin anew whenever another process writes. In WAL mode writers do not wait for it; otherwise they wait until the copy is
made, not until it is stored. The copy is checked before a byte of it is stored.
"""

from __future__ import annotations

import os
import re
import sqlite3
import stat as modes
import tempfile
import time
from collections.abc import Generator, Iterator
from contextlib import closing
from io import FileIO
from types import TracebackType
from typing import Self
from urllib.parse import quote

from dedupstore.cancel import CancelToken
from dedupstore.errors import SourceFailed
from dedupstore.sources.attributes import HEAD_BYTES, page_size_of
from dedupstore.sources.base import NamedStream
from dedupstore.sources.database_files import TABLES, Texts, schema_hash
from dedupstore.units import format_bytes, printable

KIND = "sqlite"
LOCK_SECONDS = 60.0
"""How long somebody may keep the database locked before there is no snapshot."""

MAGIC = b"SQLite format 3\0"
_STEP_SLEEP_SECONDS = 0.05
_FAULTS_SHOWN = 5
_MOST_UNKNOWN = 100
_COLUMNS_AT_ONCE = 100
_UNKNOWN = re.compile(
    r"no such collation sequence: (?P<collation>.+)|(?:unknown|no such) function: (?P<function>[^()]+)"
)


class SqliteSource:
    """A copy of a database, there for as long as the context lasts. `directory`: where the copy lies meanwhile."""

    kind = KIND

    def __init__(self, path: bytes, cancel: CancelToken, *, directory: str | None = None, as_sql: bool = False) -> None:
        self._path = os.path.abspath(path)
        self._cancel = cancel
        self._directory = directory
        self._as_sql = as_sql
        self._name = os.path.basename(self._path) + (b".sql" if as_sql else b"")
        self.origins: tuple[tuple[bytes, bytes], ...] = () if as_sql else ((self._name, self._path),)
        self.details: tuple[tuple[str, str], ...] = (
            ("database.type", KIND),
            ("database.format", "sql" if as_sql else "copy"),
            ("database.server", sqlite3.sqlite_version),
        )

    def __enter__(self) -> Self:
        self._stat = _look(self._path)
        self._scratch = tempfile.TemporaryDirectory(prefix="dedup-sqlite-", dir=self._directory)
        try:
            self._copy = os.path.join(os.fsencode(self._scratch.name), b"copy.db")
            _require_room(self._scratch.name, self._stat.st_size, self._path)
            _copy(self._path, self._copy, self._cancel)
            require_sound(self._copy, self._path)
            if self._as_sql:
                _require_sayable(self._copy, self._path)
        except BaseException:
            self._scratch.cleanup()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._scratch.cleanup()

    def streams(self) -> Generator[NamedStream, None, None]:
        if self._as_sql:
            yield NamedStream(name=self._name, stream=Texts(statements(self._copy, self._path)))
        else:
            with open(self._copy, "rb", buffering=0) as file:
                page_size = page_size_of(file.read(HEAD_BYTES))
                file.seek(0)
                yield NamedStream(name=self._name, stream=_Opened(file), page_size=page_size, stat=self._stat)
        yield NamedStream(name=self._name + TABLES.encode(), stream=Texts.of(tables(self._copy)))


class _Opened:
    """An open file as a stream."""

    def __init__(self, file: FileIO) -> None:
        self._fd = file.fileno()

    def readinto(self, view: memoryview, /) -> int:
        return os.readv(self._fd, [view])


def connect(path: bytes, mode: str = "ro", *, timeout: float = 5.0) -> sqlite3.Connection:
    """An existing database; SQLite itself would make an empty one in place of a mistyped path. Raises sqlite3.Error."""
    return sqlite3.connect(f"file:{quote(path)}?mode={mode}", uri=True, isolation_level=None, timeout=timeout)


def connect_copy(path: bytes) -> sqlite3.Connection:
    """A database that nobody else has: nothing is locked, and nothing written beside it."""
    return sqlite3.connect(f"file:{quote(path)}?mode=ro&immutable=1", uri=True, isolation_level=None)


def faults(path: bytes, *, thorough: bool = False) -> list[str]:
    """What is wrong with a database that nobody else has; `thorough` compares every index with its table, too.

    An order or a function that only the program of the database knows cannot be asked: then indexes are not compared.
    """
    try:
        with closing(connect_copy(path)) as database:
            rows = _checked(database, thorough=thorough)
    except sqlite3.DatabaseError as error:
        return [str(error)]
    return [str(row[0]) for row in rows if row[0] != "ok"]


def _checked(database: sqlite3.Connection, *, thorough: bool) -> list[tuple[object, ...]]:
    check = "integrity_check" if thorough else "quick_check"
    for _ in range(_MOST_UNKNOWN):
        try:
            return database.execute(f"PRAGMA {check}({_FAULTS_SHOWN})").fetchall()
        except sqlite3.OperationalError as error:
            match = _UNKNOWN.search(str(error))
            if match is None:
                raise
            check = "quick_check"
            if match["collation"]:
                database.create_collation(match["collation"], _in_order)
            else:
                # NULL is what no condition of a table objects to.
                database.create_function(match["function"], -1, _null, deterministic=True)
    return []


def _in_order(one: str, other: str) -> int:
    return (one > other) - (one < other)


def _null(*values: object) -> None:
    return None


def require_sound(copy: bytes, path: bytes) -> None:
    """Raise SourceFailed for a copy of `path` that is damaged: the original is."""
    found = faults(copy)
    if found:
        raise SourceFailed(
            f"the database {printable(path)} is damaged",
            why="; ".join(" ".join(fault.split()) for fault in found),
            hints=[
                "bring back an earlier state: dedup restore --at TIME",
                "or take what can be read: sqlite3 .recover",
            ],
            code="database.damaged",
        )


def tables(path: bytes) -> dict[str, object]:
    """What a database that nobody else has holds: each table with its rows and a hash of its definition."""
    found = []
    with closing(connect_copy(path)) as database:
        parts: dict[str, list[str]] = {}
        query = "SELECT tbl_name, type, name, coalesce(sql, '') FROM sqlite_master ORDER BY tbl_name, type, name"
        for table, kind, name, sql in database.execute(query):
            parts.setdefault(table, []).append(f"{kind} {name} {sql}")
        query = "SELECT name, sql FROM sqlite_master WHERE type = 'table' ORDER BY name"
        for name, sql in database.execute(query).fetchall():
            # The tables behind a virtual table are in the list themselves; counting it may need a module we have not.
            virtual = sql is not None and sql.upper().startswith("CREATE VIRTUAL")
            rows = None if virtual else database.execute(f'SELECT count(*) FROM "{_doubled(name)}"').fetchone()[0]
            found.append({"name": name, "rows": rows, "schema": schema_hash(parts[name])})
    return {"v": 1, "type": KIND, "server": sqlite3.sqlite_version, "tables": found}


def statements(copy: bytes, path: bytes) -> Iterator[str]:
    """The SQL that makes a database like `copy`, which nobody else has; of `path`. Raises SourceFailed."""
    try:
        with closing(connect_copy(copy)) as database:
            for pragma in ("user_version", "application_id"):
                yield f"PRAGMA {pragma}={database.execute(f'PRAGMA {pragma}').fetchone()[0]};\n"
            for line in database.iterdump():
                yield f"{line}\n"
    except sqlite3.Error as error:
        raise _not_sayable(path, str(error)) from error


def _require_sayable(copy: bytes, path: bytes) -> None:
    """Raise SourceFailed for a database that would not come back from its SQL as it is, or not at all."""
    query = "SELECT name, sql FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
    with closing(connect_copy(copy)) as database:
        for name, sql in database.execute(query).fetchall():
            if sql.upper().startswith("CREATE VIRTUAL"):
                raise _not_sayable(path, f'"{name}" is a virtual table, whose content its own program keeps')
            columns = [row[1] for row in database.execute(f'PRAGMA table_info("{_doubled(name)}")')]
            for first in range(0, len(columns), _COLUMNS_AT_ONCE):
                odd = " OR ".join(_odd(f'"{_doubled(column)}"') for column in columns[first : first + _COLUMNS_AT_ONCE])
                if database.execute(f'SELECT 1 FROM "{_doubled(name)}" WHERE {odd} LIMIT 1').fetchone():
                    raise _not_sayable(path, f'a value of "{name}" is infinite, or a text with a NUL in it')


def _odd(column: str) -> str:
    """SQLite writes a text up to its first NUL, and an infinity as a word that it does not read."""
    return (
        f"typeof({column}) = 'text' AND instr(CAST({column} AS BLOB), x'00') OR "
        f"typeof({column}) = 'real' AND abs({column}) = 9e999"
    )


def _not_sayable(path: bytes, why: str) -> SourceFailed:
    return SourceFailed(
        f"the database {printable(path)} cannot be kept as SQL",
        why=why,
        hints=['keep a copy of its pages: format = "copy"'],
        code="database.not_sql",
    )


def _doubled(name: str) -> str:
    return name.replace('"', '""')


def _look(path: bytes) -> os.stat_result:
    try:
        stat = os.stat(path)
        head = b""
        # Not before it is known to be a file: a pipe would hang here for ever.
        if modes.S_ISREG(stat.st_mode):
            with open(path, "rb") as file:
                head = file.read(len(MAGIC))
    except OSError as error:
        raise SourceFailed(
            f"cannot read the database {printable(path)}",
            why=(error.strerror or str(error)).lower(),
            hints=["check the path and its rights"],
            code="database.unreadable",
        ) from error
    if not modes.S_ISREG(stat.st_mode) or (head and head != MAGIC):
        raise SourceFailed(
            f"{printable(path)} is no SQLite database",
            why="it begins with other bytes, or is encrypted",
            hints=[f"keep it as a file: dedup snapshot {printable(path)}"],
            code="database.unreadable",
        )
    return stat


def _require_room(directory: str, size: int, path: bytes) -> None:
    room = os.statvfs(directory)
    free = room.f_bavail * room.f_frsize
    if free < size:
        raise SourceFailed(
            f"no room for a copy of {printable(path)}",
            why=f"it needs {format_bytes(size)}, and {directory} has {format_bytes(free)}",
            hints=["name another directory: export TMPDIR=/var/tmp"],
            code="database.no_room",
        )


def _copy(path: bytes, target: bytes, cancel: CancelToken) -> None:
    """A consistent copy, which nobody else can read."""
    os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    try:
        _backup(path, target, cancel, mode="ro")
    except sqlite3.OperationalError as error:
        if "readonly" not in str(error) and "unable to open" not in str(error):
            raise _failed(path, error) from error
        # What a program that died left unfinished, a reader has to undo first: any other reader would do so, too.
        try:
            _backup(path, target, cancel, mode="rw")
        except sqlite3.Error as again:
            raise _failed(path, again) from again
    except sqlite3.Error as error:
        raise _failed(path, error) from error


def _backup(path: bytes, target: bytes, cancel: CancelToken, *, mode: str) -> None:
    deadline = time.monotonic() + LOCK_SECONDS

    def step(status: int, remaining: int, total: int) -> None:
        cancel.check()
        if time.monotonic() > deadline:
            raise SourceFailed(
                f"the database {printable(path)} is locked",
                why=f"another program has kept it so for {LOCK_SECONDS:.0f} s",
                hints=["find out which: fuser " + printable(path)],
                code="database.locked",
            )

    with closing(connect(path, mode, timeout=1.0)) as source, closing(connect(target, "rw")) as copy:
        # Nobody needs the copy after a crash.
        copy.execute("PRAGMA synchronous=OFF")
        copy.execute("PRAGMA journal_mode=OFF")
        source.backup(copy, pages=-1, progress=step, sleep=_STEP_SLEEP_SECONDS)


def _failed(path: bytes, error: sqlite3.Error) -> SourceFailed:
    text = str(error)
    damaged = "malformed" in text or "not a database" in text
    return SourceFailed(
        f"cannot copy the database {printable(path)}",
        why=text,
        hints=["name another directory for the copy: export TMPDIR=/var/tmp"] if "full" in text else [],
        code="database.damaged" if damaged else "database.copy_failed",
    )
