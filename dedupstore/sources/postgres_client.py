"""PostgreSQL's own programs, told where the server is, and their complaints in our words."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from dedupstore.cancel import CancelToken
from dedupstore.errors import SourceFailed
from dedupstore.sources.postgres_database import literal
from dedupstore.sources.program import Program, answer, inside, secret_file, text_of, version_of

_CONNECT_SECONDS = "15"
_QUERY = ("psql", "-XAtqw", "-v", "ON_ERROR_STOP=1")
_RIGHTS_FOR_ALL = 14
"""The first version that has the role pg_read_all_data."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Versions:
    """As the server and pg_dump call theirs: 15.4."""

    server: str
    client: str
    database: str
    """The one of the address: told with the server's version, because each question starts a program."""


class PostgresClient:
    """One server, and who asks it. `address` is a URL without a password; open it before anything is asked."""

    def __init__(self, address: str, password: str, exec_prefix: Sequence[str], environ: Mapping[str, str]) -> None:
        self._parts = urlsplit(address)
        self.address = address
        self._password = password
        self._exec = tuple(exec_prefix)
        self._environ = {"PGCONNECT_TIMEOUT": _CONNECT_SECONDS, **environ, "LC_ALL": "C", "LC_MESSAGES": "C"}
        self._stack = ExitStack()
        self._fds: tuple[int, ...] = ()
        self._server: tuple[int, ...] = ()

    def open(self, cancel: CancelToken) -> None:
        """Have the password at hand. Nothing is asked yet."""
        if not self._password or self._exec:
            return
        escaped = re.sub(r"([:\\])", r"\\\1", self._password)
        fd = self._stack.enter_context(secret_file(f"*:*:*:*:{escaped}\n".encode()))
        self._fds = (fd,)
        # A password of the environment would win against the file.
        rest = {name: value for name, value in self._environ.items() if name != "PGPASSWORD"}
        self._environ = {**rest, "PGPASSFILE": f"/dev/fd/{fd}"}

    def close(self) -> None:
        self._stack.close()

    @property
    def user(self) -> str:
        return unquote(self._parts.username or "") or self._environ.get("PGUSER", "") or "CURRENT_USER"

    def program(self, argv: Sequence[str], database: str | None = None) -> Program:
        """One of the programs, for a database; for the one of the address when none is named."""
        words, first = inside(
            self._exec, (*argv, "-d", self._address(database)), "PGPASSWORD", self._password if self._exec else ""
        )
        return Program(argv=words, env=self._environ, fds=self._fds, first=first)

    def query(self, sql: str, cancel: CancelToken, database: str | None = None) -> list[str]:
        """The rows of an answer, values joined by `|`. Raises SourceFailed."""
        program = self.program((*_QUERY, "-c", sql), database)
        return [line for line in answer(program, cancel).split("\n") if line]

    def texts(self, sql: str, cancel: CancelToken, database: str | None = None) -> list[str]:
        """The answer to what asks for one column of texts, which may have line breaks. Raises SourceFailed."""
        return [
            json.loads(line) for line in self.query(f"SELECT to_json(x::text) FROM ({sql}) q (x)", cancel, database)
        ]

    def script(self, sql: str, cancel: CancelToken, database: str) -> None:
        """Several statements, each by itself, in one session. Raises SourceFailed."""
        program = self.program(_QUERY, database)
        answer(replace(program, first=program.first + sql.encode()), cancel)

    def names(self, cancel: CancelToken, database: str | None = None) -> list[str]:
        """The databases of the server, asked in `database`. Raises SourceFailed."""
        return self.texts("SELECT datname FROM pg_database WHERE NOT datistemplate ORDER BY datname", cancel, database)

    def dumpable(self, cancel: CancelToken) -> list[str]:
        """Those that let anybody connect. Raises SourceFailed."""
        return self.texts(
            "SELECT datname FROM pg_database WHERE datallowconn AND NOT datistemplate ORDER BY datname", cancel
        )

    def database(self, cancel: CancelToken) -> str:
        """The one of the address. Raises SourceFailed."""
        return self.texts("SELECT current_database()", cancel)[0]

    def versions(self, cancel: CancelToken) -> Versions:
        """Raises SourceFailed when pg_dump is too old for the server."""
        bare = Program(argv=(*self._exec, "pg_dump", "--version"), env=self._environ)
        with bare.stream(cancel) as stream:
            asked = "SELECT json_build_array(current_setting('server_version'), current_database())"
            version, database = json.loads(self.query(asked, cancel)[0])
            client = text_of(stream, "pg_dump").strip().split("(PostgreSQL)")[-1].strip().split(" ")[0]
        server = version.split(" ")[0]
        self._server = version_of(f"{server}.0")
        if version_of(f"{client}.0")[:1] < self._server[:1]:
            raise SourceFailed(
                f"pg_dump {client} cannot dump server {server}",
                why="pg_dump must be at least as new as the server",
                hints=[
                    'run it where the server is:  exec = ["docker", "compose", "exec", "-T", "db"]',
                    f"or install postgresql-client-{self._server[0]}",
                ],
                code="database.client_too_old",
            )
        return Versions(server=server, client=client, database=database)

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Failures of the programs in words that say what to do."""
        try:
            yield
        except SourceFailed as error:
            if error.code not in ("source.command_failed", "source.command_not_started"):
                raise
            raise self._explain(error) from error

    def _address(self, database: str | None) -> str:
        if database is None:
            return self.address
        # A database named behind the question mark would win against the one in the path.
        others = [pair for pair in parse_qsl(self._parts.query, keep_blank_values=True) if pair[0] != "dbname"]
        query = urlencode(others, quote_via=quote)
        # Put together by hand: urlunsplit leaves out the slashes where no host is named.
        address = f"{self._parts.scheme}://{self._parts.netloc}/{quote(database, safe='')}"
        return f"{address}?{query}" if query else address

    def _explain(self, error: SourceFailed) -> SourceFailed:
        if error.code == "source.command_not_started":
            return SourceFailed(
                error.message,
                why=error.why,
                hints=["apt-get install postgresql-client", 'or run it where the server is:  exec = ["docker", …]'],
                code="database.no_client",
            )
        why = error.why
        for pattern, message, code, hints in self._known(why):
            if re.search(pattern, why):
                return SourceFailed(message, why=why, hints=hints, code=code)
        return error

    def _known(self, why: str) -> list[tuple[str, str, str, list[str]]]:
        where = self._parts.hostname or "the local server"
        user = self.user if self.user == "CURRENT_USER" else '"' + self.user.replace('"', '""') + '"'
        grant = (
            f"GRANT pg_read_all_data TO {user};"
            if not self._server or self._server[0] >= _RIGHTS_FOR_ALL
            else f"GRANT USAGE ON SCHEMA public TO {user}; GRANT SELECT ON ALL TABLES IN SCHEMA public TO {user};"
        )
        large = f"SELECT 'GRANT SELECT ON LARGE OBJECT ' || oid || {literal(f' TO {user}')} FROM pg_largeobject_metadata \\gexec"
        closed = re.search('permission denied for database "(.+)"', why)
        return [
            (
                "User does not have CONNECT privilege",
                f"{self.user} may not connect to this database",
                "database.missing_rights",
                [f'as a superuser: GRANT CONNECT ON DATABASE "{closed[1]}" TO {user};' if closed else ""],
            ),
            (
                "password authentication failed|no password supplied|authentication failed|pg_hba.conf",
                f"{where} does not let {self.user} in",
                "database.login_failed",
                ['password = "file:/etc/dedup/db.pass" in the configuration', "or a line in ~/.pgpass"],
            ),
            (
                "permission denied for large object",
                f"{self.user} may not read the large objects",
                "database.missing_rights",
                [
                    f"in psql, in this database, as a superuser: {large}",
                    'those made later need it again; or leave all of them out: options = ["--no-blobs"]',
                ],
            ),
            (
                "permission denied to create database",
                f"{self.user} may not make databases",
                "database.missing_rights",
                [f"as a superuser: ALTER ROLE {user} CREATEDB;", "or name one who may: --target ADDRESS"],
            ),
            (
                "permission denied to rename database|must be owner of database|process is being terminated|to terminate process",
                f"{self.user} may not rename this database and end its sessions",
                "database.missing_rights",
                ["swap as its owner, who may make databases, or as a superuser: dedup db swap ADDRESS NEW"],
            ),
            (
                "permission denied|must be (owner|superuser|member)",
                f"{self.user} may not read everything",
                "database.missing_rights",
                [f"as a superuser: {grant}"],
            ),
            (
                "row-level security|row security",
                f"{self.user} would see only some rows",
                "database.missing_rights",
                [f"as a superuser: ALTER ROLE {user} BYPASSRLS;"],
            ),
            ('database ".*" does not exist', f"{where} has no such database", "database.unknown", ["dedup db list"]),
            (
                "server version mismatch",
                "pg_dump is older than the server",
                "database.client_too_old",
                ["install the client programs of the server's version"],
            ),
            (
                "lock timeout",
                "somebody keeps a table locked",
                "database.locked",
                ["see who: SELECT * FROM pg_stat_activity"],
            ),
            (
                "terminating connection|server closed the connection|no connection to the server",
                f"the connection to {where} ended",
                "database.session_ended",
                ["see the server's log: was it stopped, or the connection ended by somebody?"],
            ),
            (
                "could not connect|[Cc]onnection refused|could not translate|timeout expired|connection to server",
                f"no connection to {where}",
                "database.unreachable",
                ["is it running?  pg_isready", "check host and port of the address"],
            ),
        ]
