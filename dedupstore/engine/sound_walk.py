"""Whether everything below some snapshots can be restored: yes, or else whoever asked must look closer.

Nearly every check finds nothing, and then no order, path or name matters. So this walk is quick and tells nothing;
what is damaged, and whom it hits, `DamageWalk` says. Where this one says yes, that one would find nothing and count
the same: it reads the same manifests in the same order, and by the same rules.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from dedupstore.engine.damage import UNREADABLE
from dedupstore.engine.health import Health, Marks
from dedupstore.engine.walk import MAX_DEPTH
from dedupstore.errors import StoreGone
from dedupstore.model.entry import DIRECTORY, FILE
from dedupstore.model.snapshot import Snapshot
from dedupstore.model.survey import survey
from dedupstore.model.tree import Load, read_content, read_tree, read_tree_pages
from dedupstore.types import ChunkId

MAX_REMEMBERED = 1 << 17
"""So many usable chunks are known again without asking the index, some 25 MB: the next snapshot has most of them."""


class SoundWalk:
    """One walk; what it counted is right once `sound` said yes."""

    def __init__(self, load: Load, health: Health, on_directory: Callable[[], None]) -> None:
        """`on_directory` is called before each directory is read; what it raises ends the walk."""
        self.directories = 0
        self.files = 0
        self._load = load
        self._health = health
        self._marks = Marks(health.index)
        self._on_directory = on_directory
        self._usable: dict[ChunkId, int] = {}

    def sound(self, snapshots: Sequence[Snapshot]) -> bool:
        """Whether all of them can be restored. Raises StoreGone, and what is neither damage nor a lost object."""
        return all(self._below(snapshot.root) for snapshot in snapshots)

    def _below(self, root: ChunkId) -> bool:
        stack = [(root, 0)]
        while stack:
            tree, depth = stack.pop()
            if not self._marks.add(tree):
                continue
            if depth >= MAX_DEPTH:
                return False
            self._on_directory()
            self.directories += 1
            try:
                below = self._read(tree)
            except StoreGone:
                raise
            except UNREADABLE:
                return False
            if below is None:
                return False
            stack.extend((inner, depth + 1) for inner in reversed(below))
        return True

    def _read(self, tree: ChunkId) -> list[ChunkId] | None:
        """The subdirectories of a sound directory. None, or an error, for one that is not."""
        first = survey(self._load(tree))
        if first is None:
            return self._read_pages(tree)
        _, _, files, chunks, below = first
        self.files += files
        return below if self._all_usable(chunks) else None

    def _read_pages(self, tree: ChunkId) -> list[ChunkId] | None:
        """As `_read`, for a directory that is no single page, or not one that is understood at once."""
        found: list[ChunkId] = []
        files, last = 0, b""
        for name, page in read_tree_pages(self._load, tree):
            seen = survey(self._load(page)) if page != tree else None
            if seen is None or seen[0] != name or name <= last:
                return self._read_entries(tree)
            if not self._all_usable(seen[3]):
                return None
            last = seen[1]
            files += seen[2]
            found.extend(seen[4])
        self.files += files
        return found

    def _read_entries(self, tree: ChunkId) -> list[ChunkId] | None:
        """As `_read`, entry by entry: for those with paged content, holes or a device number."""
        found: list[ChunkId] = []
        for entry in read_tree(self._load, tree):
            if entry.kind == FILE:
                self.files += 1
                if not self._all_usable(read_content(self._load, entry)):
                    return None
            elif entry.kind == DIRECTORY and entry.tree is not None:
                found.append(entry.tree)
        return found

    def _all_usable(self, chunks: Iterable[tuple[ChunkId, int]]) -> bool:
        usable, known = self._health.usable, self._usable
        for chunk, length in chunks:
            if known.get(chunk) == length:
                continue
            if not usable(chunk, length):
                return False
            if len(known) >= MAX_REMEMBERED:
                known.clear()
            known[chunk] = length
        return True
