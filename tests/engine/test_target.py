"""A target reaches its directories by descriptors, few of them, and notices when another one stands in a place."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dedupstore.engine.descriptors import DescriptorCache, Held
from dedupstore.engine.restore_links import LinkTable
from dedupstore.engine.target import Folder, Target
from dedupstore.engine.target_file import StreamMap
from dedupstore.errors import Refused
from dedupstore.model.entry import FILE, Entry


class Opened(Held):
    """Something that can be opened any number of times."""

    def open_again(self) -> int:
        return os.open("/", os.O_RDONLY)


@pytest.fixture
def target(tmp_path: Path) -> Target:
    return Target(bytes(16), max_open=0)


def a_root(target: Target, tmp_path: Path) -> Folder:
    root = target.root(os.fsencode(tmp_path / "root"), create=True)
    assert root is not None
    return root


def test_idle_descriptors_are_closed_and_opened_again() -> None:
    cache = DescriptorCache(2)
    held = [Opened() for _ in range(5)]

    for one in held:
        with cache.use(one) as fd:
            os.fstat(fd)

    assert sum(one.fd >= 0 for one in held) == 2
    cache.close_all()
    assert all(one.fd < 0 for one in held)


def test_a_descriptor_in_use_is_never_closed() -> None:
    cache = DescriptorCache(0)
    held = Opened()

    fd = cache.pin(held)
    cache.close(held)
    os.fstat(fd)
    cache.unpin(held)

    assert held.fd == -1
    with pytest.raises(OSError):
        os.fstat(fd)


def test_folders_are_found_again_below_each_other(tmp_path: Path) -> None:
    target = Target(bytes(16), max_open=4)
    folder = a_root(target, tmp_path)
    for depth in range(1200):
        folder = Folder(folder, b"%d" % depth)
        target.make_folder(folder)

    with target.use(folder) as fd:
        os.mkdir("bottom", dir_fd=fd)

    assert target.names(folder) == [b"bottom"]
    top = folder
    while top.parent is not None and top.parent.parent is not None:
        top = top.parent
    assert target.remove(a_root(target, tmp_path), top.name, trees=True) == 1201
    target.close()


def test_a_folder_that_was_replaced_is_not_entered(target: Target, tmp_path: Path) -> None:
    root = a_root(target, tmp_path)
    folder = Folder(root, b"dir")
    target.make_folder(folder)
    os.rename(tmp_path / "root" / "dir", tmp_path / "root" / "moved")
    os.mkdir(tmp_path / "root" / "dir")

    with pytest.raises(OSError, match="replaced"):
        target.names(folder)
    target.close()


def test_a_folder_that_became_a_link_is_not_entered(target: Target, tmp_path: Path) -> None:
    root = a_root(target, tmp_path)
    folder = Folder(root, b"dir")
    target.make_folder(folder)
    os.rmdir(tmp_path / "root" / "dir")
    os.symlink("/", tmp_path / "root" / "dir")

    with pytest.raises(OSError):
        target.names(folder)
    target.close()


def test_a_root_is_locked_against_a_second_target(target: Target, tmp_path: Path) -> None:
    root = a_root(target, tmp_path)

    with pytest.raises(Refused):
        a_root(Target(bytes(16), max_open=0), tmp_path)

    assert a_root(target, tmp_path) is root
    target.close()


def test_removing_without_trees_spares_full_directories(target: Target, tmp_path: Path) -> None:
    root = a_root(target, tmp_path)
    os.makedirs(tmp_path / "root" / "full" / "inner")
    os.mkdir(tmp_path / "root" / "empty")

    target.remove(root, b"empty", trees=False)
    with pytest.raises(OSError):
        target.remove(root, b"full", trees=False)

    assert target.names(root) == [b"full"]
    target.close()


def test_pieces_of_a_stream_go_around_holes() -> None:
    places = StreamMap(Entry(name=b"f", kind=FILE, mode=0, size=100, holes=(0, 10, 20, 30, 90, 10), mtime=0))

    assert list(places.pieces(0, 50)) == [(10, 0, 10), (50, 10, 40)]
    assert list(places.pieces(5, 10)) == [(15, 0, 5), (50, 5, 5)]
    assert list(places.pieces(49, 1)) == [(89, 0, 1)]


def test_the_link_table_remembers_many_groups() -> None:
    table = LinkTable()
    root = Folder(None, b"")
    folder = Folder(Folder(root, b"a"), b"b")

    for group in range(1, 60_000):
        table.claim(group, folder, b"name %d" % group)
    table.settle(50_000, (7, 8))

    assert table.find(50_000) == (root, (b"a", b"b", b"name 50000"), (7, 8))
    assert table.find(1) == (root, (b"a", b"b", b"name 1"), None)
    assert not table.knows(60_000)
    table.close()
