from __future__ import annotations

import hashlib
import io
import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dedupstore.chunking.chunker import Chunker, stream_chunks
from dedupstore.chunking.params import ChunkerParams
from dedupstore.errors import UsageError
from dedupstore.units import KIB, MIB
from tests.support.gear import chunker, chunks, noise
from tests.support.golden import check_golden

AVERAGES = [4 * KIB << shift for shift in range(11)]
MEGABYTES = noise("megabytes", 96 * MIB)


def all_cuts(chunker: Chunker, data: bytes, page_size: int = 0) -> list[int]:
    return chunker.cuts(data, len(data), final=True, page_size=page_size)


def in_pieces(data: bytes, sizes: Callable[[], int]) -> Callable[[memoryview], int]:
    """A reader that gives what it likes, never more than asked."""
    stream = io.BytesIO(data)
    return lambda space: stream.readinto(space[: max(1, sizes())])


# Cuts


def test_cuts_never_change() -> None:
    result = {}
    data = noise("golden", 24 * MIB)
    for average in AVERAGES:
        for page_size in (0, 512, 4096, 65536):
            ends = all_cuts(chunker(average, "golden table"), data, page_size)
            digest = hashlib.sha256(",".join(map(str, ends)).encode()).hexdigest()
            result[f"{average} {page_size}"] = {"first": ends[:5], "count": len(ends), "sha256 of all": digest}

    check_golden("cuts", result)


def test_cuts_of_structured_data_never_change() -> None:
    text = "".join(f"INSERT INTO t VALUES ({row}, 'name {row * 7919 % 1000}');\n" for row in range(20_000)).encode()
    inputs = {
        "zeros": bytes(300 * KIB),
        "ones": b"\xff" * (300 * KIB),
        "text": text,
        "counter": b"".join(number.to_bytes(4, "big") for number in range(100_000)),
        "sparse": noise("a", 50_000) + bytes(200_000) + noise("b", 50_000),
    }

    result = {
        f"{name} {page_size}": all_cuts(chunker(4 * KIB, "golden table"), data, page_size)
        for name, data in inputs.items()
        for page_size in (0, 4096)
    }

    check_golden("cuts_structured", result)


@pytest.mark.parametrize("average", AVERAGES)
def test_the_mean_chunk_has_the_average_length(average: int) -> None:
    # 600 chunks of 4 KiB .. 256 KiB; the spread of a mean over n chunks is about 0.6/sqrt(n). The
    # rule scales with the average, so the long ones need not be measured as closely.
    length = min(1200 * average, 96 * MIB)
    ends = all_cuts(chunker(average), MEGABYTES[:length])

    tolerance = 0.10 if average <= 128 * KIB else 0.30
    assert abs(ends[-1] / len(ends) / average - 1) < tolerance


@pytest.mark.parametrize("page_size", [512, 4096, 8192])
def test_the_mean_chunk_of_a_page_structured_stream_has_the_average_length(page_size: int) -> None:
    ends = all_cuts(chunker(64 * KIB), MEGABYTES, page_size)

    assert abs(ends[-1] / len(ends) / (64 * KIB) - 1) < 0.12


def test_chunk_lengths_keep_their_bounds() -> None:
    data = MEGABYTES[: 16 * MIB]
    lengths = [len(chunk) for chunk in chunks(data, all_cuts(chunker(16 * KIB), data))]

    assert min(lengths[:-1]) >= 4 * KIB
    assert max(lengths) <= 64 * KIB


def test_an_inserted_byte_changes_few_chunks() -> None:
    before = MEGABYTES[: 16 * MIB]
    at = 5 * MIB + 12345
    after = before[:at] + b"!" + before[at:]

    old = set(chunks(before, all_cuts(chunker(64 * KIB), before)))
    new = list(chunks(after, all_cuts(chunker(64 * KIB), after)))

    assert sum(chunk in old for chunk in new) > 0.95 * len(new)


def test_another_table_cuts_elsewhere() -> None:
    data = MEGABYTES[: 8 * MIB]

    first, second = (set(all_cuts(chunker(16 * KIB, seed), data)) for seed in ("one", "two"))

    assert len(first & second) <= 4


def test_pages_are_never_cut() -> None:
    data = MEGABYTES[: 4 * MIB] + b"tail"

    ends = all_cuts(chunker(16 * KIB), data, 4096)

    assert all(end % 4096 == 0 for end in ends[:-1])
    assert ends[-1] == len(data)


