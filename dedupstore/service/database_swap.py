"""Put a restored database in the place of the one that is used; the old one is kept."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

from dedupstore.cancel import CancelToken
from dedupstore.events import Finding
from dedupstore.service.config_schema import SqliteSource
from dedupstore.service.databases import Database, client_of
from dedupstore.sources import mysql_target, postgres_target, sqlite_target
from dedupstore.sources.mysql_client import MysqlClient
from dedupstore.sources.postgres_client import PostgresClient

Note = Callable[[Finding], None]


def live_name(database: Database, environ: Mapping[str, str], note: Note, cancel: CancelToken) -> str:
    """What the database that is used is called: a path, or a name on the server."""
    if isinstance(database, SqliteSource):
        return os.path.abspath(os.path.expanduser(database.path))
    client = client_of(database, environ, note)
    if isinstance(client, MysqlClient):
        return client.database()
    client.open()
    try:
        with client.explained():
            return client.database(cancel)
    finally:
        client.close()


def swap(
    database: Database, new: str, live: str, kept: str, environ: Mapping[str, str], note: Note, cancel: CancelToken
) -> None:
    """Put the database `new` in the place of `live`, which is called `kept` from then on. Raises Refused, SourceFailed."""
    if isinstance(database, SqliteSource):
        sqlite_target.swap(*(os.path.abspath(os.fsencode(name)) for name in (new, live, kept)))
        return
    client = client_of(database, environ, note)
    try:
        if isinstance(client, PostgresClient):
            client.open()
            postgres_target.swap(client, new, live, kept, cancel)
        else:
            client.open(cancel)
            mysql_target.swap(client, new, live, kept, cancel)
    finally:
        client.close()
