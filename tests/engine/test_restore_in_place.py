"""Restoring over what is there: compare first, change only what differs, show the plan before."""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from dedupstore.engine.restore_options import Action, Overwrite, RestoreOptions, Verdict
from dedupstore.errors import UsageError
from dedupstore.events import Collector
from dedupstore.model.entry import Entry
from dedupstore.model.snapshot import Snapshot
from dedupstore.types import ChunkId
from tests.support.restoring import (
    MTIME,
    DictReader,
    Tree,
    content_of,
    file_entry,
    folder_entry,
    link_entry,
    run_plan,
    run_restore,
    save_tree,
    snapshot_of,
)

SITE: Tree = {b"site": {b"a": b"alpha", b"b": b"beta", b"large": b"0123456789" * 500, b"sub": {b"c": b"gamma"}}}


@pytest.fixture
def restored(reader: DictReader, target: bytes) -> Snapshot:
    """The site, restored once."""
    snapshot = snapshot_of(save_tree(reader, SITE))
    run_restore(reader, snapshot, RestoreOptions(target=target))
    reader.decoded.clear()
    return snapshot


def write(path: bytes, content: bytes, mtime: int | None = None) -> None:
    with open(path, "wb") as file:
        file.write(content)
    if mtime is not None:
        os.utime(path, ns=(mtime, mtime))


def test_a_second_run_keeps_everything_and_decodes_nothing(
    reader: DictReader, target: bytes, restored: Snapshot
) -> None:
    inode = os.stat(target + b"/site/a").st_ino

    done = run_restore(reader, restored, RestoreOptions(target=target))

    assert done.result.actions == {Action.KEEP: 6}
    assert not reader.decoded
    assert os.stat(target + b"/site/a").st_ino == inode


def test_progress_counts_what_stays_and_no_directories(
    reader: DictReader, target: bytes, restored: Snapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[int, int]] = []
    monkeypatch.setattr(
        Collector, "progress", lambda _, progress: told.append((progress.files_done, progress.bytes_done))
    )
    write(target + b"/site/b", b"beta, changed")

    run_restore(reader, restored, RestoreOptions(target=target))

    sizes = [len(b"alpha"), len(b"beta"), 5000, len(b"gamma")]
    assert told[-1] == (len(sizes), sum(sizes))


def test_only_what_differs_is_written(reader: DictReader, target: bytes, restored: Snapshot) -> None:
    write(target + b"/site/a", b"ALPHA!")
    os.chmod(target + b"/site/b", 0o600)
    os.unlink(target + b"/site/sub/c")
    os.utime(target + b"/site", ns=(0, 0))

    done = run_restore(reader, restored, RestoreOptions(target=target))

    assert content_of(target) == SITE
    assert done.result.actions == {Action.REPLACE: 1, Action.METADATA: 3, Action.CREATE: 1, Action.KEEP: 1}
    assert done.result.files == 2
    assert stat.S_IMODE(os.stat(target + b"/site/b").st_mode) == 0o644
    for name in (b"/site", b"/site/sub", b"/site/a"):
        assert os.stat(target + name).st_mtime_ns == MTIME


@pytest.mark.parametrize(
    ("overwrite", "mtime", "expected"),
    [
        (Overwrite.NEVER, 0, b"mine"),
        (Overwrite.OLDER, MTIME - 1, b"alpha"),
        (Overwrite.OLDER, MTIME + 1, b"mine"),
        (Overwrite.IF_CHANGED, MTIME + 1, b"alpha"),
        (Overwrite.ALWAYS, MTIME, b"alpha"),
    ],
)
def test_overwrite_policies(
    reader: DictReader, target: bytes, restored: Snapshot, overwrite: Overwrite, mtime: int, expected: bytes
) -> None:
    write(target + b"/site/a", b"mine", mtime)
    os.unlink(target + b"/site/b")

    done = run_restore(reader, restored, RestoreOptions(target=target, overwrite=overwrite))

    found = content_of(target + b"/site")
    assert (found[b"a"], found[b"b"]) == (expected, b"beta")
    assert done.result.actions.get(Action.SKIP, 0) == (expected == b"mine")


@pytest.mark.parametrize("hasher", ["with", "without"])
def test_comparing_content_sees_what_size_and_time_hide(
    reader: DictReader, target: bytes, restored: Snapshot, hasher: str
) -> None:
    write(target + b"/site/a", b"ALPHA", MTIME)
    write(target + b"/site/large", b"0123456789" * 499 + b"012345678X", MTIME)
    os.utime(target + b"/site/b", ns=(0, 0))
    names = {data: chunk for chunk, data in reader.chunks.items()}
    name_content = (lambda data: names.get(bytes(data), ChunkId(b""))) if hasher == "with" else None

    plain = run_plan(reader, restored, RestoreOptions(target=target))
    options = RestoreOptions(target=target, compare_content=True, name_content=name_content)
    done = run_restore(reader, restored, options)

    assert plain.actions == {Action.KEEP: 5, Action.REPLACE: 1}
    assert done.result.actions == {Action.KEEP: 3, Action.REPLACE: 2, Action.METADATA: 1}
    assert content_of(target) == SITE


