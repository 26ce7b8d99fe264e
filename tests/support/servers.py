"""Database servers of our own: a PostgreSQL and a MariaDB for one run of the tests, on free ports, gone with it.

They ask for passwords, unlike what a machine may have; nothing of the machine's own servers is touched.
"""

from __future__ import annotations

import contextlib
import glob
import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.dedup import PATIENCE_SECONDS
from tests.support.missing import missing

PASSWORD = "root-of:all\\pass words"
"""Of `admin` in PostgreSQL. With everything in it that a file of passwords has to escape."""

BACKUP = "backup"
MARIADB_PASSWORD = 'se"cr\\et #1'
MARIADB_LITERAL = "'se\"cr\\\\et #1'"
"""Of the user BACKUP in MariaDB, and the same as SQL has it."""


@dataclass(frozen=True)
class Server:
    """A running server, and the command that asks it as its administrator."""

    port: int
    user: str
    ask: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    scheme: str = "postgresql"
    """What its addresses begin with."""

    def run(self, sql: str, database: str = "") -> str:
        """What the server answers to the administrator."""
        done = subprocess.run(
            [*self.ask, *([database] if database else [])], input=sql, capture_output=True, text=True,
            env={**os.environ, **self.environment}, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


def name() -> str:
    """A name that nobody has."""
    return f"dedup_test_{secrets.token_hex(6)}"


@contextlib.contextmanager
def postgres(*options: str) -> Iterator[Server]:
    """PostgreSQL. The options are the server's own."""
    programs = sorted(glob.glob("/usr/lib/postgresql/*/bin"), key=lambda path: int(path.split("/")[4]))
    if not programs and not shutil.which("initdb"):
        missing("PostgreSQL", "apt install postgresql")
    place = Path(programs[-1]) if programs else Path(shutil.which("initdb") or "").parent
    with _home("postgres") as (home, user):
        data, port = home / "data", _free_port()
        (home / "password").write_text(PASSWORD)
        words = ["-D", str(data), "-U", "admin", f"--pwfile={home}/password", "-N", "--locale=C.UTF-8", "-E", "UTF8"]
        _run([place / "initdb", *words, "-A", "scram-sha-256"], user)
        server = subprocess.Popen(
            [place / "postgres", "-D", data, "-p", str(port), "-c", "fsync=off", "-k", home, "-c",
             "listen_addresses=127.0.0.1", *options],
            user=user, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        (home / "pgpass").write_text("*:*:*:*:" + PASSWORD.replace("\\", "\\\\").replace(":", "\\:") + "\n")
        (home / "pgpass").chmod(0o600)
        with _ended(server):
            found = Server(
                port, "admin", ["psql", "-XAtqw", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-p", str(port),
                                "-U", "admin", "-d"],
                {"PGPASSFILE": str(home / "pgpass")},
            )  # fmt: skip
            _wait(server, [*found.ask, "postgres", "-c", "SELECT 1"], {**os.environ, **found.environment})
            yield found


@contextlib.contextmanager
def mariadb(*options: str) -> Iterator[Server]:
    """MariaDB. The options are the server's own."""
    if not shutil.which("mariadbd") or not shutil.which("mariadb-install-db"):
        missing("MariaDB", "apt install mariadb-server")
    with _home("mysql") as (home, user):
        data, port, path = home / "data", _free_port(), home / "socket"
        # Two that begin at the same moment give their temporary tables the same names.
        _run(["mariadb-install-db", "--no-defaults", f"--datadir={data}", f"--tmpdir={home}",
              "--auth-root-authentication-method=normal", "--skip-test-db", f"--user={pwd.getpwuid(user).pw_name}" if user is not None else "--skip-name-resolve"],
             user)  # fmt: skip
        server = subprocess.Popen(
            ["mariadbd", "--no-defaults", f"--datadir={data}", f"--port={port}", f"--socket={path}",
             "--bind-address=127.0.0.1", "--innodb-flush-log-at-trx-commit=0", "--innodb-buffer-pool-size=64M",
             f"--pid-file={home}/pid", f"--tmpdir={home}", "--skip-log-bin", *options],
            user=user, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        with _ended(server):
            found = Server(port, "root", ["mariadb", "--no-defaults", "-BN", "-u", "root", f"--socket={path}"],
                           scheme="mysql")  # fmt: skip
            _wait(server, [*found.ask, "-e", "SELECT 1"], dict(os.environ))
            found.run(
                f"CREATE USER {BACKUP}@'%' IDENTIFIED BY {MARIADB_LITERAL};"
                f"GRANT ALL ON *.* TO {BACKUP}@'%' WITH GRANT OPTION"
            )
            yield found


@contextlib.contextmanager
def _home(account: str) -> Iterator[tuple[Path, int | None]]:
    """A directory, and the user who owns it: these servers do not run as root."""
    user = None
    with tempfile.TemporaryDirectory(prefix=f"dedup-{account}-") as home:
        if os.geteuid() == 0:
            user = pwd.getpwnam(account).pw_uid
            os.chown(home, user, -1)
        yield Path(home), user


def _run(words: Sequence[str | Path], user: int | None) -> None:
    done = subprocess.run(words, user=user, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@contextlib.contextmanager
def _ended(server: subprocess.Popen[bytes]) -> Iterator[None]:
    try:
        yield
    finally:
        server.terminate()
        try:
            server.wait(timeout=20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _wait(server: subprocess.Popen[bytes], words: Sequence[str], environment: Mapping[str, str]) -> None:
    for _ in range(PATIENCE_SECONDS * 10):
        assert server.poll() is None, "the server has ended"
        if subprocess.run(words, env=environment, capture_output=True, check=False).returncode == 0:
            return
        time.sleep(0.1)
    raise AssertionError("the server does not answer")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
