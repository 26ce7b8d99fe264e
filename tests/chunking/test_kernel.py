"""The C kernel against the specification: every path, the same cuts."""

from __future__ import annotations

import array
import mmap
import subprocess
import sys
import threading
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dedupstore.chunking import kernel, reference
from dedupstore.chunking.params import ChunkerParams, CutRule
from dedupstore.units import KIB, MIB
from tests.support.gear import gear_table, noise

_gear = pytest.importorskip("dedupstore.chunking._gear")

TABLE = gear_table()
REFERENCE = reference.Gear(TABLE)
KERNELS = [_gear.Gear(TABLE, path=path) for path in _gear.PATHS]
AVERAGES = [4 * KIB << shift for shift in range(11)]
PAGE_SIZES = [0, 512, 4096, 65536]


def assert_same_cuts(data: bytes | bytearray | memoryview, rule: CutRule) -> list[int]:
    for final in (True, False):
        expected = REFERENCE.cuts(data, len(data), rule, final)
        for gear in KERNELS:
            assert gear.cuts(data, len(data), rule, final) == expected, (gear.path, rule, final)
    return REFERENCE.cuts(data, len(data), rule, True)


small_rules = st.builds(
    CutRule,
    minimum=st.integers(64, 300),
    normal=st.integers(300, 900),
    maximum=st.integers(900, 3000),
    strict_bits=st.integers(0, 12),
    loose_bits=st.integers(0, 12),
    page_size=st.just(0),
)
page_rules = st.builds(
    lambda minimum, normal, maximum, strict, loose: CutRule(
        64 * minimum, 64 * (minimum + normal), 64 * (minimum + normal + maximum), strict, loose, 64
    ),
    st.integers(1, 4),
    st.integers(0, 8),
    st.integers(0, 20),
    st.integers(0, 6),
    st.integers(0, 4),
)
pieces = st.one_of(
    st.binary(max_size=300),
    st.builds(lambda seed, length: noise(str(seed), length), st.integers(0, 999), st.integers(0, 6000)),
    st.builds(lambda byte, length: bytes([byte]) * length, st.integers(0, 255), st.integers(0, 2000)),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(pieces, max_size=6), st.one_of(small_rules, page_rules))
def test_the_kernel_cuts_like_the_reference_under_any_rule(parts: list[bytes], rule: CutRule) -> None:
    assert_same_cuts(b"".join(parts), rule)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 15), st.integers(1, 63), small_rules)
def test_alignment_does_not_matter(seed: int, offset: int, rule: CutRule) -> None:
    data = noise(str(seed), 8192)

    assert_same_cuts(memoryview(data)[offset:], rule)


@pytest.mark.parametrize("average", AVERAGES)
@pytest.mark.parametrize("page_size", PAGE_SIZES)
def test_the_kernel_cuts_like_the_reference_for_every_average(average: int, page_size: int) -> None:
    rule = ChunkerParams.for_average(average).rule(page_size)
    data = noise(f"average {average}", min(3 * average, 384 * KIB) + 17)

    assert_same_cuts(data, rule)


@pytest.mark.parametrize("page_size", PAGE_SIZES)
def test_lengths_around_the_bounds_are_cut_alike(page_size: int) -> None:
    rule = ChunkerParams.for_average(4 * KIB).rule(page_size)
    data = noise("bounds", 3 * rule.maximum)
    around = {0, 1, 63, 64, 65, page_size, page_size + 1}
    for bound in (rule.minimum, rule.normal, rule.maximum, 2 * rule.maximum):
        around |= {bound - 1, bound, bound + 1}

    for length in sorted(around - {-1}):
        ends = assert_same_cuts(data[:length], rule)
        assert ends == sorted(set(ends)) and (ends[-1:] or [0]) == [length]


@pytest.mark.parametrize("byte", [0, 1, 0x41, 0xFF])
@pytest.mark.parametrize("page_size", PAGE_SIZES)
def test_all_equal_bytes_are_cut_alike(byte: int, page_size: int) -> None:
    rule = ChunkerParams.for_average(4 * KIB).rule(page_size)

    ends = assert_same_cuts(bytes([byte]) * (100 * KIB + 3), rule)

    assert all(second - first <= rule.maximum for first, second in pairwise([0, *ends]))