def test_unused_pages_make_chunks_of_the_maximum() -> None:
    ends = all_cuts(chunker(16 * KIB), bytes(256 * KIB), 4096)

    assert ends == [64 * KIB, 128 * KIB, 192 * KIB, 256 * KIB]


def test_a_changed_page_changes_one_or_two_chunks() -> None:
    before = MEGABYTES[: 8 * MIB]
    after = bytearray(before)
    after[4 * MIB : 4 * MIB + 4096] = noise("changed page", 4096)

    old = set(chunks(before, all_cuts(chunker(64 * KIB), before, 4096)))
    new = list(chunks(bytes(after), all_cuts(chunker(64 * KIB), bytes(after), 4096)))

    assert sum(chunk not in old for chunk in new) <= 3


def test_less_than_the_maximum_waits_for_more() -> None:
    data = MEGABYTES[: 256 * KIB - 1]

    assert chunker(64 * KIB).cuts(data, len(data), final=False) == []


@pytest.mark.parametrize("size", [0, 2047, 4096])
def test_a_table_of_another_size_is_refused(size: int) -> None:
    with pytest.raises(UsageError, match="2048 bytes"):
        Chunker(ChunkerParams.for_average(64 * KIB), bytes(size))


# Streams


def test_an_empty_stream_has_no_chunks() -> None:
    assert list(stream_chunks(chunker(64 * KIB), io.BytesIO().readinto)) == []


@pytest.mark.parametrize("length", [1, 100, 16 * KIB - 1, 16 * KIB])
def test_a_stream_up_to_the_minimum_is_one_chunk(length: int) -> None:
    data = noise("short", length)

    assert [bytes(chunk) for chunk in stream_chunks(chunker(64 * KIB), io.BytesIO(data).readinto)] == [data]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 400_000), st.integers(0, 200_000), st.sampled_from([0, 512, 4096]))
def test_the_cuts_do_not_depend_on_how_a_stream_arrives(
    seed: int, length: int, buffer_size: int, page_size: int
) -> None:
    data = MEGABYTES[seed % MIB :][:length]
    arrival = random.Random(seed)
    largest = arrival.choice([100, 5000, 70_000])
    reader = in_pieces(data, lambda: arrival.randint(1, largest))
    cutter = chunker(4 * KIB)

    stream = stream_chunks(cutter, reader, page_size=page_size, buffer_size=buffer_size)

    assert [bytes(chunk) for chunk in stream] == list(chunks(data, all_cuts(cutter, data, page_size)))


def test_a_chunk_cannot_be_used_after_the_next_one() -> None:
    stream = stream_chunks(chunker(4 * KIB), io.BytesIO(MEGABYTES[: 100 * KIB]).readinto)
    first = next(stream)
    next(stream)

    with pytest.raises(ValueError, match="released"):
        bytes(first)


def test_one_buffer_serves_many_streams() -> None:
    buffer = bytearray(32 * KIB)

    for length in (0, 10, 5000, 100_000):
        data = MEGABYTES[:length]
        stream = stream_chunks(chunker(4 * KIB), io.BytesIO(data).readinto, buffer=buffer)
        assert b"".join(bytes(chunk) for chunk in stream) == data


def test_a_buffer_too_small_for_two_chunks_is_refused() -> None:
    with pytest.raises(UsageError, match="needs 32768"):
        next(stream_chunks(chunker(4 * KIB), io.BytesIO(b"x").readinto, buffer=bytearray(32 * KIB - 1)))


def test_a_reader_that_fails_ends_the_stream_with_its_error() -> None:
    data = io.BytesIO(MEGABYTES[: 100 * KIB])

    def fail_at_the_end(space: memoryview) -> int:
        count = data.readinto(space[:10_000])
        if not count:
            raise OSError("the disk is gone")
        return count

    with pytest.raises(OSError, match="the disk is gone"):
        list(stream_chunks(chunker(4 * KIB), fail_at_the_end, buffer_size=32 * KIB))


def test_the_reference_gives_the_same_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    data = MEGABYTES[: 300 * KIB]
    expected = all_cuts(chunker(16 * KIB), data)

    monkeypatch.setenv("DEDUP_CHUNKER", "python")

    assert all_cuts(chunker(16 * KIB), data) == expected
