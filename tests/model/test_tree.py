"""Directories of any length come back; pages stay small, move little, and cannot be bent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dedupstore.errors import CorruptObject, RepositoryTooNew
from dedupstore.model.entry import FILE, SYMLINK, Entry, encode_entry
from dedupstore.model.tree import (
    MAX_PAGE_BYTES,
    MAX_PAGE_ENTRIES,
    read_tree,
    read_tree_pages,
    tree_manifests,
)
from dedupstore.model.wire import MAX_BYTES, Value, pack, unpack
from dedupstore.types import ChunkId
from tests.support.manifests import ManifestStore

ID = ChunkId(bytes(32))


def named(number: int) -> Entry:
    return Entry(name=b"%08d" % number, kind=SYMLINK, mode=0o777, target=b"x")


def row(name: bytes) -> Value:
    return encode_entry(Entry(name=name, kind=SYMLINK, mode=0o777, target=b"x"), 0)


def late_row(name: bytes) -> Value:
    return encode_entry(Entry(name=name, kind=SYMLINK, mode=0o777, target=b"x", mtime=1), 0)


@pytest.mark.parametrize(
    "count", [0, 1, MAX_PAGE_ENTRIES - 1, MAX_PAGE_ENTRIES, MAX_PAGE_ENTRIES + 1, 3 * MAX_PAGE_ENTRIES]
)
def test_a_directory_of_any_length_around_a_page_comes_back(count: int) -> None:
    store = ManifestStore()

    tree = store.tree([named(number) for number in range(count)])

    assert [entry.name for entry in read_tree(store.load, tree)] == [b"%08d" % number for number in range(count)]
    assert set(tree_manifests(store.load, tree)) == set(store.chunks)
    pages = read_tree_pages(store.load, tree)
    assert len(pages) == 1 if count < MAX_PAGE_ENTRIES else pages[0][0] == b"00000000"
    assert all(first == next(read_tree(store.load, page)).name for first, page in pages if count >= MAX_PAGE_ENTRIES)


def test_a_hundred_thousand_entries_come_back_in_pages_of_bounded_size() -> None:
    store = ManifestStore()

    tree = store.tree([named(number) for number in range(100_000)])

    assert max(map(len, store.chunks.values())) < 2 * MAX_PAGE_BYTES
    store.loads = 0
    iterator = read_tree(store.load, tree)
    assert next(iterator).name == b"00000000"
    assert store.loads == 2, "reading begins before all pages are loaded"
    assert sum(1 for _ in iterator) == 99_999


def test_one_new_name_in_a_large_directory_rewrites_few_pages() -> None:
    """Pages after the first end where a name says so; the first is as long as it may be."""
    before, after = ManifestStore(), ManifestStore()
    entries = [named(2 * number) for number in range(40_000)]
    before.tree(entries)

    after.tree(sorted([*entries, named(33_333)], key=lambda entry: entry.name))

    new = after.chunks.keys() - before.chunks.keys()
    assert len(after.chunks) > 20
    assert len(new) <= 5


@pytest.mark.parametrize(
    "heavy",
    [
        Entry(name=b"", kind=SYMLINK, mode=0o777, target=b"t" * 4095),
        Entry(name=b"", kind=FILE, mode=0, xattrs=tuple((b"user.%03d" % n, bytes(200)) for n in range(200))),
        Entry(name=b"", kind=FILE, mode=0, xattrs=tuple((b"u%03d" % n, b"") for n in range(999))),
        Entry(name=b"", kind=FILE, mode=0, size=256, content=(bytes(34) + b"\1") * 256),
    ],
    ids=["links", "attributes", "tiny attributes", "content"],
)
def test_heavy_entries_make_small_pages_that_can_be_read(heavy: Entry) -> None:
    """A page must fit into a chunk and into what a reader accepts, whatever its entries carry."""
    store = ManifestStore()

    tree = store.tree([replace(heavy, name=b"%06d" % number) for number in range(400)])

    assert max(map(len, store.chunks.values())) < MAX_BYTES // 4
    for chunk in tree_manifests(store.load, tree):
        unpack(store.load(chunk))


def test_a_directory_of_many_files_full_of_holes_is_split_by_size() -> None:
    store = ManifestStore()
    holes = tuple(n for m in range(4096) for n in ((2 * m + 1) << 40, 1 << 40))
    entries = [
        Entry(name=b"%06d" % number, kind=FILE, mode=0, size=1 << 54, holes=holes, pages=(1, ID))
        for number in range(120)
    ]

    tree = store.tree(entries)

    assert max(map(len, store.chunks.values())) < MAX_BYTES // 4
    assert [entry.holes for entry in read_tree(store.load, tree)] == [holes] * 120


def test_new_times_of_a_whole_tree_change_only_the_base_of_each_page() -> None:
    """A release unpacked anew: a delta against the parent's manifest then costs next to nothing."""
    entries = [
        replace(named(number), mtime=10**18 + number % 7 * 10**9, ctime=10**9 + number % 11) for number in range(9000)
    ]
    shift = 123_456
    before, after = ManifestStore(), ManifestStore()
    before.tree(entries)

    after.tree([replace(e, mtime=e.mtime + shift * 10**9, ctime=e.ctime + shift) for e in entries])

    pages = [
        [value for _, page in store.saved if "e" in (value := unpack(store.chunks[page]))]  # type: ignore[operator]
        for store in (before, after)
    ]
    assert len(pages[0]) == len(pages[1]) > 2
    for old, new in zip(*pages, strict=True):
        assert isinstance(old, dict) and isinstance(new, dict)
        assert new["t"] - old["t"] == shift * 10**9
        assert pack({**new, "t": old["t"]}) == pack(old)


