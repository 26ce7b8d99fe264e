"""The index as everything above sees it: which chunk lies where, as far as this machine has learned it.

An index is a view of the segments it was given, never the truth. An entry counts only if its pack is in
LIST(packs) with the right size and is not condemned; the caller judges that by pack number.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from dedupstore.repo.pack_name import PackName
from dedupstore.repo.segment import PackFacts
from dedupstore.types import ChunkId, Kind, PackId, SegmentId


class Location(NamedTuple):
    """Where one copy of a chunk lies. A named tuple: one is made per look-up, millions per snapshot."""

    pack_no: int
    block_no: int
    position: int
    """Which chunk of the block it is."""

    length: int


class PackRow(NamedTuple):
    no: int
    """This machine's number for the pack: small, dense, never in the repository."""

    id: PackId
    size: int
    kind: Kind
    units: int
    epoch: int
    salt: bytes
    known: bool = True
    """Whether what it holds is in the index: not while a segment leaves that out and its trailer was unreadable."""

    removed: bool = False
    """Whether a prune is known to have deleted it: that it is not listed is no loss."""

    @property
    def name(self) -> PackName:
        return PackName(id=self.id, kind=self.kind, units=self.units)


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockInfo:
    """What reading one block takes, without fetching its pack's directory."""

    offset: int
    stored: int
    raw: int
    codec: int
    lengths: Sequence[int]
    bases: Sequence[ChunkId]


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexCounts:
    chunks: int
    copies: int
    packs: int
    blocks: int
    segments: int
    directories: int


class Index(Protocol):
    """Safe to call from many threads of one process; never across fork.

    Every method may raise CacheError: the view is damaged or its disk is full. Nothing is lost then; drop
    the index, open a new one, apply all segments again.
    """

    def apply(self, segment: SegmentId, facts: Sequence[PackFacts]) -> None:
        """Learn a segment. Doing it twice, or again after being killed half-way, changes nothing.

        A chunk already known elsewhere gets a second location (`find_all`). Raises CorruptObject before
        anything of the offending pack is learned. Never call it inside an iteration over this index.
        """
        ...

    def learn(self, facts: Sequence[PackFacts]) -> None:
        """As `apply`, for packs alone: what they hold, read from their trailers."""
        ...

    def segments(self) -> set[SegmentId]:
        """Segments learned completely, by this or any other process using the same cache."""
        ...

    def find(self, identifier: ChunkId) -> Location | None:
        """The first location learned. Its pack may be gone or condemned: then ask `find_all`."""
        ...

    def find_all(self, identifier: ChunkId) -> list[Location]: ...

    def block(self, pack_no: int, block_no: int) -> BlockInfo: ...

    def blocks(self, pack_no: int) -> list[BlockInfo]:
        """All blocks of a pack, by number; empty when what it holds is not known."""
        ...

    def pack(self, pack_no: int) -> PackRow: ...

    def packs(self) -> Iterator[PackRow]:
        """Every pack ever learned, by number, also those the store no longer has."""
        ...

    def pack_no(self, identifier: PackId) -> int | None: ...

    def get_directory(self, key: bytes) -> bytes | None:
        """What `put_directories` kept under this 20-byte key."""
        ...

    def put_directories(self, items: Iterable[tuple[bytes, bytes]]) -> None: ...

    def mark_removed(self, pack_nos: Iterable[int]) -> None:
        """Remember that these packs were pruned: `PackRow.removed`."""
        ...

    def mark_verified(self, pack_nos: Iterable[int], time_ns: int) -> None: ...

    def last_verified(self, pack_no: int) -> int | None:
        """Nanoseconds since the epoch of the last full check of the pack on this machine."""
        ...

    def counts(self) -> IndexCounts: ...

    def refresh(self) -> None:
        """See what other processes have learned since."""
        ...

    def close(self) -> None: ...
