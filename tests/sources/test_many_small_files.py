"""`read_small_files` of many files, beside others and often: what stands where, and what is left behind."""

from __future__ import annotations

import gc
import os
import resource
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from dedupstore.sources.base import SourceFileError
from dedupstore.sources.filesystem import open_directory, stat_entry
from dedupstore.sources.many_names import Item
from dedupstore.sources.small_files import read_small_files, read_small_files_in_python
from tests.support.small_files import LIMIT, Read, ReadMany, grow, racing, write_settled


def open_descriptors() -> int:
    return len(os.listdir("/dev/fd"))


def test_a_racer_that_swaps_file_link_and_pipe_never_makes_us_read_outside(tmp_path: Path, read: Read) -> None:
    before = open_descriptors()
    found: set[bytes | None] = set()
    with racing(tmp_path) as fd:
        for turn in range(200_000):
            if turn > 5000 and len(found) > 1:
                break
            try:
                found.add(read(fd, b"f", stat_entry(b"f", fd), LIMIT))
            except SourceFileError:
                continue

    assert found == {b"inside", None}
    assert open_descriptors() == before


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
