"""`dedup diff` between two dumps of a database: what changed in which table."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.support import servers
from tests.support.databases import address, prepared
from tests.support.dedup import Dedup
from tests.support.servers import Server

BEFORE = """
CREATE TABLE gone (x int); INSERT INTO gone VALUES (1), (2);
CREATE TABLE grown (x int); INSERT INTO grown VALUES (1), (2), (3);
CREATE TABLE lost (x int); INSERT INTO lost VALUES (1), (2), (3), (4);
CREATE TABLE altered (x int); INSERT INTO altered VALUES (1);
CREATE TABLE same (x int); INSERT INTO same VALUES (1);
"""
AFTER = """
DROP TABLE gone; INSERT INTO grown VALUES (4), (5); DELETE FROM lost WHERE x > 1; ALTER TABLE altered ADD y int;
CREATE TABLE made (x int); INSERT INTO made VALUES (1);
"""


def check(dedup: Dedup, database: str, prefix: str = "") -> None:
    """The two newest snapshots differ by what AFTER did."""
    document = dedup.ok("diff", "latest~1", "latest", "--json").document
    text = dedup.ok("diff", "latest~1", "latest").out

    found = {
        change["table"].removeprefix(prefix): (change["kind"], change["rows"]["difference"], change["redefined"])
        for change in document["tables"]
    }
    assert found == {
        "gone": ("removed", -2, False),
        "grown": ("changed", 2, False),
        "lost": ("changed", -3, False),
        "altered": ("changed", 0, True),
        "made": ("added", 1, False),
    }
    assert {change["database"] for change in document["tables"]} == {database}
    assert f"\nM {database}: {prefix}grown  +2 rows, 3 -> 5\n" in text
    assert f"\nM {database}: {prefix}lost  -3 rows, 4 -> 1  !\n" in text
    assert f"\n- {database}: {prefix}gone  -2 rows  !\n" in text
    assert f"\n+ {database}: {prefix}made  +1 row\n" in text
    assert f"\nM {database}: {prefix}altered  another definition\n" in text
    assert "5 tables with other rows or another definition: 3 rows more, 5 fewer" in text
    assert "grown" not in dedup.ok("diff", "latest~1", "latest", "--stat").out
    assert dedup.ok("diff", "latest", "latest", "--json").document["tables"] == []
    dedup.ok("check", "--read-data")


def test_sqlite(dedup: Dedup, tmp_path: Path) -> None:
    subprocess.run(["sqlite3", "app.db", BEFORE], check=True)
    dedup.ok("snapshot", "sqlite:app.db")
    subprocess.run(["sqlite3", "app.db", AFTER], check=True)
    dedup.ok("snapshot", "sqlite:app.db")

    check(dedup, "app.db")


@pytest.mark.parametrize("kind", ["postgres", "mariadb"])
def test_servers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, request: pytest.FixtureRequest) -> None:
    server: Server = request.getfixturevalue(f"{kind}_server")
    dedup, name = prepared(tmp_path, monkeypatch, server), servers.name()
    server.run(f"CREATE DATABASE {name}", "postgres" if kind == "postgres" else "")
    server.run(BEFORE, name)
    dedup.ok("snapshot", address(server, name))
    server.run(AFTER, name)
    dedup.ok("snapshot", address(server, name))

    check(dedup, name, "public." if kind == "postgres" else "")
