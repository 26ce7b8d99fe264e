"""Which copies of chunks a prune has to keep, for the choice of packs that are worth deleting."""

from __future__ import annotations

from collections.abc import Iterable

from dedupstore.codec.block import BASED
from dedupstore.engine.evacuate import directory_of, packs_missing
from dedupstore.engine.liveness import ChunkBits
from dedupstore.engine.prune_survey import Survey
from dedupstore.errors import IntegrityError, StoreError, StoreGone
from dedupstore.repo.deltas import DeltaBlocks
from dedupstore.repo.directory import BlockRecord
from dedupstore.repo.index import Index, Location, PackRow
from dedupstore.repo.repository import Repository
from dedupstore.types import ChunkId


class Needed:
    """One copy of every live chunk, and one full copy of each base of the deltas among them.

    A copy that is known to be damaged is taken only where there is no other.
    """

    def __init__(self, index: Index, seen: Survey) -> None:
        self.copies = ChunkBits(index)
        self.irreplaceable: set[int] = set()
        """Packs with a damaged copy of what is nowhere else, or with a delta that has lost a base: a plan for one of them
        could not be carried out.
        """

        self.missed: set[int] = set()
        """Packs that are not there and held something that no pack gives."""

        self._index = index
        self._seen = seen
        self._usable = seen.safe
        self._bad = seen.bad
        self._any_bad = bool(seen.bad)
        self._deltas = DeltaBlocks(index)

    def chunk(self, chunk: ChunkId, at: Location) -> None:
        """The copy to keep is a full one where there is one: it needs no other, and others may need it."""
        if at.pack_no in self._usable and not self._is_delta(at) and not self._is_bad(at):
            self.copies.add(at)
            return
        copies = [copy for copy in self._index.find_all(chunk) if copy.pack_no in self._usable]
        if copies:
            kept = min(copies, key=lambda copy: (self._is_bad(copy), self._is_delta(copy)))
            self.copies.add(kept)
            if self._is_bad(kept):
                self.irreplaceable.add(kept.pack_no)

    def missing(self, chunk: ChunkId) -> None:
        """No pack that is there gives this one."""
        self.missed |= packs_missing(self._index, self._seen, chunk)

    def add_bases(self) -> None:
        """To be called once, after all chunks."""
        for pack_no in list(self.copies.packs()):
            for block_no, block in enumerate(self._index.blocks(pack_no)):
                if block.codec in BASED and self.copies.positions(pack_no, block_no):
                    for base in block.bases:
                        at = self._index.find(base)
                        if at is not None:
                            self.chunk(base, at)
                        if at is None or not (self._is_whole(at) or self._has_whole(base)):
                            self.irreplaceable.add(pack_no)

    def add_pinned(self, repository: Repository, rows: Iterable[PackRow], going: set[int]) -> bool:
        """What rule 1 of `evacuate` would move out of packs that are chosen to go: bases of deltas elsewhere that give a
        live chunk of which another copy is kept. Chosen for what these take up, a pack would be written again by every
        prune. Whether anything was added: then less can be freed than was thought.
        """
        added = False
        for row in rows:
            if row.no in going:
                continue
            directory: list[BlockRecord] | None = None
            for block_no, block in enumerate(self._index.blocks(row.no)):
                if block.codec not in BASED or self.copies.positions(row.no, block_no):
                    continue
                pinned = [at for base in block.bases if (at := self._only_copy(base, going)) is not None]
                if not pinned:
                    continue
                if directory is None:
                    try:
                        directory = directory_of(repository, row)
                    except StoreGone:
                        raise
                    except (IntegrityError, StoreError):
                        break
                if any(self._is_kept(chunk) for chunk in directory[block_no].ids):
                    for at in pinned:
                        added |= self.copies.add(at)
        return added

    def _only_copy(self, base: ChunkId, going: set[int]) -> Location | None:
        """A full copy of a base that has none outside `going`, and none that is kept. Damaged ones are none: none moves."""
        copies = [
            at
            for at in self._index.find_all(base)
            if at.pack_no in self._usable and not self._is_delta(at) and not self._is_bad(at)
        ]
        if any(copy.pack_no not in going or self.copies.has(copy) for copy in copies):
            return None
        return copies[0] if copies else None

    def _is_whole(self, at: Location) -> bool:
        """Whether it is a full copy, in a pack that is there, not known to be damaged: by such ones deltas can be read."""
        return at.pack_no in self._seen.present and not self._is_delta(at) and not self._is_bad(at)

    def _has_whole(self, base: ChunkId) -> bool:
        return any(map(self._is_whole, self._index.find_all(base)))

    def _is_kept(self, chunk: ChunkId) -> bool:
        return any(self.copies.has(copy) for copy in self._index.find_all(chunk))

    def _is_delta(self, copy: Location) -> bool:
        return self._deltas.has(copy.pack_no, copy.block_no)

    def _is_bad(self, copy: Location) -> bool:
        return self._any_bad and (copy.pack_no, copy.block_no) in self._bad
