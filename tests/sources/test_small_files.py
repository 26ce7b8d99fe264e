"""`read_small_files` in C and in Python: one contract. Whatever is unusual must be refused, never guessed."""

from __future__ import annotations

import gc
import os
import random
import resource
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dedupstore.sources.base import SourceFileError
from dedupstore.sources.filesystem import open_directory, stat_entry
from dedupstore.sources.many_names import Item
from dedupstore.sources.small_files import read_small_files, read_small_files_in_python
from tests.support.unprivileged import as_nobody

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


def open_descriptors() -> int:
    return len(os.listdir("/dev/fd"))


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


def grow(path: Path) -> None:
    with open(path, "ab") as file:
        file.write(b"x")


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


def test_a_racer_that_swaps_file_link_and_pipe_never_makes_us_read_outside(tmp_path: Path, read: Read) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"SECRET")
    inside = tmp_path / "inside"
    inside.mkdir()
    stop = threading.Event()

    def race() -> None:
        turn = 0
        while not stop.is_set():
            fresh = inside / f"fresh{turn}"
            make(("file", "link", "fifo")[turn % 3], fresh, outside)
            os.replace(fresh, inside / "f")
            turn += 1

    make("file", inside / "f", outside)
    fd = open_directory(os.fsencode(inside))
    before = open_descriptors()
    racer = threading.Thread(target=race)
    racer.start()
    found: set[bytes | None] = set()
    try:
        for turn in range(200_000):
            if turn > 5000 and len(found) > 1:
                break
            try:
                found.add(read(fd, b"f", stat_entry(b"f", fd), LIMIT))
            except SourceFileError:
                continue
    finally:
        stop.set()
        racer.join()

    assert found == {b"inside", None}
    assert open_descriptors() == before
    os.close(fd)


def test_no_path_loses_a_descriptor_or_memory(tmp_path: Path, fd: int, read_many: ReadMany) -> None:
    names = {b"good": b"content", b"empty": b"", b"changed": b"before"}
    for name, content in names.items():
        (tmp_path / os.fsdecode(name)).write_bytes(content)
    (tmp_path / "link").symlink_to("good")
    cases: list[Item] = [(name, stat_entry(name, fd)) for name in (*names, b"link")]
    cases += [(b"gone", cases[0][1]), (b"link", cases[0][1]), (b"changed", cases[0][1])]
    grow(tmp_path / "changed")
    broken: list[Item] = [*cases, (b"a\0b", cases[0][1])]
    before = open_descriptors()
    read_many(fd, cases, LIMIT)
    gc.collect()
    blocks, nones = sys.getallocatedblocks(), sys.getrefcount(None)

    for _ in range(1000 if read_many is read_small_files_in_python else 15_000):
        assert read_many(fd, cases, LIMIT) == [b"content", *[None] * 6]
        with pytest.raises(ValueError, match="null"):
            read_many(fd, broken, LIMIT)
    gc.collect()

    assert open_descriptors() == before
    assert abs(sys.getallocatedblocks() - blocks) < 500
    assert abs(sys.getrefcount(None) - nones) < 500


@pytest.mark.parametrize("count", [0, 1, 63, 64, 65, 200])
def test_each_content_stands_where_its_name_stands(tmp_path: Path, fd: int, read_many: ReadMany, count: int) -> None:
    contents = {b"%03d" % number: b"content of %d" % number for number in range(count)}
    for name, content in contents.items():
        (tmp_path / os.fsdecode(name)).write_bytes(content)
    items = [(name, stat_entry(name, fd)) for name in contents]
    gone = [name for number, name in enumerate(contents) if number % 7 == 3]
    for name in gone:
        os.unlink(name, dir_fd=fd)

    found = read_many(fd, items, LIMIT)

    assert found == [None if name in gone else content for name, content in contents.items()]


def test_what_the_descriptors_do_not_suffice_for_is_refused(tmp_path: Path, fd: int, read_many: ReadMany) -> None:
    for number in range(40):
        write_settled(tmp_path / f"{number}", b"content")
    items = [(name, stat_entry(name, fd)) for name in map(os.fsencode, sorted(os.listdir(tmp_path)))]
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (fd + 8, limits[1]))
    try:
        found = read_many(fd, items, LIMIT)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)

    assert found[0] == b"content"
    assert set(found) <= {b"content", None}


@pytest.mark.parametrize("items", [(), None, [1], [(b"a",)], [(b"a", 1)], [("a", os.stat("/"))]])
def test_what_is_no_list_of_items_is_an_error_of_the_caller(fd: int, items: object) -> None:
    if read_small_files is read_small_files_in_python:
        pytest.skip("built without a compiler")
    with pytest.raises(TypeError):
        read_small_files(fd, items, LIMIT)  # type: ignore[arg-type]


def test_many_threads_read_at_once(tmp_path: Path, fd: int, read: Read) -> None:
    contents = {b"%d" % number: b"%d " % number * 3000 for number in range(8)}
    for name, content in contents.items():
        write_settled(tmp_path / os.fsdecode(name), content)
    stats = {name: stat_entry(name, fd) for name in contents}
    wrong: list[bytes] = []

    def many(name: bytes) -> None:
        wrong.extend(name for _ in range(500) if read(fd, name, stats[name], LIMIT) != contents[name])

    threads = [threading.Thread(target=many, args=(name,)) for name in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert not wrong


def test_the_two_agree_on_whatever_this_machine_has() -> None:
    if read_small_files is read_small_files_in_python:
        pytest.skip("built without a compiler")
    compared = 0
    for folder in (b"/etc", b"/proc/self", b"/dev", b"/sys/kernel", b"/usr/bin", b"/tmp"):
        try:
            fd = open_directory(folder)
        except SourceFileError:
            continue
        for name in map(os.fsencode, os.listdir(fd)[:300]):
            try:
                stat = stat_entry(name, fd)
            except SourceFileError:
                continue
            # Files of a machine at work may change between the two.
            items: list[Item] = [(name, stat)]
            ways = (read_small_files, read_small_files_in_python)
            pairs = ([read(fd, items, LIMIT) for read in ways] for _ in "12")
            assert any(first == second for first, second in pairs), (folder, name)
            compared += 1
        os.close(fd)

    assert compared > 50 or sys.platform != "linux"


def test_without_the_compiled_part_python_does_the_work() -> None:
    script = (
        "import sys\n"
        "sys.modules['dedupstore.sources._small_files'] = sys.modules['dedupstore.sources._many_names'] = None\n"
        "from dedupstore.sources import many_names, small_files\n"
        "print(small_files.read_small_files.__name__, many_names.stat_names.__name__, many_names.pack_items.__name__)"
    )

    said = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout

    assert said.split() == ["read_small_files_in_python", "stat_names_in_python", "pack_items_in_python"]
