from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import stat as modes
import subprocess
from pathlib import Path

import pytest

from dedupstore.model.entry import CHARACTER_DEVICE, DIRECTORY, FIFO, FILE, SOCKET, SYMLINK, decode_entry, encode_entry
from dedupstore.sources import attributes
from dedupstore.sources.attributes import (
    HEAD_BYTES,
    Owners,
    cachedir_tag,
    make_entry,
    nodump,
    page_size_of,
    read_xattrs,
    xattrs_at,
)
from dedupstore.sources.base import AttributesUnreadable, Vanished
from dedupstore.sources.filesystem import OpenFile, stat_entry

SIGNATURE = b"Signature: 8a477f597d28d172789f06886806bc55"


def test_an_entry_says_what_lstat_says(tmp_path: Path, fd: int) -> None:
    (tmp_path / "f").write_bytes(b"12345")
    (tmp_path / "f").chmod(0o4751)
    os.utime(tmp_path / "f", ns=(1, 1_234_567_890_123_456_789))
    stat = stat_entry(b"f", fd)

    entry = make_entry(b"f", stat, Owners())

    assert (entry.name, entry.kind, entry.mode, entry.size) == (b"f", FILE, 0o4751, 5)
    assert (entry.mtime, entry.ctime) == (1_234_567_890_123_456_789, stat.st_ctime_ns // 10**9)
    assert (entry.uid, entry.gid) == (os.geteuid(), stat.st_gid)
    assert entry.device is None


def test_every_kind_is_told_apart_and_only_files_have_a_size(tmp_path: Path, fd: int) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "l").symlink_to("nowhere")
    os.mkfifo(tmp_path / "p")
    os.mknod(tmp_path / "s", modes.S_IFSOCK | 0o600)
    owners = Owners()

    entries = {name: make_entry(name, stat_entry(name, fd), owners) for name in (b"d", b"l", b"p", b"s")}

    assert {name: entry.kind for name, entry in entries.items()} == {
        b"d": DIRECTORY,
        b"l": SYMLINK,
        b"p": FIFO,
        b"s": SOCKET,
    }
    assert {entry.size for entry in entries.values()} == {0}


def test_a_device_keeps_its_number() -> None:
    entry = make_entry(b"null", os.lstat("/dev/null"), Owners())

    assert entry.kind == CHARACTER_DEVICE
    if os.uname().sysname == "Linux":
        assert entry.device == (1, 3)


def test_owners_are_asked_for_once_and_a_number_without_a_name_stays_a_number() -> None:
    owners = Owners()

    assert owners.users[0] == "root"
    assert owners.users[4_000_000_000] == ""
    assert owners.groups[4_000_000_000] == ""
    assert 4_000_000_000 in owners.users


def test_times_beyond_63_bits_are_brought_into_what_a_manifest_can_hold() -> None:
    fields = list(os.lstat("/"))
    far = 20_000_000_000
    for second, expected in ((far, (1 << 63) - 1), (-far, 1 - (1 << 63))):
        stat = os.stat_result((modes.S_IFIFO | 0o644, *fields[1:7], second, second, second))
        entry = make_entry(b"p", _with_ns(stat, second), Owners())

        assert (entry.mtime, entry.ctime) == (expected, second)
        assert decode_entry(encode_entry(entry, 0), 0) == entry


def _with_ns(stat: os.stat_result, second: int) -> os.stat_result:
    extra = {"st_mtime_ns": second * 10**9, "st_ctime_ns": second * 10**9, "st_atime_ns": 0}
    return os.stat_result(tuple(stat), extra)


def set_xattr(path: Path, name: str, value: bytes) -> None:
    try:
        os.setxattr(path, name, value)
    except OSError as error:
        if error.errno == errno.ENOTSUP:
            pytest.skip("this file system has no extended attributes")
        raise


