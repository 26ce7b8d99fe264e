"""SQLite databases by the command line: taken, restored beside, put in place."""

from __future__ import annotations

import json
import os
import random
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.configuration import write
from tests.support.dedup import PASSPHRASE, Dedup


@pytest.fixture
def dedup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Dedup:
    return Dedup(tmp_path, monkeypatch).init()


@pytest.fixture
def live(tmp_path: Path) -> Path:
    """A database of 4 MB in WAL mode."""
    path = tmp_path / "app.db"
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("CREATE TABLE posts (id INTEGER PRIMARY KEY, body BLOB)")
        noise = random.Random(1)
        database.executemany("INSERT INTO posts (body) VALUES (?)", ((noise.randbytes(1000),) for _ in range(4000)))
        database.commit()
    path.chmod(0o640)
    return path


def change(path: Path, sql: str) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.execute(sql)
        database.commit()


def count(path: Path) -> int:
    with closing(sqlite3.connect(path)) as database:
        return int(database.execute("SELECT count(*) FROM posts").fetchone()[0])


def test_a_database_is_restored_beside_and_swapped(dedup: Dedup, live: Path) -> None:
    run = dedup.ok("snapshot", f"sqlite:{live}", "--json").summary
    assert run["snapshot"]["kind"] == "sqlite"
    assert run["source"] == f"sqlite://{live}"
    change(live, "DELETE FROM posts WHERE id > 1000")

    restored = dedup.ok("restore", "--as", f"{live}.restored")
    assert "1 table, 4 000 rows" in restored.out
    assert count(live) == 1000
    swapped = dedup.ok(
        "db", "swap", f"sqlite:{live}", f"{live}.restored", "--yes", "--keep-as", f"{live}.old", "--json"
    )

    assert swapped.document == {"v": 1, "database": str(live), "was": f"{live}.restored", "kept": f"{live}.old"}
    assert count(live) == 4000
    assert count(Path(f"{live}.old")) == 1000
    assert live.stat().st_mode & 0o777 == 0o640
    dedup.ok("check", "--read-data")


def test_the_second_copy_costs_what_changed(dedup: Dedup, live: Path) -> None:
    dedup.ok("snapshot", f"sqlite:{live}")
    change(live, "UPDATE posts SET body = randomblob(1000) WHERE id % 400 = 0")

    counts = dedup.ok("snapshot", f"sqlite:{live}", "--json").summary["bytes"]

    # Ten rows are ten pages of 4 KiB, in 4 MB.
    assert counts["read"] > 4_000_000
    assert counts["stored"] < 120_000
    dedup.ok("check", "--read-data")


def test_an_unchanged_database_makes_no_second_snapshot(dedup: Dedup, live: Path) -> None:
    dedup.ok("snapshot", f"sqlite:{live}")

    assert dedup.ok("snapshot", f"sqlite:{live}", "--skip-if-unchanged", "--json").summary["unchanged"] is True


def test_the_same_output_of_a_command_makes_no_second_snapshot(dedup: Dedup) -> None:
    words = ("--command", "out.txt", "--skip-if-unchanged", "--json", "--", "echo", "same")
    assert dedup.ok("snapshot", *words).summary["unchanged"] is False

    assert dedup.ok("snapshot", *words).summary["unchanged"] is True


def test_sources_of_the_configuration_are_taken_and_named(dedup: Dedup, live: Path, tmp_path: Path) -> None:
    write(
        tmp_path / "etc" / "config.toml",
        f'[repos.main]\nurl = "{dedup.repository}"\n'
        f'[sources.pages]\ntype = "sqlite"\npath = "{live}"\n'
        f'[sources.text]\ntype = "sqlite"\npath = "{live}"\nformat = "sql"\n',
    )
    dedup.ok("snapshot")

    for source in ("pages", "text"):
        dedup.ok("restore", "--source", source, "--as", tmp_path / f"{source}.db")
        assert count(tmp_path / f"{source}.db") == 4000
    dedup.ok("db", "swap", "pages", tmp_path / "text.db", "--yes")

    assert count(live) == 4000
    assert len(list(tmp_path.glob("app.db.before-*"))) == 1
    tables = json.loads(dedup.ok("cat", "--source", "pages", ":app.db.tables.json").out)
    assert [(table["name"], table["rows"]) for table in tables["tables"]] == [("posts", 4000)]


