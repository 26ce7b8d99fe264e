"""The small types every layer shares: identifiers, kinds, byte spans."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple, NewType

ChunkId = NewType("ChunkId", bytes)
"""32 bytes: keyed BLAKE3 of a chunk's bytes, under the id key of its kind."""

PackId = NewType("PackId", bytes)
"""32 bytes: plain BLAKE3 of all bytes of a pack."""

SegmentId = NewType("SegmentId", bytes)
"""32 bytes: plain BLAKE3 of a sealed index segment."""

SnapshotId = NewType("SnapshotId", bytes)
"""16 random bytes; `units.format_id` gives the text a user sees."""

RepositoryId = NewType("RepositoryId", bytes)
"""16 random bytes, written at `init`, bound into every key derivation."""

Data = bytes | bytearray | memoryview
"""Anything that holds bytes and can be handed on without copying."""


class Kind(IntEnum):
    """What a chunk holds. Data and manifests never share an id key, a pack or a block."""

    DATA = 1
    MANIFEST = 2

    @property
    def letter(self) -> str:
        """The letter that marks a pack of this kind in its object name."""
        return "d" if self is Kind.DATA else "m"


@dataclass(frozen=True, slots=True)
class Span:
    """A byte range of an object: `start` inclusive, `length` bytes long."""

    start: int
    length: int

    @property
    def end(self) -> int:
        return self.start + self.length


class BlockChunks(NamedTuple):
    """Chunks of one block, decoded together and each compared with its id: `raw[slice(*spans[position])]`.

    Chunks that lie side by side in `raw` can be handed on as one view. What no span covers is not verified.
    """

    raw: memoryview
    spans: Mapping[int, tuple[int, int]]
    """Start and end in `raw`, by the chunk's position in the block."""
