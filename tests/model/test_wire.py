"""One value has one encoding; anything else, and anything too large, is refused quickly and in bounded memory."""

from __future__ import annotations

import tracemalloc

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dedupstore.errors import CorruptObject
from dedupstore.model import wire
from dedupstore.model.wire import MAX_ARRAYS, MAX_DEPTH, MAX_MAPS, Value, check_types, pack, unpack, unpack_map

KEYS = st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=32)
SCALARS = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.binary(max_size=300) | st.text(max_size=80)
VALUES: st.SearchStrategy[Value] = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=20)
        | st.dictionaries(KEYS, inner, max_size=20).map(lambda row: dict(sorted(row.items())))
    ),
    max_leaves=40,
)


@given(VALUES)
def test_every_value_comes_back_and_has_one_encoding(value: Value) -> None:
    data = pack(value)

    assert unpack(data) == value
    assert pack(unpack(data)) == data


@given(st.binary(max_size=200))
def test_any_bytes_are_one_canonical_value_or_refused(data: bytes) -> None:
    try:
        value = unpack(data)
    except CorruptObject:
        return
    assert msgpack.packb(value, use_bin_type=True) == data


@given(VALUES, st.data())
def test_a_mutated_encoding_is_another_value_or_refused(value: Value, draw: st.DataObject) -> None:
    data = bytearray(pack(value))
    at = draw.draw(st.integers(0, len(data) - 1))
    data[at] ^= draw.draw(st.integers(1, 255))

    try:
        assert pack(unpack(data)) == data
    except CorruptObject:
        pass


@given(VALUES, st.binary(min_size=1, max_size=8))
def test_nothing_may_follow_and_nothing_may_be_missing(value: Value, more: bytes) -> None:
    data = pack(value)

    with pytest.raises(CorruptObject):
        unpack(data + more)
    with pytest.raises(CorruptObject):
        unpack(data[:-1])


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("empty", b""),
        ("int not in its smallest form", b"\xcd\x00\x05"),
        ("negative int not in its smallest form", b"\xd1\xff\xff"),
        ("string length too wide", b"\xd9\x01a"),
        ("bin length too wide", b"\xc5\x00\x01a"),
        ("array length too wide", b"\xdc\x00\x00"),
        ("map length too wide", b"\xde\x00\x00"),
        ("keys out of order", b"\x82\xa1b\x01\xa1a\x01"),
        ("a key twice", b"\x82\xa1a\x01\xa1a\x01"),
        ("an int as key", b"\x81\x01\x01"),
        ("a bin as key", b"\x81\xc4\x01a\x01"),
        ("nil as key", b"\x81\xc0\x01"),
        ("an empty key", b"\x81\xa0\x01"),
        ("a long key", b"\x81\xd9\x21" + b"k" * 33 + b"\x01"),
        ("a key that is not ASCII", b"\x81\xa2\xc3\xa9\x01"),
        ("bad UTF-8", b"\xa1\xff"),
        ("a surrogate", b"\xa3\xed\xa0\x80"),
        ("an extension", b"\xd4\x05\x00"),
        ("the reserved byte", b"\xc1"),
    ],
)
def test_what_is_not_canonical_is_refused(name: str, data: bytes) -> None:
    with pytest.raises(CorruptObject):
        unpack(data)


@pytest.mark.parametrize(
    "inner",
    [b"\xca\x00\x00\x00\x00", b"\xcb\x7f\xf8" + bytes(6), b"\xcb\x3f\xf0" + bytes(6), b"\xd6\xff\x00\x00\x00\x01"],
    ids=["float32", "NaN", "1.0", "time stamp"],
)
def test_no_float_and_no_time_stamp_hides_in_a_record(inner: bytes) -> None:
    """Not even in a field that nobody reads."""
    for data in (b"\x81\xa1a" + inner, b"\x81\xa1a\x91" + inner):
        with pytest.raises(CorruptObject):
            unpack_map(data)


def test_a_record_must_be_a_map() -> None:
    for value in (None, 1, b"", [1]):
        with pytest.raises(CorruptObject, match="not a map"):
            unpack_map(pack(value))


def test_a_record_may_nest_thirty_two_deep_and_no_deeper() -> None:
    value: Value = 0
    for _ in range(MAX_DEPTH - 1):
        value = [value]

    assert unpack_map(pack({"a": value})) == {"a": value}
    with pytest.raises(CorruptObject, match="deep"):
        check_types({"a": [value, [value]]})


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("array of 2^32-1", b"\xdd\xff\xff\xff\xff"),
        ("map of 2^32-1", b"\xdf\xff\xff\xff\xff"),
        ("bin of 2^32-1", b"\xc6\xff\xff\xff\xff"),
        ("str of 2^32-1", b"\xdb\xff\xff\xff\xff"),
        ("1025 deep", b"\x91" * 1025 + b"\xc0"),
        ("100 000 deep", b"\x91" * 100_000 + b"\xc0"),
        ("maps 100 000 deep", b"\x81\xa1a" * 100_000 + b"\xc0"),
        ("4 M empty maps", b"\xdd\x00\x40\x00\x00" + b"\x80" * (4 << 20)),
        ("15 M empty arrays", b"\xdd\x00\xf0\x00\x00" + b"\x90" * (15 << 20)),
        ("nested arrays that claim 512 K items each", b"\xdd\x00\x08\x00\x00" * 1000 + b"\xc0" * (1 << 19)),
        (
            "a map of 100 000 keys",
            b"\xdf\x00\x01\x86\xa0" + b"".join(b"\xa5%05d\xc0" % n for n in range(99_999, -1, -1)),
        ),
        ("17 MiB", b"\xc6\x01\x10\x00\x00" + bytes(17 << 20)),
    ],
)
def test_a_bomb_is_refused_before_much_is_made_of_it(name: str, data: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(CorruptObject):
            unpack(data)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    # Time follows: what is not made takes none.
    assert most < 160 << 20


def test_the_limits_on_maps_and_arrays_are_just_high_enough() -> None:
    unpack(pack([{}] * (MAX_MAPS - 1)))  # type: ignore[list-item]
    unpack(pack([[]] * (MAX_ARRAYS - 1)))  # type: ignore[list-item]
    with pytest.raises(CorruptObject):
        unpack(pack([{}] * (MAX_MAPS + 1)))  # type: ignore[list-item]
    with pytest.raises(CorruptObject):
        unpack(pack([[]] * (MAX_ARRAYS + 1)))  # type: ignore[list-item]


def test_hostile_maps_do_not_stay_in_memory() -> None:
    known = len(wire._shapes)
    row = {f"k{number:05d}": None for number in range(1000)}

    assert unpack(pack(row)) == row  # type: ignore[arg-type]

    assert len(wire._shapes) == known


def test_a_view_and_a_bytearray_read_like_bytes() -> None:
    data = pack({"a": [1, b"2"]})

    assert unpack(memoryview(data)) == unpack(bytearray(data)) == unpack(data)
