"""What the tests of PostgreSQL and MariaDB share: a repository with a password at hand, addresses, programs that fail."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.dedup import Dedup
from tests.support.servers import BACKUP, MARIADB_PASSWORD, PASSWORD, Server


def prepared(home: Path, patch: pytest.MonkeyPatch, server: Server) -> Dedup:
    """A repository, and the password of the server where an address looks for it."""
    made = Dedup(home, patch).init()
    write_password(home, PASSWORD if server.scheme == "postgresql" else MARIADB_PASSWORD)
    made.setenv("DEDUP_DATABASE_PASSWORD_FILE", str(home / "db.pass"))
    return made


def write_password(home: Path, password: str) -> None:
    (home / "db.pass").write_text(f"{password}\n")
    (home / "db.pass").chmod(0o600)


def address(server: Server, database: str, user: str = "") -> str:
    user = user or (BACKUP if server.scheme == "mysql" else server.user)
    return f"{server.scheme}://{user}@127.0.0.1:{server.port}/{database}"


def count_posts(server: Server, database: str) -> int:
    """How many there are in a `blog` (see tests/cli/conftest.py)."""
    return int(server.run("SELECT count(*) FROM posts", database))


def snapshots(dedup: Dedup) -> int:
    return len(dedup.ok("snapshots", "--json").document["snapshots"])


def instead(dedup: Dedup, program: str, script: str) -> Path:
    """Have another program found under the name of one, from now on; the directory it is in."""
    place = dedup.home / "fake"
    place.mkdir(exist_ok=True)
    (place / program).write_text(f"#!/bin/bash\n{script}\n")
    (place / program).chmod(0o755)
    dedup.setenv("PATH", f"{place}:{os.environ['PATH'].removeprefix(f'{place}:')}")
    return place