def test_megabytes_are_cut_alike() -> None:
    rule = ChunkerParams.for_average(64 * KIB).rule()

    ends = assert_same_cuts(noise("megabytes", 3 * MIB), rule)

    assert len(ends) > 20


def test_all_paths_agree_on_many_megabytes() -> None:
    data = noise("paths", 24 * MIB)
    for average in (4 * KIB, 64 * KIB, MIB):
        rule = ChunkerParams.for_average(average).rule()
        assert len({tuple(gear.cuts(data, len(data), rule, True)) for gear in KERNELS}) == 1


def test_a_candidate_is_found_at_every_distance_from_the_minimum() -> None:
    # One planted window, moved through all positions that a step of any kernel could mishandle.
    rule = CutRule(64, 700, 5000, 10, 10, 0)
    source = noise("planted", 40_000)
    end = REFERENCE.cuts(source, len(source), CutRule(64, 64, 40_000, 12, 12, 0), True)[0]
    window = source[end - 64 : end]

    for distance in range(0, 1400, 7):
        assert_same_cuts(bytes([7]) * distance + window + bytes([9]) * 300, rule)


PLANTED_BITS = 16


def planted_window() -> bytes:
    """64 bytes whose hash has PLANTED_BITS zeros at the top."""
    source = noise("rare", 4 * MIB)
    rule = CutRule(64, 64, len(source), PLANTED_BITS, PLANTED_BITS, 0)
    end = KERNELS[-1].cuts(source, len(source), rule, True)[0]
    assert end < len(source)
    return source[end - 64 : end]


WINDOW = planted_window()


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.integers(0, 70_000), max_size=5),
    st.integers(64, 3000),
    st.sampled_from([0, 700, 5000, 36_000]),
    st.integers(3000, 72_000),
    st.sampled_from([13, 14, PLANTED_BITS]),
)
def test_all_paths_find_the_first_of_several_candidates(
    places: list[int], minimum: int, normal: int, length: int, bits: int
) -> None:
    data = bytearray(b"\x07" * 72_000)
    for place in places:
        data[place : place + 64] = WINDOW
    rule = CutRule(minimum, minimum + normal, 71_000, PLANTED_BITS, bits, 0)

    found = {tuple(gear.cuts(data, length, rule, True)) for gear in KERNELS}

    assert len(found) == 1


def test_all_paths_find_a_candidate_at_every_distance() -> None:
    rule = CutRule(64, 64, 40_000, PLANTED_BITS, PLANTED_BITS, 0)
    filler = b"\x07" * 40_000
    assert KERNELS[-1].cuts(filler, len(filler), rule, True) == [40_000]

    for distance in [*range(600), *range(600, 37_000, 61)]:
        data = filler[:distance] + WINDOW + filler[: 39_000 - distance]
        found = {gear.cuts(data, len(data), rule, True)[0] for gear in KERNELS}
        assert len(found) == 1 and found.pop() <= distance + 64


def test_any_buffer_will_do() -> None:
    data = noise("buffers", 64 * KIB)
    rule = ChunkerParams.for_average(4 * KIB).rule()
    expected = REFERENCE.cuts(data, len(data), rule, True)
    mapped = mmap.mmap(-1, len(data))
    mapped[:] = data

    for buffer in (data, bytearray(data), memoryview(data), array.array("Q", data), mapped):
        for gear in KERNELS:
            assert gear.cuts(buffer, len(data), rule, True) == expected


def test_only_the_valid_part_of_a_buffer_counts() -> None:
    data = noise("valid", 64 * KIB)
    rule = ChunkerParams.for_average(4 * KIB).rule()

    for gear in (REFERENCE, *KERNELS):
        assert gear.cuts(data, 30_000, rule, True) == gear.cuts(data[:30_000], 30_000, rule, True)


