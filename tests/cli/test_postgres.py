"""PostgreSQL by the command line: dumped as of one instant, restored as a new database, put in place."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from dedupstore.sources.postgres_database import given
from tests.support import servers
from tests.support.configuration import write
from tests.support.databases import address, instead, prepared, snapshots, write_password
from tests.support.dedup import Dedup
from tests.support.servers import PASSWORD, Server


@pytest.fixture
def server(postgres_server: Server) -> Server:
    return postgres_server


@pytest.fixture
def dedup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: Server) -> Dedup:
    return prepared(tmp_path, monkeypatch, server)


@pytest.fixture
def blog(server: Server) -> str:
    """A database with keys between its tables, a view, a trigger and names that have to be quoted."""
    name = servers.name()
    server.run(f'CREATE DATABASE "{name}"', "postgres")
    server.run(
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


def count(server: Server, database: str) -> int:
    return int(server.run("SELECT count(*) FROM posts", database))


def test_a_database_is_restored_as_a_new_one_and_swapped(dedup: Dedup, server: Server, blog: str) -> None:
    taken = dedup.ok("snapshot", address(server, blog), "--json").summary["snapshot"]
    server.run("DELETE FROM posts WHERE id > 100", blog)

    restored = dedup.ok("restore", "--as", f"{blog}_restored")
    assert "3 tables, 20 022 rows" in restored.out
    assert count(server, blog) == 100
    assert count(server, f"{blog}_restored") == 20_000
    dedup.ok("db", "swap", address(server, blog), f"{blog}_restored", "--keep-as", f"{blog}_old", "--yes")

    assert taken["kind"] == "postgresql"
    assert count(server, blog) == 20_000
    assert count(server, f"{blog}_old") == 100
    assert server.run("SELECT count(*) FROM recent", blog) == "5"
    dedup.ok("check", "--read-data")


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
    assert count(server, f"{blog}_restored") >= 20_000


def test_single_tables_come_back(dedup: Dedup, server: Server, blog: str) -> None:
    dedup.ok("snapshot", address(server, blog))

    dedup.ok("restore", "--as", f"{blog}_authors", "--table", "authors", "--json")

    assert server.run("SELECT count(*) FROM authors", f"{blog}_authors") == "20"
    tables = server.run(
        "SELECT string_agg(tablename, ',') FROM pg_tables WHERE schemaname = 'public'", f"{blog}_authors"
    )
    assert tables == "authors"
    assert dedup("restore", "--as", f"{blog}_none", "--table", "nonsense").exit_code == 5


def test_tables_that_would_bring_others_with_them_are_refused(dedup: Dedup, server: Server, blog: str) -> None:
    server.run('CREATE TABLE "Odd schema".authors (x int); CREATE TABLE "Odd schema".tags (x int)', blog)
    dedup.ok("snapshot", address(server, blog))

    # pg_restore takes schemas and names apart: these two would mean "Odd schema".authors as well.
    run = dedup("restore", "--as", f"{blog}_two", "--table", "public.authors", "--table", "Odd schema.tags")
    assert run.code == "usage.tables"
    assert "Odd schema.authors" in run.err
    dedup.ok("restore", "--as", f"{blog}_two", "--table", "public.posts", "--table", "Odd schema.tags", "--json")

    tables = server.run(
        "SELECT string_agg(tablename, ',' ORDER BY tablename) FROM pg_tables WHERE schemaname IN ('public', 'Odd schema')",
        f"{blog}_two",
    )
    assert tables == "posts,tags"


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
    assert count(server, f"{blog}_x") == 20_000


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

    assert count(server, f"{blog}_restored") == 20_000
    assert "pg_dump" in (tmp_path / "words").read_text()
    assert PASSWORD not in (tmp_path / "words").read_text()


def test_a_restore_that_fails_leaves_no_database(dedup: Dedup, server: Server, blog: str) -> None:
    dedup.ok("snapshot", address(server, blog))
    instead(dedup, "pg_restore", "head -c 100000 >/dev/null; echo disk full >&2; exit 1")

    run = dedup("restore", "--as", f"{blog}_restored")

    assert run.code == "database.restore_failed"
    assert "disk full" in run.err
    assert server.run(f"SELECT count(*) FROM pg_database WHERE datname = '{blog}_restored'", "postgres") == "0"


def test_nothing_that_is_there_is_replaced(dedup: Dedup, server: Server, blog: str) -> None:
    dedup.ok("snapshot", address(server, blog))

    assert dedup("restore", "--as", blog).code == "database.exists"
    assert dedup("restore", "--in-place", "--yes").code == "database.not_replaced"
    assert dedup("db", "swap", address(server, blog), f"{blog}_none", "--yes").exit_code == 8
    assert count(server, blog) == 20_000


def test_roles_that_do_not_exist_are_told(dedup: Dedup, server: Server, blog: str) -> None:
    role = servers.name()
    server.run(f"CREATE ROLE {role}; ALTER TABLE authors OWNER TO {role}; GRANT SELECT ON posts TO {role}", blog)
    dedup.ok("snapshot", address(server, blog))
    server.run(f"REASSIGN OWNED BY {role} TO admin; DROP OWNED BY {role}; DROP ROLE {role}", blog)

    run = dedup("restore", "--as", f"{blog}_restored")

    assert run.exit_code == 3
    assert f"roles that do not exist here: {role}" in run.err
    assert server.run("SELECT count(*) FROM authors", f"{blog}_restored") == "20"


def test_what_is_not_there_is_told(dedup: Dedup, server: Server, blog: str) -> None:
    assert dedup("snapshot", address(server, f"{blog}_typo")).code == "database.unknown"
    assert dedup("snapshot", f"postgresql://admin@127.0.0.1:1/{blog}").code == "database.unreachable"


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


def test_how_long_a_restore_would_take_is_told_when_asked_for(
    dedup: Dedup, server: Server, blog: str, tmp_path: Path
) -> None:
    write(
        tmp_path / "etc" / "config.toml",
        f'[repos.main]\nurl = "{dedup.repository}"\n[sources.blogdb]\ntype = "postgresql"\n'
        f'dsn = "{address(server, blog)}"\npassword = "file:{tmp_path}/db.pass"\nmax_downtime_check = true\n',
    )

    assert 'nobody has restored "blogdb" on this machine' in dedup.ok("snapshot", "blogdb").err
    dedup.ok("restore", "--source", "blogdb", "--as", f"{blog}_restored")

    assert 'a restore of "blogdb" would take about ' in dedup.ok("snapshot", "blogdb").err


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


def test_a_database_named_behind_the_question_mark_is_not_what_a_restore_writes_to(
    dedup: Dedup, server: Server, blog: str
) -> None:
    sockets = server.run("SHOW unix_socket_directories", "postgres")
    by_socket = f"postgresql:///?host={sockets}&port={server.port}&user=admin&dbname={blog}"
    dedup.ok("snapshot", by_socket, "--source", "blog")
    server.run("DELETE FROM posts WHERE id > 100", blog)
    new = servers.name()

    dedup.ok("restore", "--source", "blog", "--as", new)

    assert (count(server, blog), count(server, new)) == (100, 20000)
    dedup.ok("check", "--read-data")


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


def test_a_new_database_has_the_owner_and_the_settings_of_the_old_one(dedup: Dedup, server: Server, blog: str) -> None:
    owner, new = servers.name(), servers.name()
    server.run(
        f"""CREATE ROLE "{owner}" LOGIN; ALTER DATABASE "{blog}" OWNER TO "{owner}";
        ALTER DATABASE "{blog}" SET search_path = "Odd schema", public; ALTER DATABASE "{blog}" SET my.note = 'it''s';""",
        "postgres",
    )
    dedup.ok("snapshot", address(server, blog))

    dedup.ok("restore", "--as", new)

    asked = "SELECT pg_get_userbyid(datdba), (SELECT array_agg(x ORDER BY x) FROM unnest(setconfig) x) FROM pg_database d JOIN pg_db_role_setting s ON s.setdatabase = d.oid"
    found = [server.run(f"{asked} WHERE datname = '{name}'", "postgres") for name in (blog, new)]
    assert owner in found[0] and "my.note" in found[0]
    assert found[0] == found[1]
    dedup.ok("check", "--read-data")


def test_a_new_database_has_the_grants_and_the_locale_of_the_old_one(dedup: Dedup, server: Server) -> None:
    user, owner, lost, old, new = (servers.name() for _ in range(5))
    server.run(
        f"""CREATE ROLE "{owner}"; CREATE ROLE "{user}" LOGIN; CREATE ROLE "{lost}";
        CREATE DATABASE "{old}" TEMPLATE template0 OWNER "{owner}" LOCALE_PROVIDER icu ICU_LOCALE 'de-u-kf-upper'
        LC_COLLATE 'C' LC_CTYPE 'C.UTF-8' CONNECTION LIMIT 7;
        REVOKE ALL ON DATABASE "{old}" FROM PUBLIC; GRANT TEMPORARY ON DATABASE "{old}" TO PUBLIC;
        GRANT CONNECT ON DATABASE "{old}" TO "{user}" WITH GRANT OPTION; GRANT CREATE ON DATABASE "{old}" TO "{lost}";
        ALTER ROLE "{user}" IN DATABASE "{old}" SET search_path = 'a', 'b';
        ALTER DATABASE "{old}" SET my.note = 'a\\''s'; COMMENT ON DATABASE "{old}" IS 'a\\''s';""",
        "postgres",
    )
    dedup.ok("snapshot", address(server, old))
    server.run(f"""REVOKE CREATE ON DATABASE "{old}" FROM "{lost}"; DROP ROLE "{lost}";""", "postgres")

    run = dedup("restore", "--as", new)

    assert run.exit_code == 3
    assert f"was not given what the old one had: CREATE to {lost}" in run.err
    asked = (
        "SELECT pg_get_userbyid(datdba), datlocprovider, daticulocale, datcollate, datctype, datconnlimit, "
        "(SELECT array_agg(x::text ORDER BY x::text) FROM unnest(datacl) x), shobj_description(d.oid, 'pg_database'), "
        "(SELECT array_agg(s.setrole || array_to_string(s.setconfig, '') ORDER BY s.setrole) FROM pg_db_role_setting s "
        "WHERE s.setdatabase = d.oid) FROM pg_database d"
    )
    found = [server.run(f"{asked} WHERE datname = '{name}'", "postgres") for name in (old, new)]
    assert "de-u-kf-upper" in found[0] and f"{user}=c*" in found[0] and "my.note=a\\" in found[0]
    assert found[0] == found[1]
    dedup.ok("check", "--read-data")


def test_a_database_that_lets_nobody_in_is_restored_by_who_is_no_superuser(
    dedup: Dedup, server: Server, tmp_path: Path
) -> None:
    keeper, old = servers.name(), servers.name()
    server.run(f"CREATE ROLE {keeper} LOGIN CREATEDB PASSWORD 'keep'", "postgres")
    server.run(f"CREATE DATABASE {old} OWNER {keeper} CONNECTION LIMIT 0", "postgres")
    server.run(f"SET ROLE {keeper}; CREATE TABLE t (x int); INSERT INTO t VALUES (1), (2)", old)
    dedup.ok("snapshot", address(server, old))
    write_password(tmp_path, "keep")

    run = dedup.ok("restore", "--as", f"{old}_restored", "--target", address(server, "postgres", keeper))

    assert "1 table, 2 rows" in run.out
    asked = f"SELECT datconnlimit FROM pg_database WHERE datname = '{old}_restored'"
    assert server.run(asked, "postgres") == "0"


def test_a_database_whose_public_rights_nobody_changed_keeps_them(dedup: Dedup, server: Server, blog: str) -> None:
    dedup.ok("snapshot", address(server, blog))

    dedup.ok("restore", "--as", f"{blog}_restored")

    asked = f"SELECT count(*) FROM pg_database WHERE datname = '{blog}_restored' AND datacl IS NULL"
    assert server.run(asked, "postgres") == "1"


def test_what_a_manipulated_dump_records_is_no_statement() -> None:
    text = "\\'; \\! touch x; --"
    about = {
        "owner": 'a"; \\! touch x', "grants": [["", "CONNECT; DROP", False]], "connections": "7; DROP", "comment": text,
    }  # fmt: skip

    statements = dict(given(about, "new", {about["owner"]}))

    assert statements == {
        "comment": """COMMENT ON DATABASE "new" IS  E'\\\\''; \\\\! touch x; --';""",
        "owner": """ALTER DATABASE "new" OWNER TO "a""; \\! touch x";""",
        "rights of PUBLIC": """REVOKE ALL ON DATABASE "new" FROM PUBLIC, "a""; \\! touch x";""",
    }
