"""The quick way to read a file and to look at a directory stores what the general way stores, bit by bit."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dedupstore.engine import archive, filestore
from dedupstore.sources import filesystem
from dedupstore.sources.many_names import Item, pack_items, pack_items_in_python, stat_names, stat_names_in_python
from dedupstore.sources.small_files import read_small_files, read_small_files_in_python
from dedupstore.storage.memory import MemoryStore
from tests.support.repositories import make_tree, new_repository, random_bytes, take


def refuse(_dir_fd: int, items: list[Item], _limit: int, /) -> list[bytes | None]:
    return [None] * len(items)


WAYS = {
    "general": (refuse, stat_names_in_python, pack_items_in_python),
    "python": (read_small_files_in_python, stat_names_in_python, pack_items_in_python),
    "best": (read_small_files, stat_names, pack_items),
}


def odd_tree(path: Path) -> Path:
    """Every kind of file that one of the ways treats in its own way."""
    make_tree(path)
    odd = path / "odd"
    odd.mkdir()
    (odd / "empty").touch()
    (odd / "large").write_bytes(random_bytes("large", 1 << 20))
    (odd / "less").write_bytes(random_bytes("less", (1 << 20) - 1))
    (odd / "linked").hardlink_to(odd / "large")
    (odd / "link").symlink_to("large")
    (odd / "database").write_bytes(b"SQLite format 3\0" + (4096).to_bytes(2, "big") + bytes(100_000))
    (odd / "far").write_bytes(b"from the year 2300")
    os.utime(odd / "far", ns=(0, 10_413_792_000 * 10**9))
    os.mkfifo(odd / "pipe")
    with open(odd / "sparse", "wb") as file:
        file.write(b"head")
        file.truncate(500_000)
    (odd / "marked").write_bytes(b"with an attribute")
    try:
        os.setxattr(odd / "marked", b"user.a", b"b")
    except (AttributeError, OSError):
        pass
    return path


def test_every_way_makes_the_same_manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = odd_tree(tmp_path / "tree")
    repository = new_repository(MemoryStore(), tmp_path / "cache")
    seen = {}

    for way, (read, look, pack) in WAYS.items():
        monkeypatch.setattr(filestore, "read_small_files", read)
        monkeypatch.setattr(filesystem, "stat_names", look)
        monkeypatch.setattr(archive, "pack_items", pack)
        result = take(repository, tree, force=True)
        assert not result.findings
        assert result.snapshot is not None
        seen[way] = (result.snapshot.root, result.statistics.files, result.statistics.bytes_read)

    repository.close()
    assert seen["python"] == seen["general"]
    assert seen["best"] == seen["general"]