@pytest.mark.parametrize("gear", [REFERENCE, *KERNELS])
def test_a_length_outside_the_buffer_is_refused(gear: kernel.Gear) -> None:
    rule = ChunkerParams.for_average(4 * KIB).rule()

    for length in (-1, 11):
        with pytest.raises(ValueError, match="outside the buffer"):
            gear.cuts(bytes(10), length, rule, True)


@pytest.mark.parametrize("gear", KERNELS)
@pytest.mark.parametrize(
    "rule",
    [
        CutRule(63, 100, 200, 1, 1, 0),
        CutRule(100, 99, 200, 1, 1, 0),
        CutRule(100, 150, 99, 1, 1, 0),
        CutRule(100, 150, 200, 64, 1, 0),
        CutRule(100, 150, 200, 1, -1, 0),
        CutRule(100, 150, 200, 1, 1, 64),
        CutRule(128, 128, 256, 1, 1, -64),
    ],
)
def test_a_rule_that_would_read_outside_the_buffer_is_refused(gear: kernel.Gear, rule: CutRule) -> None:
    with pytest.raises(ValueError, match="not a cut rule"):
        gear.cuts(bytes(1000), 1000, rule, True)


@pytest.mark.parametrize("make", [reference.Gear, _gear.Gear])
def test_a_table_of_another_size_is_refused(make: type[kernel.Gear]) -> None:
    for size in (0, 2047, 2049):
        with pytest.raises(ValueError, match="2048 bytes"):
            make(bytes(size))  # type: ignore[call-arg]  # an argument is missing on purpose


def test_an_unknown_path_is_refused() -> None:
    with pytest.raises(ValueError, match="no path"):
        _gear.Gear(TABLE, path="sideways")


def test_threads_share_one_gear() -> None:
    data = noise("threads", 4 * MIB)
    rule = ChunkerParams.for_average(16 * KIB).rule()
    gear = _gear.Gear(TABLE)
    results: list[list[int]] = []

    threads = [threading.Thread(target=lambda: results.append(gear.cuts(data, len(data), rule, True))) for _ in "1234"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(results) == 4 and all(result == results[0] for result in results)


def test_the_kernel_is_in_use_unless_the_environment_asks_for_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DEDUP_CHUNKER", raising=False)
    assert kernel.implementation() == "c"
    assert isinstance(kernel.gear(TABLE), _gear.Gear)

    monkeypatch.setenv("DEDUP_CHUNKER", "python")
    assert kernel.implementation() == "python"
    assert isinstance(kernel.gear(TABLE), reference.Gear)


def test_an_installation_without_the_kernel_uses_the_reference() -> None:
    program = (
        "import sys; sys.modules['dedupstore.chunking._gear'] = None\n"
        "from dedupstore.chunking import kernel\n"
        "print(kernel.implementation(), type(kernel.gear(bytes(2048))).__module__)"
    )

    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout

    assert output.split() == ["python", "dedupstore.chunking.reference"]


@pytest.mark.parametrize("gear", KERNELS, ids=lambda gear: gear.path)
def test_many_whole_streams_are_cut_as_each_of_them(gear) -> None:
    rule = ChunkerParams.for_average(4 * KIB).rule()
    data = noise("many", 200 * KIB)
    streams = tuple(data[start : start + length] for start, length in enumerate((0, 1, 1024, 1025, 70_000, 150_000, 0)))

    cuts = gear.cuts_of_all(streams, rule)

    assert cuts == REFERENCE.cuts_of_all(streams, rule) == [gear.cuts(one, len(one), rule, True) for one in streams]
    assert gear.cuts_of_all((), rule) == []


@pytest.mark.parametrize("gear", KERNELS, ids=lambda gear: gear.path)
def test_only_bytes_that_cannot_move_are_cut_many_at_once(gear) -> None:
    rule = ChunkerParams.for_average(4 * KIB).rule()

    with pytest.raises(TypeError):
        gear.cuts_of_all((b"bytes", bytearray(b"x")), rule)
    with pytest.raises(TypeError):
        gear.cuts_of_all([b"bytes"], rule)
    with pytest.raises(ValueError, match="cut rule"):
        gear.cuts_of_all((b"bytes",), rule._replace(minimum=1))
