"""Which chunks can be read: present packs, blocks not known to be damaged, delta blocks with all their bases.

Kept as one byte a block, so that it fits in memory for any repository (10 MB at 10 TB).
"""

from __future__ import annotations

from collections.abc import Iterable

from dedupstore.codec.block import BASED
from dedupstore.repo.badlist import BadPlaces
from dedupstore.repo.index import Index
from dedupstore.types import ChunkId

_UNKNOWN, _GOOD, _BAD, _LOST = range(4)


class Health:
    """The verdict on every block of one index; not safe for several threads."""

    def __init__(self, index: Index, present: set[int], bad: BadPlaces | None = None) -> None:
        """`bad`: what is known to be damaged; it counts as `mark_damaged` and `mark_lost` had been called for it."""
        self.index = index
        self.present = present if bad is None else present - bad.whole
        """Pack numbers that are listed with the right size."""

        self.damaged_blocks = 0
        self._find = index.find
        self._verdicts: dict[int, bytearray] = {}
        if bad is not None:
            for pack_no in bad.packs():
                self.mark_damaged(pack_no, bad.blocks(pack_no))

    def usable(self, chunk: ChunkId, length: int | None = None) -> bool:
        """Whether some copy can be read, its delta bases included. A copy of another `length` does not count."""
        location = self._find(chunk)
        if location is None:
            return False
        pack_no, block_no, _, found = location
        verdicts = self._verdicts.get(pack_no)
        if verdicts is not None and block_no < len(verdicts) and verdicts[block_no] == _GOOD:
            if length is None or found == length:
                return True
        return any(
            self._good(copy.pack_no, copy.block_no) and (length is None or copy.length == length)
            for copy in self.index.find_all(chunk)
        )

    def mark_damaged(self, pack_no: int, blocks: Iterable[int]) -> None:
        """What is read from these blocks is not what was stored."""
        for block_no in blocks:
            if self._verdict(pack_no, block_no) != _BAD:
                self._set(pack_no, block_no, _BAD)
                self.damaged_blocks += 1
        self._reconsider()

    def mark_lost(self, pack_no: int) -> None:
        self.present.discard(pack_no)
        self._reconsider()

    def _reconsider(self) -> None:
        """Forget every verdict but that of damage: a delta block may have lost its bases."""
        for verdicts in self._verdicts.values():
            if _GOOD in verdicts or _LOST in verdicts:
                verdicts[:] = verdicts.translate(_KEEP_BAD)

    def _good(self, pack_no: int, block_no: int) -> bool:
        verdict = self._verdict(pack_no, block_no)
        if verdict == _UNKNOWN:
            verdict = _GOOD if pack_no in self.present and self._closed(pack_no, block_no) else _LOST
            self._set(pack_no, block_no, verdict)
        return verdict == _GOOD

    def _closed(self, pack_no: int, block_no: int) -> bool:
        block = self.index.block(pack_no, block_no)
        return block.codec not in BASED or all(self.has_full_copy(base) for base in block.bases)

    def has_full_copy(self, chunk: ChunkId) -> bool:
        """Whether some copy can be read without any other chunk: what a delta base needs."""
        for copy in self.index.find_all(chunk):
            if copy.pack_no in self.present and self._verdict(copy.pack_no, copy.block_no) != _BAD:
                if self.index.block(copy.pack_no, copy.block_no).codec not in BASED:
                    return True
        return False

    def _verdict(self, pack_no: int, block_no: int) -> int:
        verdicts = self._verdicts.get(pack_no)
        return verdicts[block_no] if verdicts is not None and block_no < len(verdicts) else _UNKNOWN

    def _set(self, pack_no: int, block_no: int, verdict: int) -> None:
        verdicts = self._verdicts.setdefault(pack_no, bytearray())
        if block_no >= len(verdicts):
            verdicts.extend(bytes(block_no + 1 - len(verdicts)))
        verdicts[block_no] = verdict


class Marks:
    """A set of stored chunks, kept as one bit each by where their first copy lies."""

    def __init__(self, index: Index) -> None:
        self._find = index.find
        self._bits: dict[int, int] = {}
        self._elsewhere: set[ChunkId] = set()

    def add(self, chunk: ChunkId) -> bool:
        """Whether it is new."""
        location = self._find(chunk)
        if location is None:
            known = chunk in self._elsewhere
            self._elsewhere.add(chunk)
            return not known
        pack_no, block_no, position, _ = location
        key = pack_no << 16 | block_no
        bits = self._bits.get(key, 0)
        bit = 1 << position
        self._bits[key] = bits | bit
        return not bits & bit


_KEEP_BAD = bytes(_BAD if verdict == _BAD else _UNKNOWN for verdict in range(256))
