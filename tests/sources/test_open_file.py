from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dedupstore.sources import filesystem
from dedupstore.sources.base import ChangedWhileRead, SourceFileError, Unreadable, Vanished
from dedupstore.sources.filesystem import ENDLESS_BYTES, MAX_HOLES, OpenFile, find_holes, open_directory, stat_entry
from tests.support.small_files import make, racing
from tests.support.unprivileged import as_nobody

MIB = 1 << 20


def read_in_views(file: OpenFile, size: int) -> bytes:
    view = memoryview(bytearray(size))
    pieces = b""
    while count := file.readinto(view):
        pieces += view[:count]
    return pieces


def rebuilt(data: bytes, file: OpenFile) -> bytes:
    """The file's content again, from its data bytes and its holes."""
    whole = bytearray()
    taken = 0
    for start, length in zip(file.holes[::2], file.holes[1::2], strict=True):
        piece = data[taken : taken + start - len(whole)]
        taken += len(piece)
        whole += piece + bytes(length)
    return bytes(whole + data[taken:])


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 4097, 100_000, 3 * MIB])
def test_a_file_reads_the_same_at_once_and_in_pieces(tmp_path: Path, fd: int, size: int) -> None:
    content = random.Random(size).randbytes(size)
    (tmp_path / "f").write_bytes(content)
    stat = stat_entry(b"f", fd)

    with OpenFile(b"f", fd, stat) as file:
        assert file.read_all() == content
        assert file.finished()
        assert (file.size, file.holes) == (size, ())
    with OpenFile(b"f", fd, stat) as file:
        assert read_in_views(file, 4097) == content
        assert file.readinto(memoryview(bytearray(10))) == 0
        assert file.finished()


def test_reading_leaves_no_trace_in_atime(tmp_path: Path, fd: int) -> None:
    (tmp_path / "f").write_bytes(b"x")
    os.utime(tmp_path / "f", ns=(1, 2))
    before = stat_entry(b"f", fd)

    with OpenFile(b"f", fd, before) as file:
        file.read_all()

    if hasattr(os, "O_NOATIME"):
        assert stat_entry(b"f", fd).st_atime_ns == 1


def test_two_hard_links_are_one_file(tmp_path: Path, fd: int) -> None:
    (tmp_path / "a").write_bytes(b"content")
    (tmp_path / "b").hardlink_to(tmp_path / "a")
    first, second = stat_entry(b"a", fd), stat_entry(b"b", fd)

    assert (first.st_nlink, first.st_ino) == (2, second.st_ino)
    with OpenFile(b"b", fd, first) as file:
        assert file.read_all() == b"content"


def test_a_file_of_someone_else_is_read_without_the_right_to_hide_it(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"public")
    (tmp_path / "f").chmod(0o644)
    tmp_path.chmod(0o755)
    fd = open_directory(os.fsencode(tmp_path))

    def read() -> bytes:
        with OpenFile(b"f", fd, stat_entry(b"f", fd)) as file:
            return file.read_all()

    assert as_nobody(read) == b"public"
    os.close(fd)


def test_an_unreadable_file_says_whose_it_is_and_who_we_are(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"secret")
    (tmp_path / "f").chmod(0o600 if os.geteuid() == 0 else 0)
    tmp_path.chmod(0o755)
    fd = open_directory(os.fsencode(tmp_path))
    stat = stat_entry(b"f", fd)

    with pytest.raises(Unreadable) as caught:
        as_nobody(lambda: OpenFile(b"f", fd, stat).read_all())

    os.close(fd)
    if os.geteuid() == 0:
        assert caught.value.message == "permission denied (owner root, mode 600; running as nobody)"


def test_a_file_that_is_gone_has_vanished(tmp_path: Path, fd: int) -> None:
    (tmp_path / "f").touch()
    stat = stat_entry(b"f", fd)
    (tmp_path / "f").unlink()

    with pytest.raises(Vanished):
        OpenFile(b"f", fd, stat)


@pytest.mark.parametrize("kind", ["link", "fifo", "directory", "file"])
def test_what_is_swapped_in_before_opening_is_neither_followed_nor_waited_for(
    tmp_path: Path, fd: int, kind: str
) -> None:
    (tmp_path / "f").write_bytes(b"inside")
    stat = stat_entry(b"f", fd)
    (tmp_path / "f").rename(tmp_path / "kept")
    make(kind, tmp_path / "f", tmp_path / "kept")

    with pytest.raises(ChangedWhileRead):
        OpenFile(b"f", fd, stat)


