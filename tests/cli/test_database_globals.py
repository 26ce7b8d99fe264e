"""What a server has beside its databases: users, roles and rights, kept with a snapshot and given back when asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import servers
from tests.support.databases import address, prepared, write_password
from tests.support.servers import Server


def test_users_of_mariadb_come_back_only_when_asked_for_and_only_those_that_are_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mariadb_server: Server
) -> None:
    server, dedup = mariadb_server, prepared(tmp_path, monkeypatch, mariadb_server)
    shop, app, kept, role = (servers.name() for _ in range(4))
    server.run(
        f"CREATE DATABASE {shop}; CREATE TABLE {shop}.items (id int PRIMARY KEY); INSERT INTO {shop}.items VALUES (1);"
        f"CREATE ROLE {role}; GRANT SELECT ON {shop}.* TO {role};"
        f"CREATE USER {app}@'127.0.0.1' IDENTIFIED BY 'app''s secret'; GRANT {role} TO {app}@'127.0.0.1';"
        f"SET DEFAULT ROLE {role} FOR {app}@'127.0.0.1'; CREATE USER {kept}@'%'; GRANT ALL ON {shop}.* TO {kept}@'%'"
    )
    dedup.ok("snapshot", address(server, shop))
    server.run(f"DROP USER {app}@'127.0.0.1'; DROP ROLE {role}; REVOKE ALL ON {shop}.* FROM {kept}@'%'")

    dedup.ok("restore", "--as", f"{shop}_plain")
    assert server.run(f"SELECT count(*) FROM mysql.user WHERE user IN ('{app}', '{role}')") == "0"
    run = dedup.ok("restore", "--as", f"{shop}_restored", "--globals")

    assert f"`{app}`@`127.0.0.1` was made, with its rights" in run.err
    assert kept not in run.err
    assert f"`{shop}`" not in server.run(f"SHOW GRANTS FOR {kept}@'%'")
    # The lost user logs in with the password it had, and reads by the role it had.
    write_password(tmp_path, "app's secret")
    assert dedup.ok("db", "tables", address(server, shop, app), "--json").document["tables"] == [
        {"name": "items", "rows": 1}
    ]
    dedup.ok("check", "--read-data")


def test_who_may_not_grant_is_told_without_a_hash_and_the_database_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mariadb_server: Server
) -> None:
    server, dedup = mariadb_server, prepared(tmp_path, monkeypatch, mariadb_server)
    shop, app, user = (servers.name() for _ in range(3))
    server.run(
        f"CREATE DATABASE {shop}; CREATE TABLE {shop}.items (id int); CREATE USER {user}@'%' IDENTIFIED BY 'secret';"
        f"GRANT ALL ON *.* TO {user}@'%'; CREATE USER {app}@'%' IDENTIFIED BY 'app'"
    )
    dedup.ok("snapshot", address(server, shop))
    server.run(f"DROP USER {app}@'%'")
    write_password(tmp_path, "secret")

    run = dedup("restore", "--as", f"{shop}_restored", "--globals", "--target", address(server, shop, user))

    assert run.exit_code == 3
    assert f"`{app}`@`%` could not be made as it was: ERROR 1045" in run.err
    assert "IDENTIFIED" not in run.err
    assert server.run("SHOW TABLES", f"{shop}_restored") == "items"


def test_users_that_may_not_be_seen_are_told_and_stop_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mariadb_server: Server
) -> None:
    server, dedup = mariadb_server, prepared(tmp_path, monkeypatch, mariadb_server)
    shop, user = servers.name(), servers.name()
    server.run(
        f"CREATE DATABASE {shop}; CREATE TABLE {shop}.items (id int PRIMARY KEY);"
        f"CREATE USER {user}@'127.0.0.0/255.0.0.0' IDENTIFIED BY 'secret';"
        f"GRANT SELECT, SHOW VIEW, TRIGGER, EVENT, LOCK TABLES ON {shop}.* TO {user}@'127.0.0.0/255.0.0.0'"
    )
    write_password(tmp_path, "secret")

    run = dedup.ok("snapshot", address(server, shop, user))

    assert "users and their rights are not kept" in run.err
    assert f"ON *.* TO '{user}'@'127.0.0.0/255.0.0.0'" in run.err
    names = [entry["path"] for entry in dedup.ok("ls", "latest", "--json").document["entries"]]
    assert names == [f"{shop}.sql", f"{shop}.sql.tables.json"]
    assert dedup("restore", "--as", f"{shop}_restored", "--globals").exit_code == 5
    dedup.ok("check", "--read-data")


def test_lost_roles_of_postgresql_come_back_with_what_they_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, postgres_server: Server
) -> None:
    server, dedup = postgres_server, prepared(tmp_path, monkeypatch, postgres_server)
    blog, owner, group = servers.name(), f"{servers.name()} x", servers.name()
    server.run(f"CREATE DATABASE {blog}", "postgres")
    server.run(
        f'CREATE ROLE {group}; CREATE ROLE "{owner}" LOGIN CREATEDB; GRANT {group} TO "{owner}";'
        f'CREATE TABLE posts (id int); ALTER TABLE posts OWNER TO "{owner}"',
        blog,
    )
    dedup.ok("snapshot", address(server, blog))
    server.run(f'DROP TABLE posts; DROP ROLE "{owner}"', blog)

    run = dedup.ok("restore", "--as", f"{blog}_restored", "--globals")

    assert f"{owner} was made, with its rights" in run.err
    assert server.run("SELECT tableowner FROM pg_tables WHERE tablename = 'posts'", f"{blog}_restored") == owner
    assert server.run(f"SELECT rolcreatedb FROM pg_roles WHERE rolname = '{owner}'", blog) == "t"
    assert server.run(f"SELECT pg_has_role('{owner}', '{group}', 'member')", blog) == "t"
    dedup.ok("check", "--read-data")
