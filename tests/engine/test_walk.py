"""Looking through trees by anybody: deep ones cost no more memory than their path, and what is damaged is named."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator

import pytest

from dedupstore.engine import walk as module
from dedupstore.engine.diff import Change, diff
from dedupstore.engine.walk import find_path, walk
from dedupstore.errors import CorruptObject, MissingChunk
from dedupstore.model.entry import DIRECTORY, FILE, Entry, encode_entry
from dedupstore.types import ChunkId
from tests.support.manifests import ManifestStore

Look = Callable[[ManifestStore, ChunkId], Iterator[object]]


def of_diff(store: ManifestStore, root: ChunkId) -> Iterator[object]:
    return diff(store.load, store.tree([file(b"other")]), root)


def of_diff_beside(store: ManifestStore, root: ChunkId) -> Iterator[object]:
    """Every level of the tree has another one beside it."""
    return diff(store.load, chain(store, 6000, mtime=2), root)


def of_walk(store: ManifestStore, root: ChunkId) -> Iterator[object]:
    return walk(store.load, root)


def file(name: bytes, mtime: int = 1) -> Entry:
    return Entry(name=name, kind=FILE, mode=0o644, mtime=mtime)


def folder(name: bytes, tree: ChunkId) -> Entry:
    return Entry(name=name, kind=DIRECTORY, mode=0o755, tree=tree)


def chain(store: ManifestStore, levels: int, name: bytes = b"d" * 100, mtime: int = 1) -> ChunkId:
    tree = store.tree([file(b"bottom", mtime)])
    for _ in range(levels):
        tree = store.tree([folder(name, tree)])
    return tree


@pytest.mark.parametrize("look", [of_walk, of_diff, of_diff_beside])
def test_directories_nested_beyond_reason_are_refused_by_name_in_little_memory(look: Look) -> None:
    store = ManifestStore()
    found = look(store, chain(store, 6000))

    tracemalloc.start()
    try:
        with pytest.raises(CorruptObject) as caught:
            for _ in found:
                pass
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert caught.value.message.startswith("the directory ...") and len(caught.value.message) < 1200
    assert caught.value.in_one_line.endswith("nested too deeply: 4096 at most")
    # A path for each of the levels would be 800 MB.
    assert most < 40 << 20


def test_deep_trees_are_walked_and_compared_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    store = ManifestStore()
    monkeypatch.setattr(module, "MAX_DEPTH", 301)
    root = store.tree([folder(b"a", chain(store, 299, b"d")), file(b"z")])

    paths = [path for path, _ in walk(store.load, root)]
    changes = list(diff(store.load, store.tree([folder(b"a", chain(store, 299, b"d", mtime=2)), file(b"y")]), root))

    assert paths == [b"/".join([b"a", *[b"d"] * n]) for n in range(300)] + [b"a/" + b"d/" * 299 + b"bottom", b"z"]
    assert [(change.kind, change.path) for change in changes] == [
        ("metadata", b"a/" + b"d/" * 299 + b"bottom"), ("removed", b"y"), ("added", b"z"),
    ]  # fmt: skip


@pytest.mark.parametrize("look", [of_walk, of_diff])
def test_a_directory_that_cannot_be_read_is_named(look: Look) -> None:
    store = ManifestStore()
    bad = store.put({"e": [encode_entry(file(b".."), 0)], "t": 0, "v": 1})
    root = store.tree([folder(b"a\x1b", store.tree([folder(b"b", bad)]))])

    with pytest.raises(CorruptObject) as caught:
        list(look(store, root))
    with pytest.raises(CorruptObject) as found:
        find_path(store.load, root, b"a\x1b/b/c")
    with pytest.raises(CorruptObject) as top:
        list(look(store, bad))

    for error in (caught.value, found.value):
        assert error.message == "the directory a\\x1b/b cannot be read"
        assert error.why == 'a directory entry has the forbidden name ".."'
        assert error.code == "repo.corrupt_object"
    assert top.value.message == "the directory at the top of the snapshot cannot be read"


def test_a_lost_directory_below_two_that_are_compared_is_named_once() -> None:
    store = ManifestStore()

    def load(chunk: ChunkId) -> bytes:
        if chunk == lost:
            raise MissingChunk("chunk 12 is in no pack")
        return store.load(chunk)

    lost = store.tree([file(b"gone")])
    old = store.tree([folder(b"a", store.tree([folder(b"b", store.tree([]))]))])
    new = store.tree([folder(b"a", store.tree([folder(b"b", lost)]))])
    changes: list[Change] = []

    with pytest.raises(MissingChunk) as caught:
        changes.extend(diff(load, old, new, b"site"))

    assert caught.value.in_one_line == "the directory site/a/b cannot be read: chunk 12 is in no pack"
