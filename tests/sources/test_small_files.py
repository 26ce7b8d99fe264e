"""`read_small_files` of one file, in C and in Python: one contract. Whatever is unusual must be refused, never guessed."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from dedupstore.sources.filesystem import open_directory, stat_entry
from dedupstore.sources.small_files import read_small_files_in_python
from tests.support.small_files import LIMIT, Read, alone, grow, make, write_settled
from tests.support.unprivileged import as_nobody


@pytest.mark.parametrize("size", [1, 511, 512, 4095, 4096, 4097, 65_536, 65_537, LIMIT])
def test_an_ordinary_file_is_read_whole(tmp_path: Path, fd: int, read: Read, size: int) -> None:
    content = random.Random(size).randbytes(size)
    write_settled(tmp_path / "f", content)

    assert read(fd, b"f", stat_entry(b"f", fd), LIMIT) == content


@pytest.mark.parametrize("name", [b"\xff\xfe", b"a\nb", b" ", "\u202egpj.exe".encode(), b"-rf"])
def test_a_name_is_bytes(tmp_path: Path, fd: int, read: Read, name: bytes) -> None:
    with open(os.fsencode(tmp_path) + b"/" + name, "wb") as file:
        file.write(b"content")

    assert read(fd, name, stat_entry(name, fd), LIMIT) == b"content"


def test_a_file_of_several_names_is_read_by_each(tmp_path: Path, fd: int, read: Read) -> None:
    (tmp_path / "a").write_bytes(b"content")
    (tmp_path / "b").hardlink_to(tmp_path / "a")

    assert read(fd, b"b", stat_entry(b"a", fd), LIMIT) == b"content"


@pytest.mark.parametrize("year_2300", [10_413_792_000, -10_413_792_000, 0, -1])
def test_times_beyond_63_bits_of_nanoseconds_do_not_matter(tmp_path: Path, fd: int, read: Read, year_2300: int) -> None:
    (tmp_path / "f").write_bytes(b"content")
    os.utime(tmp_path / "f", ns=(year_2300 * 10**9 + 7, year_2300 * 10**9 + 5))

    assert read(fd, b"f", stat_entry(b"f", fd), LIMIT) == b"content"


def test_what_is_empty_or_longer_than_the_limit_is_refused(tmp_path: Path, fd: int, read: Read) -> None:
    (tmp_path / "empty").touch()
    (tmp_path / "long").write_bytes(b"x" * 101)

    assert read(fd, b"empty", stat_entry(b"empty", fd), LIMIT) is None
    assert read(fd, b"long", stat_entry(b"long", fd), 100) is None
    assert read(fd, b"long", stat_entry(b"long", fd), 101) == b"x" * 101
    assert read(fd, b"long", stat_entry(b"long", fd), 0) is None
    assert read(fd, b"long", stat_entry(b"long", fd), -1) is None


def test_a_sparse_file_is_refused(tmp_path: Path, fd: int, read: Read) -> None:
    with open(tmp_path / "f", "wb") as file:
        file.truncate(100_000)
        file.write(b"head")

    assert read(fd, b"f", stat_entry(b"f", fd), LIMIT) is None


KINDS = ["link", "fifo", "directory", "socket"]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_file_is_refused(tmp_path: Path, fd: int, read: Read, kind: str) -> None:
    make("file", tmp_path / "outside", tmp_path)
    make(kind, tmp_path / "f", tmp_path / "outside")

    assert read(fd, b"f", stat_entry(b"f", fd), LIMIT) is None


@pytest.mark.parametrize("kind", [*KINDS, "file"])
def test_what_is_swapped_in_is_neither_followed_nor_waited_for_nor_read(
    tmp_path: Path, fd: int, read: Read, kind: str
) -> None:
    make("file", tmp_path / "f", tmp_path)
    stat = stat_entry(b"f", fd)
    (tmp_path / "f").rename(tmp_path / "kept")
    make(kind, tmp_path / "f", tmp_path / "kept")

    assert read(fd, b"f", stat, LIMIT) is None


def touch(path: Path) -> None:
    os.utime(path, ns=(1, 1))


def rewrite(path: Path) -> None:
    path.write_bytes(b"INSIDE")
    touch(path)


CHANGES: dict[str, Callable[[Path], object]] = {
    "grown": grow,
    "shrunk": lambda path: os.truncate(path, 3),
    "touched": touch,
    "rewritten": rewrite,
    "other rights": lambda path: path.chmod(0o640),
    "removed": Path.unlink,
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_file_that_changed_since_it_was_looked_at_is_refused(
    tmp_path: Path, fd: int, read: Read, change: str
) -> None:
    make("file", tmp_path / "f", tmp_path)
    stat = stat_entry(b"f", fd)

    CHANGES[change](tmp_path / "f")

    assert read(fd, b"f", stat, LIMIT) is None


def test_a_file_that_changes_while_it_is_read_is_refused(
    tmp_path: Path, fd: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    make("file", tmp_path / "f", tmp_path)
    stat = stat_entry(b"f", fd)
    pread = os.pread

    def pread_and_change(file: int, size: int, offset: int) -> bytes:
        data = pread(file, size, offset)
        touch(tmp_path / "f")
        return data

    monkeypatch.setattr(os, "pread", pread_and_change)

    assert alone(read_small_files_in_python)(fd, b"f", stat, LIMIT) is None


@pytest.mark.skipif(not hasattr(os, "setxattr"), reason="no extended attributes")
def test_a_file_with_extended_attributes_is_refused(tmp_path: Path, fd: int, read: Read) -> None:
    make("file", tmp_path / "f", tmp_path)
    try:
        os.setxattr(tmp_path / "f", b"user.a", b"b")
    except OSError:
        pytest.skip("no extended attributes on this file system")

    assert read(fd, b"f", stat_entry(b"f", fd), LIMIT) is None


@pytest.mark.parametrize("path", [b"/sys/kernel/profiling", b"/proc/self/status"])
def test_what_the_kernel_makes_up_is_refused(read: Read, path: bytes) -> None:
    if not os.path.exists(path):
        pytest.skip("no such file here")
    folder, name = os.path.split(path)
    fd = open_directory(folder + b"/")
    try:
        # Files of /sys have 4096 bytes by their size and no blocks, those of /proc neither.
        assert read(fd, name, stat_entry(name, fd), LIMIT) is None
    finally:
        os.close(fd)


def test_reading_leaves_no_trace_in_atime(tmp_path: Path, fd: int, read: Read) -> None:
    make("file", tmp_path / "f", tmp_path)
    os.utime(tmp_path / "f", ns=(1, 2))

    assert read(fd, b"f", stat_entry(b"f", fd), LIMIT) == b"inside"
    if hasattr(os, "O_NOATIME"):
        assert stat_entry(b"f", fd).st_atime_ns == 1


@pytest.mark.parametrize(("mode", "expected"), [(0o644, b"inside"), (0o600, None)])
def test_the_rights_of_others_decide_as_ever(tmp_path: Path, read: Read, mode: int, expected: bytes | None) -> None:
    make("file", tmp_path / "f", tmp_path)
    (tmp_path / "f").chmod(mode)
    tmp_path.chmod(0o755)
    fd = open_directory(os.fsencode(tmp_path))
    stat = stat_entry(b"f", fd)

    found = as_nobody(lambda: read(fd, b"f", stat, LIMIT))

    os.close(fd)
    if os.geteuid() == 0:
        assert found == expected


def test_a_closed_directory_is_refused(tmp_path: Path, read: Read) -> None:
    make("file", tmp_path / "f", tmp_path)
    fd = open_directory(os.fsencode(tmp_path))
    stat = stat_entry(b"f", fd)
    os.close(fd)

    assert read(fd, b"f", stat, LIMIT) is None


def test_a_name_with_a_nul_is_an_error_of_the_caller(tmp_path: Path, fd: int, read: Read) -> None:
    make("file", tmp_path / "f", tmp_path)

    with pytest.raises(ValueError, match="null"):
        read(fd, b"f\0g", stat_entry(b"f", fd), LIMIT)
