"""A disk that is full where a database is copied, written or restored: no snapshot, nothing under its name, a clear error."""

from __future__ import annotations

import os
import pwd
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.support import servers
from tests.support.databases import address, instead, prepared, snapshots
from tests.support.dedup import Dedup
from tests.support.missing import missing
from tests.support.servers import Server

Disk = Callable[[str], Path]


@contextmanager
def mounted(size: str) -> Iterator[Path]:
    """A directory that holds no more than that. Mounting takes root; without it there is no such test."""
    with tempfile.TemporaryDirectory(prefix="dedup-small-") as home:
        os.chmod(home, 0o755)
        words = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=755", "tmpfs", home]
        if os.geteuid() != 0 or subprocess.run(words, capture_output=True, check=False).returncode:
            missing("a small disk", "run as root, who may mount a tmpfs")
        try:
            yield Path(home)
        finally:
            subprocess.run(["umount", home], check=True)


@pytest.fixture
def disk() -> Iterator[Disk]:
    with ExitStack() as stack:
        yield lambda size: stack.enter_context(mounted(size))


@pytest.fixture
def live(tmp_path: Path) -> Path:
    """A SQLite database of 3 MB."""
    subprocess.run(["sqlite3", tmp_path / "app.db", "CREATE TABLE t AS SELECT randomblob(3000000) x"], check=True)
    return tmp_path / "app.db"


def test_without_room_for_the_copy_there_is_no_snapshot(dedup: Dedup, disk: Disk, live: Path) -> None:
    dedup.setenv("TMPDIR", str(disk("1m")))

    run = dedup("snapshot", f"sqlite:{live}")

    assert run.code == "database.no_room"
    assert run.exit_code == 6
    assert snapshots(dedup) == 0
    dedup.ok("check", "--read-data")


def test_without_room_for_the_restored_database_there_is_none(dedup: Dedup, disk: Disk, live: Path) -> None:
    dedup.ok("snapshot", f"sqlite:{live}")
    small = disk("1m")

    run = dedup("restore", "--as", small / "app.db")

    assert "No space left on device".lower() in run.err.lower()
    assert run.exit_code == 1
    assert list(small.iterdir()) == []


def test_without_room_an_export_has_no_name(dedup: Dedup, disk: Disk, live: Path) -> None:
    dedup.ok("snapshot", f"sqlite:{live}")
    small = disk("1m")

    run = dedup("export", "--to", small)

    assert "No space left on device".lower() in run.err.lower()
    assert [path.suffix for path in small.iterdir()] == [".incomplete"]


def test_a_server_without_room_keeps_no_half_restored_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, postgres_server: Server, disk: Disk
) -> None:
    server, dedup, blog = postgres_server, prepared(tmp_path, monkeypatch, postgres_server), servers.name()
    server.run(f"CREATE DATABASE {blog}", "postgres")
    server.run("CREATE TABLE posts AS SELECT repeat(md5(n::text), 10) FROM generate_series(1, 30000) n", blog)
    dedup.ok("snapshot", address(server, blog))
    # Room for an empty database and its template, and for 3 MB of the ten.
    place = disk("18m")
    os.chown(place, pwd.getpwnam("postgres").pw_uid, -1)
    server.run(f"CREATE TABLESPACE small LOCATION '{place}'", "postgres")
    try:
        server.run("ALTER DATABASE template0 SET TABLESPACE small", "postgres")
        run = dedup("restore", "--as", f"{blog}_restored")
    finally:
        server.run("ALTER DATABASE template0 SET TABLESPACE pg_default", "postgres")
        there = server.run("SELECT datname FROM pg_database", "postgres").splitlines()
        server.run("DROP TABLESPACE small", "postgres")

    assert run.code == "database.restore_failed"
    assert "No space left on device" in run.err
    assert f"{blog}_restored" not in there
    dedup.ok("check", "--read-data")


def test_mariadb_keeps_no_half_restored_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mariadb_server: Server
) -> None:
    server, dedup, shop = mariadb_server, prepared(tmp_path, monkeypatch, mariadb_server), servers.name()
    server.run(f"CREATE DATABASE {shop}")
    server.run("CREATE TABLE items (body text); INSERT INTO items SELECT md5(seq) FROM seq_1_to_20000", shop)
    dedup.ok("snapshot", address(server, shop))
    path = os.environ["PATH"]
    instead(
        dedup, "mariadb",
        'case "$*" in *--execute*|*--help*) exec /usr/bin/mariadb "$@";; esac\n'
        'head -c 300000 | /usr/bin/mariadb "$@"; echo "ERROR 1114 (HY000): The table is full" >&2; exit 1',
    )  # fmt: skip

    run = dedup("restore", "--as", f"{shop}_restored")
    dedup.setenv("PATH", path)

    assert run.code == "database.restore_failed"
    assert "The table is full" in run.err
    assert server.run(f"SHOW DATABASES LIKE '{shop}_restored'") == ""
    dedup.ok("check", "--read-data")


def test_when_nothing_can_be_dropped_any_more_the_first_trouble_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mariadb_server: Server
) -> None:
    server, dedup, shop = mariadb_server, prepared(tmp_path, monkeypatch, mariadb_server), servers.name()
    server.run(f"CREATE DATABASE {shop}; CREATE TABLE {shop}.items (body text)")
    dedup.ok("snapshot", address(server, shop))
    instead(
        dedup, "mariadb",
        'case "$*" in *DROP*) exit 1;; *--execute*|*--help*) exec /usr/bin/mariadb "$@";; esac\n'
        'echo "ERROR 2013 (HY000): Lost connection to server during query" >&2; exit 1',
    )  # fmt: skip

    run = dedup("restore", "--as", f"{shop}_restored")

    assert run.code == "database.restore_failed"
    assert "Lost connection to server" in run.err
    assert f"drop the database {shop}_restored" in run.err
