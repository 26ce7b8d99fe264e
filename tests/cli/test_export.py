"""`dedup export`: a dump that the database's own command line takes, without dedup."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.support import servers
from tests.support.configuration import write
from tests.support.databases import address, instead, prepared
from tests.support.dedup import Dedup
from tests.support.servers import Server


def source(dedup: Dedup, name: str, server: Server, *databases: str) -> None:
    """A source of the configuration, named."""
    names = ", ".join(f'"{database}"' for database in databases)
    write(
        dedup.home / "etc" / "config.toml",
        f'[repos.main]\nurl = "{dedup.repository}"\n[sources.{name}]\n'
        f'type = "{server.scheme}"\ndsn = "{address(server, databases[0])}"\n'
        f'password = "file:{dedup.home}/db.pass"\ndatabases = [{names}]\n',
    )


def load(server: Server, database: str, path: Path) -> None:
    """As its user would: the server's own client, told to stop at the first error."""
    done = subprocess.run(
        [*server.ask, database], input=path.read_bytes(), capture_output=True, env={**os.environ, **server.environment},
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_psql_alone_restores_what_was_exported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, postgres_server: Server
) -> None:
    server, dedup, blog = postgres_server, prepared(tmp_path, monkeypatch, postgres_server), servers.name()
    server.run(f'CREATE DATABASE "{blog}"; CREATE DATABASE "{blog} two"; CREATE DATABASE {blog}_new', "postgres")
    server.run(
        r"""
        CREATE TABLE posts (id serial PRIMARY KEY, body text); CREATE VIEW v AS SELECT count(*) FROM posts;
        INSERT INTO posts (body) SELECT repeat(md5(n::text), 20) || E'\n\\.\n\t' FROM generate_series(1, 5000) n;
        """,
        blog,
    )
    source(dedup, "blogdb", server, blog, f"{blog} two")
    dedup.ok("snapshot", "blogdb")
    server.run("DELETE FROM posts", blog)

    written = dedup.ok("export", "--source", "blogdb", "--to", tmp_path / "out", "--json").summary["files"]
    (path,) = (tmp_path / "out").glob(f"backup_postgresql_*_blogdb_{blog}.sql")
    load(server, f"{blog}_new", path)

    assert server.run("SELECT * FROM v", f"{blog}_new") == "5000"
    assert server.run("SELECT count(DISTINCT body) FROM posts", f"{blog}_new") == "5000"
    assert server.run("SELECT right(body, 5) = E'\\n\\\\.\\n\\t' FROM posts LIMIT 1", f"{blog}_new") == "t"
    assert [file["database"] for file in written] == [blog, f"{blog} two", None]
    assert "CREATE ROLE" in next((tmp_path / "out").glob("*_blogdb_globals.sql")).read_text()
    assert sorted(os.listdir(tmp_path / "out")) == sorted(Path(file["path"]).name for file in written)
    dedup.ok("check", "--read-data")


def test_mariadb_alone_restores_what_was_exported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mariadb_server: Server
) -> None:
    server, dedup, shop = mariadb_server, prepared(tmp_path, monkeypatch, mariadb_server), servers.name()
    server.run(f"CREATE DATABASE {shop}; CREATE DATABASE {shop}_new")
    server.run(
        "CREATE TABLE items (id int PRIMARY KEY AUTO_INCREMENT, body text); CREATE VIEW v AS SELECT count(*) FROM items;"
        "INSERT INTO items (body) SELECT concat(md5(seq), ';\\n--\\n') FROM seq_1_to_5000",
        shop,
    )
    dedup.ok("snapshot", address(server, shop))
    server.run("DELETE FROM items", shop)

    event, beside = dedup.ok("export", "--to", tmp_path / "out", "--json").summary["files"]
    load(server, f"{shop}_new", Path(event["path"]))

    assert server.run("SELECT * FROM v", f"{shop}_new") == "5000"
    assert Path(event["path"]).name.startswith("backup_mysql_20")
    assert Path(event["path"]).name.endswith(f"_{shop}.sql")
    assert "CREATE USER IF NOT EXISTS `backup`@`%`" in Path(beside["path"]).read_text()
    # Only programs of a newer MariaDB know this command, which the dump began with.
    assert "sandbox" in dedup.ok("cat", f"latest:{shop}.sql").out.split("\n")[0]
    assert "sandbox" not in Path(event["path"]).read_text().split("\n")[0]
    dedup.ok("check", "--read-data")