@pytest.mark.skipif(not hasattr(os, "setxattr"), reason="no extended attributes")
class TestExtendedAttributes:
    def test_they_come_sorted_and_byte_for_byte_by_descriptor_and_by_path(self, tmp_path: Path, fd: int) -> None:
        (tmp_path / "f").touch()
        set_xattr(tmp_path / "f", "user.b", b"\0\xff")
        set_xattr(tmp_path / "f", "user.a", b"")

        expected = ((b"user.a", b""), (b"user.b", b"\0\xff"))
        assert read_xattrs(os.fsencode(tmp_path / "f")) == expected
        assert xattrs_at(b"f", fd) == expected
        with OpenFile(b"f", fd, stat_entry(b"f", fd)) as file:
            assert file.xattrs() == expected

    def test_a_directory_has_them_too(self, tmp_path: Path, fd: int) -> None:
        set_xattr(tmp_path, "user.site", b"blog")

        assert (b"user.site", b"blog") in read_xattrs(fd)

    def test_those_of_a_link_are_its_own(self, tmp_path: Path, fd: int) -> None:
        (tmp_path / "target").touch()
        set_xattr(tmp_path / "target", "user.of", b"target")
        (tmp_path / "link").symlink_to("target")

        assert b"user.of" not in dict(xattrs_at(b"link", fd))

        if os.geteuid() == 0:
            os.setxattr(tmp_path / "link", "trusted.of", b"link", follow_symlinks=False)
            assert dict(xattrs_at(b"link", fd))[b"trusted.of"] == b"link"

    def test_a_pipe_is_never_opened_for_them(self, tmp_path: Path, fd: int) -> None:
        os.mkfifo(tmp_path / "pipe")

        assert dict(xattrs_at(b"pipe", fd)).keys() <= {b"security.selinux"}

    def test_an_acl_comes_along(self, tmp_path: Path, fd: int) -> None:
        if shutil.which("setfacl") is None:
            pytest.skip("no setfacl")
        (tmp_path / "d").mkdir()
        done = subprocess.run(["setfacl", "-m", "u:4242:rwx,d:u:4242:r-x", str(tmp_path / "d")], check=False)
        if done.returncode:
            pytest.skip("this file system has no ACLs")

        assert {b"system.posix_acl_access", b"system.posix_acl_default"} <= dict(xattrs_at(b"d", fd)).keys()

    def test_gone_is_vanished(self, fd: int) -> None:
        with pytest.raises(Vanished):
            xattrs_at(b"gone", fd)

    def test_too_many_are_an_error_of_their_own(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "f").touch()
        set_xattr(tmp_path / "f", "user.big", b"x" * 1000)
        monkeypatch.setattr(attributes, "MAX_XATTR_BYTES", 1000)

        with pytest.raises(AttributesUnreadable) as caught:
            read_xattrs(os.fsencode(tmp_path / "f"))

        assert caught.value.code == "file.attributes_too_large"

    @pytest.mark.parametrize(("number", "outcome"), [(errno.ENOTSUP, None), (errno.EACCES, AttributesUnreadable)])
    def test_no_support_is_none_and_no_right_is_an_error(
        self, monkeypatch: pytest.MonkeyPatch, number: int, outcome: type[Exception] | None
    ) -> None:
        def fail(*_: object, **__: object) -> list[str]:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(os, "listxattr", fail)

        if outcome is None:
            assert read_xattrs(b"/") == ()
        else:
            with pytest.raises(outcome, match="extended attributes: permission denied"):
                read_xattrs(b"/")

    def test_one_removed_meanwhile_is_left_out(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "f").touch()
        set_xattr(tmp_path / "f", "user.stays", b"1")
        listed = [*os.listxattr(tmp_path / "f"), "user.gone"]
        monkeypatch.setattr(os, "listxattr", lambda *_, **__: listed)

        assert dict(read_xattrs(os.fsencode(tmp_path / "f")))[b"user.stays"] == b"1"
        assert b"user.gone" not in dict(read_xattrs(os.fsencode(tmp_path / "f")))


def test_the_nodump_flag_is_seen(tmp_path: Path, fd: int) -> None:
    (tmp_path / "f").touch()
    (tmp_path / "plain").touch()
    if shutil.which("chattr") is None or subprocess.run(["chattr", "+d", str(tmp_path / "f")], check=False).returncode:
        pytest.skip("no nodump flag here")

    assert nodump(b"f", fd, stat_entry(b"f", fd))
    assert not nodump(b"plain", fd, stat_entry(b"plain", fd))
    assert not nodump(b"plain", fd, stat_entry(b"f", fd)), "another file than was looked at"


def test_a_pipe_is_not_opened_to_ask_for_nodump(tmp_path: Path, fd: int) -> None:
    os.mkfifo(tmp_path / "pipe")

    assert not nodump(b"pipe", fd, stat_entry(b"pipe", fd))


@pytest.mark.parametrize(
    ("content", "is_cache"),
    [(SIGNATURE, True), (SIGNATURE + b"\n# made by x\n", True), (b"Signature: something else", False), (b"", False)],
)
def test_only_the_right_signature_makes_a_cache_directory(
    tmp_path: Path, fd: int, content: bytes, is_cache: bool
) -> None:
    (tmp_path / "CACHEDIR.TAG").write_bytes(content)

    assert cachedir_tag(fd) is is_cache


def test_no_tag_a_link_or_a_pipe_make_no_cache_directory(tmp_path: Path, fd: int) -> None:
    assert not cachedir_tag(fd)

    (tmp_path / "real").write_bytes(SIGNATURE)
    (tmp_path / "CACHEDIR.TAG").symlink_to("real")
    assert not cachedir_tag(fd)

    (tmp_path / "CACHEDIR.TAG").unlink()
    os.mkfifo(tmp_path / "CACHEDIR.TAG")
    assert not cachedir_tag(fd)


@pytest.mark.parametrize("size", [512, 1024, 4096, 32768, 65536])
def test_the_page_size_of_a_real_database_is_found(tmp_path: Path, size: int) -> None:
    connection = sqlite3.connect(tmp_path / "a.db")
    connection.execute(f"pragma page_size = {size}")
    connection.execute("create table t (x)")
    connection.commit()
    connection.close()

    assert page_size_of((tmp_path / "a.db").read_bytes()[:HEAD_BYTES]) == size


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"SQLite format 3\0",
        b"SQLite format 3\0\x00\x00",
        b"SQLite format 3\0\x01\x00",
        b"SQLite format 3\0\x10\x01",
        b"SQLite format 4\0\x10\x00",
        b"<?php echo 'SQLite format 3'",
    ],
)
def test_other_beginnings_have_no_page_size(head: bytes) -> None:
    assert page_size_of(head) == 0
    assert page_size_of(memoryview(head)) == 0
