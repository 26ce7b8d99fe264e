"""MariaDB by whom the server does not let do everything: definers that may not be taken, missing rights, a plain locale."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import servers
from tests.support.databases import address, prepared, write_password
from tests.support.dedup import Dedup
from tests.support.servers import Server


@pytest.fixture
def server(mariadb_server: Server) -> Server:
    return mariadb_server


@pytest.fixture
def dedup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: Server) -> Dedup:
    return prepared(tmp_path, monkeypatch, server)


@pytest.fixture
def keeper(server: Server) -> str:
    """A user who may do everything with any database, and take the name of nobody."""
    name = servers.name()
    server.run(
        f"CREATE USER {name}@'%' IDENTIFIED BY 'keep'; GRANT SELECT, INSERT, CREATE, DROP, ALTER, INDEX, REFERENCES, TRIGGER, "
        f"EVENT, CREATE VIEW, SHOW VIEW, CREATE ROUTINE, ALTER ROUTINE, LOCK TABLES ON *.* TO {name}@'%'"
    )
    return name


@pytest.fixture
def shop(server: Server) -> str:
    """A database with all that has a definer, who is another user; a text in it looks like one."""
    name, definer = servers.name(), servers.name()
    server.run(f"CREATE DATABASE {name}; CREATE USER {definer}@'%'; GRANT SELECT ON {name}.* TO {definer}@'%'")
    server.run(
        f"""
        CREATE TABLE items (id int PRIMARY KEY, body text);
        INSERT INTO items VALUES (1, '\\n/*!50013 DEFINER=`a`@`b` SQL SECURITY DEFINER */'), (2, NULL);
        CREATE DEFINER={definer}@'%' VIEW seen AS SELECT id FROM items;
        CREATE DEFINER={definer}@'%' TRIGGER before_items BEFORE INSERT ON items FOR EACH ROW SET NEW.body = 'x';
        CREATE DEFINER={definer}@'%' PROCEDURE work() SELECT 1;
        CREATE DEFINER={definer}@'%' FUNCTION one() RETURNS int RETURN 1;
        CREATE DEFINER={definer}@'%' EVENT daily ON SCHEDULE EVERY 1 DAY DO SELECT 1;
        """,
        name,
    )
    return name


def test_a_definer_that_may_not_be_taken_is_told_with_what_helps(
    dedup: Dedup, server: Server, shop: str, keeper: str, tmp_path: Path
) -> None:
    dedup.ok("snapshot", address(server, shop))
    write_password(tmp_path, "keep")

    run = dedup("restore", "--as", f"{shop}_new", "--target", address(server, "", keeper))

    assert run.code == "database.owner_refused"
    assert "--no-owners" in run.err
    assert "version" not in run.err
    assert "-----" not in run.err
    assert f"{shop}_new" not in server.run("SHOW DATABASES").split()


def test_without_owners_who_restores_is_the_definer(
    dedup: Dedup, server: Server, shop: str, keeper: str, tmp_path: Path
) -> None:
    dedup.ok("snapshot", address(server, shop))
    write_password(tmp_path, "keep")

    dedup.ok("restore", "--as", f"{shop}_new", "--no-owners", "--target", address(server, "", keeper))

    found = server.run(
        " UNION ALL ".join(
            f"SELECT concat(count(*), ' ', min(definer)) FROM information_schema.{table} WHERE {column} = '{shop}_new'"
            for table, column in (
                ("views", "table_schema"), ("triggers", "trigger_schema"), ("routines", "routine_schema"), ("events", "event_schema"),
            )
        )
    ).splitlines()  # fmt: skip
    assert found == [f"{count} {keeper}@%" for count in (1, 1, 2, 1)]
    query = "SELECT hex(group_concat(body)) FROM items"
    assert server.run(query, f"{shop}_new") == server.run(query, shop)
    dedup.ok("check", "--read-data")


def test_who_may_make_no_database_is_told_the_right_that_is_missing(
    dedup: Dedup, server: Server, shop: str, tmp_path: Path
) -> None:
    user = servers.name()
    server.run(f"CREATE USER {user}@'%' IDENTIFIED BY 'keep'")
    dedup.ok("snapshot", address(server, shop))
    write_password(tmp_path, "keep")

    run = dedup("restore", "--as", f"{shop}_new", "--target", address(server, "", user))

    assert run.code == "database.missing_rights"
    assert f"GRANT ALL ON `{shop}_new`.* TO '{user}'@'%';" in run.err
    assert "-----" not in run.err


def test_names_in_any_letters_do_not_need_a_locale(dedup: Dedup, server: Server, tmp_path: Path) -> None:
    name = f"{servers.name()}_ключ"
    server.run(f"SET NAMES utf8mb4; CREATE DATABASE `{name}`")
    server.run("SET NAMES utf8mb4; CREATE TABLE `таблица` (x int); INSERT INTO `таблица` VALUES (1)", name)
    for variable in ("LANG", "LC_ALL", "LC_CTYPE"):
        dedup.setenv(variable, None)
    place = address(server, name)

    assert name in dedup.ok("db", "list", place, "--json").document["databases"]
    assert dedup.ok("db", "tables", place, "--json").document["tables"] == [{"name": "таблица", "rows": 1}]
    dedup.ok("snapshot", place)
    dedup.ok("restore", "--as", f"{name}_2")
    dedup.ok("db", "swap", place, f"{name}_2", "--keep-as", f"{name}_3", "--yes")
    dedup.ok("check", "--read-data")
