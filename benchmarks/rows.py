"""A blog's database, twice: before and after an ordinary day that changed one row in a hundred.

Half of the changed rows are recent ones (the newest 2 %), half lie anywhere. The same rows are written
as an SQL dump, one INSERT a line in primary-key order, and as an SQLite file that is updated in place.
"""

import random
import shutil
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.text import Prose

EPOCH = 1_700_000_000
CHANGED = 0.01
RECENT = 0.02

SCHEMA = """
CREATE TABLE users (
  id INTEGER PRIMARY KEY, name TEXT NOT NULL, email TEXT NOT NULL, bio TEXT NOT NULL,
  created_at INTEGER NOT NULL, last_seen INTEGER NOT NULL
);
CREATE TABLE posts (
  id INTEGER PRIMARY KEY, author_id INTEGER NOT NULL REFERENCES users (id), title TEXT NOT NULL, body TEXT NOT NULL,
  views INTEGER NOT NULL, created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL
);
CREATE TABLE comments (
  id INTEGER PRIMARY KEY, post_id INTEGER NOT NULL REFERENCES posts (id),
  author_id INTEGER NOT NULL REFERENCES users (id), body TEXT NOT NULL,
  score INTEGER NOT NULL, created_at INTEGER NOT NULL
);
CREATE INDEX posts_author ON posts (author_id);
CREATE INDEX comments_post ON comments (post_id);
"""

Value = int | str
Row = tuple[Value, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Rows of each table."""

    users: int
    posts: int
    comments: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A row, and what it became; both are the same object for the 99 % that did not change."""

    before: Row
    after: Row


def tables(counts: Counts) -> Iterator[tuple[str, Iterator[Change]]]:
    """Every table with its rows in primary-key order. Each table's rows must be used up before the next."""
    prose = Prose("rows")
    source = random.Random("rows")
    yield "users", _users(counts, prose, source)
    yield "posts", _posts(counts, prose, source)
    yield "comments", _comments(counts, prose, source)


def changed_keys(rows: int, source: random.Random) -> frozenset[int]:
    """Which rows a day changes."""
    changed = max(2, round(rows * CHANGED))
    newest = max(changed, round(rows * RECENT))
    recent = source.sample(range(rows - newest + 1, rows + 1), changed // 2)
    anywhere = source.sample(range(1, rows + 1), changed - changed // 2)
    return frozenset(recent) | frozenset(anywhere)


def _users(counts: Counts, prose: Prose, source: random.Random) -> Iterator[Change]:
    changed = changed_keys(counts.users, source)
    for key in range(1, counts.users + 1):
        name = prose.words(2).strip(".,").title()
        created = EPOCH + key * 900
        row: Row = (key, name, f"user{key}@example.org", prose.words(12), created, created + source.randrange(10**7))
        after = (*row[:5], EPOCH + 50_000_000 + source.randrange(86_400)) if key in changed else row
        yield Change(before=row, after=after)


def _posts(counts: Counts, prose: Prose, source: random.Random) -> Iterator[Change]:
    changed = changed_keys(counts.posts, source)
    for key in range(1, counts.posts + 1):
        created = EPOCH + key * 600
        author, views = 1 + source.randrange(counts.users), source.randrange(20_000)
        title, body = prose.words(7), prose.words(source.randrange(60, 400))
        row: Row = (key, author, title, body, views, created, created)
        if key in changed:
            views += source.randrange(1, 90)
            later = EPOCH + 50_000_000 + source.randrange(86_400)
            yield Change(before=row, after=(key, author, title, _edit(body, prose), views, created, later))
        else:
            yield Change(before=row, after=row)


def _comments(counts: Counts, prose: Prose, source: random.Random) -> Iterator[Change]:
    changed = changed_keys(counts.comments, source)
    for key in range(1, counts.comments + 1):
        # Comments gather on the posts that are new when they are written.
        post = max(1, min(counts.posts, key * counts.posts // counts.comments + source.randrange(-200, 200)))
        author, score = 1 + source.randrange(counts.users), source.randrange(-5, 60)
        body = prose.words(source.randrange(6, 50))
        row: Row = (key, post, author, body, score, EPOCH + key * 120)
        after = (key, post, author, _edit(body, prose), score + 1, EPOCH + key * 120) if key in changed else row
        yield Change(before=row, after=after)


def _edit(body: str, prose: Prose) -> str:
    """A sentence replaced in the middle."""
    words = body.split(" ")
    middle = len(words) // 2
    return " ".join((*words[:middle], prose.words(12), *words[middle + 3 :]))


def make_dump(root: Path, *, counts: Counts) -> tuple[str, ...]:
    """Two dumps."""
    with open(root / "v1", "w") as before, open(root / "v2", "w") as after:
        for stream in (before, after):
            stream.write(SCHEMA.lstrip())
        for table, changes in tables(counts):
            for change in changes:
                line = _insert(table, change.before)
                before.write(line)
                after.write(line if change.after is change.before else _insert(table, change.after))
    return ("v1", "v2")


def _insert(table: str, row: Row) -> str:
    values = ",".join(str(value) if isinstance(value, int) else "'" + value.replace("'", "''") + "'" for value in row)
    return f"INSERT INTO {table} VALUES ({values});\n"


def make_sqlite(root: Path, *, counts: Counts) -> tuple[str, ...]:
    """An SQLite file, and a copy of it updated in place."""
    with sqlite3.connect(root / "v1") as before:
        before.executescript("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;" + SCHEMA)
        for table, changes in tables(counts):
            insert_rows(before, table, (change.before for change in changes))
    before.close()
    shutil.copyfile(root / "v1", root / "v2")
    with sqlite3.connect(root / "v2") as after:
        for table, changes in tables(counts):
            update_rows(after, table, (change.after for change in changes if change.after is not change.before))
    after.close()
    return ("v1", "v2")


def insert_rows(database: sqlite3.Connection, table: str, rows: Iterable[Row]) -> None:
    places = ",".join("?" * len(_columns(database, table)))
    database.executemany(f"INSERT INTO {table} VALUES ({places})", rows)
    database.commit()


def update_rows(database: sqlite3.Connection, table: str, rows: Iterable[Row]) -> None:
    key, *others = _columns(database, table)
    assignments = ", ".join(f"{column} = ?" for column in others)
    statement = f"UPDATE {table} SET {assignments} WHERE {key} = ?"
    database.executemany(statement, ((*row[1:], row[0]) for row in rows))
    database.commit()


def _columns(database: sqlite3.Connection, table: str) -> list[str]:
    return [str(column[1]) for column in database.execute(f"PRAGMA table_info({table})")]
