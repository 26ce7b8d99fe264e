"""PostgreSQL by the command line: dumped as of one instant or not at all."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.support import servers
from tests.support.configuration import write
from tests.support.databases import address, count_posts, instead, prepared, snapshots, write_password
from tests.support.dedup import Dedup
from tests.support.servers import PASSWORD, Server


@pytest.fixture
def server(postgres_server: Server) -> Server:
    return postgres_server


@pytest.fixture
def dedup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: Server) -> Dedup:
    return prepared(tmp_path, monkeypatch, server)


def test_the_second_dump_costs_what_changed(dedup: Dedup, server: Server, blog: str) -> None:
    dedup.ok("snapshot", address(server, blog))
    server.run("UPDATE posts SET body = 'changed' WHERE id % 2000 = 0", blog)

    counts = dedup.ok("snapshot", address(server, blog), "--json").summary["bytes"]

    # Ten rows move to the end of three megabytes.
    assert counts["read"] > 3_000_000
    assert counts["stored"] < 200_000
    dedup.ok("check", "--read-data")


def test_what_is_recorded_belongs_to_the_dump_although_others_write(dedup: Dedup, server: Server, blog: str) -> None:
    writer = subprocess.Popen(
        [*server.ask, blog, "-f", "-"], stdin=subprocess.PIPE, text=True, env={**os.environ, **server.environment}
    )
    assert writer.stdin is not None
    writer.stdin.write("INSERT INTO posts (body) VALUES ('x');\n" * 3000)
    writer.stdin.flush()
    try:
        dedup.ok("snapshot", address(server, blog))
    finally:
        writer.communicate()

    # A difference between the rows recorded and those restored would be a warning.
    dedup.ok("restore", "--as", f"{blog}_restored")
    assert count_posts(server, f"{blog}_restored") >= 20_000


def test_sources_of_the_configuration(dedup: Dedup, server: Server, blog: str, tmp_path: Path) -> None:
    dedup.setenv("DEDUP_DATABASE_PASSWORD_FILE", None)
    other = servers.name()
    server.run(f'CREATE DATABASE "{other}"', "postgres")
    write(
        tmp_path / "etc" / "config.toml",
        f'[repos.main]\nurl = "{dedup.repository}"\n[sources.blogdb]\ntype = "postgresql"\n'
        f'dsn = "{address(server, "postgres")}"\npassword = "file:{tmp_path}/db.pass"\n'
        f'databases = ["{blog}", "{other}"]\n',
    )
    dedup.ok("snapshot")

    names = [entry["path"] for entry in dedup.ok("ls", "latest", "--json").document["entries"]]
    assert names == sorted(
        ["globals.sql", *(f"{name}.dump{end}" for name in (blog, other) for end in ("", ".tables.json"))]
    )
    assert "CREATE ROLE admin" in dedup.ok("cat", "latest:globals.sql").out
    assert dedup("restore", "--as", f"{blog}_x").exit_code == 5
    dedup.ok("restore", blog, "--source", "blogdb", "--as", f"{blog}_x")
    assert count_posts(server, f"{blog}_x") == 20_000


def test_all_databases(dedup: Dedup, server: Server, blog: str, tmp_path: Path) -> None:
    write(
        tmp_path / "etc" / "config.toml",
        f'[repos.main]\nurl = "{dedup.repository}"\n[sources.all]\ntype = "postgresql"\n'
        f'dsn = "{address(server, "postgres")}"\ndatabases = "all"\nglobals = false\n',
    )
    for name in server.run("SELECT datname FROM pg_database WHERE datname LIKE 'dedup%'", "postgres").splitlines():
        if name != blog:
            server.run(f'DROP DATABASE "{name}"', "postgres")

    dedup.ok("snapshot", "all")

    names = {entry["path"] for entry in dedup.ok("ls", "latest", "--json").document["entries"]}
    assert names == {f"{name}.dump{end}" for name in (blog, "postgres") for end in ("", ".tables.json")}


def test_a_wrong_password_makes_no_snapshot(dedup: Dedup, server: Server, blog: str, tmp_path: Path) -> None:
    write_password(tmp_path, "not-the-password")

    run = dedup("snapshot", address(server, blog))

    assert run.code == "database.login_failed"
    assert run.exit_code == 6
    assert "not-the-password" not in run.err
    assert snapshots(dedup) == 0


def test_missing_rights_name_the_grant_that_helps(dedup: Dedup, server: Server, blog: str, tmp_path: Path) -> None:
    role = servers.name()
    server.run(f"CREATE ROLE {role} LOGIN PASSWORD 'secret'", blog)
    write_password(tmp_path, "secret")

    run = dedup("snapshot", address(server, blog, role))
    assert run.code == "database.missing_rights"
    assert f'GRANT pg_read_all_data TO "{role}";' in run.err
    assert snapshots(dedup) == 0
    server.run(f'GRANT pg_read_all_data TO "{role}"', blog)

    dedup.ok("snapshot", address(server, blog, role))


def test_a_dump_that_is_killed_half_way_makes_no_snapshot(dedup: Dedup, server: Server, blog: str) -> None:
    # What it has written so far looks like the beginning of a dump.
    instead(dedup, "pg_dump", KILLED)

    run = dedup("snapshot", address(server, blog))

    assert run.exit_code == 6
    assert "was killed by SIGKILL" in run.err
    assert snapshots(dedup) == 0
    dedup.ok("check", "--read-data")


def test_a_session_that_is_ended_during_the_dump_makes_no_snapshot(dedup: Dedup, server: Server, blog: str) -> None:
    instead(dedup, "pg_dump", ENDED)
    for name, value in server.environment.items():
        dedup.setenv(f"TEST_{name}", value)
    dedup.setenv("TEST_PORT", str(server.port))

    assert dedup("snapshot", address(server, blog)).exit_code == 6
    assert snapshots(dedup) == 0


def test_a_dump_whose_connection_the_server_ends_makes_no_snapshot(dedup: Dedup, server: Server, blog: str) -> None:
    server.run("INSERT INTO posts (body) SELECT repeat(md5(n::text), 1000) FROM generate_series(1, 2000) n", blog)
    server.run("ALTER TABLE posts ALTER body SET STORAGE EXTERNAL; UPDATE posts SET body = body || ''", blog)
    instead(dedup, "pg_dump", CUT)
    for name, value in server.environment.items():
        dedup.setenv(f"TEST_{name}", value)
    dedup.setenv("TEST_PORT", str(server.port))

    run = dedup("snapshot", address(server, blog))

    assert run.code == "database.session_ended"
    assert snapshots(dedup) == 0
    dedup.ok("check", "--read-data")


def test_an_older_pg_dump_is_refused_before_it_is_run(dedup: Dedup, server: Server, blog: str) -> None:
    instead(dedup, "pg_dump", OLD)

    run = dedup("snapshot", address(server, blog))

    assert run.code == "database.client_too_old"
    assert "pg_dump 9.6.24 cannot dump server" in run.err
    assert snapshots(dedup) == 0


def test_no_password_is_seen_by_others(dedup: Dedup, server: Server, blog: str, tmp_path: Path) -> None:
    """What each program was started with, as `ps` and /proc show it."""
    script = f'cat /proc/$$/cmdline /proc/$$/environ >> {tmp_path}/seen; exec /usr/bin/{{name}} "$@"'
    for program in ("psql", "pg_dump", "pg_dumpall", "pg_restore"):
        instead(dedup, program, script.format(name=program))
    dedup.setenv("DEDUP_DATABASE_PASSWORD_FILE", None)
    dedup.setenv("DEDUP_DATABASE_PASSWORD", PASSWORD)

    dedup.ok("snapshot", address(server, blog))
    dedup.ok("restore", "--as", f"{blog}_restored")

    seen = (tmp_path / "seen").read_bytes()
    assert seen.count(b"pg_dump\0") and seen.count(b"pg_restore\0")
    assert PASSWORD.encode() not in seen
    assert PASSWORD.split(":")[0].encode() not in seen


def test_a_prefix_runs_the_programs_elsewhere(dedup: Dedup, server: Server, blog: str, tmp_path: Path) -> None:
    """As `docker compose exec -T db` does: other descriptors, another environment, the same standard streams."""
    prefix = tmp_path / "elsewhere"
    prefix.write_text(
        "#!/usr/bin/env python3\nimport os, sys\nos.closerange(3, 100)\n"
        f'open("{tmp_path}/words", "a").write(" ".join(sys.argv) + "\\n")\n'
        'os.execvpe(sys.argv[1], sys.argv[1:], {"PATH": os.environ["PATH"]})\n'
    )
    prefix.chmod(0o755)
    write(
        tmp_path / "etc" / "config.toml",
        f'[repos.main]\nurl = "{dedup.repository}"\n[sources.blogdb]\ntype = "postgresql"\n'
        f'dsn = "{address(server, blog)}"\npassword = "file:{tmp_path}/db.pass"\nexec = ["{prefix}"]\n',
    )

    dedup.ok("snapshot", "blogdb")
    dedup.ok("restore", "--source", "blogdb", "--as", f"{blog}_restored")

    assert count_posts(server, f"{blog}_restored") == 20_000
    assert "pg_dump" in (tmp_path / "words").read_text()
    assert PASSWORD not in (tmp_path / "words").read_text()


def test_the_list_of_tables_is_a_file_of_the_snapshot(dedup: Dedup, server: Server, blog: str) -> None:
    dedup.ok("snapshot", address(server, blog))

    about = json.loads(dedup.ok("cat", f"latest:{blog}.dump.tables.json").out)

    assert {table["name"]: table["rows"] for table in about["tables"]} == {
        "public.authors": 20,
        "public.posts": 20_000,
        "Odd schema.a.b'c\"d": 2,
    }
    assert about["encoding"] == "UTF8"


def test_a_server_is_looked_at(dedup: Dedup, server: Server, blog: str) -> None:
    assert blog in dedup.ok("db", "list", address(server, "postgres")).out.split()
    tables = dedup.ok("db", "tables", address(server, blog), "--json").document["tables"]
    assert {"name": "public.posts", "rows": 20_000} in tables
    tested = dedup.ok("db", "test", address(server, blog), "--json").document

    assert tested["files"] == [f"{blog}.dump", f"{blog}.dump.tables.json", "globals.sql"]
    assert tested["bytes"] > 2_500_000
    assert "20 000" in dedup.ok("db", "tables", address(server, blog)).out
    assert dedup("db", "test", address(server, f"{blog}_typo")).code == "database.unknown"
    assert snapshots(dedup) == 0


def test_tables_of_a_source_of_several_databases_are_those_of_all(
    dedup: Dedup, server: Server, blog: str, tmp_path: Path
) -> None:
    other = servers.name()
    server.run(f"CREATE DATABASE {other}", "postgres")
    server.run("CREATE TABLE t (x int); INSERT INTO t VALUES (1)", other)
    write(
        tmp_path / "etc" / "config.toml",
        f'[repos.main]\nurl = "{dedup.repository}"\n[sources.both]\ntype = "postgresql"\n'
        f'dsn = "{address(server, "postgres")}"\npassword = "file:{tmp_path}/db.pass"\ndatabases = ["{blog}", "{other}"]\n'
        f'[sources.all]\ntype = "postgresql"\ndsn = "{address(server, "postgres")}"\n'
        f'password = "file:{tmp_path}/db.pass"\ndatabases = "all"\n',
    )

    both = dedup.ok("db", "tables", "both", "--json").document["tables"]

    assert {"database": other, "name": "public.t", "rows": 1} in both
    assert {"database": blog, "name": "public.posts", "rows": 20_000} in both
    assert {table["database"] for table in both} == {blog, other}
    assert other in dedup.ok("db", "tables", "all").out


OLD = 'echo "pg_dump (PostgreSQL) 9.6.24"'


KILLED = """
if [ "$1" = --version ]; then exec /usr/bin/pg_dump --version; fi
/usr/bin/pg_dump "$@" | head -c 1000000
kill -9 $$
"""


ENDED = """
if [ "$1" = --version ]; then exec /usr/bin/pg_dump --version; fi
for word; do :; done
PGPASSFILE=$TEST_PGPASSFILE psql -h 127.0.0.1 -p $TEST_PORT -U admin -d postgres -qc \
  "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'" >/dev/null
exec /usr/bin/pg_dump "$@"
"""


def test_the_password_that_was_named_wins_against_one_of_the_environment(
    dedup: Dedup, server: Server, blog: str
) -> None:
    dedup.setenv("PGPASSWORD", "of another server")

    assert "ok" in dedup.ok("db", "test", address(server, blog)).out


CUT = """
if [ "$1" = --version ]; then exec /usr/bin/pg_dump --version; fi
/usr/bin/pg_dump "$@" | {
  head -c 100000
  PGPASSFILE=$TEST_PGPASSFILE psql -h 127.0.0.1 -p $TEST_PORT -U admin -d postgres -qc \
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pg_dump'" >/dev/null
  cat
}
exit ${PIPESTATUS[0]}
"""
