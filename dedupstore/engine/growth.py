"""Where a source grew: the differences of two snapshots, added up by directory. Equal directories are not read."""

from __future__ import annotations

from dataclasses import dataclass

from dedupstore.cancel import CancelToken
from dedupstore.engine.diff import diff
from dedupstore.model.entry import FILE, Entry
from dedupstore.model.tree import Load
from dedupstore.types import ChunkId


@dataclass(slots=True)
class Growth:
    """How a directory changed with all that is below it; negative when it shrank. Sizes in bytes, as restored."""

    bytes: int = 0
    files: int = 0
    changed: int = 0
    """Bytes of files with new content, whole files: what a day of work touches."""


def growth(load: Load, before: ChunkId, after: ChunkId, depth: int, cancel: CancelToken) -> dict[bytes, Growth]:
    """Every directory down to `depth` names below which something changed; b"" is the snapshot itself.

    Memory: what is changed, down to that depth.
    """
    found: dict[bytes, Growth] = {}
    for change in diff(load, before, after):
        cancel.check()
        old, new = _size(change.before), _size(change.after)
        delta, files = new - old, _is_file(change.after) - _is_file(change.before)
        touched = new if change.kind != "metadata" else 0
        if not (delta or files or touched):
            continue
        names = change.path.split(b"/")[:-1][:depth]
        for count in range(len(names) + 1):
            row = found.setdefault(b"/".join(names[:count]), Growth())
            row.bytes += delta
            row.files += files
            row.changed += touched
    return found


def _size(entry: Entry | None) -> int:
    return entry.size if entry is not None and entry.kind == FILE else 0


def _is_file(entry: Entry | None) -> int:
    return int(entry is not None and entry.kind == FILE)
