"""MariaDB by the command line: dumped as of one instant, restored as a new database, put in place."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from pathlib import Path

import pytest

from dedupstore.cancel import CancelToken
from dedupstore.errors import TargetFailed
from dedupstore.sources import mysql_accounts
from dedupstore.sources.mysql_client import MysqlClient
from dedupstore.sources.mysql_target import NewMysqlDatabase
from tests.support import servers
from tests.support.configuration import write
from tests.support.databases import address, instead, prepared, snapshots, write_password
from tests.support.dedup import Dedup
from tests.support.servers import MARIADB_PASSWORD, Server


@pytest.fixture
def server(mariadb_server: Server) -> Server:
    return mariadb_server


@pytest.fixture
def dedup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: Server) -> Dedup:
    return prepared(tmp_path, monkeypatch, server)


@pytest.fixture
def shop(server: Server) -> str:
    """A database with texts that look like SQL, a key between its tables, and an empty one."""
    name = servers.name()
    server.run(f"CREATE DATABASE {name} CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci")
    server.run(
        """
        CREATE TABLE items (id int PRIMARY KEY AUTO_INCREMENT, body text, raw blob);
        CREATE TABLE orders (id int PRIMARY KEY, item int, FOREIGN KEY (item) REFERENCES items (id));
        CREATE TABLE `odd ``name` (x int);
        INSERT INTO items (body, raw) VALUES ('a\\n(1', 'x'), (');\\nINSERT INTO `orders` VALUES\\n(7', x'0a28'), (NULL, NULL);
        INSERT INTO items (body) SELECT concat(md5(seq), md5(seq), md5(seq + 1), md5(seq + 2)) FROM seq_1_to_20000;
        INSERT INTO orders SELECT seq, seq FROM seq_1_to_50;
        """,
        name,
    )
    return name


def count(server: Server, database: str) -> int:
    return int(server.run("SELECT count(*) FROM items", database))


def test_a_database_is_restored_as_a_new_one_and_swapped(dedup: Dedup, server: Server, shop: str) -> None:
    dedup.ok("snapshot", address(server, shop))
    server.run("DELETE FROM orders; DELETE FROM items WHERE id > 100", shop)

    restored = dedup.ok("restore", "--as", f"{shop}_restored")
    assert "3 tables, 20 053 rows" in restored.out
    assert count(server, shop) == 100
    dedup.ok("db", "swap", address(server, shop), f"{shop}_restored", "--keep-as", f"{shop}_old", "--yes")

    assert count(server, shop) == 20_003
    assert count(server, f"{shop}_old") == 100
    assert server.run(f"SHOW DATABASES LIKE '{shop}_restored'") == ""
    dedup.ok("check", "--read-data")


def test_the_address_counts_whatever_the_home_directory_says(
    dedup: Dedup, server: Server, shop: str, tmp_path: Path
) -> None:
    (tmp_path / ".my.cnf").write_text("[client]\nuser = root\npassword = another\n[mariadb-client]\nuser = nobody\n")
    dedup.setenv("HOME", str(tmp_path))

    taken = dedup.ok("snapshot", address(server, shop), "--json").summary["snapshot"]

    assert taken["kind"] == "mysql"
    dedup.ok("check", "--read-data")


def test_an_unchanged_database_makes_no_second_snapshot(dedup: Dedup, server: Server, shop: str) -> None:
    dedup.ok("snapshot", address(server, shop))

    assert dedup.ok("snapshot", address(server, shop), "--skip-if-unchanged", "--json").summary["unchanged"] is True


def test_the_rows_of_the_dump_are_recorded(dedup: Dedup, server: Server, shop: str) -> None:
    dedup.ok("snapshot", address(server, shop))

    about = json.loads(dedup.ok("cat", f"latest:{shop}.sql.tables.json").out)

    rows = {table["name"]: table["rows"] for table in about["tables"]}
    assert rows == {"items": 20_003, "orders": 50, "odd `name": 0}


def test_the_second_dump_costs_what_changed(dedup: Dedup, server: Server, shop: str) -> None:
    dedup.ok("snapshot", address(server, shop))
    server.run("UPDATE items SET body = 'changed' WHERE id % 2000 = 0", shop)

    counts = dedup.ok("snapshot", address(server, shop), "--json").summary["bytes"]

    assert counts["read"] > 2_500_000
    assert counts["stored"] < 200_000


def test_a_wrong_password_makes_no_snapshot(dedup: Dedup, server: Server, shop: str, tmp_path: Path) -> None:
    write_password(tmp_path, "not-the-password")

    run = dedup("snapshot", address(server, shop))

    assert run.code == "database.login_failed"
    assert "not-the-password" not in run.err
    assert snapshots(dedup) == 0


def test_missing_rights_name_the_grant_that_helps(dedup: Dedup, server: Server, shop: str, tmp_path: Path) -> None:
    user = servers.name()
    server.run(f"CREATE USER {user}@'%' IDENTIFIED BY 'secret'; GRANT SELECT ON {shop}.orders TO {user}@'%'")
    server.run(f"GRANT SHOW VIEW ON {shop}.* TO {user}@'%'")
    write_password(tmp_path, "secret")

    run = dedup("snapshot", address(server, shop, user))
    assert run.code == "database.missing_rights"
    assert "GRANT SELECT, SHOW VIEW, TRIGGER, EVENT, LOCK TABLES ON *.* TO" in run.err
    assert snapshots(dedup) == 0
    server.run(f"GRANT SELECT, SHOW VIEW, TRIGGER, EVENT, LOCK TABLES ON *.* TO {user}@'%'")

    dedup.ok("snapshot", address(server, shop, user))


@pytest.mark.parametrize("end", ["kill -9 $$", "exit 0"])
def test_half_a_dump_makes_no_snapshot(dedup: Dedup, server: Server, shop: str, end: str) -> None:
    instead(
        dedup, "mariadb-dump",
        'if [ "$1" = --version ]; then exec /usr/bin/mariadb-dump --version; fi\n'
        f'/usr/bin/mariadb-dump "$@" | head -c 1000000\n{end}',
    )  # fmt: skip

    assert dedup("snapshot", address(server, shop)).exit_code == 6
    assert snapshots(dedup) == 0


def test_nothing_that_is_there_is_replaced(dedup: Dedup, server: Server, shop: str) -> None:
    dedup.ok("snapshot", address(server, shop))

    assert dedup("restore", "--as", shop).code == "database.exists"
    dedup.ok("restore", "--as", f"{shop}_restored")
    other = f"{shop}_other"
    server.run(f"CREATE DATABASE {other}; CREATE TABLE {other}.t (x int)")
    swap = ("db", "swap", address(server, shop), f"{shop}_restored", "--keep-as", other, "--yes")
    assert dedup(*swap).code == "database.exists"
    assert count(server, shop) == 20_003


def test_what_is_not_there_is_told(dedup: Dedup, server: Server, shop: str) -> None:
    assert dedup("snapshot", address(server, f"{shop}_typo")).code == "database.unknown"
    assert dedup("snapshot", f"mysql://backup@127.0.0.1:1/{shop}").code == "database.unreachable"


def test_the_live_database_is_not_altered_by_a_restore(dedup: Dedup, server: Server, shop: str) -> None:
    server.run("CREATE PROCEDURE p() SELECT 1", shop)
    server.run(f"ALTER DATABASE {shop} COLLATE utf8mb4_general_ci")
    dedup.ok("snapshot", address(server, shop))
    server.run(f"ALTER DATABASE {shop} COLLATE utf8mb4_bin")
    collation = f"SELECT default_collation_name FROM information_schema.schemata WHERE schema_name = '{shop}"

    dedup.ok("restore", "--as", f"{shop}_restored")
    assert server.run(f"{collation}'") == "utf8mb4_bin"
    assert server.run(f"{collation}_restored'") == "utf8mb4_general_ci"
    server.run(f"DROP DATABASE {shop}")
    dedup.ok("restore", "--as", f"{shop}_again")

    made = f"SELECT database_collation FROM information_schema.routines WHERE routine_schema = '{shop}_again'"
    assert server.run(made) == "utf8mb4_unicode_ci"
    dedup.ok("check", "--read-data")


def test_events_that_the_program_cannot_dump_are_told(dedup: Dedup, server: Server, tmp_path: Path) -> None:
    name = f"{servers.name()}'s"
    server.run(f"CREATE DATABASE `{name}`; CREATE TABLE `{name}`.t (x int)")
    server.run("CREATE EVENT e ON SCHEDULE EVERY 1 DAY DISABLE DO DO 0", name)

    run = dedup("snapshot", address(server, name))

    assert run.code == "database.not_dumpable"
    assert "mariadb-dump cannot dump the events" in run.err
    write(
        tmp_path / "etc" / "config.toml",
        f'[sources.it]\ntype = "mysql"\ndsn = "{address(server, name)}"\npassword = "file:{tmp_path}/db.pass"\noptions = ["--skip-events"]\n',
    )
    dedup.ok("snapshot", "it")
    dedup.ok("check", "--read-data")


def test_a_server_is_looked_at(dedup: Dedup, server: Server, shop: str) -> None:
    assert shop in dedup.ok("db", "list", address(server, shop)).out.split()
    tables = dedup.ok("db", "tables", address(server, shop), "--json").document["tables"]
    tested = dedup.ok("db", "test", address(server, shop)).out

    assert {(table["name"], table["rows"]) for table in tables} == {("items", 20_003), ("orders", 50), ("odd `name", 0)}
    assert "in 3 files" in tested


def test_the_address_wins_against_the_file_of_the_user(dedup: Dedup, server: Server, shop: str, tmp_path: Path) -> None:
    own = tmp_path / "home of the user"
    own.mkdir()
    (own / ".my.cnf").write_text("[client]\nhost=192.0.2.1\nport=1\nuser=nobody\npassword=wrong\n[mariadb]\nport=2\n")
    (own / ".my.cnf").chmod(0o600)
    dedup.setenv("HOME", str(own))

    assert "ok" in dedup.ok("db", "test", address(server, shop)).out


def test_single_tables_come_back(dedup: Dedup, server: Server, shop: str) -> None:
    server.run(
        "CREATE TRIGGER t AFTER DELETE ON orders FOR EACH ROW UPDATE items SET body = 'x' WHERE id = OLD.item;"
        "CREATE VIEW v AS SELECT id FROM items",
        shop,
    )
    dedup.ok("snapshot", address(server, shop))

    restored = dedup.ok("restore", "--as", f"{shop}_one", "--table", "orders", "--table", "odd `name", "--json").summary

    assert (restored["tables"], restored["rows"]) == (2, 50)
    assert server.run("SHOW TABLES", f"{shop}_one").split("\n") == ["odd `name", "orders"]
    assert server.run("SHOW TRIGGERS", f"{shop}_one").startswith("t\t")
    assert dedup("restore", "--as", f"{shop}_none", "--table", "nonsense").exit_code == 5


def test_tables_that_a_transaction_does_not_protect_are_told(dedup: Dedup, server: Server, shop: str) -> None:
    server.run("CREATE TABLE hits (x int) ENGINE = MyISAM; CREATE TABLE tags (x int) ENGINE = Aria", shop)

    run = dedup.ok("snapshot", address(server, shop))

    told = [line for line in run.err.splitlines() if "it is not of the same instant" in line]
    assert [line.split(":")[1].split()[0] for line in told] == [f"{shop}.hits", f"{shop}.tags"]
    assert "a table of MyISAM" in told[0]


def test_a_table_that_is_altered_during_the_dump_is_dumped_again(dedup: Dedup, server: Server, shop: str) -> None:
    instead(dedup, "mariadb-dump", ALTERED)
    _give_away(dedup, server, shop, "ALTER TABLE z ADD y int, FORCE")
    server.run("CREATE TABLE z (x int); INSERT INTO z VALUES (1), (2), (3)", shop)

    run = dedup.ok("snapshot", address(server, shop))

    assert "a table was altered while it was dumped" in run.err
    assert "dumped again" in run.err
    about = json.loads(dedup.ok("cat", f"latest:{shop}.sql.tables.json").out)
    assert {table["name"]: table["rows"] for table in about["tables"]}["z"] == 3
    dedup.ok("restore", "--as", f"{shop}_restored")
    assert server.run("SELECT count(*), count(y) FROM z", f"{shop}_restored") == "3\t0"
    dedup.ok("check", "--read-data")


def test_a_table_that_is_altered_all_the_time_makes_no_snapshot(dedup: Dedup, server: Server, shop: str) -> None:
    instead(dedup, "mariadb-dump", ALTERED.replace("rm ", "true "))
    _give_away(dedup, server, shop, "ALTER TABLE z ADD IF NOT EXISTS y int, ADD COLUMN IF NOT EXISTS w int, FORCE")
    server.run("CREATE TABLE z (x int); INSERT INTO z VALUES (1), (2), (3)", shop)

    assert dedup("snapshot", address(server, shop)).code == "database.altered"
    assert snapshots(dedup) == 0


def test_a_dump_whose_connection_the_server_ends_makes_no_snapshot(dedup: Dedup, server: Server, shop: str) -> None:
    instead(dedup, "mariadb-dump", ALTERED)
    _give_away(
        dedup, server, shop,
        "SELECT concat('KILL ', id) INTO @kill FROM information_schema.processlist WHERE info LIKE '%items%' "
        "AND info NOT LIKE '%processlist%' LIMIT 1; EXECUTE IMMEDIATE @kill",
    )  # fmt: skip

    run = dedup("snapshot", address(server, shop))

    assert run.code == "database.session_ended"
    assert snapshots(dedup) == 0
    dedup.ok("check", "--read-data")


ALTERED = """
if [ "$1" = --version ]; then exec /usr/bin/mariadb-dump --version; fi
/usr/bin/mariadb-dump "$@" | {
  head -c 100000
  if [ -e "$TEST_SQL" ]; then $TEST_ASK < "$TEST_SQL" >&2; rm "$TEST_SQL"; fi
  cat
}
exit ${PIPESTATUS[0]}
"""
"""Runs statements of ours when the dump has begun, and the program cannot go on: nobody reads what it says."""


def _give_away(dedup: Dedup, server: Server, database: str, sql: str) -> None:
    """What the administrator does meanwhile. The first table is far larger than what is under way between server and program."""
    server.run("INSERT INTO items (body) SELECT repeat(md5(seq), 1000) FROM seq_1_to_1000", database)
    (dedup.home / "sql").write_text(sql)
    dedup.setenv("TEST_SQL", str(dedup.home / "sql"))
    dedup.setenv("TEST_ASK", " ".join([*server.ask, database]))


TOUCHES = (
    "\\! touch {0}\n", "SELECT 1 \\! touch {0}\n", "system touch {0}\n", "tee {0}\nSELECT 1;\n", "\\T {0}\nSELECT 1;\n",
    "source {1}\n", "\\. {1}\n", "delimiter ;\n\\! touch {0}\n", "pager touch {0}\nSELECT 1;\n",
    "LOAD DATA LOCAL INFILE '{1}' INTO TABLE t;\n",
)  # fmt: skip
"""What makes a file when the client obeys it, or reads one of this machine."""


@pytest.mark.parametrize("line", TOUCHES)
def test_a_dump_commands_nothing_on_this_machine(server: Server, tmp_path: Path, line: str) -> None:
    made, script, name = tmp_path / "made", tmp_path / "script", servers.name()
    script.write_text(f"\\! touch {made}\n")
    dump = f"CREATE TABLE t (body text);\n{line.format(made, script)};\n-- Dump completed\n"
    client = MysqlClient(address(server, ""), MARIADB_PASSWORD, (), dict(os.environ))
    client.open(CancelToken())

    with (
        contextlib.closing(client),
        contextlib.suppress(TargetFailed),
        NewMysqlDatabase(client, name, {}, CancelToken()) as new,
    ):
        new.write(dump.encode())
        new.finish()

    assert not made.exists()
    assert server.run(f"SELECT count(*) FROM information_schema.tables WHERE table_schema = '{name}'") == "0"


def test_a_client_that_would_obey_a_dump_is_given_none(dedup: Dedup, server: Server, shop: str) -> None:
    dedup.ok("snapshot", address(server, shop))
    instead(
        dedup, "mariadb",
        'if [ "$2" = --help ]; then exec echo --sandbox; fi\nexec /usr/bin/mariadb "$@"',
    )  # fmt: skip

    run = dedup("restore", "--as", f"{shop}_restored")

    assert run.code == "database.client_too_old"
    assert server.run(f"SHOW DATABASES LIKE '{shop}_restored'") == ""
    dedup.ok("check", "--read-data")


def test_accounts_of_a_manipulated_script_command_nothing(server: Server, tmp_path: Path) -> None:
    made, user = tmp_path / "made", servers.name()
    script = f"-- head\n-- `{user}`@`%`\nCREATE USER `{user}`@`%`\n\\! touch {made}\n;\n"
    client = MysqlClient(address(server, ""), MARIADB_PASSWORD, (), dict(os.environ))
    client.open(CancelToken())

    with contextlib.closing(client):
        problems = dict(mysql_accounts.give(client, script, CancelToken()))

    assert problems[f"`{user}`@`%`"]
    assert not made.exists()


def test_a_snapshot_asks_over_one_connection_beside_that_of_the_dump(dedup: Dedup, server: Server, shop: str) -> None:
    def connections() -> int:
        return int(server.run("SHOW GLOBAL STATUS LIKE 'Connections'").split()[1])

    first = connections()
    own = connections() - first
    before = connections()
    dedup.ok("snapshot", address(server, shop))

    assert connections() - before - own == 2


def test_a_dump_that_nobody_may_describe_is_ended_at_once(dedup: Dedup, server: Server, shop: str) -> None:
    instead(dedup, "mariadb-dump", '[ "$1" = --version ] && exec /usr/bin/mariadb-dump --version; exec cat /dev/zero')
    dedup.setenv("DEDUP_DATABASE_PASSWORD_FILE", "")

    run = dedup("snapshot", address(server, "nowhere", servers.name()))

    assert run.code == "database.login_failed"
    assert snapshots(dedup) == 0


def test_an_account_that_may_not_connect_again_is_told_how_many_connections_it_needs(
    dedup: Dedup, server: Server, shop: str, tmp_path: Path
) -> None:
    user = servers.name()
    server.run(f"CREATE USER {user}@'%' IDENTIFIED BY 'secret' WITH MAX_USER_CONNECTIONS 1")
    write_password(tmp_path, "secret")
    login = ("--no-defaults", "-h127.0.0.1", f"-P{server.port}", f"-u{user}", "-psecret")

    with subprocess.Popen(("mariadb", *login, "-BNn"), stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdin is not None and other.stdout is not None
        other.stdin.write(b"SELECT 1;\n")
        other.stdin.flush()
        assert other.stdout.readline() == b"1\n"
        run = dedup("snapshot", address(server, shop, user))
        other.stdin.close()

    assert run.code == "database.unreachable"
    assert f"ALTER USER '{user}'@'%' WITH MAX_USER_CONNECTIONS 2" in run.err
    assert snapshots(dedup) == 0
