"""What has to leave condemned packs before they are deleted (E4), and its way into new ones (E5).

The rules, with *safe* packs as the survey says, and depth one: a chunk is usable from safe packs if one has a full copy,
or a delta copy all of whose bases have full copies in safe packs.

1. A base of a delta block outside the condemned packs that holds a live chunk keeps a full copy in a safe pack: if its
   only full copies are condemned here, it moves, in full.
2. A live chunk in the condemned packs is usable from safe packs alone; if not, it moves: in full, or with its whole
   block as it is, when every base of that block is safe in full or moves along in full.

Nothing here invents a reference to a base, and no full copy of a base becomes a delta.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from dedupstore.cancel import CancelToken
from dedupstore.codec.block import BASED
from dedupstore.engine.health import Health
from dedupstore.engine.liveness import ChunkBits, ChunkCounts
from dedupstore.engine.prune_survey import Survey
from dedupstore.errors import IntegrityError, ObjectNotFound, StoreError, StoreGone
from dedupstore.events import Listener, Progress
from dedupstore.repo import layout
from dedupstore.repo.deltas import DeltaBlocks
from dedupstore.repo.directory import BlockRecord
from dedupstore.repo.index import BlockInfo, Index, Location, PackRow
from dedupstore.repo.pack import read_pack_directory
from dedupstore.repo.reader import ChunkReader
from dedupstore.repo.repository import Repository
from dedupstore.repo.view import View, find_facts
from dedupstore.repo.writer import ChunkWriter
from dedupstore.types import ChunkId, Kind, PackId

_ROUNDS = 8
"""So often at most blocks are asked whether they are worth their bases. One more look at each moving delta."""


def packs_missing(index: Index, seen: Survey, chunk: ChunkId) -> set[int]:
    """Which packs that are not there held a copy of a chunk, or a base of one, or may have held it."""
    copies = index.find_all(chunk)
    bases = {base for copy in copies for base in index.block(copy.pack_no, copy.block_no).bases}
    places = [*copies, *(copy for base in bases for copy in index.find_all(base))]
    return {copy.pack_no for copy in places if copy.pack_no not in seen.present} | seen.unread


def directory_of(repository: Repository, row: PackRow) -> list[BlockRecord]:
    """What a pack holds, by itself or, where that place is damaged or cannot be read, by a segment.

    Raises ObjectNotFound for one that is gone; IntegrityError, StoreError where no segment says it.
    """
    store, keyring = repository.store, repository.keyring
    try:
        return read_pack_directory(store, row.name, row.size, keyring)[1]
    except (IntegrityError, StoreError) as error:
        if isinstance(error, ObjectNotFound | StoreGone):
            raise
        segments = [info.key for info in layout.list_complete(store, layout.INDEX)]
        facts = find_facts(store, keyring, segments, row.id)
        if facts is None or not facts.directory:
            raise
        return facts.blocks()


class Evacuation:
    """Collects what must move while roots are marked (`live`), then moves it (`carry_out`). Used by one thread."""

    def __init__(self, repository: Repository, seen: Survey, going: set[int]) -> None:
        """`going`: numbers of the packs that are about to be deleted, as far as they are there."""
        self._repository = repository
        self._index = repository.index
        self._seen = seen
        self._going = going & seen.present
        self._health = Health(repository.index, seen.safe, seen.bad)
        self._deltas = DeltaBlocks(repository.index)
        self._moving = ChunkBits(repository.index)
        self._asis = ChunkBits(repository.index)
        """Blocks that move as they are, by their first chunk."""

        self._pinned = ChunkBits(repository.index)
        """Delta blocks outside whose bases have been seen to, by their first chunk."""

        self._strays: dict[ChunkId, Kind] = {}
        """Bases whose only full copies are condemned by somebody else's plan."""

        self.lost: set[PackId] = set()
        """Packs that held what a snapshot needs and is nowhere now: nobody may be told that these were pruned."""

    # E4

    def live(self, chunk: ChunkId, at: Location) -> None:
        """Some snapshot needs this chunk, wherever it lies. To be told of each, once."""
        copies = self._index.find_all(chunk)
        here = [copy for copy in copies if copy.pack_no in self._going]
        if here and not self._health.usable(chunk):
            # A copy known to be damaged moves only where there is no other: then its bytes are looked for everywhere.
            self._moving.add(min(here, key=lambda copy: (self._is_bad(copy), self._is_delta(copy))))
        for copy in copies:
            if copy.pack_no in self._seen.present and copy.pack_no not in self._going and self._is_delta(copy):
                self._pin_bases(copy, alone=not here and not self._health.usable(chunk))

    def missing(self, chunk: ChunkId) -> None:
        """A snapshot needs this chunk, and no pack that is there gives it."""
        self.lost |= {self._index.pack(no).id for no in packs_missing(self._index, self._seen, chunk)}

    def settle(self) -> bool:
        """After the last `live`: decide how each block moves; whether anything has to move at all."""
        users = ChunkCounts(self._index)
        for place, block, _ in self._moving_deltas():
            bases = self._bases_to_carry(place.pack_no, block)
            if bases is not None:
                self._asis.add(place)
                users.add(bases.values())
        if users:
            self._drop_costly(users)
            for place, block, _ in self._moving_deltas():
                if self._asis.has(place):
                    self._carry(place.pack_no, self._bases_to_carry(place.pack_no, block) or {})
        return bool(self._strays) or any(True for _ in self._moving.packs())

    def _drop_costly(self, users: ChunkCounts) -> None:
        """Let those blocks not move as they are that alone need more bytes of bases than they give.

        What others need as well has to move anyhow: so each block that is dropped makes less to move, and all together
        never move more than the plan has counted on. Afterwards others may be alone with their bases; whatever is left
        at the end is right as well.
        """
        for _ in range(_ROUNDS):
            dropped = False
            for place, block, raw in self._moving_deltas():
                if self._asis.has(place):
                    bases = (self._bases_to_carry(place.pack_no, block) or {}).values()
                    if sum(at.length for at in bases if users.count(at) == 1) > raw:
                        self._asis.discard(place)
                        users.remove(bases)
                        dropped = True
            if not dropped:
                return

    def _pin_bases(self, copy: Location, *, alone: bool) -> None:
        """Rule 1 for one delta block outside. `alone`: no other copy gives what is asked of it."""
        place = copy._replace(position=0)
        if self._pinned.has(place):
            return
        pinned = True
        for base in self._index.block(copy.pack_no, copy.block_no).bases:
            if not self._health.has_full_copy(base):
                # Of a base that is damaged everywhere a move would fail: only where something depends on it.
                pinned &= self._move_full(base) or (alone and self._move_full(base, bad=True))
        if pinned:
            self._pinned.add(place)

    def _move_full(self, base: ChunkId, *, bad: bool = False) -> bool:
        """Let a full copy of a base that is going move, one known to be damaged only if `bad`; whether there is one."""
        for copy in self._index.find_all(base):
            if copy.pack_no in self._going and not self._is_delta(copy) and self._is_bad(copy) <= bad:
                self._moving.add(copy)
                return True
        return False

    def _moving_deltas(self) -> Iterator[tuple[Location, BlockInfo, int]]:
        """Rule 2: the place of each delta block with chunks that move, and how many raw bytes these are."""
        for pack_no in list(self._moving.packs()):
            for block_no, block in enumerate(self._index.blocks(pack_no)):
                if block.codec in BASED:
                    positions = self._moving.positions(pack_no, block_no)
                    if positions:
                        yield Location(pack_no, block_no, 0, 0), block, sum(block.lengths[at] for at in positions)

    def _bases_to_carry(self, pack_no: int, block: BlockInfo) -> dict[ChunkId, Location] | None:
        """What moves in full for no other reason, when a block moves as it is; None if it cannot, for want of a base."""
        if pack_no >= self._seen.indexed_first:
            # Not listed when the plans were: another sweeper may not know what it depends on.
            return None
        carried: dict[ChunkId, Location] = {}
        for base in block.bases:
            if self._health.has_full_copy(base):
                continue
            copies = [
                copy
                for copy in self._index.find_all(base)
                if copy.pack_no in self._seen.present and not self._is_delta(copy) and not self._is_bad(copy)
            ]
            if not copies:
                return None
            if not any(copy.pack_no in self._going and self._moving.has(copy) for copy in copies):
                carried[base] = min(copies, key=lambda copy: copy.pack_no not in self._going)
        return carried

    def _carry(self, pack_no: int, bases: dict[ChunkId, Location]) -> None:
        for base, at in bases.items():
            if at.pack_no in self._going:
                self._moving.add(at)
            else:
                self._strays[base] = self._index.pack(pack_no).kind

    def _is_delta(self, copy: Location) -> bool:
        return self._deltas.has(copy.pack_no, copy.block_no)

    def _is_bad(self, copy: Location) -> bool:
        return (copy.pack_no, copy.block_no) in self._seen.bad

    # E5

    def carry_out(self, listener: Listener, cancel: CancelToken) -> tuple[int, int]:
        """Store what moves in new packs, durable and indexed; the raw bytes moved and the bytes written.

        Raises ObjectNotFound when a pack is gone already: then another sweeper works on the same plan, and everything
        has to be looked at again. Raises IntegrityError when a chunk that is needed cannot be read from anywhere.
        """
        progress = Progress(phase="move", files_total=sum(1 for _ in self._moving.packs()))
        repository, seen = self._repository, self._seen
        view = View(
            usable=seen.safe - seen.bad.whole,
            condemned=frozenset(pack for plan in seen.plans.values() for pack in plan.packs),
            lost=frozenset(),
            orphans=(),
            plans=frozenset(seen.plans),
            pruned=True,
            bad=seen.bad,
        )
        reader = ChunkReader(repository.store, repository.keyring, self._index, usable=seen.present)
        reader.avoid((), seen.bad)
        with repository.writer(view) as writer:
            for base, kind in self._strays.items():
                writer.store_again(kind, base, reader.read(kind, base))
            for pack_no in sorted(self._moving.packs()):
                cancel.check()
                self._move_pack(pack_no, writer, reader)
                writer.checkpoint()
                progress.files_done += 1
                progress.bytes_done = writer.totals.raw
                progress.bytes_stored = writer.totals.stored
                listener.progress(progress)
            writer.finish()
            return writer.totals.raw, writer.totals.stored

    def _move_pack(self, pack_no: int, writer: ChunkWriter, reader: ChunkReader) -> None:
        kind = self._index.pack(pack_no).kind
        for block_no, block, positions in self._blocks(pack_no):
            whole = None
            if self._moves_as_is(pack_no, block_no, block, positions):
                # Where this copy is damaged there may be others, to be stored in full.
                with suppress(IntegrityError):
                    whole = reader.read_payload(kind, pack_no, block_no, block.ids)
            if whole is not None:
                payload, bases = whole
                # Not to be survived: a block that fails its check here leaves a pack that is never stored.
                writer.store_block(kind, payload, block, bases)
                continue
            for position in positions:
                chunk = block.ids[position]
                writer.store_again(kind, chunk, reader.read(kind, chunk))

    def _blocks(self, pack_no: int) -> Iterator[tuple[int, BlockRecord, list[int]]]:
        """The blocks of a pack from which something moves. Their chunks' ids are in the pack alone."""
        blocks = directory_of(self._repository, self._index.pack(pack_no))
        for block_no, block in enumerate(blocks):
            positions = self._moving.positions(pack_no, block_no)
            if positions:
                yield block_no, block, positions

    def _moves_as_is(self, pack_no: int, block_no: int, block: BlockRecord, positions: list[int]) -> bool:
        if block.codec in BASED:
            return self._asis.has(Location(pack_no, block_no, 0, 0))
        # Dead chunks would only be carried along: with a single one the rest is packed anew.
        return len(positions) == len(block.ids)