def test_nothing_that_is_there_is_replaced(dedup: Dedup, live: Path) -> None:
    dedup.ok("snapshot", f"sqlite:{live}")
    change(live, "DELETE FROM posts")

    assert dedup("restore", "--as", live).code == "database.exists"
    assert dedup("restore", "--in-place", "--yes").code == "database.not_replaced"
    assert dedup("db", "swap", f"sqlite:{live}", f"{live}.none", "--yes").exit_code == 8
    assert count(live) == 0


def test_a_swap_asks(dedup: Dedup, live: Path) -> None:
    dedup.ok("snapshot", f"sqlite:{live}")
    dedup.ok("restore", "--as", f"{live}.restored")

    assert dedup("db", "swap", f"sqlite:{live}", f"{live}.restored").code == "refused.not_confirmed"


def test_a_snapshot_without_a_database_is_not_restored_as_one(dedup: Dedup, live: Path) -> None:
    dedup.ok("snapshot", live)

    assert dedup("restore", "--as", f"{live}.restored").exit_code == 2


def test_a_live_database_among_files_is_told(dedup: Dedup, live: Path) -> None:
    with closing(sqlite3.connect(live)) as holder:
        holder.execute("INSERT INTO posts (body) VALUES (x'00')")
        holder.commit()
        assert os.path.getsize(f"{live}-wal") > 0

        run = dedup.ok("snapshot", live)

    assert "app.db: is a SQLite database that is in use" in run.err
    change(live, "PRAGMA user_version=3")
    assert "in use" not in dedup.ok("snapshot", live, "--force").err


def test_a_live_database_of_which_only_the_log_has_changed_is_told(dedup: Dedup, tmp_path: Path) -> None:
    place = tmp_path / "data"
    place.mkdir()
    with closing(sqlite3.connect(place / "app.db")) as holder:
        holder.execute("PRAGMA journal_mode=WAL")
        holder.execute("CREATE TABLE posts (body)")
        holder.commit()
        first = dedup.ok("snapshot", place)
        before = (place / "app.db").read_bytes()
        holder.execute("INSERT INTO posts VALUES (1)")
        holder.commit()
        assert (place / "app.db").read_bytes() == before

        second = dedup.ok("snapshot", place)

    for run in (first, second):
        assert run.err.count("data/app.db: is a SQLite database that is in use") == 1
        assert run.err.count("data/app.db") == 1


def test_a_database_and_a_path_are_not_mixed(dedup: Dedup, live: Path) -> None:
    assert dedup("snapshot", f"sqlite:{live}", str(live)).exit_code == 2
    assert dedup("snapshot", f"sqlite:{live}.typo").code == "database.unreadable"
    assert dedup("snapshot", "sqlite:").exit_code == 2
    assert not Path(f"{live}.typo").exists()
    assert dedup.ok("snapshots", "--json").document["snapshots"] == []


def test_a_password_in_an_address_is_refused(dedup: Dedup) -> None:
    run = dedup("snapshot", f"postgresql://me:{PASSPHRASE[:9]}@127.0.0.1/blog")

    assert run.exit_code == 2
    assert PASSPHRASE[:9] not in run.err


def test_a_database_is_looked_at(dedup: Dedup, live: Path) -> None:
    assert dedup.ok("db", "list", f"sqlite:{live}").out == f"{live}\n"
    assert dedup.ok("db", "tables", f"sqlite:{live}", "--json").document["tables"] == [{"name": "posts", "rows": 4000}]
    assert "in 2 files" in dedup.ok("db", "test", f"sqlite:{live}").out
