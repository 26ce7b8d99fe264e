"""What the snapshots need: every root walked, one bit a chunk, so that it fits in memory for any repository.

Used by one thread.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate

from dedupstore.cancel import CancelToken
from dedupstore.errors import IntegrityError, ObjectNotFound, RepositoryError
from dedupstore.events import Listener, Progress
from dedupstore.model.snapshot import Snapshot
from dedupstore.repo.index import Index, Location
from dedupstore.repo.reachable import reachable
from dedupstore.repo.repository import Repository
from dedupstore.types import ChunkId, SnapshotId
from dedupstore.units import short_id


class ChunkBits:
    """A set of stored copies of chunks: one bit each, by pack."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._packs: dict[int, tuple[array[int], bytearray]] = {}

    def add(self, at: Location) -> bool:
        """Whether the copy is new to the set."""
        starts, bits = self._packs.get(at.pack_no) or self._new(at.pack_no)
        byte, bit = divmod(starts[at.block_no] + at.position, 8)
        if bits[byte] >> bit & 1:
            return False
        bits[byte] |= 1 << bit
        return True

    def has(self, at: Location) -> bool:
        found = self._packs.get(at.pack_no)
        if found is None:
            return False
        starts, bits = found
        byte, bit = divmod(starts[at.block_no] + at.position, 8)
        return bool(bits[byte] >> bit & 1)

    def positions(self, pack_no: int, block_no: int) -> list[int]:
        """Which chunks of one block are in the set."""
        found = self._packs.get(pack_no)
        if found is None:
            return []
        starts, bits = found
        first, end = starts[block_no], starts[block_no + 1]
        return [at - first for at in range(first, end) if bits[at >> 3] >> (at & 7) & 1]

    def packs(self) -> Iterator[int]:
        """The numbers of the packs that hold any of them."""
        return (number for number, (_, bits) in self._packs.items() if any(bits))

    def _new(self, pack_no: int) -> tuple[array[int], bytearray]:
        starts = array("I", accumulate((len(block.lengths) for block in self._index.blocks(pack_no)), initial=0))
        made = self._packs[pack_no] = (starts, bytearray(starts[-1] // 8 + 1))
        return made


class Marker:
    """Walks roots and tells of every chunk that they reach, once."""

    def __init__(
        self, repository: Repository, on_chunk: Callable[[ChunkId], None], listener: Listener, cancel: CancelToken
    ) -> None:
        self._repository = repository
        self._on_chunk = on_chunk
        self._listener = listener
        self._cancel = cancel
        self._met = ChunkBits(repository.index)
        self._find = repository.index.find
        self.progress = Progress(phase="mark")
        self.chunks = 0

    def mark(self, roots: Iterable[SnapshotId]) -> None:
        """Raises when a root, or a manifest below it, cannot be read: on incomplete knowledge nothing is deleted.

        A marker that has raised is of no use any more: what it has met, it has perhaps not looked into. A root that is
        gone before it is read was expired by somebody else, and nobody needs what it reached.
        """
        wanted = sorted(roots)
        self.progress.files_total = len(wanted)
        for identifier in wanted:
            try:
                self._mark(identifier)
            except (IntegrityError, ObjectNotFound) as error:
                raise _unreadable(identifier, error) from error
            self.progress.files_done += 1
            self._listener.progress(self.progress)

    def _mark(self, identifier: SnapshotId) -> None:
        try:
            snapshot: Snapshot = self._repository.catalog.get_uncommitted(identifier)
        except ObjectNotFound:
            return
        for number, (_, chunk) in enumerate(reachable(self._repository.reader.load_manifest, snapshot.root, self)):
            if not number & 0xFFF:
                self._cancel.check()
            self._meet(chunk)

    def _meet(self, chunk: ChunkId) -> None:
        at = self._find(chunk)
        if at is None:
            raise IntegrityError(f"chunk {chunk.hex()[:16]} is in no indexed pack", code="repo.missing_chunk")
        if self._met.add(at):
            self.chunks += 1
            self._on_chunk(chunk)

    # The directories that `reachable` need not visit again: those whose manifest has been met.

    def __contains__(self, tree: ChunkId) -> bool:
        at = self._find(tree)
        return at is not None and self._met.has(at)

    def add(self, tree: ChunkId) -> None:
        """It is met as a chunk before anything below it is."""


def _unreadable(identifier: SnapshotId, error: IntegrityError | ObjectNotFound) -> RepositoryError:
    return IntegrityError(
        f"snapshot {short_id(identifier)} cannot be walked, so nothing was pruned",
        why=f"{error.message}: {error.why}" if error.why else error.message,
        hints=["find out what is damaged: dedup check", "a damaged snapshot that is forgotten stops prune no more"],
        code="prune.unreadable",
    )
