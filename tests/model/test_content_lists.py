"""Content lists of any length come back; pages stay small, move little, and cannot be bent."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dedupstore.errors import CorruptObject, RepositoryTooNew
from dedupstore.model.entry import FILE, MAX_INLINE_CHUNKS, Entry
from dedupstore.model.tree import (
    ContentWriter,
    content_manifests,
    read_content,
)
from dedupstore.types import ChunkId
from tests.support.manifests import ManifestStore, numbered_ids

ID = ChunkId(bytes(32))


def write_content(store: ManifestStore, chunks: list[tuple[ChunkId, int]]) -> Entry:
    writer = ContentWriter(store.save)
    for chunk, length in chunks:
        writer.add(chunk, length)
    entry = Entry(name=b"file", kind=FILE, mode=0o644, size=writer.data_bytes)
    writer.finish(entry)
    return entry


def sized(count: int) -> list[tuple[ChunkId, int]]:
    return [(chunk, 1 + chunk[0] * 100 + chunk[1]) for chunk in numbered_ids(count)]


@pytest.mark.parametrize("count", [0, 1, 2, MAX_INLINE_CHUNKS, MAX_INLINE_CHUNKS + 1, 2048, 2049, 10_000])
def test_a_content_list_of_any_length_comes_back(count: int) -> None:
    store = ManifestStore()
    chunks = sized(count)

    entry = write_content(store, chunks)

    assert list(read_content(store.load, entry)) == chunks
    assert (entry.pages is not None) == (count > MAX_INLINE_CHUNKS)
    assert len(entry.content) == (32 if count == 1 else 35 * count if count <= MAX_INLINE_CHUNKS else 0)
    assert set(content_manifests(store.load, entry)) == set(store.chunks)


def test_a_hundred_thousand_chunks_come_back_in_small_pages() -> None:
    store = ManifestStore()
    chunks = sized(100_000)

    entry = write_content(store, chunks)

    assert entry.pages is not None and entry.pages[0] == 2
    assert max(map(len, store.chunks.values())) < 100_000
    store.loads = 0
    iterator = read_content(store.load, entry)
    assert next(iterator) == chunks[0]
    assert store.loads == 2
    assert list(iterator) == chunks[1:]


def test_one_changed_chunk_of_many_rewrites_one_page_and_the_lists_above() -> None:
    before, after = ManifestStore(), ManifestStore()
    chunks = sized(50_000)
    write_content(before, chunks)
    chunks[25_000:25_001] = [(numbered_ids(1, b"other")[0], 77), (numbered_ids(1, b"more")[0], 78)]

    write_content(after, chunks)

    assert len(after.chunks) > 25
    assert len(after.chunks.keys() - before.chunks.keys()) <= 4


def test_a_file_of_one_repeated_chunk_is_listed_by_few_pages() -> None:
    """A terabyte of written zeros: the same page over and over, which whoever collects pages must load once."""
    store = ManifestStore()
    entry = write_content(store, [(ID, 1 << 18)] * 300_000)

    store.loads = 0
    assert len(list(content_manifests(store.load, entry))) == len(store.chunks) < 10
    assert store.loads < 10
    assert sum(length for _, length in read_content(store.load, entry)) == entry.size


def content_page(store: ManifestStore, *lengths: int) -> ChunkId:
    ids = numbered_ids(len(lengths))
    content = b"".join(chunk + length.to_bytes(3, "big") for chunk, length in zip(ids, lengths, strict=True))
    return store.put({"c": content, "v": 1})


BENT_CONTENT: dict[str, Callable[[ManifestStore], tuple[int, ChunkId]]] = {
    "a page of another sum": lambda s: (1, content_page(s, 10, 21)),
    "a list of another sum": lambda s: (2, s.put({"p": [[content_page(s, 10), 10]], "v": 1})),
    "a list that lies about a page": lambda s: (2, s.put({"p": [[content_page(s, 10, 10), 30]], "v": 1})),
    "no references": lambda s: (1, s.put({"c": b"", "v": 1})),
    "half a reference": lambda s: (1, s.put({"c": bytes(34), "v": 1})),
    "a list where a page should be": lambda s: (1, s.put({"p": [[content_page(s, 30), 30]], "v": 1})),
    "a page where a list should be": lambda s: (2, content_page(s, 30)),
    "a directory": lambda s: (1, s.put({"e": [], "t": 0, "v": 1})),
    "a page of nothing in a list": lambda s: (
        2,
        s.put({"p": [[content_page(s, 30), 30], [content_page(s, 0), 0]], "v": 1}),
    ),
    "true as a size": lambda s: (2, s.put({"p": [[content_page(s, 29), 29], [content_page(s, 1), True]], "v": 1})),
    "an empty list": lambda s: (2, s.put({"p": [], "v": 1})),
}


@pytest.mark.parametrize("what", BENT_CONTENT)
def test_a_bent_content_list_is_refused(what: str) -> None:
    store = ManifestStore()
    entry = Entry(name=b"f", kind=FILE, mode=0, size=30, pages=BENT_CONTENT[what](store))

    with pytest.raises(CorruptObject):
        list(read_content(store.load, entry))


def test_a_hostile_content_list_ends_where_the_file_does() -> None:
    store = ManifestStore()
    below = content_page(store, *[1] * 1000)
    for _ in range(7):
        below = store.put({"p": [[below, 1000]] * 4096, "v": 1})
    entry = Entry(name=b"f", kind=FILE, mode=0, size=4_096_000, pages=(8, below))

    store.loads = 0
    with pytest.raises(CorruptObject, match="add up"):
        for _ in read_content(store.load, entry):
            pass
    assert store.loads < 10


@settings(deadline=None)
@given(st.integers(1, 3), st.data())
def test_mutated_bytes_of_a_content_list_raise_nothing_but_the_two_errors(depth: int, draw: st.DataObject) -> None:
    store = ManifestStore()
    node = content_page(store, 10, 20)
    for _ in range(depth - 1):
        node = store.put({"p": [[node, 30]], "v": 1})
    data = bytearray(store.chunks[node])
    data[draw.draw(st.integers(0, len(data) - 1))] = draw.draw(st.integers(0, 255))
    store.chunks[node] = bytes(data)
    entry = Entry(name=b"f", kind=FILE, mode=0, size=30, pages=(depth, node))

    for walk in (read_content, content_manifests):
        try:
            list(walk(store.load, entry))
        except (CorruptObject, RepositoryTooNew, KeyError):
            pass
