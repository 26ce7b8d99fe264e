"""Marks: their bytes, and what they add up to on every machine."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import pytest

from dedupstore.errors import CorruptObject, RepositoryTooNew
from dedupstore.model.mark import NOTE, PROTECT, TAGS, UNPROTECT, Mark, NumberedMark, add_up
from dedupstore.model.snapshot import Snapshot
from dedupstore.model.wire import Value, pack, unpack_map
from dedupstore.types import ChunkId, SnapshotId

SNAPSHOT = Snapshot(
    id=SnapshotId(b"s" * 16), run=b"r" * 16, source="site", kind="files", trigger="manual", host="h", user="u",
    start_ns=1, end_ns=2, root=ChunkId(b"c" * 32), tags=("first", "second"), note="as made",
)  # fmt: skip


def numbered(number: int, kind: str, *, by: bytes = b"a", **fields: object) -> NumberedMark:
    return NumberedMark(number, by.ljust(16), Mark(kind=kind, time_ns=5, **fields))  # type: ignore[arg-type]


def changed(**fields: Value) -> bytes:
    """The bytes of a good mark, some fields altered."""
    return pack({**unpack_map(Mark(kind=PROTECT, time_ns=1).encode()), **fields})


@pytest.mark.parametrize(
    "mark",
    [
        Mark(kind=PROTECT, time_ns=1),
        Mark(kind=PROTECT, time_ns=1, until_ns=2, text="audit"),
        Mark(kind=UNPROTECT, time_ns=1),
        Mark(kind=TAGS, time_ns=1, add=("a", "ü"), remove=("b",)),
        Mark(kind=NOTE, time_ns=1, text="x\ny"),
    ],
)
def test_a_mark_comes_back(mark: Mark) -> None:
    assert Mark.decode(mark.encode()) == mark


@pytest.mark.parametrize("fields", [{"v": 2}, {"v": True}, {"kind": "hide"}, {"kind": 1}, {"v": None}])
def test_a_mark_of_another_kind_or_version_asks_for_a_newer_dedup(fields: dict[str, Value]) -> None:
    with pytest.raises(RepositoryTooNew):
        Mark.decode(changed(**fields))


@pytest.mark.parametrize(
    "fields",
    [{"time": "x"}, {"time": True}, {"until": "x"}, {"until": False}, {"text": None}, {"add": [1]}, {"remove": "a"}],
)
def test_a_malformed_mark_is_refused(fields: dict[str, Value]) -> None:
    with pytest.raises(CorruptObject):
        Mark.decode(changed(**fields))


def test_without_marks_the_record_speaks() -> None:
    found = add_up(SNAPSHOT, [])

    assert (found.tags, found.note, found.protected) == (("first", "second"), "as made", False)


def test_marks_add_up_in_the_order_of_their_numbers_in_whatever_order_they_are_read() -> None:
    marks = [
        numbered(1, TAGS, add=("third",), remove=("first",)),
        numbered(2, TAGS, add=("first",), remove=("third",)),
        numbered(2, NOTE, by=b"b", text="later"),
        numbered(3, PROTECT, until_ns=100, text="why"),
    ]

    sums = {add_up(SNAPSHOT, order) for order in permutations(marks)}

    assert len(sums) == 1
    found = sums.pop()
    assert found.tags == ("second", "first")
    assert (found.note, found.protected, found.until_ns, found.reason) == ("later", True, 100, "why")


def test_adding_up_twice_changes_nothing() -> None:
    marks = [numbered(1, TAGS, add=("x",), remove=("first",)), numbered(2, TAGS, remove=("x",), add=("y",))]
    once = add_up(SNAPSHOT, marks)

    again = add_up(replace(SNAPSHOT, tags=once.tags, note=once.note), marks)

    assert set(again.tags) == set(once.tags) == {"second", "y"}


def test_of_two_clients_that_did_not_see_each_other_the_one_that_protects_wins() -> None:
    for by in (b"a", b"z"):
        marks = [numbered(1, UNPROTECT, by=by), numbered(1, PROTECT, by=b"m")]
        assert add_up(SNAPSHOT, marks).protected

    longer = [numbered(1, PROTECT, by=b"z", until_ns=5), numbered(1, PROTECT, by=b"a")]
    assert add_up(SNAPSHOT, longer).until_ns is None


def test_protection_ends_with_the_time_or_a_later_mark() -> None:
    until = add_up(SNAPSHOT, [numbered(1, PROTECT, until_ns=100)])
    assert until.holds(99) and not until.holds(100)

    ended = add_up(SNAPSHOT, [numbered(1, PROTECT, text="why"), numbered(2, UNPROTECT)])
    assert not ended.holds(0) and ended.reason == ""
