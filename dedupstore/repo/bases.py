"""Which stored chunks a new chunk is compressed against: its delta bases.

Depth is one: a base must have a full copy (codec 0 or 1). Where the resembling chunk itself exists only as a
delta, its own bases are taken: the new chunk is encoded against the same full copy, and the writer stores it in
full again once that stops paying.
"""

from __future__ import annotations

from collections.abc import Container, Sequence

from dedupstore.repo.badlist import BadPlaces
from dedupstore.repo.deltas import DeltaBlocks
from dedupstore.repo.index import Index, Location
from dedupstore.types import ChunkId

_REMEMBERED = 4096


class BaseChooser:
    """Turns "looks like these chunks" into bases with full copies, within the limits of a block."""

    MAX_BASES = 32
    MAX_BASE_BYTES = 2 << 20
    """What the dictionary of one delta block may hold: more costs more to load than it saves."""

    def __init__(self, index: Index, usable: Container[int], bad: BadPlaces) -> None:
        self._index = index
        self._usable = usable
        self._bad = bad
        self._known: dict[ChunkId, tuple[tuple[ChunkId, int], ...]] = {}
        self._deltas = DeltaBlocks(index)
        self._based: set[tuple[int, int]] = set()
        """Delta blocks found to have all their bases: asked for each of their chunks."""

    def choose(self, like: Sequence[ChunkId], length: int) -> list[tuple[ChunkId, int]]:
        """Bases with their lengths, in the order of `like`; empty when none qualifies or they are out of proportion."""
        bases: dict[ChunkId, int] = {}
        for chunk in like:
            for base, size in self._resolve(chunk):
                bases[base] = size
        total = sum(bases.values())
        if len(bases) > self.MAX_BASES or total > self.MAX_BASE_BYTES:
            return []
        return list(bases.items())

    def is_readable(self, pack_no: int, block_no: int) -> bool:
        """Whether a block of a usable pack is not known to be bad, and can be read from usable packs alone."""
        place = (pack_no, block_no)
        if place in self._bad:
            return False
        if place in self._based or not self._deltas.has(pack_no, block_no):
            return True
        if any(self._full_copy(base) is None for base in self._index.block(pack_no, block_no).bases):
            return False
        if len(self._based) >= _REMEMBERED:
            self._based.clear()
        self._based.add(place)
        return True

    def _resolve(self, chunk: ChunkId) -> tuple[tuple[ChunkId, int], ...]:
        known = self._known.get(chunk)
        if known is None:
            known = self._look_up(chunk)
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[chunk] = known
        return known

    def _look_up(self, chunk: ChunkId) -> tuple[tuple[ChunkId, int], ...]:
        full = self._full_copy(chunk)
        if full is not None:
            return ((chunk, full.length),)
        for location in self._index.find_all(chunk):
            if not self._counts(location):
                continue
            found = [
                (base, self._full_copy(base)) for base in self._index.block(location.pack_no, location.block_no).bases
            ]
            if all(copy is not None for _, copy in found):
                return tuple((base, copy.length) for base, copy in found if copy is not None)
        return ()

    def _full_copy(self, chunk: ChunkId) -> Location | None:
        for location in self._index.find_all(chunk):
            if self._counts(location):
                if not self._deltas.has(location.pack_no, location.block_no):
                    return location
        return None

    def _counts(self, location: Location) -> bool:
        return location.pack_no in self._usable and (location.pack_no, location.block_no) not in self._bad
