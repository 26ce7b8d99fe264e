"""`stat_names` and `pack_items` in C and in Python: one contract, `os.lstat` being the judge."""

from __future__ import annotations

import errno
import gc
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from dedupstore.sources.filesystem import list_names, open_directory
from dedupstore.sources.many_names import (
    Item,
    pack_items,
    pack_items_in_python,
    stat_names,
    stat_names_in_python,
)

Look = Callable[[int, list[bytes]], list[os.stat_result | int]]
Pack = Callable[[list[Item]], bytes]


@pytest.fixture(params=["c", "python"])
def kernel(request: pytest.FixtureRequest) -> str:
    name = str(request.param)
    if name == "c" and stat_names is stat_names_in_python:
        pytest.skip("built without a compiler")
    return name


@pytest.fixture
def look(kernel: str) -> Look:
    return stat_names if kernel == "c" else stat_names_in_python


@pytest.fixture
def pack(kernel: str) -> Pack:
    return pack_items if kernel == "c" else pack_items_in_python


def fill(folder: Path) -> None:
    (folder / "file").write_bytes(b"12345")
    (folder / "directory").mkdir()
    (folder / "link").symlink_to("gone")
    os.mkfifo(folder / "pipe")
    (folder / "old").touch()
    os.utime(folder / "old", ns=(-1, -1_500_000_000))
    (folder / "far").touch()
    os.utime(folder / "far", ns=(10_413_792_000 * 10**9 + 3, 10_413_792_000 * 10**9 + 5))


def every_field(stat: os.stat_result) -> dict[str, object]:
    fields = {field: getattr(stat, field) for field in dir(stat) if field.startswith("st_")}
    # What CPython derives in floating point may differ in the last bit.
    for field in ("st_atime", "st_mtime", "st_ctime"):
        fields[field] = pytest.approx(fields[field])
    return fields


@pytest.mark.skipif(sys.platform != "linux", reason="other platforms know more fields")
@pytest.mark.parametrize("folder", ["", "/dev", "/etc"])
def test_every_field_is_what_lstat_says(tmp_path: Path, look: Look, folder: str) -> None:
    fill(tmp_path)
    fd = open_directory(os.fsencode(folder or tmp_path))
    names = list_names(fd)

    before = [os.lstat(name, dir_fd=fd) for name in names]
    found = look(fd, names)
    after = [os.lstat(name, dir_fd=fd) for name in names]

    os.close(fd)
    compared = 0
    for stat, then, now in zip(found, before, after, strict=True):
        assert type(stat) is os.stat_result
        if every_field(then) == every_field(now):  # The devices of a machine at work may change.
            compared += 1
            assert every_field(stat) == every_field(now)
            assert tuple(stat) == tuple(now)
    assert compared > len(names) // 2


def test_every_name_has_its_own_error(tmp_path: Path, fd: int, look: Look) -> None:
    fill(tmp_path)

    found = look(fd, [b"file", b"gone", b"file/x", b"n" * 300, b"link"])

    assert [stat if isinstance(stat, int) else stat.st_size for stat in found] == [
        5,
        errno.ENOENT,
        errno.ENOTDIR,
        errno.ENAMETOOLONG,
        4,
    ]


@pytest.mark.parametrize("count", [0, 1, 127, 128, 129, 1000])
def test_any_number_of_names_comes_in_order(tmp_path: Path, fd: int, look: Look, count: int) -> None:
    for number in range(count):
        os.mkfifo(tmp_path / f"{number:04}", 0o600)
    names = list_names(fd)

    found = look(fd, names)

    assert found == [os.lstat(name, dir_fd=fd) for name in names]


def test_names_are_bytes_without_nul(fd: int, look: Look) -> None:
    with pytest.raises(ValueError, match="null"):
        look(fd, [b"a", b"b\0c"])


def test_a_closed_directory_is_an_error_of_every_name(tmp_path: Path, look: Look) -> None:
    fd = open_directory(os.fsencode(tmp_path))
    os.close(fd)

    assert look(fd, [b"a", b"b"]) == [errno.EBADF, errno.EBADF]


def test_a_list_that_shrinks_meanwhile_does_no_harm(tmp_path: Path, fd: int, look: Look) -> None:
    fill(tmp_path)
    names = [b"file"] * 20_000

    def shrink() -> None:
        while names:
            del names[-100:]

    thread = threading.Thread(target=shrink)
    thread.start()
    try:
        found = look(fd, names)
    finally:
        thread.join()

    assert all(isinstance(stat, os.stat_result) for stat in found)


def test_nothing_is_leaked(tmp_path: Path, fd: int, look: Look, pack: Pack) -> None:
    fill(tmp_path)
    names = [*list_names(fd), b"gone"]

    def once() -> None:
        found = look(fd, names)
        pack([(name, stat) for name, stat in zip(names, found, strict=True) if not isinstance(stat, int)])
        try:
            look(fd, [*names, b"\0"])
        except ValueError:
            pass

    once()
    gc.collect()
    before = sys.getallocatedblocks(), sys.getrefcount(None), sys.getrefcount(names[0])
    for _ in range(2000):
        once()
    gc.collect()
    after = sys.getallocatedblocks(), sys.getrefcount(None), sys.getrefcount(names[0])

    assert all(abs(now - then) < 500 for now, then in zip(after, before, strict=True))


def items_of(fd: int) -> list[Item]:
    return [(name, os.lstat(name, dir_fd=fd)) for name in list_names(fd)]


def test_both_pack_the_same_bytes(tmp_path: Path, fd: int) -> None:
    fill(tmp_path)
    etc = open_directory(b"/etc")
    items = items_of(fd) + items_of(etc)
    os.close(etc)

    assert pack_items(items) == pack_items_in_python(items)
    assert pack_items([]) == b""


def test_the_layout_is_name_nul_and_seven_numbers(tmp_path: Path, fd: int, pack: Pack) -> None:
    fill(tmp_path)
    stat = os.lstat(tmp_path / "old")

    numbers = (stat.st_mode, stat.st_uid, stat.st_gid, 0, -1_500_000_000, stat.st_ctime_ns, stat.st_ino)
    assert pack([(b"old", stat)]) == b"old\0" + b"".join(
        (number % (1 << 64)).to_bytes(8, "little") for number in numbers
    )


@pytest.mark.parametrize("change", ["content", "times", "rights", "name", "inode"])
def test_every_change_shows(tmp_path: Path, fd: int, pack: Pack, change: str) -> None:
    fill(tmp_path)
    path = tmp_path / "file"
    before = pack(items_of(fd))

    if change == "content":
        path.write_bytes(b"123456")
    elif change == "times":
        os.utime(path, ns=(1, 1))
    elif change == "rights":
        path.chmod(0o600)
    elif change == "name":
        path.rename(tmp_path / "named")
    else:
        (tmp_path / "new").write_bytes(b"12345")
        (tmp_path / "new").replace(path)

    assert pack(items_of(fd)) != before


def test_a_name_cannot_pass_for_another_with_numbers(tmp_path: Path, fd: int, pack: Pack) -> None:
    fill(tmp_path)
    stat = os.lstat(tmp_path / "file")

    with pytest.raises((TypeError, ValueError, AttributeError)):
        pack([(b"name", None)])  # type: ignore[list-item]
    assert pack([(b"ab", stat)]) != pack([(b"a", stat)]) != pack([(b"a", stat), (b"b", stat)])
