"""The marks of a store: protection, tags and notes that were added to snapshots after they were committed.

A mark is one immutable object. Whoever adds one takes the next number of that snapshot; two clients that do so at
once both keep theirs (the id differs), and every reader adds them up in the same order (model/mark.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from dedupstore.codec.claims import ObjectType
from dedupstore.codec.crypto import random_bytes
from dedupstore.errors import (
    CorruptObject,
    IncompleteListing,
    IntegrityError,
    ObjectNotFound,
    RepositoryTooNew,
)
from dedupstore.model.mark import Mark, Marking, NumberedMark, add_up
from dedupstore.model.snapshot import Snapshot
from dedupstore.repo import layout
from dedupstore.repo.keyring import KeyRing
from dedupstore.storage.base import ObjectStore
from dedupstore.types import SnapshotId


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkBook:
    """Every mark that can be read, and what cannot: who removes anything must know of both."""

    marks: Mapping[SnapshotId, list[NumberedMark]] = field(default_factory=dict)
    highest: Mapping[SnapshotId, int] = field(default_factory=dict)
    """The highest number taken, also by a mark that cannot be read."""

    damaged: Mapping[str, str] = field(default_factory=dict)
    """Object names, and why each cannot be read."""

    unclear: frozenset[SnapshotId] = frozenset()
    """Snapshots with a mark that cannot be read and may have the last word on whether they are protected."""

    incomplete: str = ""
    """Why the listing may lack marks; empty when it is complete."""

    def of(self, snapshot: Snapshot) -> Marking:
        return add_up(snapshot, self.marks.get(snapshot.id, ()))

    def of_unreadable(self, identifier: SnapshotId) -> Marking:
        """Of a snapshot whose record cannot be read: what the marks alone say."""
        return add_up(None, self.marks.get(identifier, ()))

    def apply(self, snapshot: Snapshot) -> Snapshot:
        """The snapshot with the tags and the note it has today."""
        if snapshot.id not in self.marks:
            return snapshot
        marking = self.of(snapshot)
        return replace(snapshot, tags=marking.tags, note=marking.note)

    def require_whole(self) -> None:
        """Raise IncompleteListing when a mark may be there that was not listed."""
        if self.incomplete:
            raise IncompleteListing(
                "it is not known which snapshots are protected",
                why=self.incomplete,
                hints=["see dedup check; dedup repair index puts lost marks of listings back"],
            )


def read_marks(store: ObjectStore, keyring: KeyRing, *, expected: bool) -> MarkBook:
    """All marks. What cannot be listed or read is told in the book: a restore must not fail for the sake of a tag.

    `expected`: the repository has had `marks/` since it was made, so that its absence is a loss.
    """
    incomplete = ""
    try:
        rows = layout.list_if_there(store, layout.MARKS)
        if rows is None:
            rows = []
            if expected:
                incomplete = f"{layout.MARKS} is gone from {store.url}: is the disk mounted, is the listing cut short?"
    except IncompleteListing as error:
        incomplete = error.in_one_line
        rows = [row for row in store.list(layout.MARKS) if row.key not in layout.SENTINELS]
    by_key = {row.key: row for row in rows}

    def load(key: str) -> Mark:
        layout.require_record(by_key[key])
        return open_mark(store, keyring, key)

    return _read(list(by_key), incomplete, load)


def open_mark(store: ObjectStore, keyring: KeyRing, key: str) -> Mark:
    """One mark. Raises CorruptObject, RepositoryTooNew, ObjectNotFound."""
    return Mark.decode(keyring.open(ObjectType.MARK, key, store.get(key)))


def put_mark(store: ObjectStore, keyring: KeyRing, book: MarkBook, snapshot: SnapshotId, mark: Mark) -> str:
    """Add a mark, durable when this returns; its object name. `book` is a fresh and whole look."""
    book.require_whole()
    if layout.list_if_there(store, layout.MARKS) is None:
        # A repository from before marks existed, or one in which the first mark was stopped right here: from now on
        # their listing can be told from a cut one.
        for sentinel in layout.MARKS_SENTINELS:
            store.put(sentinel, [layout.SENTINEL_BODY])
        store.barrier()
    number = book.highest.get(snapshot, 0) + 1
    key = layout.mark_key(snapshot, number, random_bytes(16))
    store.put(key, [keyring.seal(ObjectType.MARK, key, mark.encode())])
    store.barrier()
    return key


def _read(keys: list[str], incomplete: str, load: Callable[[str], Mark]) -> MarkBook:
    marks: dict[SnapshotId, list[NumberedMark]] = {}
    highest: dict[SnapshotId, int] = {}
    damaged: dict[str, str] = {}
    unreadable: dict[SnapshotId, int] = {}
    for key in keys:
        try:
            snapshot, number, identifier = layout.parse_mark_key(key)
        except CorruptObject as error:
            damaged[key] = error.message
            continue
        highest[snapshot] = max(number, highest.get(snapshot, 0))
        try:
            mark = load(key)
        except ObjectNotFound:
            # Swept since the listing: its snapshot is gone.
            continue
        except (IntegrityError, RepositoryTooNew) as error:
            damaged[key] = error.in_one_line
            unreadable[snapshot] = max(number, unreadable.get(snapshot, 0))
            continue
        marks.setdefault(snapshot, []).append(NumberedMark(number, identifier, mark))
    unclear = {
        snapshot
        for snapshot, number in unreadable.items()
        if not any(known.number > number and known.mark.decides for known in marks.get(snapshot, ()))
    }
    return MarkBook(marks=marks, highest=highest, damaged=damaged, unclear=frozenset(unclear), incomplete=incomplete)
