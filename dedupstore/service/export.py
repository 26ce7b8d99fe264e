"""Databases of a snapshot as classic dump files, `backup_TYPE_TIME_SOURCE.sql`: whoever has one needs no dedup to restore it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from dedupstore.cancel import CancelToken
from dedupstore.engine.file_content import file_content
from dedupstore.errors import NothingMatches, TargetFailed
from dedupstore.events import Listener
from dedupstore.model.snapshot import Snapshot
from dedupstore.service.access import Access
from dedupstore.service.config_schema import PostgresqlSource
from dedupstore.service.database_stored import Stored, all_stored, globals_of, one_stored, require_database
from dedupstore.service.databases import Database
from dedupstore.service.new_file import Write, new_file, require_free
from dedupstore.service.opened import open_repository
from dedupstore.service.records import SnapshotInfo, snapshot_info
from dedupstore.service.selection import Selection, choose
from dedupstore.sources.environment import child_environment
from dedupstore.sources.plain_sql import ending, plain

_ENDS = {"postgresql": (".dump",), "mysql": (".sql",), "sqlite": (".sql", ".db", ".sqlite", ".sqlite3")}
"""What the names of the databases' files end in inside the snapshot."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What to export. `time_name` writes an instant as a part of a file's name."""

    selection: Selection
    time_name: Callable[[int], str]
    which: str = ""
    """Of several databases, the one that is meant; all without."""

    configured: Callable[[str], Database | None] = field(default=lambda source: None)
    """What the configuration says of a source: where PostgreSQL's programs are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """One file. `path` is empty when it went to a reader; `database`: of what it is, empty for what belongs to none."""

    database: str
    path: str
    bytes: int
    tables: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    snapshot: SnapshotInfo
    files: tuple[Exported, ...]


def to_directory(
    request: Request, access: Access, directory: Path, listener: Listener, cancel: CancelToken
) -> Outcome:  # fmt: skip
    """Write a file for each database, and one for what belongs to the server, each whole or not at all under its name.

    Raises Refused when one of them exists, before anything is written; TargetFailed when one cannot be written.
    """
    with open_repository(access) as repository:
        snapshot = choose(repository.catalog, request.selection, note=repository.on_note)
        require_database(snapshot)
        repository.look()
        found = (
            [one_stored(repository, snapshot, request.which)] if request.which else all_stored(repository, snapshot)
        )  # fmt: skip
        paths = [directory / name for name in _names(request, snapshot, found)]
        beside = None if request.which else globals_of(repository, snapshot)
        beside_path = directory / _name(request, snapshot, "globals", ".sql")
        for path in (*paths, *((beside_path,) if beside is not None else ())):
            require_free(path)
        _make(directory)
        files = []
        for stored, path in zip(found, paths, strict=True):
            with new_file(path) as write:
                count = _hand_on(_pieces(request, access, stored, listener, cancel), write)
            files.append(Exported(database=stored.name, path=str(path), bytes=count, tables=len(stored.tables)))
        if beside is not None:
            with new_file(beside_path) as write:
                count = _hand_on(file_content(repository.reader, beside), write)
            files.append(Exported(database="", path=str(beside_path), bytes=count, tables=0))
        return Outcome(snapshot=snapshot_info(snapshot), files=tuple(files))


def to_reader(request: Request, access: Access, write: Write, listener: Listener, cancel: CancelToken) -> Outcome:
    """Hand one database to `write`. Raises NothingMatches when there are several and none is named."""
    with open_repository(access) as repository:
        snapshot = choose(repository.catalog, request.selection, note=repository.on_note)
        require_database(snapshot)
        repository.look()
        stored = one_stored(repository, snapshot, request.which)
        count = _hand_on(_pieces(request, access, stored, listener, cancel), write)
        file = Exported(database=stored.name, path="", bytes=count, tables=len(stored.tables))
        return Outcome(snapshot=snapshot_info(snapshot), files=(file,))


def _pieces(
    request: Request, access: Access, stored: Stored, listener: Listener, cancel: CancelToken
) -> Iterator[bytes | memoryview]:
    source = request.configured(stored.snapshot.source)
    prefix = source.exec if isinstance(source, PostgresqlSource) else ()
    environ = child_environment(access.environ)
    content = stored.content(listener, cancel)
    return plain(stored.snapshot.kind, stored.format, content, prefix, environ, cancel)


def _make(directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise TargetFailed(f"cannot write to {directory}", why=exc.strerror or str(exc)) from exc


def _hand_on(pieces: Iterator[bytes | memoryview], write: Write) -> int:
    count = 0
    for piece in pieces:
        write(piece)
        count += len(piece)
    return count


def _names(request: Request, snapshot: Snapshot, found: list[Stored]) -> list[str]:
    """Of each file; the database is named where the snapshot is of several, or of a source that has no name of its own."""
    if not found:
        raise NothingMatches(f'the snapshot of "{snapshot.source}" holds no database', hints=["dedup snapshots"])
    alone = len(found) == 1 and not request.which and not _is_address(snapshot.source)
    return [
        _name(request, snapshot, "" if alone else _stem(stored), ending(snapshot.kind, stored.format))
        for stored in found
    ]


def _name(request: Request, snapshot: Snapshot, database: str, end: str) -> str:
    source = "" if _is_address(snapshot.source) else snapshot.source
    what = "_".join(part for part in (source, database) if part)
    return f"backup_{snapshot.kind}_{request.time_name(snapshot_info(snapshot).time_ns)}_{what}{end}"


def _is_address(source: str) -> bool:
    """Such a source is called by its database: the name of the file is for people."""
    return "/" in source


def _stem(stored: Stored) -> str:
    """The name of the database as the snapshot keeps it: no two are the same, and each can be a file's."""
    name = os.fsdecode(stored.dump.name)
    for end in _ENDS[stored.snapshot.kind]:
        name = name.removesuffix(end)
    return name
