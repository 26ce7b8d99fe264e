"""Everything a snapshot consists of: one walk over its manifests that names every chunk."""

from __future__ import annotations

from collections.abc import Iterator

from dedupstore.model.entry import DIRECTORY, FILE
from dedupstore.model.tree import Load, content_manifests, read_content, read_tree, tree_manifests
from dedupstore.types import ChunkId, Kind


def reachable(load: Load, root: ChunkId, seen: set[ChunkId] | None = None) -> Iterator[tuple[Kind, ChunkId]]:
    """Yield the kind and id of every chunk below `root`, a directory once even if it occurs many times.

    `seen` collects the directories visited; passing one set to several calls skips what snapshots share.
    A data chunk may be yielded more than once. A manifest is yielded before it is loaded, so a caller that
    re-stores what is lost sees the lost manifest's id before the load fails.
    """
    visited = set() if seen is None else seen
    stack = [root]
    while stack:
        tree = stack.pop()
        if tree in visited:
            continue
        visited.add(tree)
        for manifest in tree_manifests(load, tree):
            yield Kind.MANIFEST, manifest
        for entry in read_tree(load, tree):
            if entry.kind == DIRECTORY and entry.tree is not None:
                stack.append(entry.tree)
            elif entry.kind == FILE:
                for manifest in content_manifests(load, entry):
                    yield Kind.MANIFEST, manifest
                for chunk, _ in read_content(load, entry):
                    yield Kind.DATA, chunk
