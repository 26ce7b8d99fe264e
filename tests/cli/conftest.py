"""Nothing of the caller's environment reaches these tests."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import servers
from tests.support.dedup import Dedup, write_tree
from tests.support.s3_servers import S3Server, use
from tests.support.servers import Server


@pytest.fixture(autouse=True)
def clean_environment(tmp_path: Path) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith(("DEDUP_", "_DEDUP_")) or name in ("NO_COLOR", "NOTIFY_SOCKET", "TERM", "COLUMNS"):
                patch.delenv(name)
        patch.setenv("DEDUP_STATE_DIR", str(tmp_path / "state"))
        # Where no configuration is, until a test writes one.
        patch.setenv("CONFIGURATION_DIRECTORY", str(tmp_path / "etc"))
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path / ".config"))
        patch.setenv("TZ", "Asia/Shanghai")
        time.tzset()
        yield
    time.tzset()


@pytest.fixture
def dedup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Dedup:
    """The command with an empty repository of its own."""
    return Dedup(tmp_path, monkeypatch).init()


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A few files to store."""
    return write_tree(
        tmp_path / "site",
        {
            "index.html": "<h1>hello</h1>\n",
            "uploads/a.txt": "first version\n",
            "uploads/b.bin": bytes(range(256)) * 100,
            "cache/tmp": "nobody needs it\n",
        },
    )


@pytest.fixture(params=["moto_server", pytest.param("ceph_server", marks=pytest.mark.slow)])
def server(request: pytest.FixtureRequest) -> S3Server:
    """An S3 server that keeps versions and locks objects: one in memory, and a real one that enforces what it promises."""
    found: S3Server = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def remote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: S3Server) -> Dedup:
    """The command with the keys of that server, and no repository yet."""
    use(server, monkeypatch)
    return Dedup(tmp_path, monkeypatch)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Server]:
    with servers.postgres() as found:
        yield found


@pytest.fixture
def blog(postgres_server: Server) -> str:
    """A database of PostgreSQL with keys between its tables, a view, a trigger and names that have to be quoted."""
    name = servers.name()
    postgres_server.run(f'CREATE DATABASE "{name}"', "postgres")
    postgres_server.run(
        """
        CREATE TABLE authors (id serial PRIMARY KEY, name text UNIQUE NOT NULL);
        CREATE TABLE posts (id serial PRIMARY KEY, author int REFERENCES authors, body text, at timestamptz DEFAULT now());
        CREATE SCHEMA "Odd schema"; CREATE TABLE "Odd schema"."a.b'c""d" (x int);
        CREATE VIEW recent AS SELECT * FROM posts ORDER BY at DESC LIMIT 5;
        INSERT INTO authors (name) SELECT 'author ' || n FROM generate_series(1, 20) n;
        INSERT INTO posts (author, body) SELECT 1 + n % 20, md5(n::text) || md5(n::text) || md5(n::text) || md5(n::text)
            FROM generate_series(1, 20000) n;
        INSERT INTO "Odd schema"."a.b'c""d" VALUES (1), (2);
        """,
        name,
    )  # fmt: skip
    return name


@pytest.fixture(scope="session")
def mariadb_server() -> Iterator[Server]:
    with servers.mariadb() as found:
        yield found
