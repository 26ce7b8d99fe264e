"""Lists of damage: what they say together, and that nothing malformed gets in."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dedupstore.errors import CorruptObject, RepositoryTooNew
from dedupstore.model.wire import pack
from dedupstore.repo import badlist
from dedupstore.repo.badlist import BadPlaces, BadRecord, KnownBad, bad_places, open_bad, put_bad, read_bad
from dedupstore.storage.memory import MemoryStore
from dedupstore.types import PackId
from tests.support.packs import keyring

A, B, C = (PackId(bytes([number]) * 32) for number in (1, 2, 3))
RECORD = BadRecord(packs={A: frozenset({3, 1}), B: None}, lost=frozenset({C}), creator="test", time_ns=5)


def test_a_record_reads_as_it_was_written() -> None:
    store = MemoryStore()

    (key,) = put_bad(store, keyring(), RECORD)

    assert open_bad(store, keyring(), key) == RECORD


def test_records_add_up_and_nothing_is_taken_back() -> None:
    store = MemoryStore()
    keys = put_bad(store, keyring(), RECORD)
    keys += put_bad(store, keyring(), BadRecord(packs={A: frozenset({7}), B: frozenset({0}), C: frozenset()}))

    known = read_bad(store, keyring(), keys)

    assert known.packs == {A: frozenset({1, 3, 7}), B: None, C: frozenset()}
    assert known.lost == {C}
    assert known.covers(A, frozenset({1, 7})) and not known.covers(A, frozenset({2})) and not known.covers(A, None)
    assert known.covers(B, None) and known.covers(B, frozenset({9}))
    assert not known.covers(PackId(bytes(32)), frozenset())


def test_a_record_that_cannot_be_read_is_passed_over() -> None:
    store = MemoryStore()
    first, second = put_bad(store, keyring(), RECORD), put_bad(store, keyring(), BadRecord(lost=frozenset({A})))
    data = store.objects[first[0]]
    store.objects[first[0]] = data[:-1] + bytes([data[-1] ^ 1])

    assert read_bad(store, keyring(), [*first, *second, "gc/bad-" + "0" * 26]).lost == {A}


def test_many_packs_are_many_records(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(badlist, "PACKS_PER_RECORD", 2)
    store = MemoryStore()

    keys = put_bad(store, keyring(), RECORD)

    assert len(keys) == 2
    known = read_bad(store, keyring(), keys)
    assert (known.packs, known.lost) == (RECORD.packs, {C})


@pytest.mark.parametrize(
    "row",
    [[A], [A, [-1]], [A, [65_535]], [A, [True]], [A, [b""]], [A, b""], [A[:31], None], A, None],
    ids=["no blocks", "negative", "no such block", "a bool", "bytes", "not a list", "short id", "no row", "nothing"],
)
def test_a_malformed_row_is_refused(row: object) -> None:
    data = pack({"creator": "", "lost": [], "packs": [row], "time": 0, "v": 1})  # type: ignore[list-item]

    with pytest.raises(CorruptObject, match="malformed"):
        BadRecord.decode(data)


def test_a_later_version_is_refused() -> None:
    with pytest.raises(RepositoryTooNew):
        BadRecord.decode(pack({"v": 2}))
    with pytest.raises(CorruptObject, match="malformed"):
        BadRecord.decode(pack({"v": 1}))


def test_places_are_those_of_packs_that_are_there() -> None:
    known = KnownBad()
    known.add(replace(RECORD, packs={A: frozenset({1}), B: None, C: frozenset()}))
    numbers = {A: 10, B: 20, C: 30}

    places = bad_places(known, {10, 20, 30}, numbers.get)

    assert places and places.whole == {20} and sorted(places.packs()) == [10, 20, 30]
    assert [(10, 1) in places, (10, 2) in places, (20, 5) in places, (30, 0) in places, (40, 0) in places] == [
        True, False, True, False, False,
    ]  # fmt: skip
    assert not bad_places(known, {30}, numbers.get)
    assert not bad_places(known, {10, 20}, {}.get)
    assert not BadPlaces()
