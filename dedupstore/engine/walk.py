"""Looking into a snapshot: one path, one directory, everything below."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches

from dedupstore.errors import NothingMatches
from dedupstore.model.entry import DIRECTORY, Entry
from dedupstore.model.tree import Load, read_tree
from dedupstore.types import ChunkId
from dedupstore.units import printable


def split_path(path: bytes) -> list[bytes]:
    """The names of a path inside a snapshot; `/`, `.` and doubled slashes mean nothing."""
    return [name for name in path.split(b"/") if name not in (b"", b".")]


def find_path(load: Load, root: ChunkId, path: bytes) -> Entry:
    """The entry at a path. Raises NothingMatches, with names that are near."""
    names = split_path(path)
    tree: ChunkId | None = root
    entry: Entry | None = None
    for depth, name in enumerate(names):
        entry = None
        nearby: list[bytes] = []
        if tree is not None:
            for candidate in read_tree(load, tree):
                if candidate.name == name:
                    entry = candidate
                    break
                if len(nearby) < 10_000:
                    nearby.append(candidate.name)
        if entry is None:
            raise _not_there(names, depth, nearby)
        tree = entry.tree
    if entry is None:
        return Entry(name=b"/", kind=DIRECTORY, mode=0o755, tree=root)
    return entry


def walk(load: Load, tree: ChunkId, path: bytes = b"", *, recursive: bool = True) -> Iterator[tuple[bytes, Entry]]:
    """Every path and entry below a directory, depth first, names in order. Depth costs memory, not recursion."""
    stack = [(path, read_tree(load, tree))]
    while stack:
        above, entries = stack[-1]
        entry = next(entries, None)
        if entry is None:
            stack.pop()
            continue
        below = above + b"/" + entry.name if above else entry.name
        yield below, entry
        if recursive and entry.tree is not None:
            stack.append((below, read_tree(load, entry.tree)))


def _not_there(names: list[bytes], depth: int, nearby: list[bytes]) -> NothingMatches:
    wanted = printable(b"/".join(names))
    texts = {printable(name): name for name in nearby}
    near = get_close_matches(printable(names[depth]), texts, n=3)
    where = printable(b"/".join(names[:depth])) or "the snapshot"
    return NothingMatches(
        f"{wanted} is not in the snapshot",
        why=f"{where} has no {printable(names[depth])}",
        hints=[f"did you mean {printable(b'/'.join([*names[:depth], texts[name]]))}?" for name in near]
        or ["dedup ls latest"],
        code="snapshot.path_not_found",
    )
