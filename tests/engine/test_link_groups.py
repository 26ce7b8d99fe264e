"""Names that are one file: whatever a link group claims, no name loses what it holds."""

from __future__ import annotations

import errno
import io
import os
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from dedupstore.cancel import CancelToken
from dedupstore.engine.dump import dump
from dedupstore.engine.dump_tar import TarArchive
from dedupstore.engine.link_groups import link_key
from dedupstore.events import NullListener
from dedupstore.model.entry import DIRECTORY, FIFO, FILE, SOCKET, Entry
from dedupstore.storage.memory import MemoryStore
from tests.support.repositories import entries_of, new_repository, take
from tests.support.restoring import DictReader, Tree, content_of, file_entry, folder_entry, link_entry, restore_tree


def inode(target: bytes, name: bytes) -> int:
    return os.lstat(target + b"/" + name).st_ino


def pipe(name: bytes, group: int = 7) -> Entry:
    return Entry(name=name, kind=FIFO, mode=0o640, uid=os.geteuid(), mtime=1, link_group=group)


@pytest.mark.parametrize("size", [3, 5000])
def test_names_of_one_group_with_other_contents_keep_them(reader: DictReader, target: bytes, size: int) -> None:
    tree: Tree = {
        name: file_entry(reader, name, text * size, link_group=7)
        for name, text in ((b"a", b"1"), (b"b", b"2"), (b"c", b"1"), (b"d", b"2"))
    }

    done = restore_tree(reader, tree, target)

    found = {name: Path(os.fsdecode(target + b"/" + name)).read_bytes() for name in tree}
    assert found == {b"a": b"1" * size, b"b": b"2" * size, b"c": b"1" * size, b"d": b"2" * size}
    assert inode(target, b"a") == inode(target, b"c") != inode(target, b"b") == inode(target, b"d")
    assert (done.result.files, done.result.links, done.codes) == (2, 2, [])


def test_a_group_of_all_kinds_loses_none_of_them(reader: DictReader, target: bytes) -> None:
    tree: Tree = {
        b"a": file_entry(reader, b"a", b"", link_group=7),
        b"b": link_entry(b"b", b"x"),
        b"c": pipe(b"c"),
        b"d": folder_entry(reader, b"d", {b"in": b"side"}),
        b"e": link_entry(b"e", b"y"),
        b"f": Entry(name=b"f", kind=SOCKET, mode=0o600, uid=os.geteuid(), mtime=1, link_group=7),
    }
    tree = {name: replace(entry, link_group=7) for name, entry in tree.items() if isinstance(entry, Entry)}

    done = restore_tree(reader, tree, target)

    assert set(os.listdir(target)) == {b"a", b"b", b"c", b"d", b"e"}
    assert (os.readlink(target + b"/b"), os.readlink(target + b"/e")) == (b"x", b"y")
    assert os.listdir(target + b"/d") == [b"in"]
    assert (done.codes, done.result.dropped) == ([], {"socket": 1})


def test_pipes_and_symbolic_links_of_two_names_are_one_again(reader: DictReader, target: bytes) -> None:
    link = replace(link_entry(b"l", b"nowhere"), link_group=8)
    tree: Tree = {b"l1": link, b"p1": pipe(b"p1"), b"z": {b"l2": link, b"p2": pipe(b"p2"), b"p3": pipe(b"p3", 9)}}

    done = restore_tree(reader, tree, target)

    assert inode(target, b"p1") == inode(target, b"z/p2") != inode(target, b"z/p3")
    assert inode(target, b"l1") == inode(target, b"z/l2")
    assert (done.codes, done.result.others, done.result.links) == ([], 3, 2)


def test_what_stands_at_the_target_apart_is_joined_again(reader: DictReader, target: bytes) -> None:
    tree: Tree = {b"p1": pipe(b"p1"), b"p2": pipe(b"p2")}
    restore_tree(reader, tree, target)
    os.unlink(target + b"/p2")
    os.mkfifo(target + b"/p2")

    restore_tree(reader, tree, target)

    assert inode(target, b"p1") == inode(target, b"p2")


@pytest.mark.parametrize("error", [errno.EPERM, errno.EMLINK, errno.EXDEV])
def test_each_name_stands_alone_where_no_links_can_be_made(
    reader: DictReader, target: bytes, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(error, "no link")

    monkeypatch.setattr(os, "link", refuse)

    holed = replace(file_entry(reader, b"h", b"12345", link_group=1), size=2 << 20, holes=(2, (2 << 20) - 5))
    large = file_entry(reader, b"l", bytes(range(256)) * 8000, link_group=2, mode=0o604)
    empty = file_entry(reader, b"e", b"", link_group=3)
    names: Tree = {b"p": pipe(b"p"), b"h": holed, b"l": large, b"e": empty}

    done = restore_tree(reader, {b"1": dict(names), b"2": dict(names)}, target)

    assert content_of(target + b"/1") == content_of(target + b"/2")
    assert content_of(target + b"/2")[b"h"] == b"12" + bytes((2 << 20) - 5) + b"345"
    assert not any(inode(target, b"1/" + name) == inode(target, b"2/" + name) for name in names)
    assert os.stat(target + b"/2/l").st_mode == os.stat(target + b"/1/l").st_mode
    assert os.stat(target + b"/2/h").st_blocks < 100
    assert (done.codes, done.result.dropped, done.result.exit_code) == ([], {"hard link": 4}, 0)


def test_a_snapshot_knows_the_names_of_a_pipe_and_of_a_link_together(tmp_path: Path) -> None:
    top = tmp_path / "top"
    top.mkdir()
    os.mkfifo(top / "p1")
    os.symlink("nowhere", top / "s1")
    os.symlink("nowhere", top / "alone")
    (top / "f1").write_text("text")
    for name in "pfs":
        os.link(top / f"{name}1", top / f"{name}2", follow_symlinks=False)

    with new_repository(MemoryStore()) as repository:
        snapshot = take(repository, top).snapshot
        assert snapshot is not None
        repository.look()
        found = {path[4:]: entry for path, entry in entries_of(repository.reader.load_manifest, snapshot)}
        archive = io.BytesIO()
        dump(repository, snapshot.root, b"top", TarArchive(archive), NullListener(), CancelToken())

    for name in (b"p", b"s", b"f"):
        assert link_key(found[name + b"1"]) == link_key(found[name + b"2"]) != 0
    assert link_key(found[b"alone"]) == 0
    archive.seek(0)
    with tarfile.open(fileobj=archive) as tar:
        links = {member.name: member.linkname for member in tar if member.islnk()}
    assert links == {"top/f2": "top/f1", "top/p2": "top/p1", "top/s2": "top/s1"}


def test_an_archive_links_no_directory_no_socket_and_no_other_content(tmp_path: Path) -> None:
    entry = Entry(name=b"a", kind=FILE, mode=0o644, size=1, content=bytes(32), link_group=7)
    other = replace(entry, content=b"\1" * 32)

    assert link_key(entry) != link_key(other)
    assert link_key(replace(entry, mtime=5, mode=0o600)) == link_key(entry)
    assert link_key(Entry(name=b"d", kind=DIRECTORY, mode=0o755, tree=None, link_group=7)) == 0
    assert link_key(replace(entry, link_group=0)) == 0
