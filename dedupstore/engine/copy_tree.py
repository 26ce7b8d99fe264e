"""The second half of copying a snapshot: its manifests, which name everything by other ids, written anew from below.

A manifest holds ids, and ids come from keys: so no manifest can be taken as it is. Its entries are, and pages are cut by
the same rules as everywhere: a copied directory is byte for byte what a snapshot into the target would have written for
these chunks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from dedupstore.cancel import CancelToken
from dedupstore.engine.copy_memory import CopyMemory
from dedupstore.engine.parent import PageHints
from dedupstore.engine.sink import ChunkSink
from dedupstore.errors import IntegrityError, MissingChunk, ObjectNotFound
from dedupstore.model.entry import DIRECTORY, FILE, Entry
from dedupstore.model.tree import ContentWriter, Load, TreeWriter, read_content, read_tree
from dedupstore.types import ChunkId, Kind, SnapshotId


@dataclass(slots=True)
class _Frame:
    """A directory being written; frames of its ancestors wait below it on the stack."""

    tree: ChunkId
    entry: Entry | None
    """Its own row in its parent; None for the root."""

    entries: Iterator[Entry]
    writer: TreeWriter
    previous: ChunkId | None
    """The same directory in the copy before this one: what new manifests resemble."""

    children: dict[bytes, ChunkId] | None = field(default=None)


class TreeCopy:
    """Writes the manifests of one snapshot whose data are stored. `load` reads the source, `load_own` the target."""

    def __init__(
        self, load: Load, load_own: Load, writer: ChunkSink, memory: CopyMemory, snapshot: SnapshotId,
        trusted: Callable[[ChunkId], ChunkId | None], cancel: CancelToken,
    ) -> None:  # fmt: skip
        self._load = load
        self._load_own = load_own
        self._writer = writer
        self._memory = memory
        self._snapshot = snapshot
        self._trusted = trusted
        self._cancel = cancel

    def run(self, root: ChunkId, previous: ChunkId | None) -> ChunkId:
        """The root manifest in the target. Raises IntegrityError when a manifest of the source cannot be read."""
        done = self._done(root)
        if done is not None:
            return done
        stack = [self._frame(root, None, previous)]
        while True:
            frame = stack[-1]
            below = self._fill(frame)
            if below is not None:
                stack.append(below)
                continue
            own = frame.writer.finish()
            self._memory.put_tree(frame.tree, own, self._snapshot)
            stack.pop()
            if frame.entry is None:
                return own
            frame.entry.tree = own
            stack[-1].writer.add(frame.entry)

    def _fill(self, frame: _Frame) -> _Frame | None:
        """Add entries up to the first subdirectory that has to be written before; None when all are added."""
        self._cancel.check()
        for entry in frame.entries:
            if entry.kind == DIRECTORY and entry.tree is not None:
                own = self._done(entry.tree)
                if own is None:
                    return self._frame(entry.tree, entry, self._child(frame, entry.name))
                entry.tree = own
            elif entry.kind == FILE:
                self._name_content(entry)
            frame.writer.add(entry)
        self._writer.checkpoint()
        return None

    def _frame(self, tree: ChunkId, entry: Entry | None, previous: ChunkId | None) -> _Frame:
        hints = PageHints(self._load_own, previous)

        def save(data: bytes, first: bytes) -> ChunkId:
            return self._writer.save(Kind.MANIFEST, data, hints.like(first))

        return _Frame(tree, entry, read_tree(self._load, tree), TreeWriter(save), previous)

    def _done(self, tree: ChunkId) -> ChunkId | None:
        """What a directory is called here, if it is written already: in this run, or in a committed copy."""
        row = self._memory.tree(tree)
        if row is not None and row.tree is not None and row.snapshot == self._snapshot:
            return row.tree
        return self._trusted(tree)

    def _child(self, frame: _Frame, name: bytes) -> ChunkId | None:
        if frame.previous is None:
            return None
        if frame.children is None:
            frame.children = self._subdirectories(frame.previous)
        return frame.children.get(name)

    def _subdirectories(self, tree: ChunkId) -> dict[bytes, ChunkId]:
        try:
            return {entry.name: entry.tree for entry in read_tree(self._load_own, tree) if entry.tree is not None}
        except (IntegrityError, ObjectNotFound):
            # Only a hint: damage in an earlier copy is for `check` to report.
            return {}

    def _name_content(self, entry: Entry) -> None:
        if not entry.content and entry.pages is None:
            return
        references = ContentWriter(lambda data, first: self._writer.save(Kind.MANIFEST, data))
        for chunk, length in read_content(self._load, entry):
            own = self._memory.chunk(chunk)
            if own is None:
                raise MissingChunk(f"chunk {chunk.hex()[:16]} was not read before its manifest")
            references.add(own, length)
        entry.content, entry.pages = b"", None
        references.finish(entry)
