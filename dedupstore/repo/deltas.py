"""Which blocks are deltas, remembered: asked for every chunk that is one's base, and unpacking a block's row takes long."""

from __future__ import annotations

from dedupstore.codec.block import BASED
from dedupstore.repo.index import Index

_REMEMBERED = 4096


class DeltaBlocks:
    """Tells delta blocks from those that are read without others. Any thread may ask."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._known: dict[tuple[int, int], bool] = {}

    def has(self, pack_no: int, block_no: int) -> bool:
        """Whether that block is a delta."""
        place = (pack_no, block_no)
        known = self._known.get(place)
        if known is None:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            known = self._known[place] = self._index.block(pack_no, block_no).codec in BASED
        return known