@pytest.mark.parametrize("form", ["copy", "sql"])
def test_sqlite_is_a_database_or_its_statements(dedup: Dedup, tmp_path: Path, form: str) -> None:
    subprocess.run(["sqlite3", "app.db", "CREATE TABLE t (x); INSERT INTO t VALUES (1), (2)"], check=True)
    write(
        tmp_path / "etc" / "config.toml",
        f'[repos.main]\nurl = "{dedup.repository}"\n[sources.sessions]\ntype = "sqlite"\n'
        f'path = "{tmp_path}/app.db"\nformat = "{form}"\n',
    )
    dedup.ok("snapshot", "sessions")

    dedup.ok("export", "--at", "now", "--source", "sessions")

    (path,) = tmp_path.glob("backup_sqlite_*_sessions." + ("db" if form == "copy" else "sql"))
    if form == "sql":
        subprocess.run(["sqlite3", "new.db", f".read {path}"], check=True)
        path = Path("new.db")
    counted = subprocess.run(["sqlite3", path, "SELECT sum(x) FROM t"], capture_output=True, text=True, check=True)
    assert counted.stdout == "3\n"


def test_to_standard_output(dedup: Dedup, tmp_path: Path) -> None:
    subprocess.run(["sqlite3", "app.db", "CREATE TABLE t (x)"], check=True)
    dedup.ok("snapshot", "sqlite:app.db")

    run = dedup.ok("export", "--to", "-")

    assert run.raw == (tmp_path / "app.db").read_bytes()
    assert dedup("export", "--to", "-", "--json").exit_code == 2


def test_nothing_is_overwritten(dedup: Dedup, tmp_path: Path) -> None:
    subprocess.run(["sqlite3", "app.db", "CREATE TABLE t (x)"], check=True)
    dedup.ok("snapshot", "sqlite:app.db")
    dedup.ok("export")
    (path,) = tmp_path.glob("backup_sqlite_*_app.db")
    path.write_text("mine")

    assert dedup("export").code == "dump.exists"
    assert path.read_text() == "mine"
    assert not list(tmp_path.glob("*.incomplete"))


def test_what_is_no_database_is_told(dedup: Dedup, site: Path) -> None:
    dedup.ok("snapshot", site)

    assert dedup("export").exit_code == 2
    assert dedup("export", "--source", "nothing").exit_code == 5


def test_half_an_export_has_another_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, postgres_server: Server
) -> None:
    server, dedup, blog = postgres_server, prepared(tmp_path, monkeypatch, postgres_server), servers.name()
    server.run(f'CREATE DATABASE "{blog}"', "postgres")
    server.run("CREATE TABLE posts AS SELECT md5(n::text) FROM generate_series(1, 50000) n", blog)
    dedup.ok("snapshot", address(server, blog))
    instead(dedup, "pg_restore", '/usr/bin/pg_restore "$@" | head -c 100000; echo "no more" >&2; exit 1')

    run = dedup("export", "--to", "out")

    assert run.code == "database.export_failed"
    assert "no more" in run.err
    assert [path.suffix for path in (tmp_path / "out").iterdir()] == [".incomplete"]
    dedup.ok("check", "--read-data")


def test_an_export_alters_no_database_but_the_one_it_is_given_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mariadb_server: Server
) -> None:
    server, dedup, shop = mariadb_server, prepared(tmp_path, monkeypatch, mariadb_server), servers.name()
    server.run(
        f"CREATE DATABASE {shop} COLLATE utf8mb4_unicode_ci; CREATE DATABASE {shop}_new COLLATE utf8mb4_general_ci"
    )
    server.run("CREATE TABLE t (x int); CREATE PROCEDURE p() SELECT 1", shop)
    server.run(f"ALTER DATABASE {shop} COLLATE utf8mb4_general_ci")
    dedup.ok("snapshot", address(server, shop))
    server.run(f"ALTER DATABASE {shop} COLLATE utf8mb4_bin")

    exported = Path(dedup.ok("export", "--to", tmp_path / "out", "--json").summary["files"][0]["path"])
    load(server, f"{shop}_new", exported)

    assert "ALTER DATABASE CHARACTER SET" in exported.read_text()
    assert shop not in exported.read_text().partition("DELIMITER")[2]
    collation = f"SELECT default_collation_name FROM information_schema.schemata WHERE schema_name = '{shop}"
    assert server.run(f"{collation}'") == "utf8mb4_bin"
    assert server.run(f"{collation}_new'") == "utf8mb4_general_ci"
    made = f"SELECT database_collation FROM information_schema.routines WHERE routine_schema = '{shop}_new'"
    assert server.run(made) == "utf8mb4_unicode_ci"
