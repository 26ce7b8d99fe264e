"""Chunks put together for one block: whole files as they came, parts of buffers copied at once."""

from __future__ import annotations

import pytest

from dedupstore.repo.group import BufferPool, Group
from dedupstore.types import ChunkId, Data

ONE = ChunkId(b"1" * 32)


def fill(group: Group, pieces: list[Data]) -> bytes:
    for piece in pieces:
        group.add(ONE, piece)
    return b"".join(bytes(piece) for piece in pieces)


@pytest.mark.parametrize("kinds", ["b", "v", "bbb", "vvv", "bvb", "vbv", "vvvvbbbbbbbbbbbbvv"])
def test_a_block_has_its_chunks_in_order(kinds: str) -> None:
    group = BufferPool(64).group()
    pieces = [
        bytes([number]) * (number + 9) if kind == "b" else memoryview(bytearray([number]) * (number + 9))
        for number, kind in enumerate(kinds)
    ]

    expected = fill(group, pieces)

    assert group.filled == len(expected)
    assert group.lengths == [len(piece) for piece in pieces]
    assert bytes(group.raw()) == expected
    group.done()


@pytest.mark.parametrize("first", [b"whole file", memoryview(bytearray(b"part"))], ids=["bytes", "view"])
def test_what_is_read_into_again_is_copied_at_once(first: Data) -> None:
    group = BufferPool(64).group()
    buffer = bytearray(b"before")
    group.add(ONE, first)
    group.add(ONE, memoryview(buffer))
    buffer[:] = b"after!"

    assert bytes(group.raw()) == bytes(first) + b"before"


def test_memory_is_used_again_and_what_had_grown_stays_large() -> None:
    pool = BufferPool(8)
    group = pool.group()
    fill(group, [memoryview(bytearray(100))])
    assert bytes(group.raw()) == bytes(100)
    group.done()

    grown = pool.take()
    assert len(grown) >= 100
    assert len(pool.take()) == 8


def test_a_group_of_whole_files_takes_no_buffer() -> None:
    pool = BufferPool(8)
    group = pool.group()
    used = pool.take()
    pool.give_back(used)
    fill(group, [b"a", b"b"])
    assert group.raw() == b"ab"
    group.done()

    assert pool.take() is used
    assert len(pool.take()) == 8