def test_a_racer_that_swaps_file_link_and_pipe_never_makes_us_read_outside(tmp_path: Path) -> None:
    read: set[bytes] = set()
    caught: set[str] = set()
    with racing(tmp_path) as fd:
        for turn in range(200_000):
            if turn > 3000 and read and caught:
                break
            try:
                with OpenFile(b"f", fd, stat_entry(b"f", fd)) as file:
                    read.add(file.read_all())
            except SourceFileError as error:
                caught.add(error.code)

    assert read == {b"inside"}
    assert caught == {"file.changed_while_reading"}


@pytest.mark.parametrize("size", [100, 3 * MIB])
def test_a_growing_file_is_cut_where_it_ended_and_flagged(tmp_path: Path, fd: int, size: int) -> None:
    (tmp_path / "f").write_bytes(b"x" * size)
    stat = stat_entry(b"f", fd)

    for read in (OpenFile.read_all, lambda file: read_in_views(file, MIB)):
        with OpenFile(b"f", fd, stat_entry(b"f", fd)) as file, open(tmp_path / "f", "ab") as writer:
            size = file.size
            writer.write(b"new")
            writer.flush()

            assert read(file) == (b"x" * stat.st_size + b"newnew")[:size]
            assert file.size == size
            assert not file.finished()


@pytest.mark.parametrize(
    "read",
    [OpenFile.read_all, lambda file: read_in_views(file, 1000)],
    ids=["at once", "in pieces"],
)
def test_a_shrinking_file_has_the_size_of_what_was_read_and_is_flagged(
    tmp_path: Path, fd: int, read: Callable[[OpenFile], bytes]
) -> None:
    (tmp_path / "f").write_bytes(b"x" * 50_000)

    with OpenFile(b"f", fd, stat_entry(b"f", fd)) as file:
        os.truncate(tmp_path / "f", 20_000)

        assert read(file) == b"x" * 20_000
        assert (file.size, file.holes) == (20_000, ())
        assert not file.finished()


def test_a_rewrite_in_place_of_the_same_length_is_flagged(tmp_path: Path, fd: int) -> None:
    (tmp_path / "f").write_bytes(b"x" * 100)
    os.utime(tmp_path / "f", ns=(5, 5))

    with OpenFile(b"f", fd, stat_entry(b"f", fd)) as file:
        file.read_all()
        (tmp_path / "f").write_bytes(b"y" * 100)

        assert not file.finished()


def sparse(path: Path, size: int, data: dict[int, bytes]) -> bool:
    """Make a sparse file; False where the file system has none of that size."""
    with open(path, "wb") as file:
        try:
            os.ftruncate(file.fileno(), size)
            for offset, content in data.items():
                os.pwrite(file.fileno(), content, offset)
        except OSError:
            return False
    return True


@pytest.mark.parametrize(
    ("size", "data"),
    [
        (MIB, {}),
        (MIB, {0: b"head"}),
        (MIB, {MIB - 3: b"end"}),
        (MIB + 5, {0: b"a" * 4096, 65536: b"b" * 10_000, MIB: b"tail!"}),
    ],
)
def test_holes_are_left_out_and_the_rest_makes_the_file_again(
    tmp_path: Path, fd: int, size: int, data: dict[int, bytes]
) -> None:
    assert sparse(tmp_path / "f", size, data)
    stat = stat_entry(b"f", fd)

    for read in (OpenFile.read_all, lambda file: read_in_views(file, 5000)):
        with OpenFile(b"f", fd, stat) as file:
            content = read(file)
            assert file.size == size
            assert len(content) + sum(file.holes[1::2]) == size
            assert rebuilt(content, file) == (tmp_path / "f").read_bytes()
            assert file.finished()
            if stat.st_blocks * 512 < size:
                assert file.holes


def test_a_sparse_file_that_shrinks_keeps_size_holes_and_bytes_in_step(tmp_path: Path, fd: int) -> None:
    sparse(tmp_path / "f", MIB, {0: b"a" * 4096, 512 << 10: b"b" * 8192})

    with OpenFile(b"f", fd, stat_entry(b"f", fd)) as file:
        os.truncate(tmp_path / "f", (512 << 10) + 100)
        content = read_in_views(file, 5000)

        assert len(content) + sum(file.holes[1::2]) == file.size
        assert rebuilt(content, file) == (tmp_path / "f").read_bytes()
        assert not file.finished()


