"""The first half of copying a snapshot: every data chunk it needs is stored in the target.

Directories are walked from the top; those that a committed copy holds already are not read. Chunks that the target
lacks are gathered by the block they lie in, a window at a time, so that each block is decoded once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

from dedupstore.cancel import CancelToken
from dedupstore.engine.copy_memory import CopyMemory
from dedupstore.engine.foreign_chunks import Block, ForeignChunks
from dedupstore.engine.sink import ChunkSink
from dedupstore.errors import CorruptChunk, CorruptObject, IntegrityError, ObjectNotFound, RepositoryError
from dedupstore.events import Finding, Listener, Progress
from dedupstore.model.entry import DIRECTORY, FILE, Entry
from dedupstore.model.tree import read_content, read_tree
from dedupstore.repo.index import Location
from dedupstore.repo.repository import Repository
from dedupstore.types import ChunkId, Data, Kind, SnapshotId

Row = TypeVar("Row")

MAX_WINDOW_CHUNKS = 65_536
"""Chunks gathered before they are read: some 20 MB of ids and places, 4 GiB of data at the usual chunk size."""

MAX_FINDINGS = 1000


@dataclass(slots=True)
class _Window:
    """Chunks to be read: by block and position, and where the index finds each, with the first file it was met in."""

    blocks: dict[Block, dict[int, ChunkId]] = field(default_factory=dict)
    places: dict[ChunkId, tuple[Location, bytes]] = field(default_factory=dict)


class DataCopy:
    """Stores the data of one snapshot. `trusted` says what a directory is called in a committed copy, or None."""

    def __init__(
        self, source: Repository, writer: ChunkSink, memory: CopyMemory, snapshot: SnapshotId,
        trusted: Callable[[ChunkId], ChunkId | None], foreign: ForeignChunks, listener: Listener, cancel: CancelToken,
        progress: Progress,
    ) -> None:  # fmt: skip
        self.failures = 0
        """Files and directories of which something could not be had."""

        self.bytes_read = 0
        self._source = source
        self._reader = source.reader
        self._writer = writer
        self._memory = memory
        self._snapshot = snapshot
        self._trusted = trusted
        self._foreign = foreign
        self._listener = listener
        self._cancel = cancel
        self._progress = progress
        self._window = _Window()
        self._looked_again = False

    def run(self, root: ChunkId) -> None:
        """Store everything below `root`. What cannot be had is told and counted; all else is stored."""
        stack: list[tuple[ChunkId, bytes]] = [(root, b"")]
        while stack:
            tree, path = stack.pop()
            if self._is_done(tree):
                continue
            self._cancel.check()
            entries = read_tree(self._reader.load_manifest, tree)
            while (entry := self._next(entries, "copy.directory_damaged", path.rstrip(b"/"))) is not None:
                if entry.kind == DIRECTORY and entry.tree is not None:
                    stack.append((entry.tree, path + entry.name + b"/"))
                elif entry.kind == FILE:
                    self._file(entry, path + entry.name)
        self._read_window()

    def _is_done(self, tree: ChunkId) -> bool:
        """Whether a directory is in a committed copy, or was met in this run: then it is not read."""
        row = self._memory.tree(tree)
        if row is not None and row.snapshot == self._snapshot:
            return True
        if self._trusted(tree) is not None:
            return True
        self._memory.put_tree(tree, None, self._snapshot)
        return False

    def _file(self, entry: Entry, path: bytes) -> None:
        self._progress.files_done += 1
        self._progress.current = path
        references = read_content(self._reader.load_manifest, entry)
        while (reference := self._next(references, "copy.chunk_damaged", path)) is not None:
            try:
                self._need(*reference, path)
            except IntegrityError as error:
                self._fail("copy.chunk_damaged", path, error)
                return
            if len(self._window.places) >= MAX_WINDOW_CHUNKS:
                self._read_window()

    def _next(self, rows: Iterator[Row], code: str, path: bytes) -> Row | None:
        """The next row of a manifest; None at the end, or when the rest cannot be read, which is told then.

        Only the source is read here: what goes wrong with the target is never taken for damage of the source.
        """
        try:
            return next(rows, None)
        except (IntegrityError, ObjectNotFound) as error:
            self._fail(code, path, error)
            return None

    def _need(self, chunk: ChunkId, length: int, path: bytes) -> None:
        window = self._window
        if chunk in window.places:
            return
        first = self._source.index.find(chunk)
        own = self._memory.chunk_at(first, chunk)
        if own is not None and self._writer.has(own):
            return
        place = self._reader.locate(chunk, first)
        if place.length != length:
            raise CorruptObject(f"chunk {chunk.hex()[:16]} is not as long as the manifest says")
        window.places[chunk] = (first or place, path)
        window.blocks.setdefault((place.pack_no, place.block_no), {})[place.position] = chunk

    def _read_window(self) -> None:
        window, self._window = self._window, _Window()
        lost: dict[ChunkId, RepositoryError] = {}
        for fetched in self._foreign.blocks(window.blocks):
            self._cancel.check()
            # What the source compressed against is what stood there before: the same goes for the target.
            like = [own for base in fetched.bases if (own := self._memory.chunk(base)) is not None]
            for chunk, own, data in fetched.chunks:
                self._take(chunk, window.places[chunk][0], own, data, like)
            lost.update(fetched.failed)
            self._writer.checkpoint()
            self._listener.progress(self._progress)
        for chunk, error in (self._once_more(lost, window) if lost else {}).items():
            self._fail("copy.chunk_damaged", window.places[chunk][1], error)
        self._memory.flush()

    def _take(self, chunk: ChunkId, place: Location, own: ChunkId, data: Data, like: list[ChunkId]) -> None:
        self._writer.save_as(Kind.DATA, own, data, like)
        self._memory.put_chunk(place, chunk, own)
        self.bytes_read += len(data)
        self._progress.bytes_done += len(data)

    def _once_more(self, lost: dict[ChunkId, RepositoryError], window: _Window) -> dict[ChunkId, RepositoryError]:
        """What a prune of the source moved meanwhile is found by a second look; the rest is lost."""
        if not self._looked_again and any(not isinstance(error, CorruptChunk) for error in lost.values()):
            self._looked_again = True
            self._source.look()
        still: dict[ChunkId, RepositoryError] = {}
        for chunk in lost:
            try:
                own, data = self._foreign.read(chunk)
            except (IntegrityError, ObjectNotFound) as error:
                still[chunk] = error
                continue
            self._take(chunk, window.places[chunk][0], own, data, [])
        return still

    def _fail(self, code: str, path: bytes, error: RepositoryError) -> None:
        self.failures += 1
        self._progress.errors += 1
        if self.failures <= MAX_FINDINGS:
            message = f"not copied: {error.message}"
            self._listener.finding(Finding(code=code, message=message, path=path, severity="error"))
