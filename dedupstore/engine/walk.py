"""Looking into a snapshot: one path, one directory, everything below."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from typing import TypeVar

from dedupstore.errors import CorruptObject, DedupError, IntegrityError, NothingMatches, ObjectNotFound
from dedupstore.model.entry import DIRECTORY, Entry
from dedupstore.model.tree import Load, read_tree
from dedupstore.types import ChunkId
from dedupstore.units import printable

MAX_DEPTH = 4096
"""So many directories may lie in one another. A path has no other limit, and some command has to hold each of them."""

Failure = TypeVar("Failure", bound=DedupError)

_UNREADABLE = "the directory "


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
        try:
            for candidate in read_tree(load, tree) if tree is not None else ():
                if candidate.name == name:
                    entry = candidate
                    break
                if len(nearby) < 10_000:
                    nearby.append(candidate.name)
        except (IntegrityError, ObjectNotFound) as error:
            raise unreadable(b"/".join(names[:depth]), error) from error
        if entry is None:
            raise _not_there(names, depth, nearby)
        tree = entry.tree
    if entry is None:
        return Entry(name=b"/", kind=DIRECTORY, mode=0o755, tree=root)
    return entry


def walk(load: Load, tree: ChunkId, path: bytes = b"", *, recursive: bool = True) -> Iterator[tuple[bytes, Entry]]:
    """Every path and entry below a directory, depth first, names in order. Depth costs memory, not recursion.

    Raises IntegrityError or ObjectNotFound, the directory named, for one that cannot be read or lies too deep.
    """
    # One path for all levels, and how much of it belongs to those above: a path of each would be the square of it.
    stack, above = [(read_tree(load, tree), 0)], path
    while stack:
        entries, length_before = stack[-1]
        try:
            entry = next(entries, None)
        except (IntegrityError, ObjectNotFound) as error:
            raise unreadable(above, error) from error
        if entry is None:
            stack.pop()
            above = above[:length_before]
            continue
        below = above + b"/" + entry.name if above else entry.name
        yield below, entry
        if recursive and entry.tree is not None:
            if len(stack) >= MAX_DEPTH:
                raise too_deep(below)
            stack.append((read_tree(load, entry.tree), len(above)))
            above = below


def unreadable(path: bytes, error: Failure) -> Failure:
    """The same error; it says which directory it is about, unless it does so already."""
    if not error.message.startswith(_UNREADABLE):
        error.why = error.in_one_line
        shown = printable(path)
        error.message = f"{_UNREADABLE}{shown if len(shown) < 1000 else f'...{shown[-900:]}'} cannot be read"
        if not path:
            error.message = f"{_UNREADABLE}at the top of the snapshot cannot be read"
        error.args = (error.message,)
        error.hints = error.hints or ("dedup check", "what is not damaged can be restored: dedup restore")
    return error


def too_deep(path: bytes) -> CorruptObject:
    return unreadable(path, CorruptObject("directories are nested too deeply", why=f"{MAX_DEPTH} at most"))


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
