"""`list_names` in C and in Python: one contract, `os.listdir` being the judge."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from dedupstore.sources.filesystem import open_directory
from dedupstore.sources.many_names import list_names, list_names_in_python

List = Callable[[int], list[bytes]]


@pytest.fixture(params=["c", "python"])
def listing(request: pytest.FixtureRequest) -> List:
    if request.param == "python":
        return list_names_in_python
    if list_names is list_names_in_python:
        pytest.skip("built without a compiler")
    return list_names


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "folder").mkdir()
    return tmp_path / "folder"


def listed(listing: List, path: Path) -> list[bytes]:
    fd = open_directory(os.fsencode(path))
    try:
        return listing(fd)
    finally:
        os.close(fd)


def test_an_empty_directory_has_no_names(listing: List, folder: Path) -> None:
    assert listed(listing, folder) == []


def test_names_come_in_byte_order_whatever_they_are(listing: List, folder: Path) -> None:
    names = sorted([b"a", b"B", b".hidden", b"..x", b"...", b".a", b"\xff\xfe", b"new\nline", "ü".encode(), b"n" * 255])
    for name in names:
        os.close(os.open(os.fsencode(folder) + b"/" + name, os.O_CREAT | os.O_WRONLY))

    assert listed(listing, folder) == names


def test_thousands_of_names_are_all_there(listing: List, folder: Path) -> None:
    for number in range(3000):
        (folder / f"a rather long name, so that memory must grow {number:5}").touch()

    assert listed(listing, folder) == sorted(os.listdir(os.fsencode(folder)))


def test_a_directory_is_listed_from_its_start_each_time(listing: List, folder: Path) -> None:
    for number in range(300):
        (folder / f"name {number}").touch()
    fd = open_directory(os.fsencode(folder))
    try:
        first = listing(fd)
        (folder / "later").touch()

        assert listing(fd) == sorted([*first, b"later"])
        assert len(os.listdir(fd)) == 301
    finally:
        os.close(fd)


def test_descriptors_are_given_back(listing: List, folder: Path) -> None:
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    for _ in range(20):
        listed(listing, folder)

    assert not before or len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("what", ["file", "closed"])
def test_what_cannot_be_listed_says_why(listing: List, tmp_path: Path, what: str) -> None:
    (tmp_path / "file").touch()
    fd = os.open(tmp_path / "file", os.O_RDONLY)
    if what == "closed":
        os.close(fd)
    try:
        with pytest.raises(OSError, match=r".") as told:
            listing(fd)
        assert told.value.errno == (errno.ENOTDIR if what == "file" else errno.EBADF)
    finally:
        if what == "file":
            os.close(fd)


@pytest.mark.parametrize("wrong", ["7", None, 1.5, -1, 1 << 40])
def test_what_is_no_descriptor_is_refused(listing: List, wrong: object) -> None:
    with pytest.raises((TypeError, ValueError, OverflowError, OSError)):
        listing(wrong)  # type: ignore[arg-type]
