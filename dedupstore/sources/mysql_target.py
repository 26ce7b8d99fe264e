"""A MariaDB or MySQL database put back: as a new one first; then, as a step of its own, in place of the one that is used."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from dedupstore.cancel import CancelToken
from dedupstore.errors import Refused, SourceFailed, TargetFailed
from dedupstore.sources.mysql_client import MysqlClient, complaint, literal, quoted
from dedupstore.sources.new_database import NewServerDatabase, exists
from dedupstore.sources.program import Program

_FASTER = "--init-command=SET SESSION FOREIGN_KEY_CHECKS=0, UNIQUE_CHECKS=0"
_NOT_TAKEN = re.compile(r"need \(at least one of\) the .*(SET USER|SET_USER_ID|SET_ANY_DEFINER)")


class NewMysqlDatabase(NewServerDatabase):
    """`about`: what was recorded of it (`*.tables.json`)."""

    hint = "restore it with the client of the server's version"

    def __init__(self, client: MysqlClient, name: str, about: Mapping[str, Any], cancel: CancelToken) -> None:
        super().__init__(name, cancel)
        self._client = client
        self._about = about

    def _create(self) -> Program:
        client, name, about = self._client, self._name, self._about
        client.require_guarded()
        with client.explained():
            if name in client.names(self._cancel):
                raise exists(name)
            charset = ""
            if about.get("charset"):
                charset = f" CHARACTER SET {literal(about['charset'])} COLLATE {literal(about['collation'])}"
        with client.explained(f"ALL ON {quoted(name)}.*"):
            client.query(f"CREATE DATABASE {quoted(name)}{charset}", self._cancel)
        return client.program(["--max-allowed-packet=1G", _FASTER, "--", name])

    def _failed(self, error: SourceFailed) -> TargetFailed:
        error.why = complaint(error.why)
        if _NOT_TAKEN.search(error.why) is None:
            return super()._failed(error)
        return TargetFailed(
            f"{self._client.user} may not make what acts in the name of others",
            why=error.why,
            hints=[
                "let who restores be the definer of everything: --no-owners",
                "or restore as one who may: GRANT SET USER ON *.* (MySQL: SET_USER_ID)",
            ],
            code="database.owner_refused",
        )

    def _drop(self, cancel: CancelToken) -> None:
        self._client.query(f"DROP DATABASE IF EXISTS {quoted(self._name)}", cancel)


def swap(client: MysqlClient, new: str, live: str, kept: str, cancel: CancelToken) -> None:
    """Move the tables of `live` into a database `kept`, and those of `new` into `live`, in one statement.

    Raises Refused for a database with more than tables: the server cannot move the rest.
    """
    with client.explained("ALTER, CREATE, DROP, INSERT ON *.*"):
        there = client.names(cancel)
        for name in (new, live):
            if name not in there:
                raise Refused(f"there is no database {name}", hints=["dedup db list"])
            _require_only_tables(client, name, cancel)
        if kept in there:
            raise exists(kept)
        moves = [(live, table, kept) for table in _tables(client, live, cancel)]
        moves += [(new, table, live) for table in _tables(client, new, cancel)]
        if not moves:
            raise Refused(f"{new} and {live} have no tables")
        client.query(f"CREATE DATABASE {quoted(kept)}", cancel)
        steps = ", ".join(f"{quoted(a)}.{quoted(table)} TO {quoted(b)}.{quoted(table)}" for a, table, b in moves)
        try:
            client.query(f"RENAME TABLE {steps}", cancel)
        except SourceFailed:
            _drop_empty(client, kept)
            raise
        _drop_empty(client, new)


def _drop_empty(client: MysqlClient, name: str) -> None:
    """A database without tables. One with tables stays: a statement whose end nobody saw may still have moved them."""
    if not _tables(client, name, CancelToken()):
        client.query(f"DROP DATABASE {quoted(name)}", CancelToken())


def _tables(client: MysqlClient, name: str, cancel: CancelToken) -> list[str]:
    query = f"SELECT table_name FROM information_schema.tables WHERE table_schema = {literal(name)} ORDER BY 1"
    return [row[0] for row in client.query(query, cancel)]


def _require_only_tables(client: MysqlClient, name: str, cancel: CancelToken) -> None:
    where = literal(name)
    found = client.query(
        f"SELECT 'view', table_name FROM information_schema.views WHERE table_schema = {where} "
        f"UNION ALL SELECT 'trigger', trigger_name FROM information_schema.triggers WHERE trigger_schema = {where} "
        f"UNION ALL SELECT 'routine', routine_name FROM information_schema.routines WHERE routine_schema = {where} "
        f"UNION ALL SELECT 'event', event_name FROM information_schema.events WHERE event_schema = {where}",
        cancel,
    )
    if found:
        raise Refused(
            f"the database {name} cannot be moved",
            why=f"it has the {found[0][0]} {found[0][1]}, and the server moves tables only",
            hints=["tell the program that uses it the new name instead"],
            code="database.not_movable",
        )
