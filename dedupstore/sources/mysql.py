"""Databases of a MariaDB or MySQL server, by mariadb-dump or mysqldump.

Each database is one dump of its own, without `CREATE DATABASE` and `USE`: it can go into a database of any name. The rows are
counted in the dump itself, so that a restore can be held against them.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Sequence
from types import TracebackType
from typing import Any, Self

from dedupstore.cancel import CancelToken
from dedupstore.errors import SourceFailed
from dedupstore.sources.base import NamedStream, Stream
from dedupstore.sources.database_files import TABLES, Texts, file_name, schema_hash
from dedupstore.sources.mysql_client import MysqlClient
from dedupstore.sources.program import Translated

KIND = "mysql"
DUMP = ".sql"

_DUMP = (
    "--single-transaction", "--quick", "--skip-lock-tables", "--routines", "--events", "--triggers", "--hex-blob",
    "--skip-dump-date", "--default-character-set=utf8mb4", "--max-allowed-packet=1G",
)  # fmt: skip
_ONLY_MYSQL = ("--no-tablespaces", "--set-gtid-purged=OFF", "--column-statistics=0")
_SYSTEM = "'mysql', 'information_schema', 'performance_schema', 'sys'"
_TRAILER = b"-- Dump completed"

_ROWS = re.compile(rb"\nINSERT INTO `((?:[^`]|``)*)` VALUES\n")
_BEGIN = b"\nINSERT INTO `"
_END = b";\n"
_LONGEST_BEGIN = 512
"""A name has 64 letters of 4 bytes at most, each of which may be doubled."""


class MysqlSource:
    """The dumps of some databases, one after the other: each of one instant, not all of the same."""

    kind = KIND
    origins: tuple[tuple[bytes, bytes], ...] = ()

    def __init__(
        self, client: MysqlClient, cancel: CancelToken, *, databases: Sequence[str] | str, options: Sequence[str] = ()
    ) -> None:
        self._client = client
        self._cancel = cancel
        self._wanted = databases
        self._options = tuple(options)
        self.details: tuple[tuple[str, str], ...] = ()

    def __enter__(self) -> Self:
        client = self._client
        try:
            client.open(self._cancel)
            with client.explained():
                self._names = self._databases()
        except BaseException:
            client.close()
            raise
        self.details = (
            ("database.type", KIND),
            ("database.format", "sql"),
            ("database.server", client.server),
            ("database.client", client.client),
            ("database.address", client.address),
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def _databases(self) -> tuple[str, ...]:
        if self._wanted == "all":
            return tuple(names(self._client, self._cancel))
        return tuple(self._wanted) or (self._client.database(),)

    def streams(self) -> Generator[NamedStream, None, None]:
        client, cancel = self._client, self._cancel
        flavour = () if client.is_mariadb else _ONLY_MYSQL
        for name in self._names:
            with client.explained():
                document = tables(client, cancel, name)
            file = file_name(name, DUMP)
            program = client.program((*_DUMP, *flavour, *self._options, "--", name), dump=True)
            with program.stream(cancel) as dump:
                counted = CountedRows(Translated(dump, client.explained))
                yield NamedStream(name=file, stream=counted)
            for table in document["tables"]:
                table["rows"] = counted.rows.get(table["name"], 0) if counted.countable else None
            yield NamedStream(name=file + TABLES.encode(), stream=Texts.of(document))


class CountedRows:
    """A dump on its way, with the rows of each table counted; its end can only be read when it is a whole dump.

    Text in a dump has no line breaks of its own (they are escaped), so a row is a line that begins with a bracket.
    """

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._rest = b"\n"
        self._table: str | None = None
        self._tail = b""
        self.rows: dict[str, int] = {}
        self.countable = True
        """Whether the dump has a line for each row: MySQL's own program writes many in one."""

    def readinto(self, view: memoryview, /) -> int:
        count = self._stream.readinto(view)
        if count:
            piece = bytes(view[:count])
            self._tail = (self._tail + piece[-len(_TRAILER) - 64 :])[-len(_TRAILER) - 64 :]
            self._count(self._rest + piece)
        elif _TRAILER not in self._tail and len(view):
            raise SourceFailed(
                "the dump has no end",
                why="its last line is missing, although the program says that it succeeded",
                code="database.dump_incomplete",
            )
        return count

    def _count(self, text: bytes) -> None:
        at = 0
        while True:
            if self._table is None:
                match = _ROWS.search(text, at)
                if match is None:
                    break
                self._table = match[1].replace(b"``", b"`").decode("utf-8", "surrogateescape")
                # The line break before the first row belongs to it.
                at = match.end() - 1
            end = text.find(_END, at)
            stop = end if end >= 0 else len(text)
            self.rows[self._table] = self.rows.get(self._table, 0) + text.count(b"\n(", at, stop)
            if end < 0:
                # A last byte with which a row, or the end of all rows, may begin is looked at again with what follows.
                at = stop - text.endswith((b"\n", b";"))
                break
            self._table = None
            at = end + 1
        if self._table is None:
            begin = text.rfind(_BEGIN, max(at, len(text) - _LONGEST_BEGIN))
            if b"` VALUES (" in text:
                self.countable = False
            at = max(at, begin if begin >= 0 else len(text) - len(_BEGIN))
        self._rest = text[at:]


