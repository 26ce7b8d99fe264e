"""Databases of a MariaDB or MySQL server, by mariadb-dump or mysqldump.

Each database is one dump of its own, without `CREATE DATABASE` and `USE`: it can go into a database of any name. The rows are
counted in the dump itself, so that a restore can be held against them.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from dedupstore.cancel import CancelToken
from dedupstore.errors import SourceFailed
from dedupstore.events import Finding
from dedupstore.sources import mysql_accounts
from dedupstore.sources.base import NamedStream
from dedupstore.sources.beside import Accompanied, Beside
from dedupstore.sources.command import CommandStream
from dedupstore.sources.database_files import GLOBALS, TABLES, Texts, file_name, schema_hash
from dedupstore.sources.mysql_client import MysqlClient, literal, quoted
from dedupstore.sources.mysql_dump import CountedRows
from dedupstore.sources.program import Translated

KIND = "mysql"
DUMP = ".sql"

_DUMP = (
    "--single-transaction", "--quick", "--skip-lock-tables", "--routines", "--events", "--triggers", "--hex-blob",
    "--skip-dump-date", "--default-character-set=utf8mb4", "--max-allowed-packet=1G",
)  # fmt: skip
_ONLY_MYSQL = ("--no-tablespaces", "--set-gtid-purged=OFF", "--column-statistics=0")


class MysqlSource:
    """The dumps of some databases, one after the other: each of one instant, not all of the same."""

    kind = KIND
    origins: tuple[tuple[bytes, bytes], ...] = ()

    def __init__(
        self,
        client: MysqlClient,
        cancel: CancelToken,
        note: Callable[[Finding], None],
        *,
        databases: Sequence[str] | str,
        with_globals: bool,
        options: Sequence[str] = (),
    ) -> None:
        self._client = client
        self._cancel = cancel
        self._note = note
        self._wanted = databases
        self._with_globals = with_globals
        self._options = tuple(options)
        self._names: tuple[str, ...] = ()
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        client = self._client
        try:
            client.find(self._cancel)
            if self._wanted == "all":
                client.guard(self._cancel)
                with client.explained():
                    self._names = tuple(client.names(self._cancel))
            else:
                self._names = tuple(self._wanted) or (client.database(self._cancel),)
            # No dump is begun yet: whoever reads it may have a repository to open first, which can take minutes, and a server
            # cuts off who lets it wait for one (`net_write_timeout`).
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._stack.close()
        finally:
            self._client.close()

    @property
    def details(self) -> tuple[tuple[str, str], ...]:
        client = self._client
        return (
            ("database.type", KIND),
            ("database.format", "sql"),
            ("database.server", client.server),
            ("database.client", client.client),
            ("database.address", client.address),
        )

    def streams(self) -> Generator[NamedStream, None, None]:
        accounts = ""
        for number, name in enumerate(self._names):
            begun = self._begun(name, first=not number)
            counted = CountedRows(Translated(Accompanied(begun.dump, begun.asked), self._client.explained))
            yield NamedStream(name=file_name(name, DUMP), stream=counted)
            answers = begun.asked.answer()
            self._stack.close()
            for finding in answers.findings:
                self._note(finding)
            for table in answers.document["tables"]:
                table["rows"] = counted.rows.get(table["name"], 0) if counted.countable else None
            yield NamedStream(name=file_name(name, DUMP) + TABLES.encode(), stream=Texts.of(answers.document))
            accounts = accounts or answers.accounts
        if not self._names and self._with_globals:
            accounts = self._accounts_alone()
        if accounts:
            yield NamedStream(name=GLOBALS, stream=Texts(iter((accounts,))))

    def _begun(self, name: str, *, first: bool) -> _Begun:
        """The dump of a database, and beside it the questions: the server answers them while the dump is on its way."""
        client = self._client
        flavour = () if client.is_mariadb else _ONLY_MYSQL
        program = client.program((*_DUMP, *flavour, *self._options, "--", name), dump=True)
        dump = self._stack.enter_context(program.stream(self._cancel))
        asked = self._stack.enter_context(Beside(lambda token: self._asked(name, token, first=first), self._cancel))
        return _Begun(dump, asked)

    def _asked(self, name: str, cancel: CancelToken, *, first: bool) -> _Answers:
        client = self._client
        if first:
            client.guard(cancel)
        with client.explained(), client.session(cancel):
            if first:
                client.identify(cancel)
            document = tables(client, cancel, name)
            findings = [_unprotected(name, *row) for row in unprotected(client, cancel, name)]
            accounts = self._accounts(cancel, findings) if first and self._with_globals else ""
        return _Answers(document, findings, accounts)

    def _accounts_alone(self) -> str:
        """Of a server that has no databases yet."""
        client, findings = self._client, list[Finding]()
        with client.explained(), client.session(self._cancel):
            client.identify(self._cancel)
            accounts = self._accounts(self._cancel, findings)
        for finding in findings:
            self._note(finding)
        return accounts

    def _accounts(self, cancel: CancelToken, findings: list[Finding]) -> str:
        """The text of all users and rights; empty, and told, when who dumps may not see them."""
        try:
            with self._client.explained():
                return mysql_accounts.statements(self._client, cancel)
        except SourceFailed as error:
            if error.code != "database.missing_rights":
                raise
            message = (
                f"users and their rights are not kept: {error.why}; {error.hints[0]}, or globals = false for the source"
            )
            findings.append(Finding(code="database.no_globals", message=message, severity="note"))
            return ""


@dataclass(frozen=True, slots=True)
class _Answers:
    """What the server says of a database: of its tables all but their rows; of the first one also of all accounts."""

    document: dict[str, Any]
    findings: list[Finding]
    accounts: str


@dataclass(frozen=True, slots=True)
class _Begun:
    dump: CommandStream
    asked: Beside[_Answers]


def _unprotected(name: str, table: str, engine: str) -> Finding:
    return Finding(
        code="database.unprotected",
        message=f"{name}.{table} is a table of {engine}: it is not of the same instant as the others, and not "
        "even of one when somebody writes to it",
        severity="note",
    )


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


def unprotected(client: MysqlClient, cancel: CancelToken, name: str) -> list[tuple[str, str]]:
    """The tables that a transaction does not protect, each with its engine. Raises SourceFailed."""
    found = client.query(
        "SELECT t.table_name, t.engine FROM information_schema.tables t LEFT JOIN information_schema.engines e "
        f"ON e.engine = t.engine WHERE t.table_schema = {literal(name)} AND t.table_type = 'BASE TABLE' "
        "AND coalesce(e.transactions, 'NO') <> 'YES' ORDER BY 1",
        cancel,
    )
    return [(row[0], row[1]) for row in found]


def counts(client: MysqlClient, cancel: CancelToken, name: str, found: Sequence[str]) -> dict[str, int]:
    """The rows of some tables, by asking the server. Raises SourceFailed."""
    if not found:
        return {}
    query = " UNION ALL ".join(f"SELECT {literal(table)}, count(*) FROM {quoted(table)}" for table in found)
    return {row[0]: int(row[1]) for row in client.query(query, cancel, name)}
