"""What changed between two trees. Directories with one id are equal and are not read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dedupstore.engine.walk import MAX_DEPTH, too_deep, unreadable, walk
from dedupstore.errors import IntegrityError, ObjectNotFound
from dedupstore.model.entry import FILE, Entry
from dedupstore.model.tree import Load, read_tree
from dedupstore.types import ChunkId

ADDED = "added"
REMOVED = "removed"
CHANGED = "changed"
METADATA = "metadata"
REPLACED = "replaced"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One path that differs. `kind`: added, removed, changed (content), metadata, replaced (by another kind)."""

    kind: str
    path: bytes
    before: Entry | None
    after: Entry | None


def diff(load: Load, before: ChunkId, after: ChunkId, path: bytes = b"") -> Iterator[Change]:
    """Every difference, depth first, names in order. `path` is where the two directories lie in their snapshots.

    Raises as `walk` does.
    """
    names = [path] if path else []
    stack = [_level(load, names, before, after)]
    while stack:
        try:
            step = next(stack[-1], None)
        except (IntegrityError, ObjectNotFound) as error:
            raise unreadable(b"/".join(names), error) from error
        if step is None:
            stack.pop()
            del names[-1:]
        elif isinstance(step, Change):
            yield step
        elif len(stack) >= MAX_DEPTH:
            raise too_deep(_join(names, step[0]))
        else:
            name, old, new = step
            names.append(name)
            stack.append(_level(load, names, old, new))


_Below = tuple[bytes, ChunkId, ChunkId]
"""A name with the directories it stands for."""


def _level(load: Load, names: Sequence[bytes], before: ChunkId, after: ChunkId) -> Iterator[Change | _Below]:
    """One directory: its changes, and the subdirectories to go into. `names` lead to it whenever this is running."""
    if before == after:
        return
    old, new = read_tree(load, before), read_tree(load, after)
    left, right = next(old, None), next(new, None)
    while left is not None or right is not None:
        if right is None or (left is not None and left.name < right.name):
            if left is None:
                return
            yield from _whole(load, names, left, REMOVED)
            left = next(old, None)
        elif left is None or right.name < left.name:
            yield from _whole(load, names, right, ADDED)
            right = next(new, None)
        else:
            yield from _pair(load, names, left, right)
            left, right = next(old, None), next(new, None)


def _pair(load: Load, names: Sequence[bytes], left: Entry, right: Entry) -> Iterator[Change | _Below]:
    if left.kind != right.kind:
        path = _join(names, left.name)
        if left.tree is not None:
            yield from _below(load, path, left.tree, REMOVED)
        yield Change(kind=REPLACED, path=path, before=left, after=right)
        if right.tree is not None:
            yield from _below(load, path, right.tree, ADDED)
        return
    if _content(left) != _content(right):
        yield Change(kind=CHANGED, path=_join(names, left.name), before=left, after=right)
    elif _metadata(left) != _metadata(right):
        yield Change(kind=METADATA, path=_join(names, left.name), before=left, after=right)
    if left.tree is not None and right.tree is not None and left.tree != right.tree:
        yield left.name, left.tree, right.tree


def _whole(load: Load, names: Sequence[bytes], entry: Entry, kind: str) -> Iterator[Change]:
    """An entry that only one side has, with everything below it."""
    before, after = (entry, None) if kind == REMOVED else (None, entry)
    path = _join(names, entry.name)
    yield Change(kind=kind, path=path, before=before, after=after)
    if entry.tree is not None:
        yield from _below(load, path, entry.tree, kind)


def _below(load: Load, path: bytes, tree: ChunkId, kind: str) -> Iterator[Change]:
    for below, entry in walk(load, tree, path):
        before, after = (entry, None) if kind == REMOVED else (None, entry)
        yield Change(kind=kind, path=below, before=before, after=after)


def _content(entry: Entry) -> object:
    if entry.kind == FILE:
        return entry.size, entry.content, entry.pages, entry.holes
    return entry.target, entry.device


def _metadata(entry: Entry) -> object:
    return entry.mode, entry.uid, entry.gid, entry.user, entry.group, entry.mtime, entry.xattrs, entry.link_group


def _join(names: Sequence[bytes], name: bytes) -> bytes:
    return b"/".join((*names, name))
