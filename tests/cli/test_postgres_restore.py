"""PostgreSQL by the command line: restored as a new database with all that belongs to it, and put in place."""

from __future__ import annotations

from pathlib import Path

import pytest

from dedupstore.sources.postgres_database import given
from tests.support import servers
from tests.support.configuration import write
from tests.support.databases import address, count_posts, instead, prepared, write_password
from tests.support.dedup import Dedup
from tests.support.servers import Server


@pytest.fixture
def server(postgres_server: Server) -> Server:
    return postgres_server


@pytest.fixture
def dedup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: Server) -> Dedup:
    return prepared(tmp_path, monkeypatch, server)


def test_a_database_is_restored_as_a_new_one_and_swapped(dedup: Dedup, server: Server, blog: str) -> None:
    taken = dedup.ok("snapshot", address(server, blog), "--json").summary["snapshot"]
    server.run("DELETE FROM posts WHERE id > 100", blog)

    restored = dedup.ok("restore", "--as", f"{blog}_restored")
    assert "3 tables, 20 022 rows" in restored.out
    assert count_posts(server, blog) == 100
    assert count_posts(server, f"{blog}_restored") == 20_000
    dedup.ok("db", "swap", address(server, blog), f"{blog}_restored", "--keep-as", f"{blog}_old", "--yes")

    assert taken["kind"] == "postgresql"
    assert count_posts(server, blog) == 20_000
    assert count_posts(server, f"{blog}_old") == 100
    assert server.run("SELECT count(*) FROM recent", blog) == "5"
    dedup.ok("check", "--read-data")


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


def test_a_partitioned_table_alone_has_its_rows_elsewhere_and_says_so(dedup: Dedup, server: Server, blog: str) -> None:
    server.run(
        "CREATE TABLE parts (x int) PARTITION BY RANGE (x); CREATE TABLE parts1 PARTITION OF parts FOR VALUES FROM (0) TO (9);"
        "INSERT INTO parts VALUES (1), (2)",
        blog,
    )
    dedup.ok("snapshot", address(server, blog))

    run = dedup("restore", "--as", f"{blog}_parts", "--table", "parts")
    both = dedup("restore", "--as", f"{blog}_both", "--table", "parts", "--table", "parts1")
    whole = dedup.ok("restore", "--as", f"{blog}_whole")

    assert run.exit_code == both.exit_code == 3
    assert "public.parts is partitioned, and its rows are in its partitions" in run.err
    assert "(--table), not attached" in run.err
    assert server.run("SELECT count(*) FROM parts1", f"{blog}_both") == "2"
    assert server.run("SELECT count(*) FROM parts", f"{blog}_whole") == "2"
    assert "partition" not in whole.err


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
    assert count_posts(server, blog) == 20_000


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


def test_a_database_named_behind_the_question_mark_is_not_what_a_restore_writes_to(
    dedup: Dedup, server: Server, blog: str
) -> None:
    sockets = server.run("SHOW unix_socket_directories", "postgres")
    by_socket = f"postgresql:///?host={sockets}&port={server.port}&user=admin&dbname={blog}"
    dedup.ok("snapshot", by_socket, "--source", "blog")
    server.run("DELETE FROM posts WHERE id > 100", blog)
    new = servers.name()

    dedup.ok("restore", "--source", "blog", "--as", new)

    assert (count_posts(server, blog), count_posts(server, new)) == (100, 20000)
    dedup.ok("check", "--read-data")


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
    dedup.ok("check", "--read-data")


def test_a_database_whose_public_rights_nobody_changed_keeps_them(dedup: Dedup, server: Server, blog: str) -> None:
    dedup.ok("snapshot", address(server, blog))

    dedup.ok("restore", "--as", f"{blog}_restored")

    asked = f"SELECT count(*) FROM pg_database WHERE datname = '{blog}_restored' AND datacl IS NULL"
    assert server.run(asked, "postgres") == "1"
    dedup.ok("check", "--read-data")


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


def test_rows_that_the_options_leave_out_are_no_difference(
    dedup: Dedup, server: Server, blog: str, tmp_path: Path
) -> None:
    config = tmp_path / "etc" / "config.toml"
    text = f'[sources.blog]\ntype = "postgresql"\ndsn = "{address(server, blog)}"\npassword = "file:{tmp_path}/db.pass"\noptions = OPTIONS\n'
    options = """["--exclude-table-data=Post?", "--exclude-table-data", "\\"Odd schema\\".*"]"""
    write(config, text.replace("OPTIONS", options))
    dedup.ok("snapshot", "blog")

    run = dedup.ok("restore", "--source", "blog", "--as", f"{blog}_restored")

    assert 'the table "public.posts" has no rows, as the options of the source say; it had 20000' in run.err
    assert (
        server.run("SELECT (SELECT count(*) FROM posts), (SELECT count(*) FROM authors)", f"{blog}_restored") == "0|20"
    )
    dedup.ok("check", "--read-data")
