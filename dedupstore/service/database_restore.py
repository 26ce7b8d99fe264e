"""Bring a database back beside the one that is used, and put it in its place as a step of its own."""

from __future__ import annotations

import codecs
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from dedupstore.cancel import CancelToken
from dedupstore.engine.file_content import file_content
from dedupstore.errors import NothingMatches, UsageError
from dedupstore.events import Collector, Finding, Listener, Progress
from dedupstore.model.entry import Entry
from dedupstore.model.snapshot import Snapshot
from dedupstore.model.tree import read_tree
from dedupstore.repo.repository import Repository
from dedupstore.service.access import Access
from dedupstore.service.config_schema import SqliteSource
from dedupstore.service.databases import Database
from dedupstore.service.opened import with_repository
from dedupstore.service.records import SnapshotInfo, snapshot_info
from dedupstore.service.selection import Selection, choose
from dedupstore.sources.sqlite import TABLES
from dedupstore.sources.sqlite import tables as sqlite_tables
from dedupstore.sources.sqlite_target import NewDatabase, swap
from dedupstore.units import printable

KINDS = ("sqlite",)
"""Kinds of snapshots that hold databases."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Which database to bring back and what the new one is called: a path, or a name on the server."""

    selection: Selection
    name: str
    owners: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What was restored. `tables`, `rows`: what the new database was found to hold, rows of countable tables."""

    snapshot: SnapshotInfo
    name: str
    bytes: int
    tables: int
    rows: int
    findings: tuple[Finding, ...]
    seconds: float

    @property
    def exit_code(self) -> int:
        return 3 if self.findings else 0


def run(request: Request, access: Access, listener: Listener, cancel: CancelToken) -> Outcome:
    """Raises NothingMatches, Refused (the name is taken), TargetFailed, Interrupted, RepositoryError."""
    collector = Collector(listener)

    def work(repository: Repository) -> Outcome:
        began = repository.clock.monotonic()
        snapshot = choose(repository.catalog, request.selection)
        if snapshot.kind not in KINDS:
            raise UsageError(
                f'the snapshot of "{snapshot.source}" holds no database',
                hints=["leave out --as", "choose another source: --source NAME", "dedup snapshots"],
            )
        repository.look()
        stored = _Stored(repository, snapshot, listener, cancel)
        recorded = stored.recorded()
        found = _sqlite(stored, snapshot, request)
        _compare(recorded, found, collector)
        return Outcome(
            snapshot=snapshot_info(snapshot),
            name=request.name,
            bytes=stored.dump.size,
            tables=len(found),
            rows=sum(rows for rows, _ in found.values() if rows is not None),
            findings=tuple(collector.findings),
            seconds=repository.clock.monotonic() - began,
        )

    return with_repository(access, work)


def live_name(database: Database) -> str:
    """What the database that is used is called: a path, or a name on the server."""
    if isinstance(database, SqliteSource):
        return os.path.abspath(os.path.expanduser(database.path))
    raise UsageError(f"a database of type {database.type} cannot be swapped yet")


def swap_in(database: Database, new: str, kept: str) -> None:
    """Put the restored database `new` in the place of `database`; the old one is called `kept` from then on."""
    swap(*(os.path.abspath(os.fsencode(name)) for name in (new, live_name(database), kept)))


class _Stored:
    """The files of a snapshot of a database."""

    def __init__(self, repository: Repository, snapshot: Snapshot, listener: Listener, cancel: CancelToken) -> None:
        self._repository = repository
        self._listener = listener
        self._cancel = cancel
        self._entries = list(read_tree(repository.reader.load_manifest, snapshot.root))
        dumps = [entry for entry in self._entries if not entry.name.endswith(TABLES.encode())]
        if len(dumps) != 1:
            names = ", ".join(printable(entry.name) for entry in dumps)
            raise NothingMatches("which database?", why=f"the snapshot holds {names or 'none'}")
        self.dump = dumps[0]

    def content(self, entry: Entry) -> Iterator[bytes | memoryview]:
        """Verified, with the progress told."""
        progress = Progress(phase="restore", bytes_total=entry.size, current=entry.name)
        for piece in file_content(self._repository.reader, entry):
            self._cancel.check()
            yield piece
            progress.bytes_done += len(piece)
            self._listener.progress(progress)

    def recorded(self) -> dict[str, tuple[int | None, str]]:
        """Of each table that the snapshot tells of: its rows and the hash of its definition."""
        wanted = self.dump.name + TABLES.encode()
        entry = next((entry for entry in self._entries if entry.name == wanted), None)
        if entry is None:
            return {}
        return table_rows(json.loads(b"".join(file_content(self._repository.reader, entry))))


def table_rows(document: Any) -> dict[str, tuple[int | None, str]]:
    """By the name of each table in a list of tables: its rows, None where they were not counted, and its schema."""
    return {table["name"]: (table["rows"], table["schema"]) for table in document["tables"]}


def _sqlite(stored: _Stored, snapshot: Snapshot, request: Request) -> dict[str, tuple[int | None, str]]:
    path, entry = os.fsencode(os.path.expanduser(request.name)), stored.dump
    as_sql = dict(snapshot.details).get("database.format") == "sql"
    owner = (entry.uid, entry.gid) if request.owners and not as_sql else None
    with NewDatabase(path) as new:
        if as_sql:
            new.execute(_lines(stored.content(entry)))
        else:
            for piece in stored.content(entry):
                new.write(piece)
        new.finish(entry.mode, owner)
    return table_rows(sqlite_tables(os.path.abspath(path)))


def _lines(pieces: Iterable[bytes | memoryview]) -> Iterator[str]:
    """The lines of a text that comes in pieces."""
    decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
    rest = ""
    for piece in pieces:
        *whole, rest = (rest + decoder.decode(bytes(piece))).split("\n")
        for line in whole:
            yield f"{line}\n"
    if rest:
        yield rest


def _compare(
    recorded: dict[str, tuple[int | None, str]], found: dict[str, tuple[int | None, str]], collector: Collector
) -> None:
    """Tell where the new database is not what the snapshot says it was."""
    for name in sorted(recorded.keys() | found.keys()):
        before, after = recorded.get(name), found.get(name)
        if before == after:
            continue
        if before is None or after is None:
            message = f'the table "{name}" ' + ("was not there before" if before is None else "is missing")
        elif before[0] != after[0]:
            message = f'the table "{name}" has {after[0]} rows, and had {before[0]}'
        else:
            message = f'the table "{name}" has another definition than it had'
        collector.finding(Finding(code="database.differs", message=message))
