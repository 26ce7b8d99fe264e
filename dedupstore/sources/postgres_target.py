"""A PostgreSQL database put back: as a new one first; then, as a step of its own, in place of the one that is used."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from dedupstore.cancel import CancelToken
from dedupstore.errors import DedupError, Refused, SourceFailed, TargetFailed
from dedupstore.sources.new_database import NewServerDatabase, exists
from dedupstore.sources.postgres_client import PostgresClient
from dedupstore.sources.postgres_database import created_as, given, literal, quoted, without_roles
from dedupstore.sources.program import Program

_MAINTENANCE = ("postgres", "template1")
_SWAP_TRIES = 5
_NOT_TAKEN = re.compile('must be (?:a )?member of role "(.+)"|must be able to SET ROLE "(.+)"')


class NewPostgresDatabase(NewServerDatabase):
    """`about`: what was recorded of it (`*.tables.json`). Without `owners` all of it belongs to who restores, and nobody else
    is given a right to it.
    """

    hint = "restore it on the same version of the server, or a newer one"

    def __init__(
        self,
        client: PostgresClient,
        name: str,
        about: Mapping[str, Any],
        cancel: CancelToken,
        *,
        tables: Sequence[str] = (),
        owners: bool = True,
    ) -> None:
        super().__init__(name, cancel)
        self._client = client
        self._about = about if owners else without_roles(about)
        self._owners = owners
        self._tables = tables
        self._roles: frozenset[str] = frozenset()
        self.unset: tuple[str, ...] = ()
        """What the database itself had, and could not be given: settings (`ALTER DATABASE … SET`), its owner, grants on it."""

        self.ownerless: tuple[str, ...] = ()
        """Roles that do not exist here: everything belongs to who restores, and nothing is granted."""

    def _create(self) -> Program:
        client, name = self._client, self._name
        with client.explained():
            self._maintenance = maintenance(client, self._cancel)
            if name in client.names(self._cancel, self._maintenance):
                raise exists(name)
            self._roles = frozenset(client.texts("SELECT rolname FROM pg_roles", self._cancel, self._maintenance))
            self.ownerless = tuple(role for role in self._about.get("roles", ()) if role not in self._roles)
            version = int(client.query("SHOW server_version_num", self._cancel, self._maintenance)[0])
            locale = created_as(self._about, version)
            client.query(f"CREATE DATABASE {quoted(name)} TEMPLATE template0{locale}", self._cancel, self._maintenance)
        argv = ["pg_restore", "--exit-on-error", "--no-password"]
        if self.ownerless or not self._owners:
            argv += ["--no-owner", "--no-acl"]
        for table in self._tables:
            schema, _, bare = table.rpartition(".")
            argv += [*(("-n", schema) if schema else ()), "-t", bare]
        return client.program(argv, name)

    def give(self) -> None:
        """What belongs to the database itself, last of all: who restored it may not be let in by it. See `unset`.

        No dump brings these back. Without its owner, who used the database may make no table in it. Nothing is given to one
        with single tables.
        """
        if self._tables:
            return
        unset = []
        for what, statements in given(self._about, self._name, self._roles):
            if not statements or not self._done(statements):
                unset.append(what)
        self.unset = tuple(unset)

    def _done(self, statements: str) -> bool:
        try:
            self._client.script(statements, self._cancel, self._maintenance)
        except SourceFailed:
            return False
        return True

    def _prepare(self) -> None:
        # Asked for single tables, pg_restore leaves out the schemas that they are in.
        for schema in sorted({table.rpartition(".")[0] for table in self._tables} - {"", "public"}):
            with self._client.explained():
                self._client.query(f"CREATE SCHEMA {quoted(schema)}", self._cancel, self._name)

    def _failed(self, error: SourceFailed) -> TargetFailed:
        refused = _NOT_TAKEN.search(error.why)
        if refused is None:
            return super()._failed(error)
        return TargetFailed(
            f"{self._client.user} may not give anything to {refused[1] or refused[2]}, whom it belonged to",
            why=error.why,
            hints=[
                "let all of it belong to who restores: --no-owners",
                "or restore as a superuser, or a member of that role: --target ADDRESS",
            ],
            code="database.owner_refused",
        )

    def _drop(self, cancel: CancelToken) -> None:
        self._client.query(f"DROP DATABASE IF EXISTS {quoted(self._name)}", cancel, self._maintenance)


def swap(client: PostgresClient, new: str, live: str, kept: str, cancel: CancelToken) -> None:
    """Give `live` the name `kept` and `new` the name `live`, at once. Sessions of both are ended. Raises Refused, SourceFailed."""
    with client.explained():
        place = maintenance(client, cancel)
        there = client.names(cancel, place)
        for name in (new, live):
            if name not in there:
                raise Refused(f"there is no database {name}", hints=["dedup db list"])
        if kept in there:
            raise exists(kept)
    both = f"{literal(new)}, {literal(live)}"
    statements = (
        f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname IN ({both}) AND pid <> pg_backend_pid();"
        "SELECT pg_sleep(0.1);"
        f"BEGIN; ALTER DATABASE {quoted(live)} RENAME TO {quoted(kept)};"
        f"ALTER DATABASE {quoted(new)} RENAME TO {quoted(live)}; COMMIT;"
    )
    last: DedupError | None = None
    for _ in range(_SWAP_TRIES):
        try:
            # Whoever is ended connects again at once: a few tries find a moment without anybody.
            client.script(statements, cancel, place)
        except SourceFailed as error:
            if "being accessed" not in error.why:
                with client.explained():
                    raise
            last = error
        else:
            return
    raise Refused(
        f"the database {live} is in use",
        why=last.why if last is not None else "",
        hints=["stop the program that uses it, and swap again"],
        code="database.in_use",
    )


def maintenance(client: PostgresClient, cancel: CancelToken) -> str:
    """A database that is not the one which is worked on."""
    error: SourceFailed | None = None
    for name in _MAINTENANCE:
        try:
            client.query("SELECT 1", cancel, name)
        except SourceFailed as failed:
            error = failed
        else:
            return name
    assert error is not None
    raise error
