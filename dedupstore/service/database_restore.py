"""Bring a database back beside the one that is used, and see that it holds what it held."""

from __future__ import annotations

import codecs
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from dedupstore.cancel import CancelToken
from dedupstore.errors import NothingMatches, UsageError
from dedupstore.events import Collector, Finding, Listener
from dedupstore.repo.repository import Repository
from dedupstore.service import database_downtime
from dedupstore.service.access import Access
from dedupstore.service.config_schema import SqliteSource
from dedupstore.service.database_stored import Stored, Tables, globals_text, one_stored, require_database, table_rows
from dedupstore.service.databases import Database, connected, from_address
from dedupstore.service.opened import with_repository
from dedupstore.service.records import SnapshotInfo, snapshot_info
from dedupstore.service.selection import Selection, choose
from dedupstore.sources import mysql, mysql_accounts, postgres, postgres_roles
from dedupstore.sources.mysql_client import MysqlClient
from dedupstore.sources.mysql_dump import about, only_tables, portable, without_definers
from dedupstore.sources.mysql_target import NewMysqlDatabase
from dedupstore.sources.postgres_client import PostgresClient
from dedupstore.sources.postgres_target import NewPostgresDatabase
from dedupstore.sources.sqlite import tables as sqlite_tables
from dedupstore.sources.sqlite_target import NewDatabase


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

    owners: bool | None = None
    """Whether it belongs to whom it belonged to. None: a file when root restores it, what is in a database of a server in any case."""

    with_globals: bool = False
    """Roles or users too, and their rights: those that the server does not have."""


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
        snapshot = choose(repository.catalog, request.selection, note=repository.on_note)
        require_database(snapshot)
        repository.look()
        stored = one_stored(repository, snapshot, request.which)
        script = globals_text(repository, snapshot) if request.with_globals else ""
        job = _Job(request, access, stored, script, collector, cancel)
        recorded = job.stored.tables
        if request.tables:
            recorded = {name: recorded[name] for name in _chosen(request.tables, recorded)}
        found = _RESTORERS[snapshot.kind](job)
        if request.tables:
            # Of single tables only the rows come back, without indexes and what refers to other tables.
            recorded = {name: (rows, found.get(name, (0, ""))[1]) for name, (rows, _) in recorded.items()}
        _compare(recorded, found, collector)
        for table in stored.about["tables"]:
            if table["name"] in recorded and table.get("rows_left_out"):
                message = f'the table "{table["name"]}" has no rows, as the options of the source say; it had {table["rows_left_out"]}'
                collector.finding(Finding(code="database.rows_left_out", message=message, severity="note"))
        seconds = repository.clock.monotonic() - began
        if not request.tables:
            database_downtime.remember(access.environ, snapshot.source, stored.dump.size, seconds, access.note)
        return Outcome(
            snapshot=snapshot_info(snapshot),
            name=request.name,
            bytes=job.stored.dump.size,
            tables=len(found),
            rows=sum(rows for rows, _ in found.values() if rows is not None),
            findings=tuple(collector.findings),
            seconds=seconds,
        )

    return with_repository(access, work)


@dataclass(frozen=True, slots=True)
class _Job:
    request: Request
    access: Access
    stored: Stored
    script: str
    """What the server had beside its databases; empty when it is not asked for."""

    collector: Collector
    cancel: CancelToken

    def content(self) -> Iterator[bytes | memoryview]:
        return self.stored.content(self.collector, self.cancel)

    @contextmanager
    def server(self) -> Iterator[PostgresClient | MysqlClient]:
        """The one that it goes to."""
        snapshot = self.stored.snapshot
        target = self.request.target(snapshot.source)
        if target is None:
            address = dict(snapshot.details).get("database.address", "")
            target = from_address(address)
        if target.type != snapshot.kind:
            raise UsageError(f"a database of type {snapshot.kind} cannot go to one of type {target.type}")
        assert not isinstance(target, SqliteSource)
        with connected(target, self.access.environ, self.access.note, self.cancel) as client:
            yield client


