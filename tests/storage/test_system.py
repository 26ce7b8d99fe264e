"""All bytes are written, in calls of a size the system copes with well, whatever it takes of each."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from dedupstore.storage import system
from dedupstore.storage.system import (
    MOST_BYTES,
    PASSING_BYTES,
    System,
    flag_for_passing,
    write_passing,
    write_pieces,
)

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


Calls = list[tuple[int, int]]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """Length and flags of every `pwritev`, which is let through."""
    made: Calls = []
    real = os.pwritev

    def pwritev(fd: int, parts: Sequence[memoryview], offset: int, flags: int = 0) -> int:
        made.append((sum(part.nbytes for part in parts), flags))
        return real(fd, parts, offset, flags)

    monkeypatch.setattr(os, "pwritev", pwritev)
    return made


@pytest.fixture
def flagged(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a kernel that can, whatever this one is: where it cannot, it says so."""
    if not hasattr(os, "RWF_DSYNC"):
        pytest.skip("no flags for writes on this system")
    monkeypatch.setattr(system, "_RWF_DONTCACHE", 0x80)


@pytest.mark.parametrize(
    ("release", "flag"),
    [
        ("6.16.0", 0x80),
        ("6.18.44-fc-v595", 0x80),
        ("7.0-rc1", 0x80),
        ("6.15.11", 0),
        ("6.14.0-15-generic", 0),
        ("6.6.87.2-microsoft-standard-WSL2", 0),
        ("5.17", 0),
        ("", 0),
        ("unknown", 0),
    ],
)
def test_only_kernels_that_have_it_right_are_asked_to_pass_the_cache_by(release: str, flag: int) -> None:
    assert flag_for_passing(release) == (flag if hasattr(os, "RWF_DSYNC") else 0)


def refuse_flags(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """A system that answers every write with flags by an error."""
    real = os.pwritev

    def pwritev(fd: int, parts: Sequence[memoryview], offset: int, flags: int = 0) -> int:
        if flags:
            raise OSError(number, os.strerror(number))
        return real(fd, parts, offset)

    monkeypatch.setattr(os, "pwritev", pwritev)


@pytest.mark.usefixtures("flagged")
def test_large_writes_pass_the_cache_by_and_small_ones_do_not(tmp_path: Path, calls: Calls) -> None:
    large, small = os.urandom(PASSING_BYTES), b"small"
    fd = os.open(tmp_path / "file", os.O_WRONLY | os.O_CREAT)

    assert write_passing(fd, views(large), 0) == len(large)
    assert write_passing(fd, views(small), len(large)) == len(small)
    os.close(fd)

    assert (tmp_path / "file").read_bytes() == large + small
    assert [length for length, flags in calls if flags] == [len(large)]


@pytest.mark.usefixtures("flagged")
@pytest.mark.parametrize("number", [errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS])
def test_where_the_cache_cannot_be_passed_by_it_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    data = os.urandom(PASSING_BYTES)
    refuse_flags(monkeypatch, number)
    fd = os.open(tmp_path / "file", os.O_WRONLY | os.O_CREAT)

    write_passing(fd, views(data), 0)
    System().writev(fd, views(data))
    System().writev(fd, views(data))
    os.close(fd)

    assert (tmp_path / "file").read_bytes() == 2 * data


@pytest.mark.usefixtures("flagged")
def test_a_write_that_fails_is_not_tried_again_through_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_flags(monkeypatch, errno.ENOSPC)
    fd = os.open(tmp_path / "file", os.O_WRONLY | os.O_CREAT)

    with pytest.raises(OSError, match="No space left"):
        write_passing(fd, views(bytes(PASSING_BYTES)), 0)
    with pytest.raises(OSError, match="No space left"):
        System().writev(fd, views(bytes(PASSING_BYTES)))
    os.close(fd)

    assert (tmp_path / "file").read_bytes() == b""


@pytest.mark.usefixtures("flagged")
def test_large_and_small_writes_follow_each_other_at_the_current_position(tmp_path: Path) -> None:
    head, body, tail = b"head", os.urandom(2 * PASSING_BYTES), b"tail"
    fd = os.open(tmp_path / "file", os.O_WRONLY | os.O_CREAT)

    for part in (head, body, tail):
        assert System().writev(fd, views(part)) == len(part)
    os.close(fd)

    assert (tmp_path / "file").read_bytes() == head + body + tail
