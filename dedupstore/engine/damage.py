"""One walk over snapshots that says which files and directories cannot be restored, and from which snapshots.

A directory that many snapshots share is read once when all below it is well; only damaged parts are walked again
for each snapshot, so that every path is named. Memory grows with the damage, not with the repository.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from dedupstore.cancel import CancelToken
from dedupstore.engine.check_options import Counts, Damage, DamagedFile
from dedupstore.engine.health import Health, Marks
from dedupstore.engine.walk import MAX_DEPTH
from dedupstore.errors import DedupError, IntegrityError, ObjectNotFound, RepositoryTooNew, StoreError, StoreGone
from dedupstore.model.entry import DIRECTORY, FILE, Entry
from dedupstore.model.snapshot import Snapshot
from dedupstore.model.tree import Load, read_content, read_tree
from dedupstore.types import ChunkId, SnapshotId

MAX_DAMAGED = 100_000
MAX_TOLD = 10_000
MAX_LOOKED_UP = 1_000

UNREADABLE = (IntegrityError, ObjectNotFound, StoreError, RepositoryTooNew)
"""What a manifest that is damaged, lost or not understood is told by; StoreGone, one of them, says nothing of it."""


@dataclass(slots=True)
class _Hit:
    """One path of one source that is damaged in some snapshots."""

    directory: bool
    snapshots: list[SnapshotId] = field(default_factory=list)


@dataclass(slots=True)
class _Frame:
    tree: ChunkId
    prefix: bytes
    rows: Iterator[Entry]
    damaged: bool = False


class DamageWalk:
    """Walks snapshots one after the other; `damage` tells at any time what was found."""

    def __init__(
        self, load: Load, health: Health, cancel: CancelToken, counts: Counts, on_directory: Callable[[], None]
    ) -> None:
        self._load = load
        self._health = health
        self._cancel = cancel
        self._counts = counts
        self._on_directory = on_directory
        self._marks = Marks(health.index)
        self._damaged_trees: set[ChunkId] = set()
        self._chunks: set[ChunkId] = set()
        self._hits: dict[tuple[str, str, bytes], _Hit] = {}
        self._hits_total = 0
        self._snapshots: list[SnapshotId] = []

    def walk(self, snapshot: Snapshot) -> bool:
        """Whether everything below the snapshot can be restored."""
        hits = self._hits_total
        stack: list[_Frame] = []
        self._enter(stack, snapshot.root, b"", snapshot)
        while stack:
            frame = stack[-1]
            try:
                entry = next(frame.rows, None)
            except StoreGone:
                raise
            except UNREADABLE:
                self._hit(snapshot, frame.prefix.rstrip(b"/"), frame, directory=True)
                self._chunks.add(frame.tree)
                entry = None
            if entry is None:
                self._leave(stack)
            elif entry.kind == FILE:
                if not self._readable(entry):
                    self._hit(snapshot, frame.prefix + entry.name, frame, directory=False)
            elif entry.kind == DIRECTORY and entry.tree is not None:
                self._enter(stack, entry.tree, frame.prefix + entry.name + b"/", snapshot)
        if self._hits_total != hits:
            self._snapshots.append(snapshot.id)
        return self._hits_total == hits

    @property
    def found(self) -> int:
        return self._hits_total

    def damage(self, snapshots: Sequence[Snapshot]) -> Damage:
        """What was found; `snapshots` are those that were walked, oldest first."""
        newest = {(snapshot.source, snapshot.host): snapshot for snapshot in snapshots}
        files = []
        for number, ((source, host, path), hit) in enumerate(self._hits.items()):
            if number == MAX_TOLD:
                break
            last = newest[source, host]
            intact: bool | None = None
            if last.id in hit.snapshots:
                intact = False
            elif number < MAX_LOOKED_UP:
                intact = self._exists(last, path)
            told = DamagedFile(
                path=path,
                source=source,
                host=host,
                directory=hit.directory,
                snapshots=tuple(hit.snapshots),
                newest_intact=intact,
            )
            files.append(told)
        return Damage(
            chunks=len(self._chunks), files_total=len(self._hits), files=tuple(files), snapshots=tuple(self._snapshots)
        )

    def _enter(self, stack: list[_Frame], tree: ChunkId, prefix: bytes, snapshot: Snapshot) -> None:
        new = self._marks.add(tree)
        if not new and tree not in self._damaged_trees:
            return
        self._cancel.check()
        if new:
            self._counts.directories += 1
            self._on_directory()
        frame = _Frame(tree, prefix, read_tree(self._load, tree))
        if len(stack) >= MAX_DEPTH or any(above.tree == tree for above in stack[-64:]):
            self._hit(snapshot, prefix.rstrip(b"/"), frame, directory=True)
            frame.rows = iter(())
        stack.append(frame)

    def _leave(self, stack: list[_Frame]) -> None:
        frame = stack.pop()
        if frame.damaged:
            self._damaged_trees.add(frame.tree)
            if stack:
                stack[-1].damaged = True

    def _readable(self, entry: Entry) -> bool:
        self._counts.files += 1
        usable = self._health.usable
        content = entry.content
        if len(content) == 32:
            chunk = ChunkId(content)
            if usable(chunk, entry.data_size):
                return True
            self._chunks.add(chunk)
            return False
        good = True
        try:
            for chunk, length in read_content(self._load, entry):
                if not usable(chunk, length):
                    self._chunks.add(chunk)
                    good = False
        except StoreGone:
            raise
        except UNREADABLE:
            if entry.pages is not None:
                self._chunks.add(entry.pages[1])
            return False
        return good

    def _hit(self, snapshot: Snapshot, path: bytes, frame: _Frame, *, directory: bool) -> None:
        frame.damaged = True
        self._hits_total += 1
        key = (snapshot.source, snapshot.host, path)
        hit = self._hits.get(key)
        if hit is None:
            if len(self._hits) >= MAX_DAMAGED:
                return
            hit = self._hits[key] = _Hit(directory)
        if snapshot.id not in hit.snapshots:
            hit.snapshots.append(snapshot.id)

    def _exists(self, snapshot: Snapshot, path: bytes) -> bool:
        tree = snapshot.root
        names = path.split(b"/") if path else []
        for depth, name in enumerate(names):
            try:
                entry = next((entry for entry in read_tree(self._load, tree) if entry.name == name), None)
            except DedupError:
                return False
            if entry is None:
                return False
            if depth < len(names) - 1:
                if entry.tree is None:
                    return False
                tree = entry.tree
        return True
