"""Look at a database server: what it has, what a table holds, and whether a snapshot of it would succeed."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

from dedupstore.cancel import CancelToken
from dedupstore.events import Finding
from dedupstore.service.config_schema import SqliteSource
from dedupstore.service.databases import Database, connected, opened
from dedupstore.sources import mysql, postgres
from dedupstore.sources.database_files import TABLES
from dedupstore.sources.mysql_client import MysqlClient
from dedupstore.sources.postgres_client import PostgresClient

Note = Callable[[Finding], None]

_READ_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Tested:
    """What was found: versions as the programs call them, and what a snapshot would hold. `bytes` is the size of the dumps."""

    server: str
    client: str
    files: tuple[str, ...]
    bytes: int


def databases(database: Database, environ: Mapping[str, str], note: Note, cancel: CancelToken) -> list[str]:
    """The names of all databases that the server has. Raises SourceFailed."""
    if isinstance(database, SqliteSource):
        return [os.path.abspath(os.path.expanduser(database.path))]
    with connected(database, environ, note, cancel) as client, client.explained():
        return client.names(cancel)


@dataclass(frozen=True, slots=True)
class Table:
    """One table, and its rows now. `database` is empty for the only one of an address."""

    database: str
    name: str
    rows: int | None


def tables(database: Database, environ: Mapping[str, str], note: Note, cancel: CancelToken) -> list[Table]:
    """The tables of all databases that are meant. Raises SourceFailed."""
    if isinstance(database, SqliteSource):
        return [
            Table("", table["name"], table["rows"])
            for table in json.loads(_list_of_tables(database, environ, note, cancel))["tables"]
        ]
    with connected(database, environ, note, cancel) as client, client.explained():
        if not database.databases:
            return [Table("", table, rows) for table, rows in _tables_of(client, client.database(cancel), cancel)]
        names: Sequence[str] = database.databases
        if names == "all":
            names = client.dumpable(cancel) if isinstance(client, PostgresClient) else client.names(cancel)
        return [Table(name, table, rows) for name in names for table, rows in _tables_of(client, name, cancel)]


def _tables_of(client: PostgresClient | MysqlClient, name: str, cancel: CancelToken) -> list[tuple[str, int | None]]:
    if isinstance(client, PostgresClient):
        return [(table["name"], table["rows"]) for table in postgres.tables(client, cancel, name)["tables"]]
    found = [table["name"] for table in mysql.tables(client, cancel, name)["tables"]]
    rows = mysql.counts(client, cancel, name, found)
    return [(table, rows[table]) for table in found]


def _list_of_tables(database: Database, environ: Mapping[str, str], note: Note, cancel: CancelToken) -> bytes:
    """What a snapshot would say of the tables: of a copy, for only that holds still."""
    view = memoryview(bytearray(_READ_BYTES))
    found = bytearray()
    with opened(database, environ, note, cancel) as source, closing(source.streams()) as streams:
        for named in streams:
            wanted = named.name.endswith(TABLES.encode())
            while count := named.stream.readinto(view):
                found += view[: count if wanted else 0]
    return bytes(found)


def try_out(database: Database, environ: Mapping[str, str], note: Note, cancel: CancelToken) -> Tested:
    """Dump all of it, to nowhere. Raises SourceFailed for whatever would stop a snapshot."""
    view = memoryview(bytearray(_READ_BYTES))
    files, total = [], 0
    with opened(database, environ, note, cancel) as source, closing(source.streams()) as streams:
        for named in streams:
            files.append(os.fsdecode(named.name))
            while count := named.stream.readinto(view):
                total += count
        details = dict(source.details)
    return Tested(
        server=details.get("database.server", ""),
        client=details.get("database.client", ""),
        files=tuple(files),
        bytes=total,
    )
