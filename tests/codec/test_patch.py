"""Scripts of copies and literals: what the kernel finds makes the new bytes again, and nothing else is carried out."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dedupstore.codec import patch
from dedupstore.codec.patch import apply_in_python, apply_patch
from dedupstore.errors import CorruptObject
from dedupstore.types import Data

_patch = pytest.importorskip("dedupstore.codec._patch")

NOISE = random.Random(5).randbytes(200_000)
PROSE = b"".join(b"%07d a row of a table with a value of %d\n" % (n, n * n % 9973) for n in range(4_000))
APPLIES = pytest.mark.parametrize("apply", [_patch.apply, apply_in_python], ids=["c", "python"])
Apply = Callable[[Data, Data, int], bytes]


def script(literals: bytes, *operations: tuple[int, int, int]) -> bytes:
    """As patch.py describes it; the jump is signed here."""
    text = bytearray(len(literals).to_bytes(4, "big") + literals)
    for count, copied, jump in operations:
        for number in (count, copied, jump << 1 ^ jump >> 63):
            while number > 127:
                text.append(number & 127 | 128)
                number >>= 7
            text.append(number)
    return bytes(text)


def test_rows_that_changed_in_their_places_cost_what_changed() -> None:
    new = bytearray(PROSE)
    for at in range(1_000, len(new), 20_000):
        new[at : at + 7] = b"CHANGED"

    found = _patch.make(new, PROSE, len(new))

    assert found is not None and len(found) < 20 * len(range(1_000, len(new), 20_000))
    assert apply_patch(found, PROSE, len(new)) == new


def test_rows_that_came_went_and_moved_are_found_again() -> None:
    rows = PROSE.splitlines(keepends=True)
    del rows[100:130], rows[2_000]
    rows[500:500] = [b"a new row\n"] * 3
    new = b"".join(rows[1_000:] + rows[:1_000])

    found = _patch.make(new, PROSE, len(new))

    assert found is not None and len(found) < 200
    assert apply_patch(found, PROSE, len(new)) == new


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_whatever_is_cut_and_put_together_comes_back(data: st.DataObject) -> None:
    """Pieces of the old bytes and of others, in any order, from any place to any place."""
    old = data.draw(st.sampled_from([NOISE[:5_000], PROSE[:5_000], bytes(3_000), b"ab" * 900, b"", b"x"]))
    places = st.integers(0, 5_000)
    new = b"".join(
        data.draw(st.sampled_from([old, old, NOISE[100_000:]]))[start : start + length % 700]
        for start, length in data.draw(st.lists(st.tuples(places, places), max_size=12))
    )

    found = _patch.make(new, old, len(new) + 64)

    # A script of literals alone always fits.
    assert found is not None
    assert _patch.apply(found, old, len(new)) == apply_in_python(found, old, len(new)) == new


@pytest.mark.parametrize("limit", [0, 3, 4, 100, 10_000])
def test_a_script_that_would_be_too_long_is_given_up(limit: int) -> None:
    assert _patch.make(NOISE[:20_000], NOISE[50_000:70_000], limit) is None


def test_a_limit_is_kept_to_the_byte() -> None:
    new = PROSE[:3_000] + NOISE[:200] + PROSE[4_000:9_000] + NOISE[300:400]
    shortest = len(_patch.make(new, PROSE, len(new)))

    assert len(_patch.make(new, PROSE, shortest)) == shortest
    assert _patch.make(new, PROSE, shortest - 1) is None


@APPLIES
def test_what_a_script_means(apply: Apply) -> None:
    old = b"0123456789"

    assert apply(script(b""), old, 0) == b""
    assert apply(script(b"all new"), old, 7) == b"all new"
    assert apply(script(b"", (0, 10, 0)), old, 10) == old
    assert apply(script(b"xy", (1, 3, 2), (1, 2, -7)), old, 7) == b"x345y01"
    assert apply(script(b"xyz", (2, 8, 0)), old, 11) == b"xy23456789z"


@APPLIES
@pytest.mark.parametrize(
    "bad",
    [
        b"", b"\0\0\0", b"\0\0\0\1", script(b"ab")[:-1], b"\xff\xff\xff\xff",
        script(b"", (0, 10, 1)), script(b"", (0, 10, -1)), script(b"", (0, 11, 0)), script(b"", (0, 0, 0)),
        script(b"a", (2, 8, 0)), script(b"", (0, 9, 0)), script(b"x", (0, 10, 0)), script(b"", (0, 10, 0), (0, 1, -1)),
        script(b"", (0, 10, 0))[:-1], script(b"", (0, 10, 0)) + b"\x80", script(b"", (0, 1 << 33, 0)),
        script(b"", (1 << 33, 10, 0)), script(b"", (0, 5, 1 << 33), (0, 5, -(1 << 33))),
        script(b"", (0, 5, 0), (0, 5, -(1 << 33))), b"\0\0\0\0" + b"\x80" * 5 + b"\0\x0a\0",
    ],
)  # fmt: skip
def test_a_script_that_is_not_right_to_the_byte_is_refused(apply: Apply, bad: bytes) -> None:
    with pytest.raises(ValueError, match="no script"):
        apply(bad, b"0123456789", 10)


def test_very_many_short_copies_take_no_more_memory_than_what_they_make() -> None:
    pieces = 20_000
    text = script(b"", (0, 2, 0), *[(0, 2, -2)] * (pieces - 1))
    tracemalloc.start()
    try:
        made = apply_in_python(text, b"0123456789", 2 * pieces)
        taken = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert made == _patch.apply(text, b"0123456789", 2 * pieces)
    assert taken < 10 * pieces


def test_refusals_are_told_as_damage() -> None:
    with pytest.raises(CorruptObject, match="cannot be made from its bases"):
        apply_patch(b"\0\0\0\1", b"old", 3)


@settings(max_examples=300, deadline=None)
@given(text=st.binary(max_size=40), length=st.integers(0, 60), seed=st.integers(0, 9))
def test_the_kernel_and_python_agree_about_any_bytes(text: bytes, length: int, seed: int) -> None:
    """Most are refused; the first bytes are made likely."""
    text = bytes([0, 0, 0, seed]) + text
    old = b"0123456789" * 2

    try:
        expected: bytes | None = apply_in_python(text, old, length)
    except ValueError:
        expected = None
    try:
        found: bytes | None = _patch.apply(text, old, length)
    except ValueError:
        found = None

    assert found == expected


def test_without_the_kernel_patches_are_read_and_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patch, "_HAVE_KERNEL", False)
    monkeypatch.setattr(patch, "_apply", apply_in_python)

    assert patch.make_patch(PROSE, PROSE, 1_000) is None
    assert apply_patch(script(b"", (0, len(PROSE), 0)), PROSE, len(PROSE)) == PROSE


def test_lengths_that_no_block_has_are_refused() -> None:
    with pytest.raises(ValueError, match="negative"):
        _patch.apply(script(b""), b"", -1)
    with pytest.raises(ValueError, match="too long"):
        _patch.make(b"", b"", -1)
