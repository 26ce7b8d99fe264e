"""A MariaDB or MySQL database put back, as a new one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dedupstore.cancel import CancelToken
from dedupstore.errors import SourceFailed, TargetFailed
from dedupstore.sources.mysql_client import NOT_TAKEN, MysqlClient, complaint, literal, quoted
from dedupstore.sources.new_database import NewServerDatabase, exists
from dedupstore.sources.program import Program

_FASTER = "--init-command=SET SESSION FOREIGN_KEY_CHECKS=0, UNIQUE_CHECKS=0"


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
        if NOT_TAKEN.search(error.why) is None:
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