def _sqlite(job: _Job) -> Tables:
    request, entry = job.request, job.stored.dump
    if request.tables:
        raise UsageError("a SQLite database is restored as a whole", hints=["leave out --table"])
    path = os.fsencode(os.path.expanduser(request.name))
    owners = os.geteuid() == 0 if request.owners is None else request.owners
    as_sql = dict(job.stored.snapshot.details).get("database.format") == "sql"
    with NewDatabase(path) as new:
        if as_sql:
            new.execute(_lines(job.content()))
        else:
            for piece in job.content():
                new.write(piece)
        new.finish(entry.mode, (entry.uid, entry.gid) if owners and not as_sql else None)
    return table_rows(sqlite_tables(os.path.abspath(path)))


def _postgresql(job: _Job) -> Tables:
    name, cancel = job.request.name, job.cancel
    tables = _chosen(job.request.tables, job.stored.tables)
    _require_no_others(tables, job.stored.tables)
    with job.server() as client:
        assert isinstance(client, PostgresClient)
        _give_globals(job, postgres_roles.give(client, job.script, cancel))
        owners = job.request.owners is not False
        with NewPostgresDatabase(client, name, job.stored.about, cancel, tables=tables, owners=owners) as new:
            for piece in job.content():
                new.write(piece)
            new.finish()
        found = table_rows(postgres.tables(client, cancel, name))
        new.give()
        if new.ownerless:
            message = (
                f"roles that do not exist here: {', '.join(new.ownerless)}; everything belongs to who restored it "
                "(--globals makes them, --no-owners asks for none)"
            )
            job.collector.finding(Finding(code="database.no_role", message=message))
        for table in tables:
            if job.stored.tables[table][0] is None:
                message = (
                    f"{table} is partitioned, and its rows are in its partitions; they come back by their own names "
                    "(--table), not attached"
                )
                job.collector.finding(Finding(code="database.partitioned", message=message))
        if new.unset:
            message = f"the new database was not given what the old one had: {', '.join(new.unset)}"
            job.collector.finding(Finding(code="database.not_set", message=message))
        return found


def _require_no_others(tables: Sequence[str], recorded: Tables) -> None:
    """pg_restore takes schemas and names apart, and every pair of them is meant. Raises UsageError for one that was not."""
    schemas, names = ({table.rpartition(".")[at] for table in tables} for at in (0, 2))
    others = [
        full
        for full in recorded
        if full not in tables and full.rpartition(".")[0] in schemas and full.rpartition(".")[2] in names
    ]
    if others:
        raise UsageError(
            f"these tables cannot be restored together without {others[0]}",
            why="pg_restore would take each name from each of the schemas",
            hints=["restore the tables of each schema by themselves: one call, and one --as NAME, for each"],
            code="usage.tables",
        )


def _mysql(job: _Job) -> Tables:
    name, cancel = job.request.name, job.cancel
    with job.server() as client:
        assert isinstance(client, MysqlClient)
        _give_globals(job, mysql_accounts.give(client, job.script, cancel))
        content = job.content() if client.is_mariadb else portable(job.content())
        content = about(content, name)
        if job.request.owners is False:
            content = without_definers(content)
        if job.request.tables:
            content = only_tables(content, _chosen(job.request.tables, job.stored.tables))
        with NewMysqlDatabase(client, name, job.stored.about, cancel) as new:
            for piece in content:
                new.write(piece)
            new.finish()
        found = table_rows(mysql.tables(client, cancel, name))
        rows = mysql.counts(client, cancel, name, tuple(found))
        uncounted = {name for name, (count, _) in job.stored.tables.items() if count is None}
        return {table: (None if table in uncounted else rows[table], schema) for table, (_, schema) in found.items()}


def _give_globals(job: _Job, given: Iterator[tuple[str, str]]) -> None:
    """Tell what was made on the server, and what could not be."""
    for name, problem in given if job.script else ():
        job.collector.finding(
            Finding(code="database.globals_incomplete", message=f"{name} could not be made as it was: {problem}")
            if problem
            else Finding(code="database.globals_made", message=f"{name} was made, with its rights", severity="note")
        )


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
