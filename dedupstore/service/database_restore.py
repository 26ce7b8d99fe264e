"""Bring a database back beside the one that is used, and see that it holds what it held."""

from __future__ import annotations

import codecs
import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from dedupstore.cancel import CancelToken
from dedupstore.engine.file_content import file_content
from dedupstore.errors import NothingMatches, UsageError
from dedupstore.events import Collector, Finding, Listener, Progress
from dedupstore.model.snapshot import Snapshot
from dedupstore.model.tree import read_tree
from dedupstore.repo.repository import Repository
from dedupstore.service.access import Access
from dedupstore.service.config_schema import SqliteSource
from dedupstore.service.databases import Database, client_of, from_address
from dedupstore.service.opened import with_repository
from dedupstore.service.records import SnapshotInfo, snapshot_info
from dedupstore.service.selection import Selection, choose
from dedupstore.sources import mysql, postgres
from dedupstore.sources.database_files import TABLES
from dedupstore.sources.mysql_client import MysqlClient
from dedupstore.sources.mysql_target import NewMysqlDatabase
from dedupstore.sources.postgres_client import PostgresClient
from dedupstore.sources.postgres_target import NewPostgresDatabase
from dedupstore.sources.sqlite import tables as sqlite_tables
from dedupstore.sources.sqlite_target import NewDatabase
from dedupstore.units import printable

Tables: TypeAlias = "dict[str, tuple[int | None, str]]"
"""Of each table by its name: its rows, None where they were not counted, and the hash of its definition."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Which database to bring back and what the new one is called: a path, or a name on the server."""

    selection: Selection
    name: str
    which: str = ""
    """Of several in a snapshot, the one that is meant."""

    tables: tuple[str, ...] = ()
    """Only these; all without any."""

    target: Callable[[str], Database | None] = field(default=lambda source: None)
    """The server that a snapshot of that source goes to; None for the one it came from."""

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
        return 3 if any(finding.severity != "note" for finding in self.findings) else 0


def run(request: Request, access: Access, listener: Listener, cancel: CancelToken) -> Outcome:
    """Raises NothingMatches, Refused (the name is taken), TargetFailed, Interrupted, RepositoryError."""
    collector = Collector(listener)

    def work(repository: Repository) -> Outcome:
        began = repository.clock.monotonic()
        snapshot = choose(repository.catalog, request.selection)
        if snapshot.kind not in _RESTORERS:
            raise UsageError(
                f'the snapshot of "{snapshot.source}" holds no database',
                hints=["leave out --as", "choose another source: --source NAME", "dedup snapshots"],
            )
        repository.look()
        job = _Job(request, access, Stored(repository, snapshot, request.which), collector, cancel)
        recorded = table_rows(job.stored.about)
        if request.tables:
            recorded = {name: recorded[name] for name in _chosen(request.tables, recorded)}
        found = _RESTORERS[snapshot.kind](job)
        if request.tables:
            # Of single tables only the rows come back, without indexes and what refers to other tables.
            recorded = {name: (rows, found.get(name, (0, ""))[1]) for name, (rows, _) in recorded.items()}
        _compare(recorded, found, collector)
        return Outcome(
            snapshot=snapshot_info(snapshot),
            name=request.name,
            bytes=job.stored.dump.size,
            tables=len(found),
            rows=sum(rows for rows, _ in found.values() if rows is not None),
            findings=tuple(collector.findings),
            seconds=repository.clock.monotonic() - began,
        )

    return with_repository(access, work)


class Stored:
    """One database of a snapshot. Raises NothingMatches when it holds several and none, or none of that name, is meant."""

    def __init__(self, repository: Repository, snapshot: Snapshot, which: str) -> None:
        self.snapshot = snapshot
        self._repository = repository
        entries = {entry.name: entry for entry in read_tree(repository.reader.load_manifest, snapshot.root)}
        end = TABLES.encode()
        dumps = {name: entry for name, entry in entries.items() if name + end in entries}
        wanted = os.fsencode(which)
        named = [entry for name, entry in dumps.items() if wanted in (b"", name, name.rpartition(b".")[0])]
        if len(named) != 1:
            names = [printable(name) for name in sorted(dumps)]
            raise NothingMatches(
                f"the snapshot has no database {which}" if which else "which database?",
                why=f"it holds {', '.join(names) or 'none'}",
                hints=[f"name it: dedup restore --source {snapshot.source} {name} --as NAME" for name in names[:3]],
            )
        self.dump = named[0]
        self.about: dict[str, Any] = json.loads(
            b"".join(file_content(repository.reader, entries[self.dump.name + end]))
        )  # fmt: skip

    def content(self, listener: Listener, cancel: CancelToken) -> Iterator[bytes | memoryview]:
        """The dump, verified, with the progress told."""
        progress = Progress(phase="restore", bytes_total=self.dump.size, current=self.dump.name)
        for piece in file_content(self._repository.reader, self.dump):
            cancel.check()
            yield piece
            progress.bytes_done += len(piece)
            listener.progress(progress)


