"""When a snapshot of MariaDB begins its dump, and what it asks where there is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from dedupstore.sources.mysql_client import MysqlClient
from tests.support.configuration import write
from tests.support.databases import address, instead, prepared, snapshots
from tests.support.dedup import Dedup
from tests.support.servers import Server, name


@pytest.fixture
def dedup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mariadb_server: Server) -> Dedup:
    return prepared(tmp_path, monkeypatch, mariadb_server)


def dumps(dedup: Dedup) -> int:
    record = dedup.home / "dumped"
    return sum("--single-transaction" in line for line in record.read_text().splitlines()) if record.exists() else 0


@pytest.fixture
def shop(mariadb_server: Server) -> str:
    made = name()
    mariadb_server.run(
        f"CREATE DATABASE {made}; CREATE TABLE {made}.items (x int); INSERT INTO {made}.items VALUES (7)"
    )
    return made


def test_no_dump_begins_before_it_can_be_stored(dedup: Dedup, mariadb_server: Server, shop: str) -> None:
    """Nobody would read it while a repository is opened, for minutes perhaps, and the server would end it."""
    instead(dedup, "mariadb-dump", f'echo "$*" >> {dedup.home}/dumped\nexec /usr/bin/mariadb-dump "$@"')
    dedup.ok("snapshot", address(mariadb_server, shop))
    assert dumps(dedup) == 1
    dedup.setenv("DEDUP_PASSPHRASE", "another one")

    run = dedup("snapshot", address(mariadb_server, shop))

    assert run.code == "repo.wrong_passphrase"
    assert dumps(dedup) == 1


def test_the_accounts_of_a_server_without_databases_are_kept(
    dedup: Dedup, mariadb_server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MysqlClient, "names", lambda _client, _cancel: [])
    write(
        tmp_path / "config" / "dedup" / "config.toml",
        f'[sources.it]\ntype = "mysql"\ndsn = "{address(mariadb_server, "")}"\npassword = "file:{tmp_path}/db.pass"\n'
        'databases = "all"\n',
    )
    dedup.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))

    dedup.ok("snapshot", "it")

    assert "CREATE USER" in dedup.ok("cat", "latest:globals.sql").out
    assert snapshots(dedup) == 1
    dedup.ok("check", "--read-data")


def test_a_client_without_standard_input_says_what_it_needs(
    dedup: Dedup, mariadb_server: Server, tmp_path: Path, shop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DEDUP_DATABASE_PASSWORD_FILE")
    outside = tmp_path / "outside"
    outside.write_text('#!/bin/sh\nexec "$@" < /dev/null\n')
    outside.chmod(0o755)
    rest = address(mariadb_server, shop).partition("@")[2]
    mariadb_server.run(f"CREATE USER open_{shop}@'%'; GRANT ALL ON *.* TO open_{shop}@'%'")
    write(
        tmp_path / "config" / "dedup" / "config.toml",
        f'[sources.it]\ntype = "mysql"\ndsn = "mysql://open_{shop}@{rest}"\nexec = ["{outside}"]\n',
    )
    dedup.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))

    run = dedup("snapshot", "it")

    assert (run.exit_code, run.code) == (6, "database.session_ended"), run.err
    assert "docker exec -i" in run.err
    assert snapshots(dedup) == 0
