"""A store as it was: which version of each object counts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from dedupstore.errors import ObjectNotFound, StoreReadOnly
from dedupstore.storage.base import shows_past
from dedupstore.storage.memory import MemoryStore
from dedupstore.storage.past import PastStore
from dedupstore.storage.versions import Lock, Version
from dedupstore.types import Span


@dataclass
class Kept:
    """Versions in a list, the newest of each key first."""

    rows: list[tuple[str, int, bytes | None]] = field(default_factory=list)
    """Key, time, and content; None: a marker."""

    listings: int = 0

    def can_lock(self) -> bool:
        return False

    def all_of(self, prefix: str) -> Iterator[Version]:
        self.listings += 1
        for key, time, content in sorted(self.rows, key=lambda row: (row[0], -row[1])):
            if key.startswith(prefix):
                size = len(content or b"")
                yield Version(key=key, id=str(time), size=size, modified_ns=time, newest=False, marker=content is None)

    def read(self, version: Version, span: Span | None = None) -> bytes:
        content = next(row[2] for row in self.rows if (row[0], str(row[1])) == (version.key, version.id))
        assert content is not None
        return content if span is None else content[span.start : span.end]

    def lock_of(self, version: Version) -> Lock | None:
        return None

    def lock(self, version: Version, lock: Lock) -> None:
        raise AssertionError("nothing is locked here")


ROWS: list[tuple[str, int, bytes | None]] = [
    ("packs/aa", 10, b"first"),
    ("packs/aa", 30, b"overwritten"),
    ("packs/bb", 10, b"kept"),
    ("packs/bb", 30, None),
    ("packs/cc", 5, b"deleted before"),
    ("packs/cc", 10, None),
    ("packs/cc/", 10, b"no object of ours"),
    ("packs/dd", 25, b"later"),
    ("packs/ee", 5, b"old"),
    ("packs/ee", 8, None),
    ("packs/ee", 12, b"back again"),
]


@pytest.mark.parametrize("listed_first", [True, False])
def test_each_object_is_the_one_of_that_time(listed_first: bool) -> None:
    kept = Kept(list(ROWS))
    store = PastStore(MemoryStore(), kept, 20)
    there = {"packs/aa": b"first", "packs/bb": b"kept", "packs/ee": b"back again"}

    if listed_first:
        rows = list(store.list("packs/"))
        assert [(row.key, row.size) for row in rows] == [(key, len(content)) for key, content in there.items()]

    for key, content in there.items():
        assert store.get(key) == content
        assert store.get(key, Span(1, 2)) == content[1:3]
        assert store.head(key) == len(content)
    for key in ("packs/cc", "packs/dd", "packs/ff"):
        with pytest.raises(ObjectNotFound):
            store.get(key)
    assert kept.listings == (1 if listed_first else len(there) + 3)


def test_the_past_cannot_be_changed_and_says_that_it_is_past() -> None:
    store = PastStore(MemoryStore(), Kept(list(ROWS)), 20)

    for work in (lambda: store.put("packs/ff", [b"x"]), lambda: store.delete("packs/aa")):
        with pytest.raises(StoreReadOnly) as caught:
            work()
        assert "--at-store-time" in " ".join(caught.value.hints)
    assert shows_past(store)
    assert not shows_past(MemoryStore())
