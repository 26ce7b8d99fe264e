"""A restore gives back everything as it was, each block decoded once, and nothing that is not verified."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path

import pytest

from dedupstore.cancel import CancelToken
from dedupstore.engine.restore import drill
from dedupstore.engine.restore_early import EarlyPieces, Held
from dedupstore.engine.restore_options import RestoreOptions, Verdict
from dedupstore.errors import NothingMatches
from dedupstore.events import Collector
from dedupstore.model.entry import FIFO, SOCKET, Entry
from tests.support.restoring import (
    CHUNK,
    CHUNKS_IN_BLOCK,
    MTIME,
    DictReader,
    Tree,
    content_of,
    file_entry,
    link_entry,
    restore_tree,
    save_tree,
    snapshot_of,
)


def numbered(count: int) -> bytes:
    return b"".join(b"%07d\n" % number for number in range(count))


def test_a_tree_comes_back_with_content_links_modes_and_times(reader: DictReader, target: bytes) -> None:
    tree: Tree = {
        b"empty": b"",
        b"small": b"one",
        b"large": numbered(2000),
        b"dir": {b"inner": numbered(300), b"deeper": {}},
        b"link": link_entry(b"link", b"/absolute/../text"),
        b"\xff\nname": b"odd",
    }

    done = restore_tree(reader, tree, target)

    expected = {**tree, b"link": ("link", b"/absolute/../text")}
    assert content_of(target) == expected
    assert (done.result.exit_code, done.codes) == (0, [])
    assert done.result.files == 5
    for name in (b"small", b"large", b"dir", b"link", b"dir/inner", b"dir/deeper"):
        assert os.lstat(os.path.join(target, name)).st_mtime_ns == MTIME
    assert stat.S_IMODE(os.stat(os.path.join(target, b"large")).st_mode) == 0o644
    assert stat.S_IMODE(os.stat(os.path.join(target, b"dir")).st_mode) == 0o755


def test_each_block_is_decoded_once(reader: DictReader, target: bytes) -> None:
    tree: Tree = {b"f%03d" % number: b"%d" % (number % 90) * 50 for number in range(300)}
    tree[b"again"] = numbered(3000)
    tree[b"twice"] = numbered(3000)

    restore_tree(reader, tree, target)

    assert content_of(target) == tree
    assert set(reader.decoded.values()) == {1}


def test_a_file_larger_than_a_window_continues_over_windows(
    reader: DictReader, target: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dedupstore.engine.restore_plan.MAX_WINDOW_CHUNKS", 7)
    tree: Tree = {b"a": b"x", b"big": numbered(20_000), b"dir": {b"z": b"last"}}

    done = restore_tree(reader, tree, target)

    assert content_of(target) == tree
    assert done.result.exit_code == 0


def test_more_directories_and_files_than_descriptors(
    reader: DictReader, target: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dedupstore.engine.directory_sink.MAX_OPEN_FILES", 2)
    monkeypatch.setattr("dedupstore.engine.directory_sink.MAX_OPEN_FOLDERS", 2)
    tree: Tree = {b"d%02d" % number: {b"x": {b"f": numbered(200 + number)}} for number in range(60)}
    before = len(os.listdir("/proc/self/fd"))

    restore_tree(reader, tree, target)

    assert content_of(target) == tree
    assert len(os.listdir("/proc/self/fd")) == before


def test_holes_are_holes_again_and_sparse_finds_more(reader: DictReader, target: bytes) -> None:
    data = numbered(600)
    hole = 1 << 20
    holes = (500, hole, len(data) + hole, 500)
    holed = file_entry(reader, b"holed", data, size=len(data) + hole + 500, holes=holes)
    zeros = b"begin" + bytes(1 << 20) + b"end"
    tree: Tree = {b"holed": holed, b"only": file_entry(reader, b"only", b"", size=1 << 20, holes=(0, 1 << 20))}
    tree[b"zeros"] = file_entry(reader, b"zeros", zeros, chunk=300_000)

    done = restore_tree(reader, tree, target, sparse=True)

    assert done.codes == []
    found = content_of(target)
    assert found[b"holed"] == data[:500] + bytes(1 << 20) + data[500:] + bytes(500)
    assert found[b"only"] == bytes(1 << 20)
    assert found[b"zeros"] == zeros
    assert os.stat(os.path.join(target, b"holed")).st_blocks * 512 < 64 << 10
    assert os.stat(os.path.join(target, b"zeros")).st_blocks * 512 < 300 << 10


def test_hard_links_are_one_file_again_across_windows(
    reader: DictReader, target: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dedupstore.engine.restore.FIRST_WINDOW_FILES", 1)
    monkeypatch.setattr("dedupstore.engine.restore_plan.MAX_WINDOW_FILES", 1)
    one = file_entry(reader, b"one", numbered(300), link_group=1)
    tree: Tree = {b"a": {b"one": one}, b"b": {b"other": b"x", b"two": one}, b"three": one}

    done = restore_tree(reader, tree, target)

    inodes = {os.stat(os.path.join(target, name)).st_ino for name in (b"a/one", b"b/two", b"three")}
    assert len(inodes) == 1
    assert (done.result.files, done.result.links) == (2, 2)
    assert os.stat(os.path.join(target, b"b")).st_mtime_ns == MTIME


@pytest.fixture(params=[64 << 20, 0], ids=["early pieces in memory", "early pieces read again"])
def early_bytes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    limit: int = request.param
    monkeypatch.setattr("dedupstore.engine.restore_work.MAX_EARLY_BYTES", limit)
    return limit


def save_backwards(reader: DictReader, data: bytes) -> None:
    """Let the last chunk of `data` lie in the first block."""
    for start in reversed(range(0, len(data), CHUNK)):
        file_entry(reader, b"warm", data[start : start + CHUNK])


@pytest.mark.usefixtures("early_bytes")
@pytest.mark.parametrize("sparse", [False, True])
def test_pieces_out_of_order_still_hash_right(reader: DictReader, target: bytes, sparse: bool) -> None:
    data = numbered(3000)
    save_backwards(reader, data)
    holed = file_entry(reader, b"holed", data, size=len(data) + 900, holes=(500, 400, 2400, 500))
    tree: Tree = {b"mixed": data, b"holed": holed}

    done = restore_tree(reader, tree, target, workers=4, sparse=sparse)

    assert content_of(target) == {
        b"mixed": data,
        b"holed": data[:500] + bytes(400) + data[500:2000] + bytes(500) + data[2000:],
    }
    assert done.codes == []


@pytest.mark.usefixtures("early_bytes")
def test_a_wrong_piece_that_came_early_is_found_by_the_hash(reader: DictReader, target: bytes) -> None:
    data = numbered(3000)
    save_backwards(reader, data)
    entry = file_entry(reader, b"f", data)
    last = next(chunk for chunk, piece in reader.chunks.items() if piece == data[-CHUNK:])
    reader.chunks[last] = data[-CHUNK:-1] + b"!"

    done = restore_tree(reader, {b"f": entry}, target)

    assert os.listdir(target) == []
    assert (done.codes, done.result.exit_code) == (["restore.chunk_damaged"], 4)


def test_a_file_given_up_lets_go_of_its_early_pieces(
    reader: DictReader, target: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[EarlyPieces] = []
    held: list[int] = []

    class Watched(EarlyPieces):
        def __init__(self, limit: int) -> None:
            super().__init__(limit)
            made.append(self)

        def hold(self, parts: Sequence[memoryview]) -> Held | None:
            found = super().hold(parts)
            held.append(self.used)
            return found

    monkeypatch.setattr("dedupstore.engine.restore_work.EarlyPieces", Watched)
    data = numbered(3000)
    # The first block has the first chunk and some from further on; what comes between them is damaged.
    file_entry(reader, b"warm", data[:CHUNK] + data[-7 * CHUNK :])
    entry = file_entry(reader, b"f", data)
    reader.damaged.add(next(chunk for chunk, piece in reader.chunks.items() if piece == data[CHUNK : 2 * CHUNK]))

    done = restore_tree(reader, {b"f": entry}, target, workers=1)

    assert done.codes == ["restore.chunk_damaged"]
    assert max(held) > 0
    assert [early.used for early in made] == [0]


def test_pieces_that_lie_together_are_written_together(
    reader: DictReader, target: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[int, int]] = []
    real = os.pwritev

    def pwritev(fd: int, parts: Sequence[memoryview], offset: int) -> int:
        calls.append((offset, sum(map(len, parts))))
        return real(fd, parts, offset)

    monkeypatch.setattr(os, "pwritev", pwritev)
    monkeypatch.setattr("dedupstore.engine.restore_plan.MAX_WHOLE_BYTES", 0)
    zeros = bytes(20 * CHUNK)
    data = numbered(2000)
    # The one chunk of zeros is a block's first, `data` fills the rest of it and then one block after the other.
    tree: Tree = {b"a": zeros, b"b": data}

    restore_tree(reader, tree, target)

    assert content_of(target) == tree
    assert CHUNKS_IN_BLOCK == 8
    assert sorted(calls) == [(0, 7 * CHUNK), (0, 20 * CHUNK), (7 * CHUNK, 8 * CHUNK), (15 * CHUNK, CHUNK)]


def test_runs_end_after_some_bytes(reader: DictReader, target: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dedupstore.engine.restore_work.MAX_RUN_BYTES", 3 * CHUNK)
    monkeypatch.setattr("dedupstore.engine.restore_plan.MAX_WHOLE_BYTES", 0)
    tree: Tree = {b"a": bytes(20 * CHUNK), b"b": numbered(2000)}

    done = restore_tree(reader, tree, target)

    assert content_of(target) == tree
    assert done.result.bytes_written == 36_000


@pytest.mark.usefixtures("early_bytes")
def test_a_drill_reads_everything_and_writes_nothing(reader: DictReader, tmp_path: Path) -> None:
    data = numbered(3000)
    save_backwards(reader, data)
    linked = file_entry(reader, b"l", b"linked", link_group=3)
    tree: Tree = {b"data": data, b"wrong": file_entry(reader, b"wrong", numbered(500), hash=bytes(32)), b"l": linked}
    tree[b"m"] = linked
    snapshot = snapshot_of(save_tree(reader, tree))
    collector = Collector()

    result = drill(reader, snapshot, RestoreOptions(), listener=collector, cancel=CancelToken())

    assert [finding.path for finding in collector.findings] == [b"wrong"]
    assert (result.files, result.exit_code) == (2, 4)
    assert list(tmp_path.iterdir()) == []


def test_only_the_chosen_paths_come_back_with_the_directories_above(reader: DictReader, target: bytes) -> None:
    tree: Tree = {b"a": {b"b": {b"x": b"1", b"y": b"2"}, b"c": b"3"}, b"d": {b"e": b"4"}, b"f": b"5"}

    restore_tree(reader, tree, target, paths=(b"a/b", b"/f/"))

    assert content_of(target) == {b"a": {b"b": {b"x": b"1", b"y": b"2"}}, b"f": b"5"}
    assert os.stat(os.path.join(target, b"a")).st_mtime_ns == MTIME


def test_a_path_that_is_not_there_is_refused_with_near_names(reader: DictReader, target: bytes) -> None:
    tree: Tree = {b"uploads": {b"photo.jpg": b"1"}}

    with pytest.raises(NothingMatches) as caught:
        restore_tree(reader, tree, target, paths=(b"uploads/foto.jpg",))

    assert caught.value.hints == ("did you mean uploads/photo.jpg",)
    assert not os.path.exists(target)


def test_a_filter_leaves_out_and_looks_below(reader: DictReader, target: bytes) -> None:
    def only_python(path: bytes, is_directory: bool) -> Verdict:
        if is_directory:
            return Verdict.SKIP if path == b"cache" else Verdict.LOOK
        return Verdict.TAKE if path.endswith(b".py") else Verdict.SKIP

    tree: Tree = {b"src": {b"deep": {b"a.py": b"1", b"b.txt": b"2"}}, b"none": {b"x": b"3"}, b"cache": {b"c.py": b"4"}}

    restore_tree(reader, tree, target, filter=only_python)

    assert content_of(target) == {b"src": {b"deep": {b"a.py": b"1"}}}


def test_pipes_come_back_and_sockets_are_counted(reader: DictReader, target: bytes) -> None:
    pipe = Entry(name=b"p", kind=FIFO, mode=0o640, uid=os.geteuid(), mtime=MTIME)
    socket = Entry(name=b"s", kind=SOCKET, mode=0o640, uid=os.geteuid(), mtime=MTIME)

    done = restore_tree(reader, {b"p": pipe, b"s": socket}, target)

    status = os.lstat(os.path.join(target, b"p"))
    assert stat.S_ISFIFO(status.st_mode) and stat.S_IMODE(status.st_mode) == 0o640 and status.st_mtime_ns == MTIME
    assert os.listdir(target) == [b"p"]
    assert done.result.dropped == {"socket": 1}


def test_extended_attributes_of_users_come_back(reader: DictReader, target: bytes, tmp_path: Path) -> None:
    try:
        os.setxattr(tmp_path, "user.probe", b"1")
    except OSError:
        pytest.skip("no extended attributes here")
    entry = file_entry(reader, b"f", b"x", xattrs=((b"security.capability", b"evil"), (b"user.a", b"1")))

    done = restore_tree(reader, {b"f": entry}, target)

    assert os.getxattr(os.path.join(target, b"f"), "user.a") == b"1"
    assert "security.capability" not in os.listxattr(os.path.join(target, b"f"))
    assert done.result.dropped == {"attribute": 1}