@dataclass(frozen=True, slots=True)
class _Job:
    request: Request
    access: Access
    stored: Stored
    collector: Collector
    cancel: CancelToken

    def content(self) -> Iterator[bytes | memoryview]:
        return self.stored.content(self.collector, self.cancel)

    def client(self) -> PostgresClient | MysqlClient:
        """Of the server that it goes to."""
        snapshot = self.stored.snapshot
        target = self.request.target(snapshot.source)
        if target is None:
            address = dict(snapshot.details).get("database.address", "")
            target = from_address(address)
        if target.type != snapshot.kind:
            raise UsageError(f"a database of type {snapshot.kind} cannot go to one of type {target.type}")
        assert not isinstance(target, SqliteSource)
        return client_of(target, self.access.environ, self.access.note)


def table_rows(document: Any) -> Tables:
    """By the name of each table in a list of tables: its rows, None where they were not counted, and its schema."""
    return {table["name"]: (table["rows"], table["schema"]) for table in document["tables"]}


def _sqlite(job: _Job) -> Tables:
    request, entry = job.request, job.stored.dump
    if request.tables:
        raise UsageError("a SQLite database is restored as a whole", hints=["leave out --table"])
    path = os.fsencode(os.path.expanduser(request.name))
    as_sql = dict(job.stored.snapshot.details).get("database.format") == "sql"
    with NewDatabase(path) as new:
        if as_sql:
            new.execute(_lines(job.content()))
        else:
            for piece in job.content():
                new.write(piece)
        new.finish(entry.mode, (entry.uid, entry.gid) if request.owners and not as_sql else None)
    return table_rows(sqlite_tables(os.path.abspath(path)))


def _postgresql(job: _Job) -> Tables:
    client, name, cancel = job.client(), job.request.name, job.cancel
    assert isinstance(client, PostgresClient)
    client.open()
    try:
        with NewPostgresDatabase(client, name, job.stored.about, cancel, tables=job.request.tables) as new:
            for piece in job.content():
                new.write(piece)
            new.finish()
        if new.ownerless:
            message = f"roles that do not exist here: {', '.join(new.ownerless)}; everything belongs to who restored it"
            job.collector.finding(Finding(code="database.no_role", message=message))
        return table_rows(postgres.tables(client, cancel, name))
    finally:
        client.close()


def _mysql(job: _Job) -> Tables:
    client, name, cancel = job.client(), job.request.name, job.cancel
    assert isinstance(client, MysqlClient)
    if job.request.tables:
        raise UsageError("a dump of MySQL is restored as a whole", hints=["leave out --table, and copy the table then"])
    try:
        client.open(cancel)
        with NewMysqlDatabase(client, name, job.stored.about, cancel) as new:
            for piece in job.content():
                new.write(piece)
            new.finish()
        found = table_rows(mysql.tables(client, cancel, name))
        rows = mysql.counts(client, cancel, name, tuple(found))
        uncounted = {name for name, (count, _) in table_rows(job.stored.about).items() if count is None}
        return {table: (None if table in uncounted else rows[table], schema) for table, (_, schema) in found.items()}
    finally:
        client.close()


def _chosen(wanted: tuple[str, ...], recorded: Tables) -> list[str]:
    """The recorded names of tables that a user names with or without their schema. Raises NothingMatches."""
    found = []
    for name in wanted:
        matching = [full for full in recorded if name in (full, full.rpartition(".")[2])]
        if not matching:
            raise NothingMatches(f"the dump has no table {name}", why=f"it has {', '.join(recorded) or 'none'}"[:500])
        found += matching
    return found


_RESTORERS: dict[str, Callable[[_Job], Tables]] = {"sqlite": _sqlite, "postgresql": _postgresql, "mysql": _mysql}


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


def _compare(recorded: Tables, found: Tables, collector: Collector) -> None:
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
