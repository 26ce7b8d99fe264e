"""`write_files` in C and in Python: one contract. A file is there complete, or not at all."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dedupstore.engine import small_writes
from dedupstore.engine.small_writes import SmallFile, write_files, write_files_in_python
from dedupstore.types import Data
from tests.support.unprivileged import as_nobody

MTIME = 1_600_000_000_123_456_789
Write = Callable[[list[SmallFile]], list[int]]


@pytest.fixture(params=["c", "python"])
def write(request: pytest.FixtureRequest) -> Write:
    if request.param == "python":
        return write_files_in_python
    if write_files is write_files_in_python:
        pytest.skip("built without a compiler")
    return write_files


@pytest.fixture
def fd(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def small(
    fd: int, name: bytes, data: Data = b"data", *, temporary: bytes = b"", created: int = 0o600, mode: int = 0o640,
    uid: int = -1, gid: int = -1, mtime: int = MTIME,
) -> SmallFile:  # fmt: skip
    return fd, temporary or b".t-" + name, name, data, created, mode, uid, gid, mtime


def open_descriptors() -> int:
    return len(os.listdir("/dev/fd"))


def test_a_file_gets_content_mode_and_times(tmp_path: Path, fd: int, write: Write) -> None:
    data = bytes(range(256)) * 1000

    assert write([small(fd, b"empty", b""), small(fd, b"f", memoryview(data)[3:-5]), small(fd, b"b", bytearray(data))]) == [
        0, 0, 0,
    ]  # fmt: skip

    status = os.stat(tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == data[3:-5]
    assert (tmp_path / "b").read_bytes() == data
    assert (tmp_path / "empty").read_bytes() == b""
    assert stat.S_IMODE(status.st_mode) == 0o640
    assert (status.st_atime_ns, status.st_mtime_ns) == (MTIME, MTIME)
    assert sorted(os.listdir(tmp_path)) == ["b", "empty", "f"]


def test_the_mode_of_creation_stays_when_no_other_is_asked_for(tmp_path: Path, fd: int, write: Write) -> None:
    assert write([small(fd, b"f", created=0o444, mode=-1)]) == [0]

    assert stat.S_IMODE(os.stat(tmp_path / "f").st_mode) == 0o444


@pytest.mark.parametrize("mtime", [-1, 0, 1, -1_500_000_001, -(10**9), 999_999_999, 2**31 * 10**9])
def test_times_before_1970_and_after_2038_are_exact(tmp_path: Path, fd: int, write: Write, mtime: int) -> None:
    (tmp_path / "other").touch()
    os.utime(tmp_path / "other", ns=(mtime, mtime))

    assert write([small(fd, b"f", mtime=mtime)]) == [0]

    # Exact as far as the file system is: some end in 2038, or know no fractions.
    assert os.stat(tmp_path / "f").st_mtime_ns == os.stat(tmp_path / "other").st_mtime_ns


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_the_owner_comes_before_a_setuid_bit(tmp_path: Path, fd: int, write: Write) -> None:
    assert write([small(fd, b"f", mode=0o4755, uid=1234, gid=2345), small(fd, b"g", gid=7)]) == [0, 0]

    status = os.stat(tmp_path / "f")
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (1234, 2345, 0o4755)
    assert (os.stat(tmp_path / "g").st_uid, os.stat(tmp_path / "g").st_gid) == (0, 7)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become nobody")
def test_an_owner_that_may_not_be_given_leaves_nothing(tmp_path: Path, write: Write) -> None:
    os.chmod(tmp_path, 0o777)
    fd = os.open(tmp_path, os.O_RDONLY)

    try:
        assert as_nobody(lambda: write([small(fd, b"f", uid=0, gid=0), small(fd, b"g")])) == [errno.EPERM, 0]
    finally:
        os.close(fd)

    assert os.listdir(tmp_path) == ["g"]


def test_an_existing_file_and_a_link_are_replaced_not_followed(tmp_path: Path, fd: int, write: Write) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    (tmp_path / "old").write_bytes(b"old")
    (tmp_path / "link").symlink_to(victim)
    (tmp_path / "dangling").symlink_to(tmp_path / "made-through-a-link")

    assert write([small(fd, name) for name in (b"old", b"link", b"dangling")]) == [0, 0, 0]

    for name in ("old", "link", "dangling"):
        assert stat.S_ISREG(os.lstat(tmp_path / name).st_mode)
        assert (tmp_path / name).read_bytes() == b"data"
    assert victim.read_bytes() == b"precious"
    assert not (tmp_path / "made-through-a-link").exists()


def test_a_temporary_that_is_there_is_neither_followed_nor_touched(tmp_path: Path, fd: int, write: Write) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    (tmp_path / "t1").symlink_to(victim)
    (tmp_path / "t2").symlink_to(tmp_path / "nowhere")
    (tmp_path / "t3").write_bytes(b"another's")
    before = sorted(os.listdir(tmp_path))

    result = write([small(fd, b"f%d" % number, temporary=b"t%d" % number) for number in (1, 2, 3)])

    assert result == [errno.EEXIST] * 3
    assert sorted(os.listdir(tmp_path)) == before
    assert victim.read_bytes() == b"precious"
    assert (tmp_path / "t3").read_bytes() == b"another's"


def test_a_failure_in_the_middle_keeps_nothing_of_itself_and_all_the_others(
    tmp_path: Path, fd: int, write: Write
) -> None:
    (tmp_path / "dir").mkdir()
    (tmp_path / "dir" / "inner").write_bytes(b"")
    long = b"n" * 256

    result = write(
        [
            small(fd, b"a"),
            small(fd, b"dir"),
            small(fd, b"b"),
            small(fd, long, temporary=b".t-long"),
            small(fd, b"c", temporary=long),
            small(1 << 20, b"d"),
            small(fd, b"e"),
        ]
    )

    assert result == [0, errno.EISDIR, 0, errno.ENAMETOOLONG, errno.ENAMETOOLONG, errno.EBADF, 0]
    assert sorted(os.listdir(tmp_path)) == ["a", "b", "dir", "e"]


@pytest.mark.parametrize("name", [b"", b".", b"..", b"a/b", b"../out", b"/absolute"])
def test_a_name_that_leaves_the_directory_is_refused(tmp_path: Path, write: Write, name: bytes) -> None:
    below = tmp_path / "below"
    (below / "a").mkdir(parents=True)
    fd = os.open(below, os.O_RDONLY)

    try:
        assert write([small(fd, name, temporary=b"t"), small(fd, b"f", temporary=name or b"/")]) == [errno.EINVAL] * 2
    finally:
        os.close(fd)

    assert os.listdir(below) == ["a"]
    assert os.listdir(tmp_path) == ["below"]


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"name": b"nul\0"}, ValueError),
        ({"temporary": b"nul\0"}, ValueError),
        ({"name": "text"}, TypeError),
        ({"data": "text"}, TypeError),
        ({"data": memoryview(b"abcdef")[::2]}, BufferError),
        ({"uid": 2**32 - 1}, OverflowError),
        ({"gid": -2}, OverflowError),
        ({"created": 2**40}, OverflowError),
        ({"mtime": 2**63}, OverflowError),
    ],
)
def test_a_wrong_argument_writes_nothing_at_all(
    tmp_path: Path, fd: int, write: Write, change: dict[str, object], error: type[Exception]
) -> None:
    wrong = small(fd, **{"name": b"wrong", "temporary": b"t", **change})  # type: ignore[arg-type]

    with pytest.raises(error):
        write([small(fd, b"good"), wrong])

    assert os.listdir(tmp_path) == []


def test_what_is_no_list_of_files_is_refused(fd: int, write: Write) -> None:
    with pytest.raises(TypeError):
        write([small(fd, b"f")[:8]])  # type: ignore[list-item]
    with pytest.raises((TypeError, OverflowError)):
        write([(-1, *small(fd, b"f")[1:])])
    assert write([]) == []


def test_data_are_held_during_the_call_and_free_after_it(fd: int, write: Write) -> None:
    data = bytearray(b"x" * 1000)

    write([small(fd, b"f", data), small(fd, b"g/", data)])

    data.clear()


def test_no_descriptor_and_no_reference_is_left_after_ten_thousand_calls(tmp_path: Path, write: Write) -> None:
    # In memory where there is such a place.
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else tmp_path
    folder = Path(tempfile.mkdtemp(prefix="small-writes-", dir=memory))
    (folder / "dir").mkdir()
    fd = os.open(folder, os.O_RDONLY)
    try:
        batch = [small(fd, b"good"), small(fd, b"dir"), small(fd, b"a/b"), small(fd, b"bad", temporary=b"dir")]
        data = batch[0][3]
        expected = [0, errno.EISDIR, errno.EINVAL, errno.EEXIST]
        before, references = open_descriptors(), sys.getrefcount(data)

        assert all(write(batch) == expected for _ in range(10_000))

        assert open_descriptors() == before
        assert sys.getrefcount(data) <= references + 1
        assert sorted(os.listdir(folder)) == ["dir", "good"]
    finally:
        os.close(fd)
        shutil.rmtree(folder)


def test_threads_write_into_one_directory_at_once(tmp_path: Path, fd: int, write: Write) -> None:
    results: list[list[int]] = []

    def run(thread: int) -> None:
        names = [b"%d-%d" % (thread, number) for number in range(200)]
        results.append(write([small(fd, name, name) for name in names]))

    threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert results == [[0] * 200] * 4
    assert all((tmp_path / name).read_bytes() == name.encode() for name in os.listdir(tmp_path))
    assert len(os.listdir(tmp_path)) == 800


def test_a_full_file_system_leaves_whole_files_only(tmp_path: Path, write: Write) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", disk], capture_output=True).returncode:
        pytest.skip("cannot mount a tmpfs")
    try:
        fd = os.open(disk, os.O_RDONLY)
        try:
            result = write([small(fd, b"f%d" % number, b"x" * 20_000) for number in range(6)])
        finally:
            os.close(fd)

        written = [f"f{number}" for number, error in enumerate(result) if error == 0]
        assert 0 < len(written) < 6
        assert set(result) == {0, errno.ENOSPC}
        assert sorted(os.listdir(disk)) == written
        assert all(os.stat(disk / name).st_size == 20_000 for name in written)
    finally:
        subprocess.run(["umount", disk], check=True)


def test_without_the_kernel_python_writes() -> None:
    code = (
        "import sys; sys.modules['dedupstore.engine._write'] = None\n"
        "from dedupstore.engine import small_writes\n"
        "assert small_writes.write_files is small_writes.write_files_in_python\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(small_writes.__file__).parents[2])
