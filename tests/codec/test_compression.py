"""Frames come back exactly; whatever else claims to be one is refused, in bounded memory."""

from __future__ import annotations

import os
import random
import resource
import threading

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from dedupstore.codec.compression import MAX_RAW_LENGTH, compress, compress_delta, decompress, worth_compressing
from dedupstore.errors import CorruptObject
from dedupstore.units import GIB, KIB, MIB

WORDS = [b"select", b"insert", b"backup", b"snapshot", b"chunk", b"restore", b"2026-11-21", b"NULL", b"\n"]


def text(length: int, seed: int = 1) -> bytes:
    source = random.Random(seed)
    parts = [source.choice(WORDS) + b" %d " % source.randrange(10**6) for _ in range(length // 8)]
    return b"".join(parts)[:length]


def edited(data: bytes, *, every: int) -> bytes:
    changed = bytearray(data)
    for start in range(0, len(data) - 8, every):
        changed[start : start + 8] = b"<edited>"
    return bytes(changed)


@given(st.binary(max_size=5000), st.integers(-5, 7))
def test_any_bytes_come_back_at_any_level(data, level):
    assert decompress(compress(data, level=level), len(data)) == data


@given(st.binary(max_size=5000), st.binary(min_size=1, max_size=5000), st.sampled_from([1, 3, 6]))
def test_any_bytes_come_back_through_any_bases(data, bases, level):
    assert decompress(compress_delta(data, bases, level=level), len(data), bases) == data


@pytest.mark.parametrize("length", [MIB, 3 * MIB, MAX_RAW_LENGTH])
def test_blocks_of_every_size_come_back_from_views(length):
    data = text(64 * KIB) * (length // (64 * KIB))

    frame = compress(memoryview(data))

    assert len(frame) < length // 10
    assert decompress(memoryview(frame), length) == data


def test_the_tuned_level_is_as_small_as_the_librarys():
    data = text(MIB)

    assert len(compress(data)) < len(zstandard.ZstdCompressor(level=3).compress(data)) * 1.02


def test_a_delta_stores_what_changed_even_far_from_its_place():
    bases = text(512 * KIB)
    data = edited(bases[300 * KIB : 428 * KIB], every=8 * KIB)

    assert len(compress(data)) > 30_000
    assert len(compress_delta(data, bases)) < 1000
    assert len(compress_delta(data, bases, level=1)) < 1000


def test_bases_that_look_like_a_zstd_dictionary_are_raw_content():
    bases = b"\x37\xa4\x30\xec" + text(64 * KIB)
    data = edited(bases, every=4 * KIB)

    assert decompress(compress_delta(data, bases), len(data), bases) == data


def test_other_bases_never_pass_unnoticed_below_the_chunk_ids():
    bases = text(64 * KIB)
    data = edited(bases, every=4 * KIB)
    frame = compress_delta(data, bases)

    try:
        assert decompress(frame, len(data), text(64 * KIB, seed=2)) != data
    except CorruptObject:
        pass


def raw_frame(data: bytes, **options: int) -> bytes:
    return zstandard.ZstdCompressor(
        compression_params=zstandard.ZstdCompressionParameters.from_level(3, **options)
    ).compress(data)


def streamed_frame(data: bytes) -> bytes:
    """A frame without its content size."""
    compressor = zstandard.ZstdCompressor().compressobj()
    return compressor.compress(data) + compressor.flush()


def header(content_size: int, *, window_log: int | None = None, dict_id: int | None = None) -> bytes:
    """A frame header as an attacker would write it, then one empty last block."""
    descriptor = 0xC0 | (0x20 if window_log is None else 0) | (0 if dict_id is None else 3)
    window = b"" if window_log is None else bytes(((window_log - 10) << 3,))
    dictionary = b"" if dict_id is None else dict_id.to_bytes(4, "little")
    size = content_size.to_bytes(8, "little")
    return zstandard.FRAME_HEADER + bytes((descriptor,)) + window + dictionary + size + b"\1\0\0"


SKIPPABLE = b"\x50\x2a\x4d\x18" + (5).to_bytes(4, "little") + b"hello"
GOOD = compress(b"hello" * 100)

BAD_FRAMES = {
    "declares 1 TiB": (header(1 << 40), 500),
    "declares more than it holds": (header(500), 500),
    "declares less than asked": (GOOD, 501),
    "declares more than asked": (GOOD, 499),
    "window of 2 GiB": (header(500, window_log=31), 500),
    "window of 64 MiB": (header(500, window_log=26), 500),
    "two frames": (GOOD + GOOD, 500),
    "trailing byte": (GOOD + b"\0", 500),
    "trailing skippable frame": (GOOD + SKIPPABLE, 500),
    "leading skippable frame": (SKIPPABLE + GOOD, 500),
    "only a skippable frame": (SKIPPABLE, 5),
    "foreign dictionary": (header(500, dict_id=77), 500),
    "no content size": (streamed_frame(b"hello" * 100), 500),
    "truncated": (GOOD[:-1], 500),
    "only a header": (GOOD[:9], 500),
    "empty": (b"", 0),
    "not zstd": (b"hello" * 100, 500),
    "larger than a block may be": (header(MAX_RAW_LENGTH + 1), MAX_RAW_LENGTH + 1),
    "negative length": (GOOD, -1),
}


@pytest.mark.parametrize("name", BAD_FRAMES)
def test_a_frame_that_is_not_exactly_one_block_is_refused(name):
    frame, raw_length = BAD_FRAMES[name]

    with pytest.raises(CorruptObject):
        decompress(frame, raw_length)
    with pytest.raises(CorruptObject):
        decompress(frame, raw_length, b"some bases that are here")


def test_a_checksum_that_fails_is_corrupt():
    frame = bytearray(raw_frame(b"hello" * 100, write_checksum=1))
    frame[-1] ^= 1

    with pytest.raises(CorruptObject):
        decompress(bytes(frame), 500)


def test_a_bomb_of_a_gigabyte_costs_no_memory():
    pieces = zstandard.ZstdCompressor().compressobj(size=GIB)
    zeros = bytes(MIB)
    bomb = b"".join([pieces.compress(zeros) for _ in range(1024)]) + pieces.flush()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    for claimed in (GIB, MIB, 0):
        with pytest.raises(CorruptObject):
            decompress(bomb, claimed)

    assert len(bomb) < 200 * KIB
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 32 * KIB


@given(st.integers(0, 200), st.binary(min_size=1, max_size=3))
def test_a_damaged_frame_raises_nothing_but_corrupt_object(position, garbage):
    frame = compress(text(2000))
    position %= len(frame)
    damaged = frame[:position] + garbage + frame[position + len(garbage) :]

    try:
        assert len(decompress(damaged, 2000)) == 2000
    except CorruptObject:
        pass


def test_noise_is_recognised_and_content_is_not_mistaken_for_it():
    noise = os.urandom(MIB)

    assert not worth_compressing(noise)
    assert not worth_compressing(memoryview(noise)[: 64 * KIB])
    assert worth_compressing(text(MIB))
    assert worth_compressing(bytes(MIB))
    assert worth_compressing(noise.hex().encode()[:MIB])
    assert worth_compressing(noise[: MIB // 2] + text(MIB // 2))
    assert worth_compressing(b"")


@pytest.mark.parametrize("length", [32 * KIB + 1, 33 * KIB, 100_003, MIB + 1])
def test_the_samples_stay_inside_any_length(length):
    assert worth_compressing(bytes(length))


def test_threads_do_not_share_a_compressor():
    inputs = [text(300 * KIB, seed) for seed in range(4)]
    failures: list[int] = []

    def work(index: int) -> None:
        for _ in range(5):
            data = inputs[index]
            if decompress(compress(data), len(data)) != data:
                failures.append(index)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert not failures
