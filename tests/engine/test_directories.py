"""Directories of any size are looked into by name, within a cache of bounded size."""

from __future__ import annotations

import random

from dedupstore.engine.directories import Directories
from dedupstore.types import ChunkId
from tests.support.restoring import DictReader, Tree, file_entry, save_tree

NAMES = [b"%05d" % number for number in range(0, 20_000, 2)]


def large(reader: DictReader) -> ChunkId:
    entry = file_entry(reader, b"x", b"x")
    tree: Tree = dict.fromkeys(NAMES, entry)
    return save_tree(reader, tree)


def test_every_name_of_a_paged_directory_is_found_and_no_other() -> None:
    reader = DictReader()
    directories = Directories(reader.load_manifest)
    tree = large(reader)

    for number in [*range(0, 20_000, 501), 19_998, 19_999]:
        entry = directories.entry(tree, b"%05d" % number)
        assert (entry is not None) == (number % 2 == 0)
        assert entry is None or entry.name == b"%05d" % number
    assert directories.entry(tree, b"") is None
    assert directories.entry(tree, b"zzz") is None
    assert [entry.name for entry in directories.entries(tree)] == NAMES


def test_one_name_reads_one_page_and_the_second_time_none() -> None:
    reader = DictReader()
    tree = large(reader)
    loaded: list[ChunkId] = []

    def load(chunk: ChunkId) -> bytes:
        loaded.append(chunk)
        return reader.load_manifest(chunk)

    directories = Directories(load)
    assert directories.entry(tree, b"15000") is not None
    assert len(set(loaded)) == 2
    loaded.clear()
    assert directories.entry(tree, b"15002") is not None
    assert loaded == []


def test_the_cache_is_bounded_and_forgets_the_oldest() -> None:
    reader = DictReader()
    trees = [save_tree(reader, {b"%d" % name: b"" for name in range(number, number + 50)}) for number in range(40)]
    directories = Directories(reader.load_manifest, max_entries=500)

    for tree in random.Random(1).choices(trees, k=400):
        number = trees.index(tree)
        entry = directories.entry(tree, b"%d" % number)
        assert entry is not None and entry.name == b"%d" % number
        assert sum(len(node) + 1 for node in directories._nodes.values()) == directories._entries <= 500