def test_each_page_takes_its_base_from_its_first_entry_and_an_empty_directory_has_none() -> None:
    store = ManifestStore()
    entries = [replace(named(number), mtime=number - 5, ctime=-number) for number in range(MAX_PAGE_ENTRIES + 1)]

    tree = store.tree(entries)

    bases = [unpack(store.chunks[page])["t"] for _, page in store.saved[:2]]  # type: ignore[index,call-overload]
    assert bases == [-5, MAX_PAGE_ENTRIES - 5]
    assert list(read_tree(store.load, tree)) == entries
    assert unpack(store.chunks[store.tree([])]) == {"e": [], "t": 0, "v": 1}


@pytest.mark.parametrize(
    "times",
    [
        [2**63 - 1, -(2**63)],
        [-(2**63), 2**63 - 1],
        [2**63 - 1, -1, 0, 2**63 - 1, -(2**63)],
        [0, -(2**63), 2**63 - 1, 0],
    ],
)
def test_times_too_far_apart_for_one_page_are_kept_all_the_same(times: list[int]) -> None:
    """Anyone can set the time of a file; the differences of two such times need 65 bits."""
    store = ManifestStore()
    entries = [replace(named(n), mtime=time, ctime=time // 10**9) for n, time in enumerate(times)]

    tree = store.tree(entries)

    assert list(read_tree(store.load, tree)) == entries


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(-(2**63), 2**63 - 1), st.integers(-(2**40), 2**40)), max_size=30))
def test_any_times_come_back(times: list[tuple[int, int]]) -> None:
    store = ManifestStore()
    entries = [replace(named(n), mtime=mtime, ctime=ctime) for n, (mtime, ctime) in enumerate(times)]

    assert list(read_tree(store.load, store.tree(entries))) == entries


def test_a_base_time_that_is_no_whole_number_or_out_of_order_is_no_manifest() -> None:
    """What canonical msgpack cannot say: a float, and keys that do not ascend."""
    store = ManifestStore()
    good = pack({"e": [], "t": 0, "v": 1})
    assert good == b"\x83\xa1e\x90\xa1t\x00\xa1v\x01"

    for bad in (
        good.replace(b"\xa1t\x00", b"\xa1t\xca\0\0\0\0"),
        good.replace(b"\xa1t\x00", b"\xa1t\xcc\x00"),
        b"\x83\xa1t\x00\xa1e\x90\xa1v\x01",
        b"\x83\xa1e\x90\xa1v\x01\xa1t\x00",
        b"\x84\xa1e\x90\xa1t\x00\xa1t\x00\xa1v\x01",
    ):
        with pytest.raises(CorruptObject):
            list(read_tree(store.load, store.save(bad, b"")))


def test_names_that_do_not_ascend_are_refused() -> None:
    for names in ([b"b", b"a"], [b"a", b"a"], [b"a", b"B"]):
        store = ManifestStore()
        tree = store.put({"e": [row(name) for name in names], "t": 0, "v": 1})

        with pytest.raises(CorruptObject, match="order"):
            list(read_tree(store.load, tree))


def page(store: ManifestStore, *names: bytes) -> ChunkId:
    return store.put({"e": [row(name) for name in names], "t": 0, "v": 1})


