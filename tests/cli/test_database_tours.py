"""The tours of docs/databases.md do what they say, line by line, in an empty home directory."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from functools import partial
from pathlib import Path

import pytest

from tests.support import servers
from tests.support.dedup import COMMAND, PATIENCE_SECONDS, ROOT
from tests.support.missing import missing
from tests.support.servers import PASSWORD

PAGE = ROOT / "docs" / "databases.md"
BACKSLASH = "\\"


def tour(heading: str, language: str = "sh") -> str:
    """All commands (or the configuration) of one chapter, as one script."""
    chapter = PAGE.read_text(encoding="utf-8").split(f"\n## {heading}\n")[1].split("\n## ")[0]
    part = chapter.split("<!-- tour: begin")[1].split("<!-- tour: end -->")[0]
    return "".join(re.findall(rf"^```{language}\n(.*?)^```$", part, re.MULTILINE | re.DOTALL))


def run(script: str, tmp_path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    home, programs = tmp_path / "home", tmp_path / "bin"
    home.mkdir(exist_ok=True)
    programs.mkdir(exist_ok=True)
    (programs / "dedup").write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {" ".join(COMMAND)} "$@"\n')
    (programs / "dedup").chmod(0o755)
    all_of_it = {
        "HOME": str(home),
        "CONFIGURATION_DIRECTORY": str(tmp_path / "etc"),
        "PATH": f"{programs}:{os.environ['PATH']}",
        **environment,
    }
    return subprocess.run(
        ["bash", "-euxo", "pipefail", "-c", script], cwd=home, env=all_of_it, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False,
    )  # fmt: skip


def require(program: str, package: str) -> None:
    if shutil.which(program) is None:
        missing(program, f"apt install {package}")


def test_every_line_about_sqlite_works(tmp_path: Path) -> None:
    require("sqlite3", "sqlite3")

    done = run(tour("SQLite"), tmp_path)

    assert done.returncode == 0, done.stderr
    assert done.stdout.count("first\nsecond\n") == 2
    assert "1 table, 2 rows" in done.stdout
    assert len(list((tmp_path / "home").glob("app.db.before-*"))) == 1


@pytest.mark.slow
def test_every_line_about_postgresql_works(tmp_path: Path) -> None:
    with servers.postgres() as server:
        server.run("CREATE DATABASE blog", "postgres")
        server.run("CREATE DATABASE shop", "postgres")
        server.run("CREATE TABLE posts (title text); INSERT INTO posts VALUES ('first'), ('second')", "blog")
        home = tmp_path / "home"
        home.mkdir()
        (home / ".pgpass").write_text(
            Path(server.environment["PGPASSFILE"]).read_text().replace("*:*:*:*", "*:*:*:admin")
        )
        (home / ".pgpass").chmod(0o600)
        # Libraries before PostgreSQL 15 look for the file where /etc/passwd says that home is.
        more = {"PGHOST": "127.0.0.1", "PGPORT": str(server.port), "PGUSER": "admin", "PGDATABASE": "postgres"}
        more |= {"PGPASSFILE": str(home / ".pgpass")}
        here = partial(re.sub, r"127\.0\.0\.1:5432", f"127.0.0.1:{server.port}")

        done = run(here(tour("PostgreSQL")), tmp_path, **more)
        settings = here(tour("PostgreSQL", "toml")).replace("/etc/dedup", str(home))
        (home / "db.pass").write_text("may-only-read\n")
        (home / "db.pass").chmod(0o600)
        configured(tmp_path, settings, home)
        again = run(
            f"export DEDUP_PASSPHRASE_FILE={home}/passphrase; dedup snapshot; dedup ls latest", tmp_path, **more
        )
        names = server.run("SELECT datname FROM pg_database WHERE datname LIKE 'blog%' ORDER BY 1", "postgres").split()

    assert done.returncode == 0, done.stderr
    assert done.stdout.count(" first\n second\n") == 2
    assert done.stdout.count("1 table, 2 rows") == 2
    assert names[:2] == ["blog", names[1]] and re.fullmatch(r"blog_before_[\d-]+", names[1])
    assert names[2:] == ["blog_posts"]
    assert again.returncode == 0, again.stderr
    assert all(name in again.stdout for name in ("blog.dump", "shop.dump", "globals.sql"))


@pytest.mark.slow
def test_every_line_about_mariadb_works(tmp_path: Path) -> None:
    with servers.mariadb() as server:
        server.run(
            f"CREATE USER admin IDENTIFIED BY '{PASSWORD.replace(BACKSLASH, BACKSLASH * 2)}'; GRANT ALL ON *.* TO admin"
        )
        server.run("DROP USER backup; CREATE DATABASE shop")
        server.run("CREATE TABLE items (name text); INSERT INTO items VALUES ('first'), ('second')", "shop")
        home = tmp_path / "home"
        home.mkdir()
        (home / "admin.pass").write_text(f"{PASSWORD}\n")
        (home / "admin.pass").chmod(0o600)
        socket = next(word for word in server.ask if word.startswith("--socket="))
        (home / ".my.cnf").write_text(f"[mariadb-client]\nuser = root\nsocket = {socket.partition('=')[2]}\n")

        done = run(tour("MariaDB and MySQL").replace("127.0.0.1:3306", f"127.0.0.1:{server.port}"), tmp_path)
        names = server.run("SHOW DATABASES LIKE 'shop%'").split()

    assert done.returncode == 0, done.stderr
    assert done.stdout.count("name\nfirst\nsecond\n") == 2
    assert "1 table, 2 rows" in done.stdout
    assert any(re.fullmatch(r"shop_before_[\d-]+", name) for name in names), names


def configured(tmp_path: Path, settings: str, home: Path) -> None:
    """Make this the configuration, with the repository of the tour."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "config.toml").write_text(f'[repos.main]\nurl = "{home}/backup"\n{settings}')
