"""What changed in a database between two dumps of it, table by table, as far as was recorded when it was dumped."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from dedupstore.model.snapshot import Snapshot
from dedupstore.repo.repository import Repository
from dedupstore.service.database_stored import KINDS, Tables, all_stored


@dataclass(frozen=True, slots=True, kw_only=True)
class TableChange:
    """One table that is not as it was: `added`, `removed` or `changed`. Rows are None where they were not counted.

    Rows that were altered, or as many added as removed, are not seen: only their number was recorded.
    """

    kind: str
    database: str
    table: str
    rows_before: int | None
    rows_after: int | None
    redefined: bool

    @property
    def rows(self) -> int | None:
        """By how many there are more; below 0, by how many fewer."""
        old = 0 if self.kind == "added" else self.rows_before
        new = 0 if self.kind == "removed" else self.rows_after
        return None if old is None or new is None else new - old

    @property
    def alarming(self) -> bool:
        """Whether half of what was there, or more, is gone."""
        return self.rows is not None and bool(self.rows_before) and 2 * -self.rows >= (self.rows_before or 0)


def tables_changed(repository: Repository, before: Snapshot, after: Snapshot) -> Iterator[TableChange]:
    """The tables that changed in each database that both snapshots hold, in the order of their names."""
    if before.kind not in KINDS or before.kind != after.kind:
        return
    earlier = {stored.dump.name: stored for stored in all_stored(repository, before)}
    for stored in all_stored(repository, after):
        if stored.dump.name in earlier:
            yield from _changes(stored.name, earlier[stored.dump.name].tables, stored.tables)


def _changes(database: str, before: Tables, after: Tables) -> Iterator[TableChange]:
    for table in sorted(before.keys() | after.keys()):
        old, new = before.get(table), after.get(table)
        if old != new:
            yield TableChange(
                kind="added" if old is None else "removed" if new is None else "changed",
                database=database,
                table=table,
                rows_before=old[0] if old is not None else None,
                rows_after=new[0] if new is not None else None,
                redefined=old is not None and new is not None and old[1] != new[1],
            )
