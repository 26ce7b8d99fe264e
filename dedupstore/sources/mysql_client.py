"""The programs of MariaDB or MySQL, told where the server is, and their complaints in our words."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from urllib.parse import parse_qs, unquote, urlsplit

from dedupstore.cancel import CancelToken
from dedupstore.errors import SourceFailed, UsageError
from dedupstore.sources.program import Program, Talk, answer, inside, secret_file, version_of

_CONNECT_SECONDS = 15
_ROWS = (f"--connect-timeout={_CONNECT_SECONDS}", "--batch", "--skip-column-names")
_ESCAPES = {"0": "\0", "n": "\n", "t": "\t", "\\": "\\"}
_DUMPERS = ("mariadb-dump", "mysqldump")
_CLIENTS = {"mariadb-dump": "mariadb", "mysqldump": "mysql"}
_SYSTEM = "'mysql', 'information_schema', 'performance_schema', 'sys'"
_OPTIONS = frozenset(("socket",))
_MAY_READ = "SELECT, SHOW VIEW, TRIGGER, EVENT, LOCK TABLES ON *.*"

NOT_TAKEN = re.compile(r"need \(at least one of\) the .*(SET USER|SET_USER_ID|SET_ANY_DEFINER)")
"""Said to who may not make anything in another's name."""

_BINARY = "--binary-mode"
_NO_COMMANDS = (_BINARY, "--sandbox", "--skip-system-command")
"""Options by which the client takes statements only. The first, of MySQL 5.6 and MariaDB 10.0, is needed: no command but
`delimiter` and `\\C` is known then. The others, of some newer versions, say the same once more.
"""


