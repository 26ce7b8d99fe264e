"""Entries come back as they were, and every field a hostile author could bend is refused."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dedupstore.errors import CorruptObject
from dedupstore.model.entry import (
    BLOCK_DEVICE,
    CHARACTER_DEVICE,
    DIRECTORY,
    FIFO,
    FILE,
    MAX_INLINE_CHUNKS,
    MAX_NAME,
    SECOND,
    SOCKET,
    SYMLINK,
    Entry,
    check_name,
    decode_entry,
    encode_entry,
)
from dedupstore.model.wire import pack, unpack
from dedupstore.types import ChunkId
from tests.support.manifests import numbered_ids

ID = ChunkId(bytes(range(32)))
NAMES = st.binary(min_size=1, max_size=255).filter(
    lambda name: b"/" not in name and b"\0" not in name and name not in (b".", b"..")
)
TIMES = st.integers(-(2**62), 2**62)
BASES = st.integers(-(2**62), 2**62 - 1)


def references(*lengths: int) -> bytes:
    ids = numbered_ids(len(lengths))
    return b"".join(chunk + length.to_bytes(3, "big") for chunk, length in zip(ids, lengths, strict=True))


@st.composite
def entries(draw: st.DrawFn) -> Entry:
    kind = draw(st.sampled_from([FILE, DIRECTORY, SYMLINK, FIFO, SOCKET, CHARACTER_DEVICE, BLOCK_DEVICE]))
    entry = Entry(
        name=draw(NAMES),
        kind=kind,
        mode=draw(st.integers(0, 0o7777)),
        uid=draw(st.integers(0, 2**32 - 1)),
        gid=draw(st.integers(0, 2**32 - 1)),
        user=draw(st.text(max_size=32)),
        group=draw(st.text(max_size=32)),
        mtime=draw(TIMES),
        ctime=draw(st.integers(-(2**62), 2**62)),
        xattrs=tuple(sorted(draw(st.dictionaries(NAMES, st.binary(max_size=50), max_size=4)).items())),
    )
    if kind == FILE:
        lengths = draw(st.lists(st.integers(1, 2**24 - 1), max_size=8))
        entry.size = sum(lengths)
        entry.content = bytes(ID) if len(lengths) == 1 else references(*lengths)
        entry.hash = bytes(32) if len(lengths) > 1 else b""
        entry.link_group = draw(st.integers(0, 2**63 - 1))
        entry.page_size = draw(st.sampled_from([0, 4096]))
        position, data_left = 0, entry.size
        holes: list[int] = []
        for gap, length in draw(st.lists(st.tuples(st.integers(0, 100), st.integers(1, 10**9)), max_size=5)):
            gap = min(gap, data_left)
            holes += [position + gap, length]
            data_left -= gap
            entry.size += length
            position += gap + length
        entry.holes = tuple(holes)
    elif kind == DIRECTORY:
        entry.tree = ID
    elif kind == SYMLINK:
        entry.target = draw(NAMES)
    elif kind in (CHARACTER_DEVICE, BLOCK_DEVICE):
        entry.device = draw(st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1)))
    return entry


@given(entries(), BASES)
def test_an_entry_comes_back_as_it_was(entry: Entry, base_ns: int) -> None:
    data = pack(encode_entry(entry, base_ns))

    found = decode_entry(unpack(data), base_ns)

    assert found == entry
    assert pack(encode_entry(found, base_ns)) == data


@pytest.mark.parametrize("base_ns", [0, 1, -1, 999_999_999, -999_999_999, 10**18, -(10**18) - 1])
def test_times_before_and_after_the_base_come_back(base_ns: int) -> None:
    """Seconds are rounded down on both sides of zero, so that they meet again."""
    for mtime, ctime in ((0, 0), (-1, -1), (base_ns - 1, base_ns // SECOND - 1), (base_ns + 1, base_ns // SECOND + 1)):
        entry = Entry(name=b"f", kind=FILE, mode=0, mtime=mtime, ctime=ctime)

        row = encode_entry(entry, base_ns)

        assert (row["mt"], row["ct"]) == (mtime - base_ns, ctime - base_ns // SECOND)
        assert decode_entry(unpack(pack(row)), base_ns) == entry


@given(entries(), st.data())
def test_mutated_bytes_of_an_entry_raise_nothing_but_corrupt_object(entry: Entry, draw: st.DataObject) -> None:
    data = bytearray(pack(encode_entry(entry, 0)))
    for _ in range(draw.draw(st.integers(1, 3))):
        data[draw.draw(st.integers(0, len(data) - 1))] = draw.draw(st.integers(0, 255))

    try:
        found = decode_entry(unpack(data), 0)
    except CorruptObject:
        return
    check_name(found.name)
    assert sum(length for _, length in found.inline_references()) in (found.data_size, 0)


JSON_LIKE = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.binary(max_size=40) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.sampled_from("acdegk"), inner, max_size=3),
    max_leaves=6,
)


@given(st.sampled_from([FILE, DIRECTORY, SYMLINK, CHARACTER_DEVICE]), st.data())
def test_any_value_in_any_field_raises_nothing_but_corrupt_object(kind: str, draw: st.DataObject) -> None:
    row = good(kind)
    for key in draw.draw(
        st.lists(st.sampled_from([*"cdghklmnprsux", "ct", "gn", "ho", "lg", "mt", "ps", "un", "zz"]), max_size=3)
    ):
        row[key] = draw.draw(JSON_LIKE)

    try:
        entry = decode_entry(row, 0)
    except CorruptObject:
        return
    assert all(
        getattr(entry, field.name) is not None or field.name in ("pages", "tree", "device") for field in fields(entry)
    )


def good(kind: str = FILE, **changes: object) -> dict[str, Any]:
    entry = Entry(name=b"name", kind=kind, mode=0o644)
    if kind == DIRECTORY:
        entry.tree = ID
    if kind == CHARACTER_DEVICE:
        entry.device = (1, 3)
    if kind == SYMLINK:
        entry.target = b"target"
    row: dict[str, Any] = dict(encode_entry(entry, 0))
    return {key: value for key, value in {**row, **changes}.items() if value is not ...}


TWO = references(10, 20)
BAD: dict[str, dict[str, Any]] = {
    "no name": good(n=...),
    "no kind": good(k=...),
    "no time": good(mt=...),
    "no owner": good(u=...),
    "an unknown field": good(zz=1),
    "a text as name": good(n="name"),
    "a bool as size": good(s=True),
    "a float as time": good(mt=1.0),
    "an unknown kind": good(k="x"),
    "a kind of two letters": good(k="fd"),
    "a mode with type bits": good(m=0o100644),
    "a negative mode": good(m=-1),
    "a uid of 33 bits": good(u=2**32),
    "a negative gid": good(g=-1),
    "a size of 64 bits": good(s=2**63),
    "a negative size": good(s=-1),
    "a time beyond 64 bits": good(mt=2**63),
    "a change time beyond 64 bits": good(ct=2**63),
    "a link group of 64 bits": good(lg=2**63),
    "a user name of 257 letters": good(un="u" * 257),
    "a directory without a tree": good(DIRECTORY, d=...),
    "a tree of 31 bytes": good(DIRECTORY, d=bytes(31)),
    "a file with a tree": good(d=ID),
    "a directory with content": good(DIRECTORY, c=bytes(ID)),
    "a link with holes": good(SYMLINK, s=5, ho=[0, 5]),
    "a link with a hash": good(SYMLINK, h=bytes(32)),
    "a link to a text with NUL": good(SYMLINK, l=b"a\0b"),
    "a link to a text of 4096 bytes": good(SYMLINK, l=b"a" * 4096),
    "a device without a number": good(CHARACTER_DEVICE, r=...),
    "a device of one number": good(CHARACTER_DEVICE, r=[1]),
    "a device of bools": good(CHARACTER_DEVICE, r=[True, True]),
    "a device of 33 bits": good(CHARACTER_DEVICE, r=[1, 2**32]),
    "a size without content": good(s=1),
    "content without a size": good(c=bytes(ID)),
    "one chunk longer than a chunk can be": good(c=bytes(ID), s=2**24),
    "content of 33 bytes": good(c=bytes(33), s=33),
    "lengths that do not add up": good(c=TWO, s=31),
    "content beside pages": good(c=TWO, s=30, p=[1, ID]),
    "more references than fit": good(c=references(*[1] * (MAX_INLINE_CHUNKS + 1)), s=MAX_INLINE_CHUNKS + 1),
    "pages of depth 0": good(s=1, p=[0, ID]),
    "pages of depth 9": good(s=1, p=[9, ID]),
    "pages of depth true": good(s=1, p=[True, ID]),
    "pages by a short id": good(s=1, p=[1, bytes(31)]),
    "a hash of 31 bytes": good(c=TWO, s=30, h=bytes(31)),
    "holes of odd count": good(s=10, ho=[0]),
    "holes that overlap": good(s=10, ho=[0, 5, 4, 6]),
    "holes out of order": good(s=10, ho=[5, 5, 0, 5]),
    "a hole beyond the end": good(s=10, ho=[5, 6]),
    "a hole of nothing": good(s=0, ho=[0, 0]),
    "a negative hole": good(s=10, ho=[-1, 11]),
    "a hole of bools": good(s=1, ho=[False, True]),
    "attributes out of order": good(x=[[b"b", b""], [b"a", b""]]),
    "an attribute twice": good(x=[[b"a", b""], [b"a", b""]]),
    "an attribute without a name": good(x=[[b"", b""]]),
    "an attribute with NUL in its name": good(x=[[b"a\0", b""]]),
    "an attribute of three": good(x=[[b"a", b"", b""]]),
    "an attribute of text": good(x=[["a", b""]]),
}


@pytest.mark.parametrize("what", BAD)
def test_a_bent_entry_is_refused(what: str) -> None:
    with pytest.raises(CorruptObject):
        decode_entry(BAD[what], 0)


@pytest.mark.parametrize(("mtime", "base_ns"), [(1, 2**63 - 1), (0, 2**63), (-1, -(2**63)), (2**63 - 1, 2**64 - 1)])
def test_a_base_that_carries_a_time_out_of_64_bits_is_refused(mtime: int, base_ns: int) -> None:
    with pytest.raises(CorruptObject, match="time"):
        decode_entry(good(mt=mtime), base_ns)


@pytest.mark.parametrize("row", [None, 1, b"", [], "text"])
def test_what_is_no_map_is_no_entry(row: Any) -> None:
    with pytest.raises(CorruptObject):
        decode_entry(row, 0)


@pytest.mark.parametrize("name", [b"", b".", b"..", b"/", b"a/b", b"/etc", b"a\0", b"\0", b"n" * (MAX_NAME + 1)])
def test_a_name_that_could_leave_its_directory_is_refused(name: bytes) -> None:
    with pytest.raises(CorruptObject, match="forbidden name"):
        decode_entry(good(n=name), 0)


@pytest.mark.parametrize("name", [b"...", b" ", b"\n", b"\xff\xfe", b"-rf", b"~", b"a\\b", b"n" * MAX_NAME])
def test_an_odd_name_is_a_name(name: bytes) -> None:
    assert decode_entry(good(n=name), 0).name == name


def test_a_single_chunk_takes_its_length_from_the_file() -> None:
    entry = decode_entry(good(c=bytes(ID), s=100, ho=[10, 40]), 0)

    assert entry.data_size == 60
    assert entry.inline_references() == [(ID, 60)]


def test_as_many_references_as_fit_are_read_in_order() -> None:
    lengths = list(range(1, MAX_INLINE_CHUNKS + 1))

    entry = decode_entry(good(c=references(*lengths), s=sum(lengths), h=bytes(32)), 0)

    assert [length for _, length in entry.inline_references()] == lengths


def test_an_entry_takes_no_more_bytes_than_it_needs() -> None:
    """The manifest of a million files is a million of these: an empty field is not written."""
    entry = Entry(name=b"file.txt", kind=FILE, mode=0o644, size=5, content=bytes(ID))

    assert encode_entry(entry, 0).keys() == {"c", "ct", "g", "k", "m", "mt", "n", "s", "u"}
    assert len(pack(encode_entry(entry, 0))) < 80
