"""Databases as sources: from an address, or a source of the configuration, to what a snapshot reads."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import TypeAlias
from urllib.parse import unquote, urlsplit

from dedupstore.cancel import CancelToken
from dedupstore.errors import UsageError
from dedupstore.events import Finding
from dedupstore.service import secrets
from dedupstore.service.config_kinds import Invalid
from dedupstore.service.config_schema import DSN, MysqlSource, PostgresqlSource, SqliteSource
from dedupstore.sources.base import StreamSource
from dedupstore.sources.environment import child_environment
from dedupstore.sources.mysql import MysqlSource as MysqlStreams
from dedupstore.sources.mysql_client import MysqlClient
from dedupstore.sources.postgres import PostgresSource
from dedupstore.sources.postgres_client import PostgresClient
from dedupstore.sources.sqlite import SqliteSource as SqliteStreams

Database: TypeAlias = SqliteSource | PostgresqlSource | MysqlSource
"""What the configuration says of one, or an address."""

DATABASES = (SqliteSource, PostgresqlSource, MysqlSource)
_PASSWORD_HINT = "write it to a file that only you can read: export DEDUP_DATABASE_PASSWORD_FILE=/etc/dedup/db.pass"


def from_address(text: str) -> Database:
    """Raises UsageError."""
    try:
        text = DSN.read(text)
    except Invalid as error:
        problem = error.problems[0]
        password = "password" in problem.message
        raise UsageError(
            problem.message,
            why="others could read it" if password else "",
            hints=[_PASSWORD_HINT if password else problem.hint],
            code=problem.code,
        ) from None
    scheme, _, rest = text.partition(":")
    kind = scheme.lower()
    if kind in ("postgresql", "postgres"):
        return PostgresqlSource(dsn=f"postgresql:{rest}")
    if kind in ("mysql", "mariadb"):
        return MysqlSource(dsn=f"mysql:{rest}")
    if kind != "sqlite":
        raise UsageError(f"no database of that kind: {scheme}", hints=["sqlite:PATH", "postgresql://host/name"])
    path = unquote(rest.removeprefix("//")) if rest.startswith("///") else rest
    if not path or path.startswith("//"):
        raise UsageError(f"not the address of a database: {text}", hints=["sqlite:///var/lib/app.db", "sqlite:app.db"])
    return SqliteSource(path=os.path.abspath(os.path.expanduser(path)))


def name_of(database: Database) -> str:
    """What a source is called that nobody named: its address without who reads it."""
    if isinstance(database, SqliteSource):
        return f"sqlite://{os.path.abspath(os.path.expanduser(database.path))}"
    parts = urlsplit(database.dsn)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def opened(
    database: Database, environ: Mapping[str, str], note: Callable[[Finding], None], cancel: CancelToken
) -> AbstractContextManager[StreamSource]:
    """What a snapshot of it reads, for as long as the context lasts. Entering it raises SourceFailed."""
    if isinstance(database, SqliteSource):
        path = os.fsencode(os.path.expanduser(database.path))
        return SqliteStreams(
            path, cancel, directory=environ.get("TMPDIR") or None, as_sql=database.format == "sql"
        )  # fmt: skip
    client = client_of(database, environ, note)
    if isinstance(database, PostgresqlSource):
        assert isinstance(client, PostgresClient)
        return PostgresSource(
            client,
            cancel,
            databases=database.databases,
            with_globals=database.globals,
            options=database.options,
        )
    assert isinstance(client, MysqlClient)
    return MysqlStreams(
        client,
        cancel,
        note,
        databases=database.databases,
        with_globals=database.globals,
        options=database.options,
    )


@contextmanager
def connected(
    database: PostgresqlSource | MysqlSource,
    environ: Mapping[str, str],
    note: Callable[[Finding], None],
    cancel: CancelToken,
) -> Iterator[PostgresClient | MysqlClient]:
    """The server, to be asked for as long as the context lasts. Raises SourceFailed."""
    client = client_of(database, environ, note)
    try:
        client.open(cancel)
        yield client
    finally:
        client.close()


def client_of(
    database: PostgresqlSource | MysqlSource, environ: Mapping[str, str], note: Callable[[Finding], None]
) -> PostgresClient | MysqlClient:
    """The programs of the server, with the password that the configuration or the environment names."""
    reference = database.password
    secret = secrets.database_password(environ) if reference is None else secrets.resolve(reference, environ)
    for finding in () if secret is None else secret.findings:
        note(finding)
    kind = PostgresClient if isinstance(database, PostgresqlSource) else MysqlClient
    return kind(
        database.dsn, "" if secret is None else secret.text, database.exec, child_environment(environ)
    )  # fmt: skip