def test_a_plan_counts_names_and_changes_nothing(reader: DictReader, target: bytes, restored: Snapshot) -> None:
    write(target + b"/site/a", b"changed")
    write(target + b"/site/extra", b"extra")
    os.mkdir(target + b"/site/more")
    os.unlink(target + b"/site/large")
    before = content_of(target)
    met: list[tuple[Action, bytes]] = []

    plan = run_plan(
        reader, restored, RestoreOptions(target=target, delete=True), lambda action, path: met.append((action, path))
    )

    assert content_of(target) == before
    assert sorted((action.value, path) for action, path in met if action is not Action.METADATA) == [
        ("create", b"site/large"),
        ("delete", b"site/extra"),
        ("delete", b"site/more"),
        ("replace", b"site/a"),
    ]
    assert plan.bytes_to_write == 5005
    assert plan.changes == 5


def test_a_plan_for_a_missing_target_does_not_create_it(reader: DictReader, target: bytes) -> None:
    plan = run_plan(reader, snapshot_of(save_tree(reader, SITE)), RestoreOptions(target=target))

    assert plan.actions == {Action.CREATE: 6}
    assert (plan.files, plan.directories) == (4, 2)
    assert not os.path.exists(target)


def test_delete_removes_extras_and_follows_no_link(
    reader: DictReader, target: bytes, restored: Snapshot, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_bytes(b"precious")
    os.symlink(outside, target + b"/site/link")
    os.makedirs(target + b"/site/sub/old/deep/deeper")
    write(target + b"/site/sub/old/deep/file", b"x")
    os.symlink(outside, target + b"/site/sub/old/deep/link")
    write(target + b"/beside", b"not in a restored directory")

    done = run_restore(reader, restored, RestoreOptions(target=target, delete=True))

    assert content_of(target) == {**SITE, b"beside": b"not in a restored directory"}
    assert (outside / "precious").read_bytes() == b"precious"
    assert done.result.actions[Action.DELETE] == 2
    assert os.stat(target + b"/site/sub").st_mtime_ns == MTIME


def test_delete_spares_what_the_filter_leaves_out_and_damaged_directories(
    reader: DictReader, target: bytes, restored: Snapshot
) -> None:
    def no_logs(path: bytes, is_directory: bool) -> Verdict:
        return Verdict.SKIP if path.endswith(b".log") else Verdict.TAKE

    write(target + b"/site/run.log", b"log")
    write(target + b"/site/sub/extra", b"extra")
    inner = folder_entry(reader, b"sub", {b"c": b"gamma"})
    assert inner.tree is not None
    reader.damaged.add(inner.tree)

    done = run_restore(reader, restored, RestoreOptions(target=target, delete=True, filter=no_logs))

    assert os.path.exists(target + b"/site/run.log")
    assert os.path.exists(target + b"/site/sub/extra")
    assert done.codes == ["restore.directory_damaged"]


def test_kinds_that_changed_are_replaced(reader: DictReader, target: bytes, restored: Snapshot) -> None:
    for name in (b"a", b"b"):
        os.unlink(target + b"/site/" + name)
    os.mkdir(target + b"/site/a")
    os.mkfifo(target + b"/site/b")
    os.unlink(target + b"/site/sub/c")
    os.rmdir(target + b"/site/sub")
    os.symlink(b"/etc", target + b"/site/sub")

    done = run_restore(reader, restored, RestoreOptions(target=target))

    assert content_of(target) == SITE
    assert done.codes == []


def test_a_full_directory_gives_way_to_a_file_only_with_delete(
    reader: DictReader, target: bytes, restored: Snapshot
) -> None:
    os.unlink(target + b"/site/a")
    os.mkdir(target + b"/site/a")
    write(target + b"/site/a/mine", b"mine")

    refused = run_restore(reader, restored, RestoreOptions(target=target))

    assert (refused.codes, refused.paths, refused.result.exit_code) == (["restore.not_written"], [b"site/a"], 3)
    assert "--delete replaces it" in refused.result.findings[0].message
    assert content_of(target + b"/site/a") == {b"mine": b"mine"}
    run_restore(reader, restored, RestoreOptions(target=target, delete=True))
    assert content_of(target) == SITE


@pytest.mark.skipif(os.geteuid() != 0, reason="owners and trusted attributes are root's")
def test_owners_and_attributes_of_links_and_pipes_are_restored_and_compared(reader: DictReader, target: bytes) -> None:
    ours = ((b"trusted.ours", b"1"),)
    link = replace(link_entry(b"l", b"one"), xattrs=ours, uid=0, gid=0)
    pipe = Entry(name=b"p", kind="p", mode=0o640, uid=0, gid=0, mtime=MTIME, ctime=0, xattrs=ours)
    snapshot = snapshot_of(save_tree(reader, {b"l": link, b"p": pipe}))
    options = RestoreOptions(target=target, owners=True, special=True)
    run_restore(reader, snapshot, options)
    paths = [target + b"/l", target + b"/p"]
    for path in paths:
        assert os.getxattr(path, "trusted.ours", follow_symlinks=False) == b"1"
        os.removexattr(path, "trusted.ours", follow_symlinks=False)
        os.setxattr(path, "trusted.other", b"2", follow_symlinks=False)
        os.chown(path, 77, 88, follow_symlinks=False)
        os.utime(path, ns=(MTIME, MTIME), follow_symlinks=False)

    again = run_restore(reader, snapshot, options)

    assert again.result.actions == {Action.METADATA: 2}
    for path in paths:
        assert os.listxattr(path, follow_symlinks=False) == ["trusted.ours"]
        assert os.lstat(path).st_uid == os.lstat(path).st_gid == 0
    assert run_restore(reader, snapshot, options).result.actions == {Action.KEEP: 2}


def test_progress_comes_to_its_end_with_holes_and_hard_links(
    reader: DictReader, target: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[int, int]] = []
    monkeypatch.setattr(
        Collector, "progress", lambda _, progress: told.append((progress.files_done, progress.bytes_done))
    )
    linked = file_entry(reader, b"x", b"linked", link_group=1)
    sparse = replace(file_entry(reader, b"s", b"data"), size=1_000_004, holes=(4, 1_000_000))

    run_restore(
        reader,
        snapshot_of(save_tree(reader, {b"s": sparse, b"x": linked, b"y": linked})),
        RestoreOptions(target=target),
    )

    assert told[-1] == (3, 1_000_004 + 2 * len(b"linked"))


def test_links_and_their_times_are_compared_and_replaced(reader: DictReader, target: bytes) -> None:
    linked = file_entry(reader, b"x", b"linked", link_group=1)
    tree: Tree = {b"l": link_entry(b"l", b"one"), b"m": link_entry(b"m", b"two"), b"x": linked, b"y": linked}
    snapshot = snapshot_of(save_tree(reader, tree))
    run_restore(reader, snapshot, RestoreOptions(target=target))
    os.unlink(target + b"/l")
    os.symlink(b"other", target + b"/l")
    os.utime(target + b"/m", ns=(0, 0), follow_symlinks=False)
    os.unlink(target + b"/y")

    done = run_restore(reader, snapshot, RestoreOptions(target=target))

    assert content_of(target) == {b"l": ("link", b"one"), b"m": ("link", b"two"), b"x": b"linked", b"y": b"linked"}
    assert os.lstat(target + b"/m").st_mtime_ns == MTIME
    assert os.stat(target + b"/x").st_ino == os.stat(target + b"/y").st_ino
    assert done.result.actions == {Action.REPLACE: 1, Action.METADATA: 1, Action.KEEP: 1, Action.CREATE: 1}


def test_metadata_never_changes_a_file_that_has_another_name(
    reader: DictReader, target: bytes, restored: Snapshot, tmp_path: Path
) -> None:
    os.link(target + b"/site/a", tmp_path / "elsewhere")
    os.chmod(tmp_path / "elsewhere", 0o400)

    run_restore(reader, restored, RestoreOptions(target=target))

    assert stat.S_IMODE(os.stat(tmp_path / "elsewhere").st_mode) == 0o400
    assert stat.S_IMODE(os.stat(target + b"/site/a").st_mode) == 0o644


def test_in_place_puts_everything_where_it_came_from(reader: DictReader, tmp_path: Path) -> None:
    place = os.fsencode(tmp_path)
    origins = ((b"conf", place + b"/etc/conf.toml"), (b"site", place + b"/srv/www/site"))
    tree: Tree = {b"conf": b"x = 1", **SITE}
    snapshot = snapshot_of(save_tree(reader, tree), origins=origins)
    os.makedirs(place + b"/srv/www")
    write(place + b"/srv/www/other", b"untouched")

    run_restore(reader, snapshot, RestoreOptions(in_place=True, delete=True))

    assert content_of(place) == {b"etc": {b"conf.toml": b"x = 1"}, b"srv": {b"www": {**SITE, b"other": b"untouched"}}}


def test_in_place_looks_through_directories_that_exist_only_in_the_snapshot(reader: DictReader, tmp_path: Path) -> None:
    place = os.fsencode(tmp_path)
    origins = ((b"a/uploads", place + b"/a/uploads"), (b"b/uploads", place + b"/b/uploads"))
    tree: Tree = {b"a": {b"uploads": {b"f": b"1"}}, b"b": {b"uploads": {b"f": b"2"}}}
    snapshot = snapshot_of(save_tree(reader, tree), origins=origins)
    os.makedirs(place + b"/a")
    os.chmod(place + b"/a", 0o711)

    run_restore(reader, snapshot, RestoreOptions(in_place=True, paths=(b"b/uploads", b"a/uploads/f")))

    assert content_of(place) == tree
    assert stat.S_IMODE(os.stat(place + b"/a").st_mode) == 0o711


def test_in_place_without_an_origin_is_refused(reader: DictReader) -> None:
    with pytest.raises(UsageError, match="no recorded origin"):
        run_restore(reader, snapshot_of(save_tree(reader, SITE)), RestoreOptions(in_place=True))
