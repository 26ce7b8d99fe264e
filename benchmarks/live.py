"""An SQLite database that others write to while it is saved."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from benchmarks.data import Bench, DataSet
from benchmarks.measure import CommandFailed, read_all
from benchmarks.rows import insert_rows, update_rows
from benchmarks.shop import INDEXES, ShopCounts, schema, shop
from benchmarks.subject import Further, Subject
from benchmarks.tools import Database

NAME = "shop.db"
WRITERS = 2
TYPES = {
    "key": "INTEGER PRIMARY KEY", "uuid": "TEXT", "short": "TEXT", "text": "TEXT", "document": "TEXT", "money": "NUMERIC",
    "boolean": "INTEGER", "time": "TEXT", "number": "INTEGER",
}  # fmt: skip


def make_shop(root: Path, *, counts: ShopCounts) -> tuple[str, ...]:
    """The database, and a copy of it updated in place."""
    with closing(sqlite3.connect(root / "v1")) as before:
        before.executescript("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;" + schema(TYPES))
        for table, changes in shop(counts):
            insert_rows(before, table, (change.before for change in changes))
        before.executescript(INDEXES)
    shutil.copyfile(root / "v1", root / "v2")
    with closing(sqlite3.connect(root / "v2")) as after:
        after.execute("PRAGMA synchronous = OFF")
        for table, changes in shop(counts):
            update_rows(after, table, (change.after for change in changes if change.after is not change.before))
    return ("v1", "v2")


class Live(Subject):
    """Every command finds the same database, and two programs that write to it until the command has ended."""

    def __init__(self, bench: Bench, data: DataSet) -> None:
        super().__init__(bench, data)
        self._place = bench.work / "run" / "live"
        self._journal = "WAL"

    @property
    def _path(self) -> Path:
        return self._place / NAME

    @property
    def database(self) -> Database:
        program = (sys.executable, "-I", str(Path(__file__).with_name("copying.py")))
        return Database(
            file="copy.db",
            copy=(*program, NAME, "copy.db"),
            bare=(*program, NAME, "bare.db"),
            restored="restored.db",
        )

    def item(self) -> tuple[Path, str]:
        return self._place, f"sqlite:{NAME}"

    def show(self, number: int) -> None:
        super().show(number)
        self._journal = "WAL"

    def lock(self, number: int) -> None:
        """The version, with a rollback journal: who writes waits for who reads."""
        super().show(number)
        self._journal = "DELETE"

    def warm(self) -> None:
        shutil.rmtree(self._place, ignore_errors=True)
        self._place.mkdir(parents=True)
        shutil.copyfile(self.data.shown, self._path)
        with closing(sqlite3.connect(self._path)) as database:
            database.execute(f"PRAGMA journal_mode = {self._journal}")
        # What is not on the disk yet would slow down whoever writes the next gigabyte.
        os.sync()
        read_all(self._path)

    def size(self) -> tuple[int, int]:
        return 1, self.data.shown.stat().st_size

    @contextmanager
    def watch(self) -> Iterator[Further]:
        further = Further()
        with ExitStack() as stack:
            writers = [stack.enter_context(_writer(self._path, number)) for number in range(1, WRITERS + 1)]
            yield further
            for writer in writers:
                output, errors = writer.communicate("")
                if writer.returncode:
                    raise CommandFailed(f"who writes to the database failed: {errors}")
                waited = float(json.loads(output)["longest_wait_seconds"])
                further.longest_wait_seconds = max(further.longest_wait_seconds, waited)


@contextmanager
def _writer(path: Path, number: int) -> Iterator[subprocess.Popen[str]]:
    argv = (sys.executable, "-I", str(Path(__file__).with_name("writing.py")), str(path), str(number))
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            assert process.stdout is not None
            if process.stdout.readline() != "ready\n":
                raise CommandFailed(f"who writes to the database failed: {process.communicate('')[1]}")
            yield process
        finally:
            if process.poll() is None:
                process.kill()


@contextmanager
def live(bench: Bench, data: DataSet) -> Iterator[Subject]:
    """A database in use."""
    subject = Live(bench, data)
    try:
        yield subject
    finally:
        shutil.rmtree(subject.item()[0], ignore_errors=True)
