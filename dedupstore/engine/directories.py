"""Directories of snapshots, looked into by name again and again: decoded pages in a cache of bounded size."""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator

from dedupstore.model.entry import Entry
from dedupstore.model.tree import Load, read_tree, read_tree_pages
from dedupstore.types import ChunkId

MAX_ENTRIES = 50_000
"""Entries kept, some 30 MB of them; a page holds 4 096 at most, so a directory of any size can be looked into."""

_MAX_LEVELS = 8


class Directories:
    """Safe to call from many threads; what two of them miss at the same time is decoded twice."""

    def __init__(self, load: Load, max_entries: int = MAX_ENTRIES) -> None:
        self._load = load
        self._max_entries = max_entries
        self._nodes: OrderedDict[ChunkId, dict[bytes, Entry] | list[tuple[bytes, ChunkId]]] = OrderedDict()
        self._entries = 0
        self._lock = threading.Lock()

    def entry(self, tree: ChunkId, name: bytes) -> Entry | None:
        """One name of a directory; only the page that would hold it is read."""
        for _ in range(_MAX_LEVELS):
            node = self._node(tree)
            if isinstance(node, dict):
                return node.get(name)
            at = bisect_right(node, name, key=_first_name) - 1
            if at < 0:
                return None
            tree = node[at][1]
        return None

    def entries(self, tree: ChunkId) -> Iterator[Entry]:
        """All of them in name order, a page at a time."""
        node = self._node(tree)
        if isinstance(node, dict):
            yield from node.values()
        else:
            yield from read_tree(self._load, tree)

    def _node(self, tree: ChunkId) -> dict[bytes, Entry] | list[tuple[bytes, ChunkId]]:
        with self._lock:
            node = self._nodes.get(tree)
            if node is not None:
                self._nodes.move_to_end(tree)
                return node
        pages = read_tree_pages(self._load, tree)
        if pages == [(b"", tree)]:
            node = {entry.name: entry for entry in read_tree(self._load, tree)}
        else:
            node = pages
        with self._lock:
            if tree not in self._nodes:
                self._nodes[tree] = node
                self._entries += len(node) + 1
            while self._entries > self._max_entries and len(self._nodes) > 1:
                _, dropped = self._nodes.popitem(last=False)
                self._entries -= len(dropped) + 1
        return node


def _first_name(page: tuple[bytes, ChunkId]) -> bytes:
    return page[0]
