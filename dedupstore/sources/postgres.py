"""Databases of a PostgreSQL server, by pg_dump.

Each database is one dump in pg_dump's custom format, not compressed: it is found again in the previous one, and single tables
can be taken from it. The rows are counted in the very transaction that the dump reads (`--snapshot`), so that a restore can be
held against them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from types import TracebackType
from typing import Any, Self

from dedupstore.cancel import CancelToken
from dedupstore.errors import SourceFailed
from dedupstore.sources import postgres_database
from dedupstore.sources.base import NamedStream
from dedupstore.sources.database_files import GLOBALS, TABLES, Texts, file_name, schema_hash
from dedupstore.sources.postgres_client import PostgresClient
from dedupstore.sources.program import Talk, Translated

KIND = "postgresql"
DUMP = ".dump"

_DUMP = ("pg_dump", "-Fc", "-Z0", "--no-password", "--lock-wait-timeout=60s")
_GLOBALS = ("pg_dumpall", "--globals-only", "--no-role-passwords", "--no-password")

_OWN = """n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg\\_%'
AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = 'pg_class'::regclass AND e.objid = c.oid AND e.deptype = 'e')"""

_DEFINITIONS = f"""SELECT json_build_array(n.nspname || '.' || c.relname, c.relkind, (SELECT json_agg(json_build_array(a.attname,
format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity, a.attgenerated, pg_get_expr(v.adbin, v.adrelid))
ORDER BY a.attnum) FROM pg_attribute a LEFT JOIN pg_attrdef v ON v.adrelid = a.attrelid AND v.adnum = a.attnum
WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
(SELECT json_agg(x ORDER BY x) FROM (SELECT pg_get_indexdef(indexrelid) x FROM pg_index WHERE indrelid = c.oid) i),
(SELECT json_agg(x ORDER BY x) FROM (SELECT conname || ' ' || pg_get_constraintdef(oid) x FROM pg_constraint
WHERE conrelid = c.oid) k),
(SELECT json_agg(x ORDER BY x) FROM (SELECT pg_get_triggerdef(oid) x FROM pg_trigger
WHERE tgrelid = c.oid AND NOT tgisinternal) t))
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't' AND {_OWN} ORDER BY n.nspname, c.relname;"""

_COUNTS = f"""SELECT format('SELECT json_build_array(%L::text, (SELECT count(*) FROM ONLY %I.%I))',
n.nspname || '.' || c.relname, n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND {_OWN} ORDER BY n.nspname, c.relname \\gexec"""

_BEGIN = """SET search_path = ''; SET row_security = off; SET statement_timeout = 0;
SET idle_in_transaction_session_timeout = 0; BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;"""

_LEFT_OUT = "--exclude-table-data"
_LETTER = re.compile(r'"((?:[^"]|"")*)"|(.)', re.DOTALL)


class PostgresSource:
    """The dumps of some databases, one after the other: each of one instant, not all of the same."""

    kind = KIND
    origins: tuple[tuple[bytes, bytes], ...] = ()

    def __init__(
        self,
        client: PostgresClient,
        cancel: CancelToken,
        *,
        databases: Sequence[str] | str,
        with_globals: bool,
        options: Sequence[str] = (),
    ) -> None:
        self._client = client
        self._cancel = cancel
        self._wanted = databases
        self._with_globals = with_globals
        self._options = tuple(options)
        self.details: tuple[tuple[str, str], ...] = ()

    def __enter__(self) -> Self:
        client = self._client
        client.open(self._cancel)
        try:
            with client.explained():
                versions = client.versions(self._cancel)
                self._names = self._databases(versions.database)
        except BaseException:
            client.close()
            raise
        self.details = (
            ("database.type", KIND),
            ("database.format", "custom"),
            ("database.server", versions.server),
            ("database.client", versions.client),
            ("database.address", client.address),
        )
        self._server = versions.server
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def _databases(self, named: str) -> tuple[str, ...]:
        if self._wanted == "all":
            return tuple(self._client.dumpable(self._cancel))
        return tuple(self._wanted) or (named,)

    def streams(self) -> Generator[NamedStream, None, None]:
        client, cancel = self._client, self._cancel
        for name in self._names:
            with client.explained(), session(client, cancel, name) as talk:
                snapshot = talk.ask(f"{_BEGIN}\nSELECT pg_export_snapshot();")[0]
                program = client.program((*_DUMP, f"--snapshot={snapshot}", *self._options), name)
                file = file_name(name, DUMP)
                # Counted while the dump is read.
                talk.send(f"{postgres_database.QUERY}\n{_DEFINITIONS}\n{_COUNTS}")
                with program.stream(cancel) as dump:
                    yield NamedStream(name=file, stream=Translated(dump, partial(_explained, client, talk)))
                document = _document(name, self._server, talk.lines())
            for table in document["tables"]:
                if table["rows"] and _left_out(self._options, table["name"]):
                    table |= {"rows": 0, "rows_left_out": table["rows"]}
            yield NamedStream(name=file + TABLES.encode(), stream=Texts.of(document))
        if self._with_globals:
            with client.program(_GLOBALS, self._names[0]).stream(cancel) as stream:
                yield NamedStream(name=GLOBALS, stream=Translated(stream, client.explained))


def tables(client: PostgresClient, cancel: CancelToken, name: str) -> dict[str, Any]:
    """What a database holds: each table with its rows and a hash of its definition. Raises SourceFailed."""
    with client.explained(), session(client, cancel, name) as talk:
        lines = talk.ask(f"{_BEGIN}\n{postgres_database.QUERY}\n{_DEFINITIONS}\n{_COUNTS}")
    return _document(name, "", lines)


@contextmanager
def session(client: PostgresClient, cancel: CancelToken, name: str) -> Iterator[Talk]:
    """psql, connected to a database."""
    with client.program(("psql", "-XAtqw", "-v", "ON_ERROR_STOP=1"), name).stream(cancel, talk=True) as stream:
        yield Talk(stream, "\\echo {}")


@contextmanager
def _explained(client: PostgresClient, talk: Talk) -> Iterator[None]:
    """When the session has ended, whose transaction the dump reads, it knows why."""
    try:
        with client.explained():
            yield
    except SourceFailed as error:
        if "invalid snapshot identifier" in error.why:
            with client.explained():
                talk.lines()
        raise


def _document(name: str, server: str, lines: Sequence[str]) -> dict[str, Any]:
    about, *rows = (json.loads(line) for line in lines if line)
    counts = {row[0]: row[1] for row in rows if len(row) == 2}
    found = [
        {"name": row[0], "rows": counts.get(row[0]), "schema": schema_hash([json.dumps(row[2:])])}
        for row in rows
        if len(row) > 2
    ]
    return {"v": 1, "type": KIND, "server": server, "database": name, **about, "tables": found}


def _left_out(options: Sequence[str], table: str) -> bool:
    """Whether pg_dump, given these options, takes no rows of the table `schema.name`.

    A pattern that names no schema means the tables that are found without one: those of `public`.
    """
    words = [*options, ""]
    patterns = [
        word.partition("=")[2] or following
        for word, following in pairwise(words)
        if word.partition("=")[0] == _LEFT_OUT
    ]
    return any(re.fullmatch(_expression(pattern), table, re.DOTALL) for pattern in patterns)


def _expression(pattern: str) -> str:
    """A pattern of psql as a regular expression: `*` and `?`, and letters that are small unless they are quoted."""
    said, dotted = "", False
    for match in _LETTER.finditer(pattern):
        letter = match[2]
        if letter is None:
            said += re.escape(match[1].replace('""', '"'))
        else:
            said += {"*": ".*", "?": "."}.get(letter) or re.escape(letter.lower())
            dotted = dotted or letter == "."
    return said if dotted else rf"public\.{said}"
