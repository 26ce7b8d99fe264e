from __future__ import annotations

import errno
import os
import stat as modes
import tempfile
from pathlib import Path

import pytest

from dedupstore.errors import SourceFailed
from dedupstore.sources.base import ChangedWhileRead, SourceFileError, Unreadable, Vanished, file_error
from dedupstore.sources.filesystem import (
    list_names,
    made_up,
    open_directory,
    read_link,
    scan,
    stat_entries,
    stat_entry,
)
from tests.support.unprivileged import as_nobody


def refuse(name: bytes, error: SourceFileError) -> None:
    raise AssertionError(f"{name!r}: {error}")


ODD_NAMES = [
    b"\x1b]52;c;x\x07",
    b"a\nb",
    b"caf\xc3\xa9",
    b"caf\xe9",
    b"\xff\xfe",
    b"-rf",
    b" ",
    "\u202egpj.exe".encode(),
]


def test_names_come_in_byte_order_and_exactly_as_they_are(tmp_path: Path, fd: int) -> None:
    for name in ODD_NAMES:
        os.close(os.open(name, os.O_CREAT | os.O_WRONLY, dir_fd=fd))

    assert list_names(fd) == sorted(ODD_NAMES)
    assert [name for name, _ in scan(fd, refuse)] == sorted(ODD_NAMES)
    assert list_names(fd) == sorted(ODD_NAMES), "a directory can be listed twice"


def test_scan_tells_what_each_name_is_and_follows_no_link(tmp_path: Path, fd: int) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    (tmp_path / "directory").mkdir()
    (tmp_path / "link").symlink_to("directory")
    os.mkfifo(tmp_path / "pipe")

    kinds = {name: modes.S_IFMT(stat.st_mode) for name, stat in scan(fd, refuse)}

    assert kinds == {
        b"file": modes.S_IFREG,
        b"directory": modes.S_IFDIR,
        b"link": modes.S_IFLNK,
        b"pipe": modes.S_IFIFO,
    }


def test_a_name_that_vanishes_while_scanning_is_told_and_left_out(tmp_path: Path, fd: int) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).touch()
    told: list[tuple[bytes, str]] = []

    names = list_names(fd)
    (tmp_path / "b").unlink()
    found = stat_entries(names, fd, lambda name, error: told.append((name, error.code)))

    assert [name for name, _ in found] == [b"a", b"c"]
    assert told == [(b"b", "file.vanished")]


def test_trouble_of_ours_while_looking_at_names_ends_the_scan(tmp_path: Path) -> None:
    fd = open_directory(os.fsencode(tmp_path))
    os.close(fd)

    with pytest.raises(SourceFailed):
        stat_entries([b"a"], fd, refuse)


def test_looking_at_a_name_that_is_gone_raises_vanished(fd: int) -> None:
    with pytest.raises(Vanished):
        stat_entry(b"gone", fd)


def test_a_link_in_place_of_a_directory_is_not_followed(tmp_path: Path, fd: int) -> None:
    (tmp_path / "d").mkdir()
    expected = stat_entry(b"d", fd)
    (tmp_path / "d").rename(tmp_path / "moved")
    (tmp_path / "d").symlink_to("moved")

    with pytest.raises(ChangedWhileRead):
        open_directory(b"d", dir_fd=fd, expected=expected)


@pytest.mark.parametrize("replacement", ["directory", "file", "fifo"])
def test_something_else_in_place_of_a_directory_is_noticed(tmp_path: Path, fd: int, replacement: str) -> None:
    (tmp_path / "d").mkdir()
    expected = stat_entry(b"d", fd)
    (tmp_path / "d").rename(tmp_path / "moved")
    if replacement == "directory":
        (tmp_path / "d").mkdir()
    elif replacement == "file":
        (tmp_path / "d").touch()
    else:
        os.mkfifo(tmp_path / "d")

    with pytest.raises(ChangedWhileRead):
        open_directory(b"d", dir_fd=fd, expected=expected)


def test_ten_thousand_levels_are_walked_down_and_up_with_two_descriptors(tmp_path: Path) -> None:
    # In memory where there is such a place: ext4 takes ten seconds for what tmpfs does at once.
    top = tempfile.mkdtemp(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else tmp_path)
    current = open_directory(os.fsencode(top))
    seen: list[os.stat_result] = []
    for _ in range(10_000):
        os.mkdir(b"d", dir_fd=current)
        seen.append(os.fstat(current))
        below = open_directory(b"d", dir_fd=current, expected=stat_entry(b"d", current))
        os.close(current)
        current = below

    for stat in reversed(seen):
        above = open_directory(b"..", dir_fd=current, expected=stat)
        os.close(current)
        current = above
        os.rmdir(b"d", dir_fd=current)

    assert list_names(current) == []
    os.close(current)
    os.rmdir(top)


def test_an_unreadable_directory_says_whose_it_is_and_who_we_are(tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o700)
    tmp_path.chmod(0o755)
    if os.geteuid() != 0:
        locked.chmod(0)
    stat = os.lstat(locked)
    outside = open_directory(os.fsencode(tmp_path))

    with pytest.raises(Unreadable) as caught:
        as_nobody(lambda: open_directory(b"locked", dir_fd=outside, expected=stat))

    os.close(outside)
    locked.chmod(0o700)
    if os.geteuid() == 0:
        assert caught.value.message == "permission denied (owner root, mode 700; running as nobody)"
    assert caught.value.code == "file.unreadable"


def test_the_text_of_a_link_is_kept_byte_for_byte(tmp_path: Path, fd: int) -> None:
    os.symlink(b"../\xff\n/../..", b"link", dir_fd=fd)

    assert read_link(b"link", fd) == b"../\xff\n/../.."


def test_a_file_in_place_of_a_link_is_noticed(tmp_path: Path, fd: int) -> None:
    (tmp_path / "link").touch()

    with pytest.raises(ChangedWhileRead):
        read_link(b"link", fd)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM])
def test_trouble_of_this_process_is_never_taken_for_one_bad_file(number: int) -> None:
    assert isinstance(file_error(OSError(number, "")), SourceFailed)


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (errno.ENOENT, "file.vanished"),
        (errno.ESTALE, "file.vanished"),
        (errno.ELOOP, "file.changed_while_reading"),
        (errno.ENOTDIR, "file.changed_while_reading"),
        (errno.EACCES, "file.unreadable"),
        (errno.EPERM, "file.unreadable"),
        (errno.EIO, "file.unreadable"),
    ],
)
def test_every_other_trouble_has_a_stable_code(number: int, code: str) -> None:
    error = file_error(OSError(number, ""))

    assert isinstance(error, SourceFileError)
    assert error.code == code


@pytest.mark.skipif(not os.path.exists("/proc/self/mountinfo"), reason="no /proc")
def test_file_systems_made_up_by_the_kernel_are_known(tmp_path: Path) -> None:
    assert made_up(os.stat("/proc").st_dev)
    assert not made_up(os.stat(tmp_path).st_dev)
