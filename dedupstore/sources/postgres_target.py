"""A PostgreSQL database put back: as a new one first; then, as a step of its own, in place of the one that is used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from dedupstore.cancel import CancelToken
from dedupstore.errors import DedupError, Refused, SourceFailed, TargetFailed
from dedupstore.sources.command import CommandStream
from dedupstore.sources.postgres_client import PostgresClient

_MAINTENANCE = ("postgres", "template1")
_READ_BYTES = 1 << 16
_SWAP_TRIES = 5


class NewPostgresDatabase:
    """A database that is gone again unless all of it was restored. `about`: what was recorded of it (`*.tables.json`)."""

    def __init__(
        self,
        client: PostgresClient,
        name: str,
        about: Mapping[str, Any],
        cancel: CancelToken,
        *,
        tables: Sequence[str] = (),
    ) -> None:
        self._client = client
        self._name = name
        self._about = about
        self._cancel = cancel
        self._tables = tables
        self._finished = False
        self._owner = ""
        self.unset: tuple[str, ...] = ()
        """What the database itself had, and could not be given: settings (`ALTER DATABASE … SET`), its owner."""

        self.ownerless: tuple[str, ...] = ()
        """Roles that do not exist here: everything belongs to who restores, and nothing is granted."""

    def __enter__(self) -> Self:
        client, name = self._client, self._name
        with client.explained():
            self._maintenance = maintenance(client, self._cancel)
            if name in names(client, self._cancel, self._maintenance):
                raise exists(name)
            roles = set(client.query("SELECT rolname FROM pg_roles", self._cancel, self._maintenance))
            self.ownerless = tuple(role for role in self._about.get("roles", ()) if role not in roles)
            self._owner = owner if (owner := self._about.get("owner", "")) in roles else ""
            client.query(
                f"CREATE DATABASE {quoted(name)} TEMPLATE template0{self._locale()}", self._cancel, self._maintenance
            )
        argv = ["pg_restore", "--exit-on-error", "--no-password"]
        if self.ownerless:
            argv += ["--no-owner", "--no-acl"]
        for table in self._tables:
            schema, _, bare = table.rpartition(".")
            argv += [*(("-n", schema) if schema else ()), "-t", bare]
        self._stream: CommandStream = client.program(argv, name).stream(self._cancel, talk=True)
        try:
            self._stream.__enter__()
        except BaseException:
            self._drop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.__exit__(kind, error, trace)
        if not self._finished:
            self._drop()

    def write(self, data: bytes | memoryview) -> None:
        self._stream.send(data)

    def finish(self) -> None:
        """Raises TargetFailed; then there is no new database."""
        self._stream.end_input()
        view = memoryview(bytearray(_READ_BYTES))
        try:
            while self._stream.readinto(view):
                pass
        except SourceFailed as error:
            raise TargetFailed(
                f"{self._name} could not be restored",
                why=error.why,
                hints=[
                    "nothing that was there was touched",
                    "restore it on the same version of the server, or a newer one",
                ],
                code="database.restore_failed",
            ) from error
        self._finished = True
        if not self._tables:
            self._give_settings()

    def _give_settings(self) -> None:
        """No dump brings back what belongs to the database itself. Without its owner, who used it may make no table."""
        name, unset = quoted(self._name), []
        for setting in self._about.get("settings", ()):
            key, _, value = setting.partition("=")
            words = ".".join(map(quoted, key.split(".")))
            # By way of the session: lists, such as a search path, are then not taken for one word.
            steps = f"SELECT set_config({literal(key)}, {literal(value)}, false); ALTER DATABASE {name} SET {words} FROM CURRENT;"
            unset += [] if self._done(steps) else [key]
        if self._owner and not self._done(f"ALTER DATABASE {name} OWNER TO {quoted(self._owner)};"):
            unset.append("owner")
        self.unset = tuple(unset)

    def _done(self, statements: str) -> bool:
        try:
            self._client.script(statements, self._cancel, self._maintenance)
        except SourceFailed:
            return False
        return True

    def _locale(self) -> str:
        about = self._about
        if not about.get("encoding"):
            return ""
        texts = [literal(str(about[key])) for key in ("encoding", "collate", "ctype")]
        return f" ENCODING {texts[0]} LC_COLLATE {texts[1]} LC_CTYPE {texts[2]}"

    def _drop(self) -> None:
        # With a token of its own: what was interrupted is cleaned up all the same.
        self._client.query(f"DROP DATABASE IF EXISTS {quoted(self._name)}", CancelToken(), self._maintenance)


def swap(client: PostgresClient, new: str, live: str, kept: str, cancel: CancelToken) -> None:
    """Give `live` the name `kept` and `new` the name `live`, at once. Sessions of both are ended. Raises Refused, SourceFailed."""
    with client.explained():
        place = maintenance(client, cancel)
        there = names(client, cancel, place)
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


def names(client: PostgresClient, cancel: CancelToken, database: str | None = None) -> list[str]:
    return client.query("SELECT datname FROM pg_database WHERE NOT datistemplate ORDER BY datname", cancel, database)


def exists(name: str) -> Refused:
    return Refused(
        f"there is a database {name}",
        why="a restore never replaces a database",
        hints=[f"choose another name: --as {name}_restored", "and then: dedup db swap"],
        code="database.exists",
    )


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
