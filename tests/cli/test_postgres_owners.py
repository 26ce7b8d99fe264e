"""PostgreSQL restored by who is no superuser: owners that may not be taken, and the option that leaves them out."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import servers
from tests.support.databases import address, count_posts, prepared, write_password
from tests.support.dedup import Dedup
from tests.support.servers import Server

KEEPER = "keep its own"
"""A role that may make databases, and is no member of any other."""


@pytest.fixture
def server(postgres_server: Server) -> Server:
    return postgres_server


@pytest.fixture
def dedup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: Server) -> Dedup:
    return prepared(tmp_path, monkeypatch, server)


@pytest.fixture
def owned(dedup: Dedup, server: Server, blog: str, tmp_path: Path) -> str:
    """A snapshot of `blog`, all of which belongs to a role that others have rights from; KEEPER is who asks from now on."""
    owner, reader = servers.name(), servers.name()
    server.run(
        f"""CREATE ROLE "{owner}"; CREATE ROLE "{reader}" LOGIN; ALTER DATABASE "{blog}" OWNER TO "{owner}";
        ALTER TABLE authors OWNER TO "{owner}"; ALTER TABLE posts OWNER TO "{owner}"; GRANT SELECT ON posts TO "{reader}";
        ALTER DEFAULT PRIVILEGES FOR ROLE "{owner}" GRANT SELECT ON TABLES TO "{reader}";
        REVOKE ALL ON DATABASE "{blog}" FROM PUBLIC; GRANT CONNECT ON DATABASE "{blog}" TO "{reader}";
        COMMENT ON DATABASE "{blog}" IS 'what it is for';""",
        blog,
    )
    dedup.ok("snapshot", address(server, blog))
    if not server.run(f"SELECT 1 FROM pg_roles WHERE rolname = '{KEEPER}'", "postgres"):
        server.run(f"CREATE ROLE \"{KEEPER}\" LOGIN CREATEDB PASSWORD 'keep'", "postgres")
    write_password(tmp_path, "keep")
    return owner


def _target(server: Server, user: str = "keep%20its%20own") -> tuple[str, str]:
    return "--target", address(server, "postgres", user)


def test_an_owner_that_may_not_be_taken_is_named_with_what_helps(
    dedup: Dedup, server: Server, blog: str, owned: str
) -> None:
    run = dedup("restore", "--as", f"{blog}_restored", *_target(server))

    assert run.code == "database.owner_refused"
    assert f"{KEEPER} may not give anything to " in run.err
    assert "--no-owners" in run.err
    assert "version" not in run.err
    assert server.run(f"SELECT count(*) FROM pg_database WHERE datname = '{blog}_restored'", "postgres") == "0"


def test_without_owners_everything_belongs_to_who_restores(dedup: Dedup, server: Server, blog: str, owned: str) -> None:
    new = f"{blog}_restored"

    run = dedup.ok("restore", "--as", new, "--no-owners", *_target(server))

    assert "3 tables, 20 022 rows" in run.out
    assert count_posts(server, new) == 20_000
    owners = "SELECT DISTINCT pg_get_userbyid(relowner) FROM pg_class WHERE relkind IN ('r', 'v', 'S') AND relnamespace = 'public'::regnamespace"
    assert server.run(owners, new) == KEEPER
    asked = "SELECT pg_get_userbyid(datdba), shobj_description(oid, 'pg_database'), array_to_string(datacl, ' ') FROM pg_database"
    # Nobody else has a right to it, not even the one that everybody has to a database.
    assert (
        server.run(f"{asked} WHERE datname = '{new}'", "postgres")
        == f'{KEEPER}|what it is for|"{KEEPER}"=CTc/"{KEEPER}"'
    )
    dedup.ok("check", "--read-data")


def test_single_tables_come_back_without_their_owner(dedup: Dedup, server: Server, blog: str, owned: str) -> None:
    dedup.ok("restore", "--as", f"{blog}_one", "--table", "authors", "--no-owners", *_target(server))

    assert server.run("SELECT tableowner FROM pg_tables WHERE tablename = 'authors'", f"{blog}_one") == KEEPER


def test_roles_that_do_not_exist_are_no_difference_to_who_wants_none(
    dedup: Dedup, server: Server, blog: str, owned: str
) -> None:
    server.run(f'REASSIGN OWNED BY "{owned}" TO admin; DROP OWNED BY "{owned}"; DROP ROLE "{owned}"', blog)

    told = dedup("restore", "--as", f"{blog}_told", *_target(server))
    dedup.ok("restore", "--as", f"{blog}_restored", "--no-owners", *_target(server))

    assert told.exit_code == 3
    assert "--no-owners" in told.err


def test_large_objects_that_may_not_be_read_are_told_with_the_grants_that_help(
    dedup: Dedup, server: Server, blog: str, tmp_path: Path
) -> None:
    user = servers.name()
    server.run(f"CREATE ROLE {user} LOGIN PASSWORD 'keep'; GRANT pg_read_all_data TO {user}; SELECT lo_create(0)", blog)
    write_password(tmp_path, "keep")

    run = dedup("snapshot", address(server, blog, user))

    assert run.code == "database.missing_rights"
    (line,) = (line for line in run.err.splitlines() if "gexec" in line)
    server.run(line.partition("superuser: ")[2], blog)
    dedup.ok("snapshot", address(server, blog, user))
    dedup.ok("check", "--read-data")


def test_databases_and_owners_with_line_breaks_in_their_names(dedup: Dedup, server: Server) -> None:
    name = f"{servers.name()}\nx"
    server.run(f'CREATE ROLE "{name}"', "postgres")
    server.run(f'CREATE DATABASE "{name}" OWNER "{name}"', "postgres")
    place = address(server, name.replace("\n", "%0A"))

    assert name.replace("\n", "\\x0a") in dedup.ok("db", "list", place, "--json").document["databases"]
    dedup.ok("snapshot", place)
    dedup.ok("restore", "--as", f"{name}2")
    assert dedup("restore", "--as", f"{name}2").code == "database.exists"
    dedup.ok("db", "swap", place, f"{name}2", "--keep-as", f"{name}3", "--yes")
    dedup.ok("check", "--read-data")
    # Others list all databases, a line for each.
    server.run(f'DROP DATABASE "{name}"', "postgres")
    server.run(f'DROP DATABASE "{name}3"', "postgres")


def test_who_may_make_no_database_is_told_what_is_missing(dedup: Dedup, server: Server, blog: str, owned: str) -> None:
    user = servers.name()
    server.run(f"CREATE ROLE {user} LOGIN PASSWORD 'keep'", "postgres")

    made = dedup("restore", "--as", f"{blog}_restored", "--no-owners", *_target(server, user))
    closed = dedup("snapshot", address(server, blog, user))
    server.run(f'GRANT CONNECT ON DATABASE "{blog}" TO {user}', "postgres")
    swapped = dedup("db", "swap", address(server, blog, user), "postgres", "--yes")

    assert made.code == closed.code == swapped.code == "database.missing_rights"
    assert f'ALTER ROLE "{user}" CREATEDB;' in made.err
    assert f'GRANT CONNECT ON DATABASE "{blog}" TO "{user}";' in closed.err
    assert "as its owner" in swapped.err
