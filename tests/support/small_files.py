"""`read_small_files` in C and in Python, and files to be read or refused. The fixtures are those of `tests/sources`."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dedupstore.sources.filesystem import open_directory
from dedupstore.sources.many_names import Item
from dedupstore.sources.small_files import read_small_files, read_small_files_in_python

LIMIT = 1 << 20
ReadMany = Callable[[int, "list[Item]", int], "list[bytes | None]"]
Read = Callable[[int, bytes, os.stat_result, int], "bytes | None"]


@pytest.fixture(params=["c", "python"])
def read_many(request: pytest.FixtureRequest) -> ReadMany:
    if request.param == "python":
        return read_small_files_in_python
    if read_small_files is read_small_files_in_python:
        pytest.skip("built without a compiler")
    return read_small_files


@pytest.fixture
def read(read_many: ReadMany) -> Read:
    return alone(read_many)


def alone(read_many: ReadMany) -> Read:
    """Reads one file as a batch of one."""

    def read(dir_fd: int, name: bytes, expected: os.stat_result, limit: int) -> bytes | None:
        (content,) = read_many(dir_fd, [(name, expected)], limit)
        return content

    return read


@pytest.fixture
def fd(tmp_path: Path) -> Iterator[int]:
    fd = open_directory(os.fsencode(tmp_path))
    yield fd
    os.close(fd)


def write_settled(path: Path, content: bytes) -> None:
    """Some file systems count a file's blocks late, and until then it looks sparse."""
    with open(path, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def make(kind: str, path: Path, outside: Path) -> None:
    if kind == "link":
        path.symlink_to(outside)
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            here = os.getcwd()
            os.chdir(path.parent)  # Addresses of sockets are short.
            try:
                server.bind(path.name)
            finally:
                os.chdir(here)
    else:
        write_settled(path, b"inside")


def grow(path: Path) -> None:
    with open(path, "ab") as file:
        file.write(b"x")


@contextmanager
def racing(folder: Path) -> Iterator[int]:
    """A directory in which the name `f` is a file with b"inside", a link to b"SECRET" outside, or a pipe, changing all the time."""
    outside, inside = folder / "outside", folder / "inside"
    outside.write_bytes(b"SECRET")
    inside.mkdir()
    make("file", inside / "f", outside)
    stop = threading.Event()

    def race() -> None:
        turn = 0
        while not stop.is_set():
            fresh = inside / f"fresh{turn}"
            make(("file", "link", "fifo")[turn % 3], fresh, outside)
            os.replace(fresh, inside / "f")
            turn += 1

    fd = open_directory(os.fsencode(inside))
    racer = threading.Thread(target=race)
    racer.start()
    try:
        yield fd
    finally:
        stop.set()
        racer.join()
        os.close(fd)