# tmpfs has files of 8 EiB, ext4 of 16 TiB.
@pytest.mark.parametrize("folder", ["", "/dev/shm"] if os.access("/dev/shm", os.W_OK) else [""])
def test_the_largest_sparse_file_takes_no_time(tmp_path: Path, folder: str) -> None:
    path = (Path(folder) if folder else tmp_path) / f"dedup-sparse-{os.getpid()}"
    fd = open_directory(os.fsencode(path.parent))
    try:
        size = next(
            size
            for size in ((1 << 63) - 4096, (1 << 44) - 4096, 1 << 40, 1 << 30)
            if sparse(path, size, {0: b"head", size // 2 & -4096: b"middle", size - 3: b"end"})
        )
        with OpenFile(os.fsencode(path.name), fd, os.lstat(path)) as file:
            content = file.read_all()

            assert file.size == size
            assert len(content) <= 3 * 65536
            assert content.startswith(b"head") and content.endswith(b"end") and b"middle" in content
            assert len(file.holes) == 4
    finally:
        os.close(fd)
        path.unlink(missing_ok=True)


def test_of_too_many_holes_the_largest_are_kept_and_the_others_read_as_zeros(
    tmp_path: Path, fd: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filesystem, "MAX_HOLES", 8)
    step = 32 << 10
    data = {index * step: bytes([index]) * 4096 for index in range(100)}
    data = {offset: content for offset, content in data.items() if offset // step % 40 < 30}
    sparse(tmp_path / "f", 100 * step, data)

    with OpenFile(b"f", fd, stat_entry(b"f", fd)) as file:
        content = read_in_views(file, 10_000)

        assert len(file.holes) == 16
        assert sorted(file.holes[1::2])[-2:] == [11 * step - 4096, 11 * step - 4096]
        assert list(file.holes[::2]) == sorted(file.holes[::2])
        assert rebuilt(content, file) == (tmp_path / "f").read_bytes()


def test_a_hundred_thousand_holes_are_bounded(tmp_path: Path) -> None:
    holes = 100_000

    class Disk:
        """Every other page is a hole."""

        def lseek(self, fd: int, offset: int, whence: int) -> int:
            page = offset >> 12
            want = 1 if whence == os.SEEK_HOLE else 0
            return max(offset, (page if page % 2 == want else page + 1) << 12)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "lseek", Disk().lseek)
        found = find_holes(0, holes * 8192)

    assert len(found) == 2 * MAX_HOLES


def test_an_ordinary_file_is_not_searched_for_holes(tmp_path: Path, fd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "f").write_bytes(b"x" * 4096)

    def never(*_: object) -> int:
        raise AssertionError("lseek was called")

    monkeypatch.setattr(os, "lseek", never)
    with OpenFile(b"f", fd, stat_entry(b"f", fd)) as file:
        assert file.read_all() == b"x" * 4096


@pytest.mark.skipif(not os.path.exists("/proc/self/limits"), reason="no /proc")
class TestProc:
    @pytest.fixture
    def proc(self) -> Iterator[int]:
        fd = open_directory(b"/proc/self/")
        yield fd
        os.close(fd)

    def test_a_file_without_a_size_is_read_to_its_end(self, proc: int) -> None:
        stat = stat_entry(b"limits", proc)
        assert stat.st_size == 0

        for read in (OpenFile.read_all, lambda file: read_in_views(file, 100)):
            with OpenFile(b"limits", proc, stat) as file:
                content = read(file)
                assert content.startswith(b"Limit") and content.count(b"\n") > 10
                assert file.size == len(content)
                assert file.finished()

    def test_a_file_without_an_end_is_refused(self, proc: int) -> None:
        # One of /proc/self/pagemap: 0 bytes by its size, 8 bytes for every page of the address space when read.
        with OpenFile(b"pagemap", proc, stat_entry(b"pagemap", proc)) as file:
            with pytest.raises(Unreadable) as caught:
                read_in_views(file, MIB)

        assert caught.value.code == "file.endless"


def test_a_huge_size_that_the_kernel_made_up_is_not_believed(
    tmp_path: Path, fd: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What /proc/kcore looks like: 128 TiB by its size, no blocks.
    sparse(tmp_path / "f", ENDLESS_BYTES + 1, {})
    monkeypatch.setattr(filesystem, "made_up", lambda device: True)

    with pytest.raises(Unreadable) as caught:
        OpenFile(b"f", fd, stat_entry(b"f", fd))

    assert caught.value.code == "file.endless"


def test_the_bound_of_endless_files_is_modest() -> None:
    assert ENDLESS_BYTES <= 64 * MIB
