"""SQLite databases that are made to harm, or hold what SQL text or a bare SQLite does not know."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest

from dedupstore.errors import Refused
from dedupstore.sources.sqlite_target import NewDatabase
from tests.support.configuration import write
from tests.support.dedup import Dedup


@pytest.fixture
def dedup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Dedup:
    write(
        tmp_path / "etc" / "config.toml",
        f'[sources.app]\ntype = "sqlite"\npath = "{tmp_path}/app.db"\nformat = "sql"\n'
        f'[sources.pages]\ntype = "sqlite"\npath = "{tmp_path}/app.db"\n',
    )
    return Dedup(tmp_path, monkeypatch).init()


def make(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.create_collation("as_the_app_does", lambda one, other: (other > one) - (other < one))
        database.create_function("fold", 1, str.lower, deterministic=True)
        for statement in statements:
            database.execute(statement)
        database.commit()


@pytest.mark.parametrize(
    "statements",
    [
        ("CREATE TABLE t (a)", "INSERT INTO t VALUES ('before' || char(0) || 'after')"),
        ("CREATE TABLE t (a)", "INSERT INTO t VALUES (CAST(x'ff41' AS TEXT))"),
        ("CREATE TABLE t (a)", "INSERT INTO t VALUES (-9e999)"),
        ("CREATE VIRTUAL TABLE t USING fts5(body)", "INSERT INTO t VALUES ('hello')"),
    ],
)
def test_what_sql_text_would_not_bring_back_is_refused_and_kept_as_pages(
    dedup: Dedup, tmp_path: Path, statements: Sequence[str]
) -> None:
    make(tmp_path / "app.db", *statements)

    assert dedup("snapshot", "app").code == "database.not_sql"
    dedup.ok("snapshot", "pages")
    dedup.ok("restore", "--source", "pages", "--as", tmp_path / "again.db")

    with closing(sqlite3.connect(tmp_path / "again.db")) as database:
        assert database.execute("SELECT count(*) FROM t").fetchone() == (1,)
    dedup.ok("check", "--read-data")


def test_a_definition_that_hides_another_statement_opens_no_other_file(dedup: Dedup, tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    make(
        tmp_path / "app.db",
        "CREATE TABLE t (a)",
        "PRAGMA writable_schema=ON",
        f"UPDATE sqlite_master SET sql = 'CREATE TABLE t (a);\nATTACH ''{other}'' AS o;\nCREATE TABLE o.x (y)'",
    )
    dedup.ok("snapshot", "app")

    refused = dedup("restore", "--source", "app", "--as", tmp_path / "again.db")

    assert refused.code == "database.restore_failed" and "not authorized" in refused.err
    assert not other.exists() and not (tmp_path / "again.db").exists()
    dedup.ok("check", "--read-data")


def test_a_database_with_an_order_and_a_function_of_its_own_is_no_damaged_one(dedup: Dedup, tmp_path: Path) -> None:
    make(
        tmp_path / "app.db",
        "CREATE TABLE t (a TEXT COLLATE as_the_app_does UNIQUE, b TEXT CHECK (length(fold(b)) > 0))",
        "CREATE INDEX by_b ON t (fold(b))",
        "INSERT INTO t VALUES ('x', 'X'), ('y', 'Y'), ('z', 'Z')",
    )
    dedup.ok("snapshot", "pages")

    restored = dedup.ok("restore", "--source", "pages", "--as", tmp_path / "again.db")

    assert "1 table, 3 rows" in restored.out
    dedup.ok("check", "--read-data")


def test_text_of_many_lines_comes_back_from_sql(dedup: Dedup, tmp_path: Path) -> None:
    text = "".join(f"line {number};\n" for number in range(2000))
    make(tmp_path / "app.db", "CREATE TABLE t (a)", f"INSERT INTO t VALUES ('{text}')")
    dedup.ok("snapshot", "app")

    dedup.ok("restore", "--source", "app", "--as", tmp_path / "again.db")

    with closing(sqlite3.connect(tmp_path / "again.db")) as database:
        assert database.execute("SELECT a FROM t").fetchone() == (text,)
    dedup.ok("check", "--read-data")


def test_a_pipe_is_no_database(dedup: Dedup, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "app.db")

    assert "is no SQLite database" in dedup("snapshot", "pages").err


def test_a_link_is_not_swapped(dedup: Dedup, tmp_path: Path) -> None:
    make(tmp_path / "data.db", "CREATE TABLE t (a)")
    make(tmp_path / "new.db", "CREATE TABLE t (a)")
    (tmp_path / "app.db").symlink_to("data.db")

    refused = dedup("db", "swap", "pages", tmp_path / "new.db", "--yes")

    assert f"name the file itself: {tmp_path}/data.db" in refused.err
    assert (tmp_path / "app.db").is_symlink()


def test_of_two_restores_to_one_name_the_second_gives_way(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path / "new.db")

    with NewDatabase(path) as first:
        with pytest.raises(Refused, match="restored by someone else"), NewDatabase(path):
            pass
        first.finish(0o600, None)

    assert (tmp_path / "new.db").exists()


def test_what_a_killed_restore_left_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "new.db.dedup-restoring").write_bytes(b"half")

    with NewDatabase(os.fsencode(tmp_path / "new.db")) as new:
        new.finish(0o600, None)

    assert os.listdir(tmp_path) == ["new.db"]