class MysqlClient:
    """One server, and who asks it. `address` is a URL without a password; open it before anything is asked."""

    def __init__(self, address: str, password: str, exec_prefix: Sequence[str], environ: Mapping[str, str]) -> None:
        parts = urlsplit(address)
        query = parse_qs(parts.query)
        unknown = sorted(query.keys() - _OPTIONS)
        if unknown:
            raise UsageError(f"the address of a MySQL server has no {unknown[0]}", hints=["?socket=PATH"])
        self.address = address
        self.user = unquote(parts.username or "")
        self.named = unquote(parts.path.removeprefix("/"))
        """The database of the address, if there is one."""
        self._password = password
        self._exec = tuple(exec_prefix)
        self._environ = {**environ, "LC_ALL": "C"}
        self._settings = {
            "host": parts.hostname or "",
            "port": str(parts.port or ""),
            "user": self.user,
            "socket": query.get("socket", [""])[0],
        }
        self._stack = ExitStack()
        self._fds: tuple[int, ...] = ()
        self.dumper = ""
        self.version: tuple[int, ...] = ()
        self.client = ""
        self.server = ""
        self._guards: tuple[str, ...] | None = None
        self._talk: Talk | None = None
        self._account = ""
        """As the server calls who asks: user@host, where the host is a pattern."""

    def open(self, cancel: CancelToken) -> None:
        """Find the programs, and ask the server for its version. Raises SourceFailed; close it then, too."""
        self.find(cancel)
        self.guard(cancel)
        with self.explained():
            self.identify(cancel)

    def find(self, cancel: CancelToken) -> None:
        """Find the programs: dumps can be started then. Raises SourceFailed; close it then, too."""
        if not self._exec:
            settings = {**self._settings, "password": self._password}
            lines = [f"{name}={_in_file(value)}" for name, value in settings.items() if value]
            text = "\n".join([*self._usual_files(), "[client]", *lines, ""])
            self._fds = (self._stack.enter_context(secret_file(text.encode())),)
        self._find_programs(cancel)

    def guard(self, cancel: CancelToken) -> None:
        """Find out how the client is kept from commands and from files of this machine: nothing is asked before. Raises SourceFailed.

        It sends a file (`LOAD DATA LOCAL`) whenever a statement, or the server, wants one.
        """
        if self._guards is not None:
            return
        words = (*self._exec, _CLIENTS[self.dumper], "--no-defaults", "--help")
        text = answer(Program(argv=words, env=self._environ), cancel)
        # MySQL lists the option by its positive name.
        known = {word.replace("--skip-", "--") for word in re.findall(r"--[a-z-]+", text)}
        self._guards = ("--local-infile=0", *(word for word in _NO_COMMANDS if word.replace("--skip-", "--") in known))

    def identify(self, cancel: CancelToken) -> None:
        """Ask the server who it is, and whom it takes us for. Raises SourceFailed."""
        self.server, self._account = self.query("SELECT version(), current_user()", cancel)[0]

    def close(self) -> None:
        self._stack.close()

    @property
    def is_mariadb(self) -> bool:
        """Of the programs, not of the server."""
        return "MariaDB" in self.client

    def program(self, words: Sequence[str], *, dump: bool = False) -> Program:
        """mariadb or mariadb-dump, as this machine calls them."""
        name = self.dumper if dump else _CLIENTS[self.dumper]
        if not dump:
            if self._guards is None:
                raise ValueError("the client is not guarded yet")
            # Without a character set it takes names as the locale has them, and in a plain one most letters are lost.
            words = (*self._guards, "--default-character-set=utf8mb4", *words)
        if self._exec:
            options = [f"--{key}={value}" for key, value in self._settings.items() if value]
            argv, first = inside(self._exec, (name, *options, *words), "MYSQL_PWD", self._password)
            return Program(argv=argv, env=self._environ, first=first)
        file = f"--defaults-file=/dev/fd/{self._fds[0]}"
        return Program(argv=(name, file, *words), env=self._environ, fds=self._fds)

    def query(self, sql: str, cancel: CancelToken, database: str = "") -> list[list[str]]:
        """The rows of an answer. NULL is the text NULL. Raises SourceFailed."""
        try:
            if self._talk is not None and not database:
                lines = self._talk.ask(f"{sql};")
            else:
                words = [*_ROWS, f"--execute={sql}", *(("--", database) if database else ())]
                lines = answer(self.program(words), cancel).split("\n")
        except SourceFailed as error:
            error.why = complaint(error.why)
            raise
        return [[_unescaped(value) for value in line.split("\t")] for line in lines if line]

    @contextmanager
    def session(self, cancel: CancelToken) -> Iterator[None]:
        """One connection for all that is asked inside, of no database, by one thread. After a failure nothing more can be asked."""
        with self.program((*_ROWS, "--unbuffered")).stream(cancel, talk=True) as stream:
            self._talk = Talk(stream, "SELECT '{}';")
            try:
                yield
            finally:
                self._talk = None

    def script(self, sql: str, cancel: CancelToken, database: str = "") -> None:
        """Several statements, in one session, until one fails. Raises SourceFailed."""
        program = self.program(["--max-allowed-packet=1G", "--", *([database] if database else [])])
        try:
            answer(replace(program, first=program.first + sql.encode("utf-8", "surrogateescape")), cancel)
        except SourceFailed as error:
            error.why = complaint(error.why)
            raise

    @property
    def account(self) -> str:
        """Who asks, as GRANT wants it."""
        account = self._account or f"{self.user}@%"
        return "'{}'@'{}'".format(*account.rpartition("@")[::2])

    def require_guarded(self) -> None:
        """Before the client is given text that a repository holds. Raises SourceFailed when it would obey commands in it."""
        if _BINARY not in (self._guards or ()):
            raise SourceFailed(
                f"{_CLIENTS[self.dumper]} is too old to be given a dump",
                why=f"without {_BINARY} a manipulated dump could run commands on this machine",
                hints=["apt-get install mariadb-client", 'or run it where the server is:  exec = ["docker", …]'],
                code="database.client_too_old",
            )

    def names(self, cancel: CancelToken) -> list[str]:
        """The databases of the server, but for its own. Raises SourceFailed."""
        query = f"SELECT schema_name FROM information_schema.schemata WHERE schema_name NOT IN ({_SYSTEM}) ORDER BY 1"
        return [row[0] for row in self.query(query, cancel)]

    def database(self, cancel: CancelToken) -> str:
        """The one of the address. Raises UsageError when it names none."""
        if not self.named:
            raise UsageError(
                "the address names no database", hints=['databases = "all"', "mysql://user@host:3306/DATABASE"]
            )
        return self.named

    @contextmanager
    def explained(self, rights: str = _MAY_READ) -> Iterator[None]:
        """Failures of the programs in words that say what to do. `rights`: what has to be granted for what is done."""
        try:
            yield
        except SourceFailed as error:
            if error.code != "source.command_failed":
                raise
            raise self._explain(error, rights) from error

    def _usual_files(self) -> Iterator[str]:
        """What the programs read when nothing is said to them. What comes last counts: `--defaults-extra-file` is
        read before the file in the home directory, whose user and password would be taken instead of ours.
        """
        home = self._environ.get("HOME", "")
        for path in ("/etc/my.cnf", "/etc/mysql/my.cnf", *([f"{home}/.my.cnf"] if home else ())):
            # One with a line break in its name would be more than one line here.
            if "\n" not in path:
                yield f"!include {path}"

    def _find_programs(self, cancel: CancelToken) -> None:
        error: SourceFailed | None = None
        for name in _DUMPERS:
            try:
                text = answer(Program(argv=(*self._exec, name, "--version"), env=self._environ), cancel)
            except SourceFailed as failed:
                error = failed
                continue
            self.dumper, self.client = name, text.strip()
            # "mariadb-dump  Ver 10.19 Distrib 10.11.6-MariaDB": the later one is that of the server it came with.
            self.version = version_of(text.partition("Distrib")[2] or text)
            return
        assert error is not None
        raise SourceFailed(
            "there is no program to dump MariaDB or MySQL",
            why=error.why,
            hints=["apt-get install mariadb-client", 'or run it where the server is:  exec = ["docker", …]'],
            code="database.no_client",
        ) from error

    def _explain(self, error: SourceFailed, rights: str) -> SourceFailed:
        where = self._settings["host"] or self._settings["socket"] or "the local server"
        user = self.user or "this user"
        known = (
            (
                "Access denied for user .*using password",
                f"{where} does not let {user} in",
                "database.login_failed",
                ['password = "file:/etc/dedup/db.pass" in the configuration'],
            ),
            (
                "max_user_connections|Too many connections",
                f"{where} gives {user} no further connection",
                "database.unreachable",
                [f"two at a time are needed: ALTER USER {self.account} WITH MAX_USER_CONNECTIONS 2;"],
            ),
            (
                "denied|privilege",
                f"{user} may not {'read everything' if rights == _MAY_READ else 'do this'}",
                "database.missing_rights",
                [f"as root: GRANT {rights} TO {self.account};"],
            ),
            (
                r"Unknown database '.*\\'",
                f"{self.dumper} cannot dump the events of a database with an apostrophe in its name",
                "database.not_dumpable",
                ['leave them out: options = ["--skip-events"]', "or give the database another name"],
            ),
            ("Unknown database", f"{where} has no such database", "database.unknown", ["dedup db list"]),
            (
                "Table definition has changed",
                "a table was altered while it was dumped",
                "database.altered",
                ["take the snapshot again when nobody alters tables"],
            ),
            (
                "Lost connection|gone away|Connection was killed|execution was interrupted",
                f"the connection to {where} ended",
                "database.session_ended",
                ["see the server's log: was it stopped, or the connection killed?"],
            ),
            (
                "Can't connect|Unknown (MySQL |MariaDB )?server host|Connection refused",
                f"no connection to {where}",
                "database.unreachable",
                ["is it running?", "check host, port and socket of the address"],
            ),
        )
        for pattern, message, code, hints in known:
            if re.search(pattern, error.why):
                return SourceFailed(message, why=error.why, hints=hints, code=code)
        return error


def _in_file(value: str) -> str:
    """As an option file wants it: a `#` or a space would end the value."""
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def complaint(text: str) -> str:
    """What a client says, without the statement that it repeats before."""
    return text[max(text.rfind("\nERROR "), -1) + 1 :]


def _unescaped(value: str) -> str:
    return re.sub(r"\\(.)", lambda match: _ESCAPES.get(match[1], match[1]), value)


def quoted(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


def literal(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "''") + "'"
