"""Marks: what is said of a snapshot after it was committed. Its record never changes; marks are added up.

Marks are sealed objects (`marks/<snapshot>-<number>-<id>`); this file knows only their plain bytes and their sum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from dedupstore.errors import CorruptObject, RepositoryTooNew
from dedupstore.model.snapshot import Snapshot
from dedupstore.model.wire import Value, pack, unpack_map

VERSION = 1

PROTECT = "protect"
UNPROTECT = "unprotect"
TAGS = "tags"
NOTE = "note"
_KINDS = (PROTECT, UNPROTECT, TAGS, NOTE)

_FOR_EVER = 1 << 63


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """One change of what is said of a snapshot. `time_ns` is when it was made, for people: the order is in the name."""

    kind: str
    time_ns: int
    until_ns: int | None = None
    """PROTECT only: when the protection ends; None: never."""

    text: str = ""
    """Why it is protected, or the note."""

    add: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()

    @property
    def decides(self) -> bool:
        """Whether it says if the snapshot is protected, whatever was said before."""
        return self.kind in (PROTECT, UNPROTECT)

    def encode(self) -> bytes:
        return pack(
            {
                "add": list(self.add),
                "kind": self.kind,
                "remove": list(self.remove),
                "text": self.text,
                "time": self.time_ns,
                "until": self.until_ns,
                "v": VERSION,
            }
        )

    @classmethod
    def decode(cls, data: bytes) -> Mark:
        """Raises CorruptObject, or RepositoryTooNew for an unknown version or kind."""
        row = unpack_map(data)
        if row.get("v") != VERSION or row["v"] is True or row.get("kind") not in _KINDS:
            raise RepositoryTooNew("a mark of a snapshot is of a kind or version that this dedup does not know")
        match row:
            case {
                "kind": str(kind),
                "time": int(time_ns),
                "until": int() | None as until_ns,
                "text": str(text),
                "add": list(add),
                "remove": list(remove),
            } if not isinstance(time_ns, bool) and not isinstance(until_ns, bool):
                return cls(
                    kind=kind, time_ns=time_ns, until_ns=until_ns, text=text, add=_texts(add), remove=_texts(remove)
                )
        raise CorruptObject("a mark of a snapshot is malformed")


class NumberedMark(NamedTuple):
    """A mark and its place among those of the same snapshot."""

    number: int
    id: bytes
    mark: Mark

    @property
    def order(self) -> tuple[int, bool, int, bytes]:
        """Marks with one number were made by clients that did not see each other: then protection has the last word."""
        until_ns = self.mark.until_ns if self.mark.until_ns is not None else _FOR_EVER
        return self.number, self.mark.kind == PROTECT, until_ns, self.id


@dataclass(frozen=True, slots=True, kw_only=True)
class Marking:
    """What all marks of one snapshot come to."""

    tags: tuple[str, ...]
    note: str
    protected: bool = False
    until_ns: int | None = None
    reason: str = ""

    def holds(self, now_ns: int) -> bool:
        """Whether it is protected at that moment."""
        return self.protected and (self.until_ns is None or now_ns < self.until_ns)


def add_up(snapshot: Snapshot | None, marks: Sequence[NumberedMark]) -> Marking:
    """The record's own tags and note, changed by each mark in turn; None: of a record that cannot be read."""
    tags = list(snapshot.tags) if snapshot is not None else []
    note, protected, reason = snapshot.note if snapshot is not None else "", False, ""
    until_ns: int | None = None
    for _, _, mark in sorted(marks, key=lambda numbered: numbered.order):
        if mark.kind == TAGS:
            tags = [tag for tag in tags if tag not in mark.remove]
            tags += [tag for tag in dict.fromkeys(mark.add) if tag not in tags]
        elif mark.kind == NOTE:
            note = mark.text
        else:
            protected = mark.kind == PROTECT
            until_ns, reason = (mark.until_ns, mark.text) if protected else (None, "")
    return Marking(tags=tuple(tags), note=note, protected=protected, until_ns=until_ns, reason=reason)


def _texts(values: list[Value]) -> tuple[str, ...]:
    found = tuple(value for value in values if isinstance(value, str))
    if len(found) != len(values):
        raise CorruptObject("a mark of a snapshot is malformed")
    return found