BENT: dict[str, Callable[[ManifestStore], Value]] = {
    "a page twice": lambda s: {"p": [[b"a", p := page(s, b"a")], [b"a", p]], "v": 1},
    "a page under another name": lambda s: {"p": [[b"b", page(s, b"a")]], "v": 1},
    "pages out of order": lambda s: {"p": [[b"b", page(s, b"b")], [b"a", page(s, b"a")]], "v": 1},
    "pages that overlap": lambda s: {"p": [[b"a", page(s, b"a", b"c")], [b"b", page(s, b"b")]], "v": 1},
    "an empty page": lambda s: {"p": [[b"a", page(s)]], "v": 1},
    "no pages": lambda s: {"p": [], "v": 1},
    "a list under another name": lambda s: {"p": [[b"0", s.put({"p": [[b"a", page(s, b"a")]], "v": 1})]], "v": 1},
    "a row of three": lambda s: {"p": [[b"a", page(s, b"a"), 1]], "v": 1},
    "a short id": lambda s: {"p": [[b"a", bytes(31)]], "v": 1},
    "a text as name": lambda s: {"p": [["a", page(s, b"a")]], "v": 1},
    "a content page": lambda s: {"c": bytes(35), "v": 1},
    "entries that are none": lambda s: {"e": 1, "t": 0, "v": 1},
    "too many entries": lambda s: {"e": [row(b"%05d" % n) for n in range(MAX_PAGE_ENTRIES + 1)], "t": 0, "v": 1},
    "both": lambda s: {"e": [], "p": [], "v": 1},
    "both and a base time": lambda s: {"e": [], "p": [], "t": 0, "v": 1},
    "neither": lambda s: {"v": 1, "x": 1},
    "no version": lambda s: {"e": [], "t": 0},
    "no base time": lambda s: {"e": [row(b"a")], "v": 1},
    "true as base time": lambda s: {"e": [row(b"a")], "t": True, "v": 1},
    "nil as base time": lambda s: {"e": [row(b"a")], "t": None, "v": 1},
    "a text as base time": lambda s: {"e": [row(b"a")], "t": "0", "v": 1},
    "a base time beyond 63 bits": lambda s: {"e": [], "t": 2**63, "v": 1},
    "a base time that carries a time beyond 63 bits": lambda s: {"e": [late_row(b"a")], "t": 2**63 - 1, "v": 1},
    "a base time for a page list": lambda s: {"p": [[b"a", page(s, b"a")]], "t": 0, "v": 1},
    "true as version": lambda s: {"e": [], "t": 0, "v": True},
    "one more field": lambda s: {"e": [], "t": 0, "v": 1, "x": 1},
    "no map": lambda s: [],
    "nil": lambda s: None,
}


@pytest.mark.parametrize("what", BENT)
def test_a_bent_directory_is_refused(what: str) -> None:
    store = ManifestStore()
    tree = store.put(BENT[what](store))

    with pytest.raises(CorruptObject):
        list(read_tree(store.load, tree))


def test_a_directory_of_the_future_says_so() -> None:
    store = ManifestStore()

    with pytest.raises(RepositoryTooNew):
        list(read_tree(store.load, store.put({"e": [], "t": 0, "v": 2})))


def test_page_lists_deeper_than_any_writer_makes_them_are_refused() -> None:
    store = ManifestStore()
    tree = page(store, b"a")
    for _ in range(8):
        tree = store.put({"p": [[b"a", tree]], "v": 1})
    assert len(list(read_tree(store.load, tree))) == 1

    with pytest.raises(CorruptObject, match="deep"):
        list(read_tree(store.load, store.put({"p": [[b"a", tree]], "v": 1})))


def test_a_small_hostile_list_does_not_stand_for_a_directory_without_end() -> None:
    """4096 times the same list, eight levels deep, would be more pages than there are atoms."""
    store = ManifestStore()
    tree = page(store, b"a")
    for _ in range(6):
        tree = store.put({"p": [[b"a" + bytes([n]) * bool(n), tree] for n in range(200)], "v": 1})

    for walk in (read_tree, tree_manifests):
        store.loads = 0
        with pytest.raises(CorruptObject):
            list(walk(store.load, tree))
        assert store.loads < 20


def test_each_manifest_is_named_before_it_is_loaded() -> None:
    """Who stores again what was lost must learn which one it is."""
    store = ManifestStore()
    tree = store.tree([named(number) for number in range(MAX_PAGE_ENTRIES + 1)])
    lost = read_tree_pages(store.load, tree)[0][1]
    del store.chunks[lost]
    named_so_far: list[ChunkId] = []

    with pytest.raises(KeyError):
        named_so_far.extend(tree_manifests(store.load, tree))

    assert named_so_far == [tree, lost]


@settings(deadline=None)
@given(st.integers(0, 5000), st.data())
def test_mutated_bytes_of_a_directory_raise_nothing_but_the_two_errors(count: int, draw: st.DataObject) -> None:
    store = ManifestStore()
    tree = store.put({"e": [row(b"%04d" % number) for number in range(count % 7)], "t": 0, "v": 1})
    if count % 2:
        tree = store.put({"p": [[b"0000", tree]], "v": 1})
    data = bytearray(store.chunks[tree])
    for _ in range(draw.draw(st.integers(1, 3))):
        data[draw.draw(st.integers(0, len(data) - 1))] = draw.draw(st.integers(0, 255))
    store.chunks[tree] = bytes(data)

    for walk in (read_tree, tree_manifests, read_tree_pages):
        try:
            list(walk(store.load, tree))
        except (CorruptObject, RepositoryTooNew, KeyError):
            pass  # KeyError: the store's own word for a chunk that is not there.


def test_a_manifest_is_the_same_bytes_wherever_it_is_written() -> None:
    first, second = ManifestStore(), ManifestStore()

    assert first.tree([named(number) for number in range(9000)]) == second.tree(
        [named(number) for number in range(9000)]
    )
    assert first.saved == second.saved
    assert pack(unpack(first.chunks[first.saved[0][1]])) == first.chunks[first.saved[0][1]]
