"""Parity mends what it says it mends, at every place, and never gives bytes that the name does not prove."""

from __future__ import annotations

import random

import pytest

from dedupstore.codec.hashing import digest
from dedupstore.errors import CorruptObject
from dedupstore.repo.parity import (
    SECTOR_BYTES,
    STRIPES,
    make_parity,
    mend_pack,
    parity_key,
    parse_parity_key,
    prove_parity,
)
from dedupstore.types import PackId
from tests.support.repositories import random_bytes

SIZES = [1, 100, SECTOR_BYTES, SECTOR_BYTES + 1, 31 * SECTOR_BYTES, 31 * SECTOR_BYTES + 1, 100 * SECTOR_BYTES - 7]
LARGE = 200 * SECTOR_BYTES - 5


def pack(size: int) -> tuple[PackId, bytes, bytes]:
    data = random_bytes(f"pack of {size}", size)
    name = PackId(digest([data]))
    return name, data, make_parity(name, [data])


@pytest.mark.parametrize("size", SIZES)
def test_every_single_sector_is_mended(size: int) -> None:
    name, data, parity = pack(size)
    assert mend_pack(name, data, parity) == data
    for start in range(0, size, SECTOR_BYTES):
        length = min(SECTOR_BYTES, size - start)
        broken = data[:start] + bytes(byte ^ 0xFF for byte in data[start : start + length]) + data[start + length :]
        assert mend_pack(name, broken, parity) == data
        assert mend_pack(name, data[:start] + bytes([data[start] ^ 1]) + data[start + 1 :], parity) == data


def test_every_run_up_to_a_31st_is_mended_wherever_it_lies() -> None:
    name, data, parity = pack(LARGE)
    sectors = -(-LARGE // SECTOR_BYTES)
    per_stripe = -(-sectors // STRIPES)
    assert per_stripe > 2
    # Any run within so many whole sectors; one byte off the grid a run touches one sector more.
    length = (per_stripe - 1) * SECTOR_BYTES + 1
    for start in range(0, LARGE - length, 1777):
        broken = data[:start] + bytes(length) + data[start + length :]
        assert mend_pack(name, broken, parity) == data
    assert mend_pack(name, data[: LARGE - length + 1], parity) == data, "cut short"
    assert mend_pack(name, data + b"garbage", parity) == data


def test_scattered_damage_is_mended_unless_two_sectors_depend_on_each_other() -> None:
    name, data, parity = pack(LARGE)
    sectors = -(-LARGE // SECTOR_BYTES)
    per_stripe = -(-sectors // STRIPES)
    chooser = random.Random(1)
    mended = 0
    for _ in range(60):
        chosen = chooser.sample(range(sectors), 3)
        broken = bytearray(data)
        for sector in chosen:
            broken[sector * SECTOR_BYTES + 3] ^= 0x40
        if len({sector % per_stripe for sector in chosen}) == 3:
            assert mend_pack(name, bytes(broken), parity) == data
            mended += 1
        else:
            with pytest.raises(CorruptObject, match="cannot be mended"):
                mend_pack(name, bytes(broken), parity)
    assert 0 < mended < 60


def test_damaged_parity_is_refused_at_every_byte() -> None:
    name, data, parity = pack(5000)
    for at in range(0, len(parity), 37):
        broken = parity[:at] + bytes([parity[at] ^ 1]) + parity[at + 1 :]
        with pytest.raises(CorruptObject):
            mend_pack(name, data, broken)
    for length in (0, 10, 60, len(parity) - 1):
        with pytest.raises(CorruptObject):
            prove_parity(name, parity[:length])


def test_parity_of_another_pack_is_refused() -> None:
    name, data, _ = pack(5000)
    _, _, other = pack(6000)
    with pytest.raises(CorruptObject, match="no parity of that pack"):
        mend_pack(name, data, other)


def test_a_pack_that_came_out_wrong_is_not_given() -> None:
    """Parity that was made of other bytes than the name says."""
    name, _, _ = pack(5000)
    other = random_bytes("something else", 5000)
    with pytest.raises(CorruptObject, match="cannot be mended") as raised:
        mend_pack(name, other, make_parity(name, [other]))
    assert raised.value.why == "the result does not match its name"


def test_parity_of_parts_is_that_of_the_whole_and_takes_as_much_as_said() -> None:
    size = 8 << 20
    data = random_bytes("a real one", size)
    name = PackId(digest([data]))
    parity = make_parity(name, [data[:1000], data[1000:70_000], data[70_000:]])
    assert parity == make_parity(name, [data])
    assert len(parity) / size < 0.034


def test_names_read_as_they_are_written() -> None:
    name = PackId(bytes(range(32)))
    assert parse_parity_key(parity_key(name)) == name
    for key in ("parity/00/" + "1" * 64, "parity/-begin", "packs/00/" + "0" * 64):
        with pytest.raises(CorruptObject):
            parse_parity_key(key)
