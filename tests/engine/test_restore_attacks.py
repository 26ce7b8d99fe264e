"""Hostile snapshots and hostile targets (lines 46, 49, 51 to 54 of the test plan): nothing outside is ever touched."""

from __future__ import annotations

import os
import stat
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from dedupstore.engine.restore_options import RestoreOptions
from dedupstore.errors import TargetFailed, UsageError
from dedupstore.model.entry import BLOCK_DEVICE, CHARACTER_DEVICE, Entry, encode_entry
from dedupstore.model.wire import pack
from dedupstore.types import ChunkId, Kind
from tests.support.restoring import (
    DictReader,
    Tree,
    content_of,
    file_entry,
    folder_entry,
    link_entry,
    restore_tree,
    run_restore,
    save_tree,
    snapshot_of,
)

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may make devices and give files away")


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """A directory outside the target whose only file must stay as it is."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "victim").write_bytes(b"precious")
    return outside


def raw_tree(reader: DictReader, entries: list[Entry]) -> ChunkId:
    """A directory as only a hostile writer would encode it: names and order as given."""
    return reader.save(Kind.MANIFEST, pack({"e": [encode_entry(entry, 0) for entry in entries], "t": 0, "v": 1}))


@pytest.mark.parametrize("name", [b"..", b".", b"", b"a/b", b"/etc/passwd", b"../../x", b"nul\0", b"x" * 4096])
def test_names_that_leave_their_directory_are_refused_and_named(reader: DictReader, target: bytes, name: bytes) -> None:
    root = raw_tree(reader, [file_entry(reader, name, b"evil")])
    around = save_tree(reader, {b"bad": replace(folder_entry(reader, b"bad", {}), tree=root), b"good": b"good"})

    done = run_restore(reader, snapshot_of(around), RestoreOptions(target=target))

    assert content_of(target) == {b"bad": {}, b"good": b"good"}
    assert (done.codes, done.paths) == (["restore.directory_damaged"], [b"bad"])
    assert done.result.exit_code == 4


@pytest.mark.parametrize("base_ns", [..., True, None, b"", 2**63, 2**64 - 1, -(2**63)])
def test_a_base_time_that_is_none_costs_its_directory_and_nothing_else(
    reader: DictReader, target: bytes, base_ns: object
) -> None:
    rows = [encode_entry(replace(file_entry(reader, b"f", b"evil"), mtime=0), 1)]
    page = {"e": rows, "t": base_ns, "v": 1} if base_ns is not ... else {"e": rows, "v": 1}
    root = reader.save(Kind.MANIFEST, pack(page))  # type: ignore[arg-type]
    around = save_tree(reader, {b"bad": replace(folder_entry(reader, b"bad", {}), tree=root), b"good": b"good"})

    done = run_restore(reader, snapshot_of(around), RestoreOptions(target=target))

    assert content_of(target) == {b"bad": {}, b"good": b"good"}
    assert (done.codes, done.paths) == (["restore.directory_damaged"], [b"bad"])


def test_a_name_twice_as_link_and_directory_is_refused(reader: DictReader, target: bytes, victim: Path) -> None:
    evil = folder_entry(reader, b"x", {b"victim": b"evil"})
    root = raw_tree(reader, [link_entry(b"x", os.fsencode(victim)), evil])

    done = run_restore(reader, snapshot_of(root), RestoreOptions(target=target))

    assert (victim / "victim").read_bytes() == b"precious"
    assert done.codes == ["restore.directory_damaged"]


@pytest.mark.parametrize("delete", [False, True])
def test_a_link_that_waits_at_the_target_is_replaced_never_followed(
    reader: DictReader, target: bytes, victim: Path, delete: bool
) -> None:
    os.mkdir(target)
    os.symlink(victim, target + b"/dir")
    os.symlink(victim / "victim", target + b"/file")
    os.symlink(victim / "new", target + b"/dangling")
    tree: Tree = {b"dir": {b"victim": b"evil"}, b"file": b"evil", b"dangling": b"0123456789" * 300}

    done = restore_tree(reader, tree, target, delete=delete)

    assert content_of(target) == tree
    assert [item.name for item in victim.iterdir()] == ["victim"]
    assert (victim / "victim").read_bytes() == b"precious"
    assert done.codes == []


def test_links_keep_their_text_and_nothing_goes_through_them(reader: DictReader, target: bytes) -> None:
    tree: Tree = {b"abs": link_entry(b"abs", b"/etc/passwd"), b"up": link_entry(b"up", b"../../../x")}

    restore_tree(reader, tree, target)

    assert content_of(target) == {b"abs": ("link", b"/etc/passwd"), b"up": ("link", b"../../../x")}


@pytest.mark.parametrize("size", [100, 5000])
def test_a_racing_swap_of_a_directory_writes_nothing_outside(
    reader: DictReader, target: bytes, victim: Path, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dedupstore.engine.directory_sink.MAX_OPEN_FOLDERS", 0)
    tree: Tree = {b"d%d" % number: {b"victim": b"%04d" % number * (size // 4)} for number in range(30)}

    def swap() -> None:
        for name in os.listdir(target):
            path = os.path.join(target, name)
            if name.startswith(b"d") and not os.path.islink(path):
                os.rename(path, os.path.join(target, b"moved-" + name))
                os.symlink(victim, path)

    reader.on_block.append(swap)

    done = restore_tree(reader, tree, target, workers=1)

    assert [item.name for item in victim.iterdir()] == ["victim"]
    assert (victim / "victim").read_bytes() == b"precious"
    assert done.result.exit_code == 3


def test_a_process_that_swaps_all_the_time_wins_nothing(reader: DictReader, target: bytes, victim: Path) -> None:
    tree: Tree = {b"d%02d" % number: {b"victim": b"%d" % number * 700} for number in range(120)}
    stop = threading.Event()

    def racer() -> None:
        while not stop.is_set():
            for number in range(120):
                path = target + b"/d%02d" % number
                try:
                    os.rename(path, path + b".moved")
                    os.symlink(victim, path)
                except OSError:
                    continue

    thread = threading.Thread(target=racer)
    thread.start()
    try:
        restore_tree(reader, tree, target)
    finally:
        stop.set()
        thread.join()

    assert [item.name for item in victim.iterdir()] == ["victim"]
    assert (victim / "victim").read_bytes() == b"precious"


def test_a_hard_link_is_made_only_to_the_very_file_that_was_restored(
    reader: DictReader, target: bytes, victim: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    linked = file_entry(reader, b"one", b"0123", link_group=1)
    tree: Tree = {b"one": linked, b"two": linked, b"wait": b"wait"}
    monkeypatch.setattr("dedupstore.engine.restore.FIRST_WINDOW_FILES", 1)
    monkeypatch.setattr("dedupstore.engine.restore_plan.MAX_WINDOW_FILES", 1)

    def swap() -> None:
        if os.path.exists(target + b"/one"):
            os.unlink(target + b"/one")
            os.symlink(victim / "victim", target + b"/one")

    original = DictReader.locate

    def locate(self: DictReader, chunk: ChunkId) -> object:
        place = original(self, chunk)
        if reader.chunks[chunk] == b"wait":
            for _ in range(10_000):
                if os.path.lexists(target + b"/two"):
                    break
        return place

    reader.on_block.append(swap)
    os.makedirs(target)
    monkeypatch.setattr(DictReader, "locate", locate)

    restore_tree(reader, tree, target)

    assert os.stat(victim / "victim").st_nlink == 1
    assert (victim / "victim").read_bytes() == b"precious"


def test_hard_links_to_what_was_never_restored_are_told(reader: DictReader, target: bytes) -> None:
    lost = file_entry(reader, b"a", b"lost", link_group=5)
    reader.damaged = {chunk for chunk, data in reader.chunks.items() if data == b"lost"}

    done = restore_tree(reader, {b"a": lost, b"b": lost}, target)

    assert os.listdir(target) == []
    assert sorted(done.codes) == ["restore.chunk_damaged", "restore.link_lost"]


def test_setuid_and_devices_are_dropped_and_counted(reader: DictReader, target: bytes) -> None:
    device = Entry(name=b"sda", kind=BLOCK_DEVICE, mode=0o666, uid=os.geteuid(), device=(8, 0), mtime=1)
    null = Entry(name=b"null", kind=CHARACTER_DEVICE, mode=0o666, uid=os.geteuid(), device=(1, 3), mtime=1)
    tree: Tree = {
        b"su": file_entry(reader, b"su", b"#!", mode=0o4755),
        b"shared": folder_entry(reader, b"shared", {}, mode=0o3777),
        b"sda": device,
        b"null": null,
    }

    done = restore_tree(reader, tree, target)

    assert set(os.listdir(target)) == {b"su", b"shared"}
    assert stat.S_IMODE(os.stat(target + b"/su").st_mode) == 0o755
    assert stat.S_IMODE(os.stat(target + b"/shared").st_mode) == 0o1777
    assert done.result.dropped == {"setuid": 2, "device": 2}


@needs_root
def test_owners_devices_and_setuid_come_back_when_asked(reader: DictReader, target: bytes) -> None:
    null = Entry(name=b"null", kind=CHARACTER_DEVICE, mode=0o666, device=(1, 3), mtime=1)
    tree: Tree = {
        b"su": file_entry(reader, b"su", b"#!", mode=0o4755, uid=1234, gid=1235),
        b"named": file_entry(reader, b"named", b"x", uid=1234, gid=1235, user="root", group="root"),
        b"link": link_entry(b"link", b"su"),
        b"null": null,
        b"dir": folder_entry(reader, b"dir", {b"f": b"f"}, mode=0o2750, uid=1234, gid=1235),
    }

    try:
        done = restore_tree(reader, tree, target, owners=True, special=True)
    except TargetFailed:
        pytest.skip("no devices may be made here")
    if done.codes:
        pytest.skip("no devices may be made here")

    su, named, folder = (os.stat(target + name) for name in (b"/su", b"/named", b"/dir"))
    assert (su.st_uid, su.st_gid, stat.S_IMODE(su.st_mode)) == (1234, 1235, 0o4755)
    assert (named.st_uid, named.st_gid) == (0, 0)
    assert (folder.st_uid, folder.st_gid, stat.S_IMODE(folder.st_mode)) == (1234, 1235, 0o2750)
    assert os.stat(target + b"/null").st_rdev == os.makedev(1, 3)
    assert done.result.dropped == {}


@needs_root
def test_foreign_owners_are_dropped_and_counted_unless_asked(reader: DictReader, target: bytes) -> None:
    done = restore_tree(reader, {b"f": file_entry(reader, b"f", b"x", uid=1234, gid=1235)}, target)

    assert os.stat(target + b"/f").st_uid == 0
    assert done.result.dropped == {"owner": 1}


def test_a_sparse_file_of_eight_exbibytes_ends_cleanly(reader: DictReader, target: bytes) -> None:
    size = (1 << 63) - 1
    huge = file_entry(reader, b"huge", b"", size=size, holes=(0, size))

    done = restore_tree(reader, {b"after": b"fine", b"huge": huge}, target)

    names = set(os.listdir(target))
    assert b"after" in names and not any(name.startswith(b".dedup-") for name in names)
    if b"huge" in names:
        assert os.stat(target + b"/huge").st_blocks == 0
    else:
        assert (done.codes, done.result.exit_code) == (["restore.not_written"], 3)


def test_pipes_and_sockets_at_the_target_never_block(reader: DictReader, target: bytes) -> None:
    os.mkdir(target)
    for name in (b"/file", b"/dir", b"/link", b"/large"):
        os.mkfifo(target + name)
    tree: Tree = {b"dir": {b"x": b"1"}, b"file": b"2", b"large": b"0123456789" * 300, b"link": link_entry(b"l", b"t")}

    done = restore_tree(reader, tree, target, compare_content=True, delete=True)

    assert content_of(target) == {**tree, b"link": ("link", b"t")}
    assert done.codes == []


def test_a_target_that_is_a_pipe_or_file_is_refused(reader: DictReader, target: bytes) -> None:
    os.mkfifo(target)

    with pytest.raises(TargetFailed):
        restore_tree(reader, {b"f": b"x"}, target)


def test_directories_nested_beyond_reason_are_refused_not_followed(
    reader: DictReader, target: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dedupstore.engine.restore_walk.MAX_DEPTH", 40)
    tree: Tree = {b"f": b"bottom"}
    for _ in range(100):
        tree = {b"d": tree}

    done = restore_tree(reader, tree, target)

    assert done.codes == ["restore.directory_damaged"]


def test_deep_trees_come_back_whole(reader: DictReader, target: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    # Small enough that outer directories are read again all the time.
    monkeypatch.setattr("dedupstore.engine.restore_walk.MAX_HELD_BYTES", 2000)
    tree: Tree = {b"f": b"bottom"}
    for number in range(300):
        tree = {b"a%d" % number: b"%d" % number, b"d": tree, b"z": b"last"}

    done = restore_tree(reader, tree, target)

    assert done.codes == []
    assert content_of(target) == tree


@pytest.mark.parametrize(
    "origin", [b"", b"x", b"../x", b"/tmp/..", b"/tmp/../etc", b"/tmp/./x", b"/tmp/.", b"/tmp/a\0b", b"\0"]
)
def test_an_origin_that_does_not_say_where_it_leads_is_none(reader: DictReader, origin: bytes) -> None:
    snapshot = snapshot_of(save_tree(reader, {b"site": {b"f": b"evil"}}), origins=((b"site", origin),))

    with pytest.raises(UsageError, match="no recorded origin"):
        run_restore(reader, snapshot, RestoreOptions(in_place=True))


def test_no_place_is_reached_through_a_link_that_comes_with_the_snapshot(
    reader: DictReader, tmp_path: Path, victim: Path
) -> None:
    """Two roots, and the first is, or brings, a link on the way to the second."""
    base = os.fsencode(tmp_path)
    tree: Tree = {
        b"1": link_entry(b"1", os.fsencode(victim)),
        b"2": {b"victim": b"evil"},
        b"3": {b"link": link_entry(b"link", os.fsencode(victim))},
        b"4": {b"victim": b"evil"},
    }
    places = ((b"1", b"/a"), (b"2", b"/a/below"), (b"3", b"/b"), (b"4", b"/b/link/below"))
    snapshot = snapshot_of(save_tree(reader, tree), origins=tuple((name, base + path) for name, path in places))

    done = run_restore(reader, snapshot, RestoreOptions(in_place=True))

    assert [item.name for item in victim.iterdir()] == ["victim"]
    assert (victim / "victim").read_bytes() == b"precious"
    assert done.result.exit_code == 3
    assert (tmp_path / "a/below/victim").read_bytes() == (tmp_path / "b/link/below/victim").read_bytes() == b"evil"


def test_only_the_places_of_what_was_chosen_are_made(reader: DictReader, tmp_path: Path) -> None:
    base = os.fsencode(tmp_path)
    origins = ((b"1", base + b"/one/a"), (b"2", base + b"/two/b"))
    snapshot = snapshot_of(save_tree(reader, {b"1": {b"f": b"1"}, b"2": {b"f": b"2"}}), origins=origins)

    run_restore(reader, snapshot, RestoreOptions(in_place=True, paths=(b"2/f",)))

    assert (tmp_path / "two/b/f").read_bytes() == b"2"
    assert not (tmp_path / "one").exists()
