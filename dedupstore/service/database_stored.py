"""The databases of a snapshot: their dumps, and what was recorded of each."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

from dedupstore.cancel import CancelToken
from dedupstore.engine.file_content import file_content
from dedupstore.errors import NothingMatches, UsageError
from dedupstore.events import Listener, Progress
from dedupstore.model.entry import Entry
from dedupstore.model.snapshot import Snapshot
from dedupstore.model.tree import read_tree
from dedupstore.repo.repository import Repository
from dedupstore.sources.database_files import GLOBALS, TABLES, database_of
from dedupstore.units import printable

KINDS = ("postgresql", "mysql", "sqlite")
"""Of the snapshots that hold databases."""

Tables: TypeAlias = "dict[str, tuple[int | None, str]]"
"""Of each table by its name: its rows, None where they were not counted, and the hash of its definition."""


class Stored:
    """One database of a snapshot."""

    def __init__(self, repository: Repository, snapshot: Snapshot, dump: Entry, about: Entry) -> None:
        self.snapshot = snapshot
        self.dump = dump
        self._repository = repository
        self.about: dict[str, Any] = json.loads(b"".join(file_content(repository.reader, about)))

    @property
    def name(self) -> str:
        """Of the database; of SQLite, of the file."""
        return str(self.about.get("database") or os.fsdecode(self.dump.name))

    @property
    def tables(self) -> Tables:
        return table_rows(self.about)

    @property
    def format(self) -> str:
        """`custom`, `sql` or `copy`."""
        return dict(self.snapshot.details).get("database.format", "")

    def content(self, listener: Listener, cancel: CancelToken) -> Iterator[bytes | memoryview]:
        """The dump, verified, with the progress told."""
        return content(self._repository, self.dump, listener, cancel)


def require_database(snapshot: Snapshot) -> None:
    """Raises UsageError for a snapshot that holds none."""
    if snapshot.kind not in KINDS:
        raise UsageError(
            f'the snapshot of "{snapshot.source}" holds no database',
            hints=["choose another source: --source NAME", "dedup snapshots"],
        )


def all_stored(repository: Repository, snapshot: Snapshot) -> list[Stored]:
    """Every database of the snapshot, in the order of their names."""
    entries = _entries(repository, snapshot)
    return [
        Stored(repository, snapshot, entries[name], entries[name + _END])
        for name in sorted(entries, key=database_of)
        if name + _END in entries
    ]


def one_stored(repository: Repository, snapshot: Snapshot, which: str) -> Stored:
    """The database that `which` names, by its own name or that of its file; the only one when it is empty.

    Raises NothingMatches when the snapshot holds several and none, or none of that name, is meant.
    """
    entries = _entries(repository, snapshot)
    dumps = sorted(name for name in entries if name + _END in entries)
    named = [name for name in dumps if which in ("", os.fsdecode(name), database_of(name))]
    if len(named) != 1:
        names = [printable(name) for name in dumps]
        raise NothingMatches(
            f"the snapshot has no database {which}" if which else "which database?",
            why=f"it holds {', '.join(names) or 'none'}",
            hints=[f"name it: dedup restore --source {snapshot.source} {name} --as NAME" for name in names[:3]],
        )
    return Stored(repository, snapshot, entries[named[0]], entries[named[0] + _END])


def globals_of(repository: Repository, snapshot: Snapshot) -> Entry | None:
    """The file of what belongs to no database: roles, users and their rights. None when it was not kept."""
    return _entries(repository, snapshot).get(GLOBALS)


def globals_text(repository: Repository, snapshot: Snapshot) -> str:
    """The script of that file. Raises NothingMatches when it was not kept."""
    entry = globals_of(repository, snapshot)
    if entry is None:
        raise NothingMatches(
            f'the snapshot of "{snapshot.source}" has no users or roles',
            why="they were not asked for, or could not be seen, when it was taken",
            hints=["leave out --globals"],
        )
    return b"".join(file_content(repository.reader, entry)).decode("utf-8", "surrogateescape")


def content(
    repository: Repository, entry: Entry, listener: Listener, cancel: CancelToken
) -> Iterator[bytes | memoryview]:
    """The bytes of one file of the snapshot, verified, with the progress told."""
    progress = Progress(phase="restore", bytes_total=entry.size, current=entry.name)
    for piece in file_content(repository.reader, entry):
        cancel.check()
        yield piece
        progress.bytes_done += len(piece)
        listener.progress(progress)


def table_rows(document: Mapping[str, Any]) -> Tables:
    """By the name of each table in a list of tables: its rows, None where they were not counted, and its schema."""
    return {table["name"]: (table["rows"], table["schema"]) for table in document["tables"]}


_END = TABLES.encode()


def _entries(repository: Repository, snapshot: Snapshot) -> dict[bytes, Entry]:
    return {entry.name: entry for entry in read_tree(repository.reader.load_manifest, snapshot.root)}
