"""All bytes are written, in calls of a size the system copes with well, whatever it takes of each."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from dedupstore.storage.system import MOST_BYTES, write_pieces

MOST_PARTS = os.sysconf("SC_IOV_MAX")


def views(*parts: bytes) -> list[memoryview]:
    return [memoryview(part) for part in parts]


def lengths_of_calls(parts: Sequence[memoryview]) -> list[int]:
    calls: list[int] = []

    def write(pieces: Sequence[memoryview], done: int) -> int:
        assert done == sum(calls) and len(pieces) <= MOST_PARTS
        calls.append(sum(piece.nbytes for piece in pieces))
        return calls[-1]

    write_pieces(write, parts)
    return calls


def test_a_write_that_comes_out_short_is_continued(tmp_path: Path) -> None:
    parts = [b"%05d" % number for number in range(2 * MOST_PARTS + 3)]
    taken = iter([3, 2, 7, 13])
    fd = os.open(tmp_path / "file", os.O_WRONLY | os.O_CREAT)

    def write(pieces: Sequence[memoryview], done: int) -> int:
        length = next(taken, None)
        data = b"".join(pieces)
        return os.pwrite(fd, data if length is None else data[:length], done)

    write_pieces(write, views(*parts, b"", b"end"))
    os.close(fd)

    assert (tmp_path / "file").read_bytes() == b"".join(parts) + b"end"


def test_one_call_writes_a_mebibyte_at_most() -> None:
    large = bytes(2 * MOST_BYTES + 10)

    assert lengths_of_calls(views(b"head", large, b"tail")) == [MOST_BYTES, MOST_BYTES, 18]
    assert lengths_of_calls(views(large[:MOST_BYTES], b"x")) == [MOST_BYTES, 1]


def test_small_pieces_go_by_one_call() -> None:
    assert lengths_of_calls(views(*[b"chunk"] * 100)) == [500]
    assert lengths_of_calls(views(b"", b"")) == []


def test_a_system_that_takes_nothing_is_an_error() -> None:
    with pytest.raises(OSError, match="nothing was written"):
        write_pieces(lambda pieces, done: 0, views(b"data"))
