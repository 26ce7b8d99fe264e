from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dedupstore.errors import CorruptObject, IncompleteListing, RepositoryTooNew
from dedupstore.repo import layout
from dedupstore.storage.base import ObjectInfo
from dedupstore.storage.memory import MemoryStore
from dedupstore.types import RepositoryId, SegmentId, SnapshotId

REPOSITORY = RepositoryId(bytes(range(16)))


class Listing(MemoryStore):
    """A store whose listing says what the test wants."""

    def __init__(self, keys: list[str]) -> None:
        super().__init__()
        self.keys = keys

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        return iter([ObjectInfo(key, 1) for key in self.keys])


def test_the_format_text_round_trips() -> None:
    assert layout.parse_format(layout.format_text(REPOSITORY)) == REPOSITORY


def test_a_newer_major_asks_for_a_newer_dedup_whatever_follows() -> None:
    with pytest.raises(RepositoryTooNew):
        layout.parse_format(b"dedupstore 2\nsomething else entirely")


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"dedupstore 1",
        b"dedupstore 0\n" + b"0" * 32 + b"\n",
        b"dedupstore 1\n" + b"0" * 31 + b"\n",
        b"dedupstore 1\n" + b"0" * 32,
        b"dedupstore 1\n" + b"0" * 32 + b"\n\n",
        b"dedupstore 1\n" + b"A" * 32 + b"\n",
        b"<html>login</html>",
        b"dedupstore 99999999999999\n",
    ],
)
def test_any_other_format_text_is_refused(text: bytes) -> None:
    with pytest.raises(CorruptObject):
        layout.parse_format(text)


def test_names_round_trip() -> None:
    identifier = bytes(range(200, 216))
    digest = bytes(range(32))

    assert layout.parse_config_key(layout.config_key(12, digest)) == (12, digest)
    assert layout.parse_segment_key(layout.segment_key(SegmentId(digest))) == digest
    assert layout.parse_id_key(layout.root_key(SnapshotId(identifier)), layout.ROOTS) == identifier
    assert layout.parse_id_key(layout.slot_key(identifier), layout.KEYS) == identifier
    for word in ("plan", "done", "bad", "checked"):
        make = getattr(layout, f"{word}_key")
        assert layout.parse_gc_key(make(identifier)) == (word, identifier)


def test_config_names_sort_as_their_numbers() -> None:
    keys = [layout.config_key(number, bytes(32)) for number in (0, 2, 9, 10, 99, 100)]

    assert keys == sorted(keys)


@given(st.text(max_size=60))
def test_foreign_names_are_corrupt_objects_never_crashes(text: str) -> None:
    for key in (text, layout.ROOTS + text, layout.GC + "plan-" + text, layout.INDEX + text, layout.CONFIG + text):
        for parse in (layout.parse_config_key, layout.parse_segment_key, layout.parse_gc_key):
            with pytest.raises(CorruptObject):
                parse(key)
        with pytest.raises(CorruptObject):
            layout.parse_id_key(key, layout.ROOTS)
        with pytest.raises(CorruptObject):
            layout.parse_mark_key(layout.MARKS + key)


def test_every_name_sorts_between_its_sentinels() -> None:
    identifier = SnapshotId(b"\xff" * 16)
    for key in (
        layout.config_key(0, b"\xff" * 32),
        layout.segment_key(SegmentId(b"\xff" * 32)),
        layout.root_key(identifier),
        layout.plan_key(b"\xff" * 16),
        layout.mark_key(identifier, 1, b"\xff" * 16),
        "packs/ff/" + "f" * 64 + ".mffff",
    ):
        prefix = key.split("/")[0] + "/"
        begin, end = (mark for mark in layout.SENTINELS if mark.startswith(prefix))
        assert begin < key < end


def test_a_complete_listing_has_no_sentinels() -> None:
    store = MemoryStore()
    for key in layout.SENTINELS:
        store.put(key, [layout.SENTINEL_BODY])
    store.put("roots/b", [b"12"])
    store.put("roots/a", [b"1"])

    assert layout.list_complete(store, layout.ROOTS) == [ObjectInfo("roots/a", 1), ObjectInfo("roots/b", 2)]
    assert layout.list_complete(store, layout.PACKS) == []


@pytest.mark.parametrize(
    "keys",
    [
        [],
        ["roots/-begin"],
        ["roots/zz-end"],
        ["roots/-begin", "roots/a"],
        ["roots/a", "roots/zz-end"],
        ["roots/-begin", "roots/b", "roots/a", "roots/zz-end"],
        ["roots/-begin", "roots/a", "roots/a", "roots/zz-end"],
        ["roots/-begin", "root/a", "roots/zz-end"],
        ["roots/-begin", "roots/-begin", "roots/zz-end"],
        ["commits/-begin", "commits/zz-end"],
    ],
)
def test_a_listing_cut_short_unsorted_or_repeating_is_no_listing(keys: list[str]) -> None:
    with pytest.raises(IncompleteListing):
        layout.list_complete(Listing(keys), layout.ROOTS)
