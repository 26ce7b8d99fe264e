"""A SQLite database is copied as of one instant, checked, and put back without a trace of the old one's log."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from dedupstore.cancel import CancelToken
from dedupstore.errors import Refused, SourceFailed, TargetFailed
from dedupstore.sources import sqlite, sqlite_target
from dedupstore.sources.sqlite import SqliteSource
from dedupstore.sources.sqlite_target import NewDatabase, swap


def make(path: Path, rows: int = 100, *, wal: bool = False) -> Path:
    with closing(sqlite3.connect(path)) as database:
        if wal:
            database.execute("PRAGMA journal_mode=WAL")
        database.execute("CREATE TABLE posts (id INTEGER PRIMARY KEY, title TEXT)")
        database.executemany("INSERT INTO posts (title) VALUES (?)", ((f"post {n}",) for n in range(rows)))
        database.commit()
    return path


def read(source: SqliteSource) -> dict[bytes, bytes]:
    """All streams of a source."""
    found = {}
    for named in source.streams():
        content = bytearray()
        buffer = memoryview(bytearray(5000))
        while count := named.stream.readinto(buffer):
            content += buffer[:count]
        found[named.name] = bytes(content)
    return found


def copied(path: Path) -> dict[bytes, bytes]:
    with SqliteSource(os.fsencode(path), CancelToken()) as source:
        return read(source)


def rows_of(path: Path | str) -> list[tuple[int, str]]:
    with closing(sqlite3.connect(path)) as database:
        return database.execute("SELECT id, title FROM posts ORDER BY id").fetchall()


def test_what_only_the_log_holds_is_in_the_copy(tmp_path: Path) -> None:
    path = make(tmp_path / "app.db", wal=True)
    with closing(sqlite3.connect(path)) as writer:
        writer.execute("PRAGMA wal_autocheckpoint=0")
        writer.execute("INSERT INTO posts (title) VALUES ('only in the log')")
        writer.commit()
        assert b"only in the log" not in path.read_bytes()

        files = copied(path)

    (tmp_path / "copy.db").write_bytes(files[b"app.db"])
    assert rows_of(tmp_path / "copy.db")[-1] == (101, "only in the log")
    assert sorted(files) == [b"app.db", b"app.db.tables.json"]


def test_an_unchanged_database_gives_the_same_bytes(tmp_path: Path) -> None:
    path = make(tmp_path / "app.db", wal=True)

    assert copied(path) == copied(path)


def test_every_copy_under_writers_is_of_one_instant(tmp_path: Path) -> None:
    path = tmp_path / "bank.db"
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("CREATE TABLE account (id INTEGER PRIMARY KEY, money INTEGER, filler TEXT)")
        database.executemany("INSERT INTO account VALUES (?, 100, ?)", ((n, "x" * 900) for n in range(500)))
        database.commit()
    # Moves money for as long as it is not told to stop: the sum is the same at every instant.
    script = (
        "import random, sqlite3, sys\n"
        "database = sqlite3.connect(sys.argv[1], timeout=60, isolation_level=None)\n"
        "random.seed(sys.argv[2]); count = 0\n"
        "print('ready', flush=True)\n"
        "while not sys.stdin.read(0) and count < 1_000_000:\n"
        "    a, b, n = random.randrange(500), random.randrange(500), random.randrange(50)\n"
        "    database.execute('BEGIN IMMEDIATE')\n"
        "    database.execute('UPDATE account SET money = money - ? WHERE id = ?', (n, a))\n"
        "    database.execute('UPDATE account SET money = money + ? WHERE id = ?', (n, b))\n"
        "    database.execute('COMMIT'); count += 1\n"
    )
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(path), str(n)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        for n in range(2)
    ]
    try:
        for writer in writers:
            assert writer.stdout is not None
            assert writer.stdout.readline() == b"ready\n"
        copies = [copied(path)[b"bank.db"] for _ in range(8)]
    finally:
        for writer in writers:
            writer.kill()
            writer.communicate()

    for number, content in enumerate(copies):
        one = tmp_path / f"copy{number}.db"
        one.write_bytes(content)
        with closing(sqlite3.connect(one)) as database:
            assert database.execute("SELECT sum(money) FROM account").fetchone() == (50_000,)
            assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert len(set(copies)) > 1


def test_nothing_of_the_copy_is_left(tmp_path: Path) -> None:
    path, scratch = make(tmp_path / "app.db"), tmp_path / "scratch"
    scratch.mkdir()

    with SqliteSource(os.fsencode(path), CancelToken(), directory=str(scratch)) as source:
        (folder,) = scratch.iterdir()
        assert folder.stat().st_mode & 0o077 == 0
        assert all(file.stat().st_mode & 0o077 == 0 for file in folder.iterdir())
        read(source)

    assert list(scratch.iterdir()) == []
    assert sorted(name.name for name in tmp_path.iterdir()) == ["app.db", "scratch"]


def test_a_path_that_does_not_exist_is_an_error_and_makes_no_file(tmp_path: Path) -> None:
    with pytest.raises(SourceFailed) as caught, SqliteSource(os.fsencode(tmp_path / "app.db"), CancelToken()):
        pass

    assert caught.value.code == "database.unreadable"
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_database_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    path.write_bytes(b"SQLite format 2\0" + bytes(5000))

    with pytest.raises(SourceFailed) as caught, SqliteSource(os.fsencode(path), CancelToken()):
        pass

    assert caught.value.code == "database.unreadable"


def test_a_damaged_database_is_not_stored(tmp_path: Path) -> None:
    path = make(tmp_path / "app.db", rows=5000)
    content = bytearray(path.read_bytes())
    content[4096 * 3 : 4096 * 3 + 600] = b"\xff" * 600
    path.write_bytes(content)

    with pytest.raises(SourceFailed) as caught, SqliteSource(os.fsencode(path), CancelToken()):
        pass

    assert caught.value.code == "database.damaged"


def test_a_database_that_stays_locked_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make(tmp_path / "app.db")
    monkeypatch.setattr(sqlite, "LOCK_SECONDS", 0.0)
    with closing(sqlite3.connect(path, isolation_level=None)) as holder:
        holder.execute("BEGIN EXCLUSIVE")

        with pytest.raises(SourceFailed) as caught, SqliteSource(os.fsencode(path), CancelToken()):
            pass

    assert caught.value.code == "database.locked"


def test_a_transaction_that_a_crash_left_is_undone_first(tmp_path: Path) -> None:
    path = make(tmp_path / "app.db", rows=3000)
    script = (
        "import os, sqlite3, sys\n"
        "database = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "database.execute('PRAGMA cache_size=2')\n"
        "database.execute('PRAGMA cache_spill=1')\n"
        "database.execute('BEGIN IMMEDIATE')\n"
        "database.execute(\"UPDATE posts SET title = 'half done'\")\n"
        "os._exit(1)\n"
    )
    subprocess.run([sys.executable, "-c", script, str(path)], check=False)
    assert (tmp_path / "app.db-journal").stat().st_size > 0
    assert b"half done" in path.read_bytes()

    files = copied(path)

    assert b"half done" not in files[b"app.db"]


def test_the_sql_makes_the_same_database(tmp_path: Path) -> None:
    path = make(tmp_path / "app.db")
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("PRAGMA user_version=7")
        database.execute('CREATE TABLE odd (a BLOB, "b;" TEXT)')
        database.execute("INSERT INTO odd VALUES (x'00ff', ?)", ("it's;\n a line",))
        database.execute("CREATE TRIGGER t AFTER INSERT ON odd BEGIN UPDATE posts SET title = 'a;b'; END")
    with SqliteSource(os.fsencode(path), CancelToken(), as_sql=True) as source:
        text = read(source)[b"app.db.sql"].decode()

    with NewDatabase(os.fsencode(tmp_path / "new.db")) as new:
        new.execute(iter(text.splitlines(keepends=True)))
        new.finish(0o640, None)

    with closing(sqlite3.connect(tmp_path / "new.db")) as database:
        assert database.execute("PRAGMA user_version").fetchone() == (7,)
        assert database.execute("SELECT * FROM odd").fetchall() == [(b"\0\xff", "it's;\n a line")]
        assert sorted(database.execute("SELECT name FROM sqlite_master")) == [("odd",), ("posts",), ("t",)]
    assert rows_of(tmp_path / "new.db") == rows_of(path)


def test_a_new_database_replaces_nothing(tmp_path: Path) -> None:
    path = make(tmp_path / "app.db")

    for taken in (path, tmp_path / "other.db"):
        (tmp_path / "other.db-wal").write_bytes(b"left")
        with pytest.raises(Refused) as caught, NewDatabase(os.fsencode(taken)):
            pass
        assert caught.value.code == "database.exists"

    assert len(rows_of(path)) == 100


def test_a_damaged_database_gets_no_name(tmp_path: Path) -> None:
    content = bytearray(make(tmp_path / "app.db", rows=5000).read_bytes())
    content[4096 * 3 : 4096 * 3 + 600] = b"\xff" * 600

    with NewDatabase(os.fsencode(tmp_path / "new.db")) as new:
        new.write(content)
        with pytest.raises(TargetFailed):
            new.finish(0o600, None)

    assert sorted(path.name for path in tmp_path.iterdir()) == ["app.db"]


@pytest.fixture
def places(tmp_path: Path) -> Iterator[tuple[Path, Path, Path]]:
    """A database in use with a log, a restored one beside it, and a name for the old one."""
    live = make(tmp_path / "app.db", rows=10, wal=True)
    make(tmp_path / "new.db", rows=3)
    return live, tmp_path / "new.db", tmp_path / "old.db"


def test_a_swap_keeps_the_old_one_with_all_that_its_log_held(places: tuple[Path, Path, Path]) -> None:
    live, new, old = places
    writer = subprocess.run(
        [sys.executable, "-c", ("import os, sqlite3, sys; d = sqlite3.connect(sys.argv[1]); "
         "d.execute(\"INSERT INTO posts (title) VALUES ('in the log')\"); d.commit(); os._exit(0)"), str(live)],
        check=True,
    )  # fmt: skip
    assert writer.returncode == 0
    assert live.with_name("app.db-wal").stat().st_size > 0
    live.chmod(0o640)

    swap(os.fsencode(new), os.fsencode(live), os.fsencode(old))

    assert len(rows_of(live)) == 3
    assert rows_of(old)[-1] == (11, "in the log")
    assert live.stat().st_mode & 0o777 == 0o640
    assert sorted(path.name for path in live.parent.iterdir()) == ["app.db", "old.db"]


def test_a_damaged_database_is_swapped_away_with_its_log(places: tuple[Path, Path, Path]) -> None:
    live, new, old = places
    live.write_bytes(b"nonsense" * 1000)
    live.with_name("app.db-wal").write_bytes(b"its log")

    swap(os.fsencode(new), os.fsencode(live), os.fsencode(old))

    assert len(rows_of(live)) == 3
    assert old.read_bytes() == b"nonsense" * 1000
    assert old.with_name("old.db-wal").read_bytes() == b"its log"


@pytest.mark.parametrize("wal", [False, True])
def test_a_database_that_somebody_has_open_is_not_swapped(places: tuple[Path, Path, Path], wal: bool) -> None:
    live, new, old = places
    script = (
        "import sqlite3, sys\n"
        "database = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        f"database.execute('PRAGMA journal_mode={'WAL' if wal else 'DELETE'}')\n"
        "database.execute('SELECT count(*) FROM posts').fetchone()\n"
        "print('open', flush=True); sys.stdin.read()\n"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", script, str(live)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )  # fmt: skip
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"open\n"
        before = live.read_bytes()

        with pytest.raises(Refused) as caught:
            swap(os.fsencode(new), os.fsencode(live), os.fsencode(old))
    finally:
        holder.communicate()

    assert caught.value.code == "database.in_use"
    assert live.read_bytes() == before
    assert not old.exists()
    assert len(rows_of(new)) == 3


def test_a_connection_of_this_process_is_seen_by_its_lock(places: tuple[Path, Path, Path]) -> None:
    live, new, old = places
    with closing(sqlite3.connect(live)) as holder:
        holder.execute("SELECT count(*) FROM posts").fetchone()

        with pytest.raises(Refused) as caught:
            swap(os.fsencode(new), os.fsencode(live), os.fsencode(old))

    assert caught.value.code == "database.in_use"
    assert len(rows_of(live)) == 10


def test_writers_wait_for_the_copy_and_not_for_the_store(tmp_path: Path) -> None:
    path = make(tmp_path / "app.db")
    with SqliteSource(os.fsencode(path), CancelToken()) as source:
        done = threading.Event()

        def write() -> None:
            with closing(sqlite3.connect(path, timeout=0)) as database:
                database.execute("INSERT INTO posts (title) VALUES ('meanwhile')")
                database.commit()
                done.set()

        writer = threading.Thread(target=write)
        writer.start()
        writer.join()
        assert done.is_set()
        assert b"meanwhile" not in read(source)[b"app.db"]


def test_a_log_beside_the_new_one_stops_a_swap(places: tuple[Path, Path, Path]) -> None:
    live, new, old = places
    new.with_name("new.db-wal").write_bytes(b"somebody writes")

    with pytest.raises(Refused) as caught:
        sqlite_target.swap(os.fsencode(new), os.fsencode(live), os.fsencode(old))

    assert caught.value.code == "database.in_use"