def names(client: MysqlClient, cancel: CancelToken) -> list[str]:
    """The databases of the server, but for its own. Raises SourceFailed."""
    query = f"SELECT schema_name FROM information_schema.schemata WHERE schema_name NOT IN ({_SYSTEM}) ORDER BY 1"
    return [row[0] for row in client.query(query, cancel)]


def tables(client: MysqlClient, cancel: CancelToken, name: str) -> dict[str, Any]:
    """What a database holds: each table with a hash of its definition, not its rows. Raises SourceFailed."""
    where = f"table_schema = {literal(name)}"
    about = client.query(
        "SELECT default_character_set_name, default_collation_name FROM information_schema.schemata "
        f"WHERE schema_name = {literal(name)}", cancel,
    )  # fmt: skip
    if not about:
        raise SourceFailed(f"the server has no database {name}", hints=["dedup db list"], code="database.unknown")
    found = client.query(
        f"SELECT table_name, engine FROM information_schema.tables WHERE {where} AND table_type = 'BASE TABLE' ORDER BY 1",
        cancel,
    )
    parts: dict[str, list[str]] = {row[0]: [f"engine {row[1]}"] for row in found}
    for query in (
        (
            "SELECT table_name, ordinal_position, column_name, column_type, is_nullable, column_default, extra, "
            f"collation_name FROM information_schema.columns WHERE {where} ORDER BY 1, 2"
        ),
        (
            "SELECT table_name, index_name, seq_in_index, column_name, non_unique, sub_part, index_type "
            f"FROM information_schema.statistics WHERE {where} ORDER BY 1, 2, 3"
        ),
        (
            "SELECT table_name, constraint_name, column_name, referenced_table_name, referenced_column_name "
            f"FROM information_schema.key_column_usage WHERE {where} ORDER BY 1, 2, ordinal_position"
        ),
        (
            "SELECT event_object_table, trigger_name, action_timing, event_manipulation, action_statement "
            f"FROM information_schema.triggers WHERE event_object_schema = {literal(name)} ORDER BY 1, 2"
        ),
    ):
        for table, *values in client.query(query, cancel):
            if table in parts:
                parts[table].append("\t".join(values))
    return {
        "v": 1,
        "type": KIND,
        "server": client.server,
        "database": name,
        "charset": about[0][0],
        "collation": about[0][1],
        "tables": [{"name": table, "rows": None, "schema": schema_hash(parts[table])} for table in sorted(parts)],
    }


def counts(client: MysqlClient, cancel: CancelToken, name: str, found: Sequence[str]) -> dict[str, int]:
    """The rows of some tables, by asking the server. Raises SourceFailed."""
    if not found:
        return {}
    query = " UNION ALL ".join(f"SELECT {literal(table)}, count(*) FROM {quoted(table)}" for table in found)
    return {row[0]: int(row[1]) for row in client.query(query, cancel, name)}


def quoted(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


def literal(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "''") + "'"
