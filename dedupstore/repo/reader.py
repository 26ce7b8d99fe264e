"""From chunk ids to verified bytes: locate, fetch one block, decrypt, decompress, re-hash.

No byte leaves this room unverified. A chunk with several copies is tried copy by copy, so one damaged
pack costs nothing as long as another copy is whole.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import accumulate

from dedupstore.codec.block import BASED, BlockSealer, Codec, Payload, split_verified
from dedupstore.errors import (
    CorruptChunk,
    IntegrityError,
    MissingChunk,
    ObjectNotFound,
    PackGone,
    RepositoryError,
    StoreError,
    StoreGone,
)
from dedupstore.repo.badlist import BadPlaces
from dedupstore.repo.decoded import Decoded, DecodedBlocks
from dedupstore.repo.deltas import DeltaBlocks
from dedupstore.repo.index import BlockInfo, Index, Location
from dedupstore.repo.keyring import KeyRing
from dedupstore.repo.near import MAX_RUN_BYTES, REQUESTS_AT_A_TIME, Block, Reference, groups_of, runs_of
from dedupstore.repo.pack import read_part
from dedupstore.repo.pack_cache import PackCache
from dedupstore.repo.pack_name import PackName
from dedupstore.storage.base import ObjectStore, is_remote
from dedupstore.types import BlockChunks, ChunkId, Data, Kind, Span

BASES_BYTES = 8 << 20
"""Delta bases kept beside them: a directory's manifests of many snapshots are encoded against the same few chunks."""

CACHE_BYTES = 32 << 20
"""Decoded blocks kept: about 30 full ones, enough for a directory walk and for delta bases in order."""

MAX_OPEN_PACKS = 1024
"""Packs whose keys are kept at hand: 3 KB each, and a big repository has hundreds of thousands."""


_NOWHERE = "is in no pack that the index knows"


class ChunkReader:
    """Reads chunks of one repository. Safe to call from many threads; heavy parts run without the GIL."""

    def __init__(
        self, store: ObjectStore, keyring: KeyRing, index: Index, *, usable: Container[int] | None = None,
        cache_bytes: int = CACHE_BYTES, kept: PackCache | None = None,
    ) -> None:  # fmt: skip
        """`kept`: what of the packs is on this machine, too; for who does not want to know what storage has."""
        self.kept = kept
        self._store = store
        self._keyring = keyring
        self._index = index
        self._deltas = DeltaBlocks(index)
        self._usable = usable
        self._gone: Container[int] = ()
        self._bad = BadPlaces()
        self._cache = DecodedBlocks(cache_bytes)
        self._bases: OrderedDict[tuple[Kind, ChunkId], bytes] = OrderedDict()
        self._bases_held = 0
        self._packs: dict[int, tuple[PackName, BlockSealer]] = {}
        self._fetched: dict[Block, memoryview] = {}
        self._lock = threading.Lock()

    def use_packs(self, usable: Container[int] | None) -> None:
        """Consider only copies in these packs (None: every indexed one)."""
        self._usable = usable

    def avoid(self, gone: Container[int], bad: BadPlaces) -> None:
        """Try these copies last: in packs that were not there when last looked at, and what is known to be damaged."""
        self._gone = gone
        self._bad = bad

    @property
    def requests_at_a_time(self) -> int:
        """How many threads should read at least, so that the way to storage is busy; 1 where nothing is gained by it."""
        return REQUESTS_AT_A_TIME if is_remote(self._store) else 1

    def locate(self, chunk: ChunkId, first: Location | None = None) -> Location:
        """The preferred copy of a chunk. Raises MissingChunk when no indexed, present pack holds it.

        `first` is what the index finds of it, for callers that have asked: in a big index that is not cheap.
        """
        location = first or self._index.find(chunk)
        if location is not None and (self._usable is None or location.pack_no in self._usable):
            if not self._is_doubtful(location):
                return location
        for location in self._copies(chunk):
            return location
        raise _missing(chunk, _NOWHERE)

    def read(self, kind: Kind, chunk: ChunkId) -> bytes:
        """The bytes of a chunk, from whichever copy is whole."""
        return self._first_whole(kind, chunk, self._copies(chunk), _NOWHERE)

    def load_manifest(self, chunk: ChunkId) -> bytes:
        """The bytes of a manifest chunk."""
        return self._first_whole(Kind.MANIFEST, chunk, self._copies(chunk), _NOWHERE, keep=True)

    def runs(self, blocks: Iterable[Block]) -> list[list[Block]]:
        """The blocks, in runs that one request can fetch; each by itself where a request costs next to nothing."""
        if not is_remote(self._store):
            return [[block] for block in blocks]
        return runs_of(self._index, blocks, self._is_here)

    @contextmanager
    def fetched(self, kind: Kind, run: Sequence[Block]) -> Iterator[None]:
        """While inside, the blocks of a run are read from what one request gave, and so are bases near to one another.

        Where that fails for the pack's sake nothing is raised: each block then has to be read by itself.
        """
        held: list[Block] = []
        try:
            self._fetch(kind, run, held)
            for near in self.runs(self._bases_of(kind, run)) if is_remote(self._store) else ():
                self._fetch(kind, near, held)
            yield
        finally:
            for block in held:
                self._fetched.pop(block, None)

    def together(self, kind: Kind, references: Iterable[Reference]) -> Iterator[list[Reference]]:
        """The references in order and in groups; the blocks of a group are decoded, near ones came by one request.

        For whoever reads chunks one after the other. Where a request costs next to nothing, or a chunk cannot be read,
        nothing is done in advance.
        """
        if not is_remote(self._store):
            return ([reference] for reference in references)
        return groups_of(self._index, references, self._block_of, partial(self._decode_together, kind))

    def _decode_together(self, kind: Kind, blocks: Iterable[Block]) -> None:
        for run in self.runs([block for block in blocks if block not in self._cache]):
            with self.fetched(kind, run):
                for block in run:
                    try:
                        self._block(kind, *block, keep=False)
                    except StoreGone:
                        raise
                    except (IntegrityError, StoreError):
                        # Told by `read`, if no other copy is whole.
                        continue

    def _block_of(self, chunk: ChunkId) -> Block | None:
        try:
            place = self.locate(chunk)
        except MissingChunk:
            return None
        return place.pack_no, place.block_no

    def _fetch(self, kind: Kind, run: Sequence[Block], held: list[Block]) -> None:
        """Ask for the blocks of a run at once, and note in `held` those that came; one alone is read when it is needed."""
        if len(run) < 2:
            return
        infos = [self._index.block(*block) for block in run]
        start = infos[0].offset
        span = Span(start, infos[-1].offset + infos[-1].stored - start)
        try:
            data = memoryview(read_part(self._store, self._pack(kind, run[0][0])[0], span))
        except (IntegrityError, ObjectNotFound):
            return
        for block, info in zip(run, infos, strict=True):
            self._fetched[block] = data[info.offset - start : info.offset - start + info.stored]
            held.append(block)

    def _bases_of(self, kind: Kind, run: Sequence[Block]) -> Iterable[Block]:
        """Where the bases lie that the deltas of a run need and that are not at hand, up to `MAX_RUN_BYTES` of them."""
        found: dict[Block, None] = {}
        size = 0
        for block in run:
            for base in self._index.block(*block).bases if self._deltas.has(*block) else ():
                if (kind, base) in self._bases:
                    continue
                for copy in self._full_copies(base)[:1]:
                    place = (copy.pack_no, copy.block_no)
                    if place in found or place in self._fetched or place in self._cache:
                        continue
                    size += self._index.block(*place).stored
                    if size > MAX_RUN_BYTES:
                        return found
                    found[place] = None
        return found

    def read_block(self, kind: Kind, pack_no: int, block_no: int, wanted: Mapping[int, ChunkId]) -> BlockChunks:
        """Decode one block once; the verified chunks at the wanted positions.

        Not cached: meant for callers that visit every block once. Raises CorruptObject or CorruptChunk for
        damage, ObjectNotFound for a lost pack.
        """
        info = self._index.block(pack_no, block_no)
        raw = memoryview(self._decode(kind, pack_no, block_no, info))
        digest = self._keyring.id_key(kind).digest
        spans: dict[int, tuple[int, int]] = {}
        start = 0
        for position, length in enumerate(info.lengths):
            end = start + length
            chunk = wanted.get(position)
            if chunk is not None:
                if digest(raw[start:end]) != chunk:
                    raise _mismatch(chunk)
                spans[position] = (start, end)
            start = end
        if len(spans) != len(wanted):
            raise CorruptChunk("the index names a chunk that its block does not have")
        return BlockChunks(raw, spans)

    def read_payload(
        self, kind: Kind, pack_no: int, block_no: int, ids: Sequence[ChunkId]
    ) -> tuple[Payload, bytes | None]:
        """A block as it was before it was sealed, still compressed, and the bytes of its bases.

        Every chunk in it has been compared with its id in `ids`. Raises as `read_block` does.
        """
        info = self._index.block(pack_no, block_no)
        name, sealer = self._pack(kind, pack_no)
        sealed = read_part(self._store, name, Span(info.offset, info.stored))
        bases = self.read_bases(kind, info.bases) if info.codec in BASED else None
        count = len(info.lengths)
        raw = sealer.open(
            sealed, ordinal=block_no, codec=info.codec, raw_length=info.raw, chunks=count, bases=bases
        )  # fmt: skip
        split_verified(raw, ids, info.lengths, self._keyring.id_key(kind))
        data = sealer.payload(sealed, ordinal=block_no, codec=info.codec, raw_length=info.raw, chunks=count)
        return Payload(codec=Codec(info.codec), data=data), bases

    def read_bases(self, kind: Kind, bases: Sequence[ChunkId]) -> bytes:
        """The concatenated bytes of delta bases, each from a full copy."""
        return b"".join([self._base(kind, base) for base in bases])

    def _base(self, kind: Kind, chunk: ChunkId) -> bytes:
        """The bytes of a base, compared with its id when they were read."""
        key = (kind, chunk)
        with self._lock:
            held = self._bases.get(key)
            if held is not None:
                self._bases.move_to_end(key)
                return held
        piece = self._read_full(kind, chunk)
        with self._lock:
            if key not in self._bases:
                self._bases[key] = piece
                self._bases_held += len(piece)
                while self._bases_held > BASES_BYTES:
                    _, dropped = self._bases.popitem(last=False)
                    self._bases_held -= len(dropped)
        return piece

    def _read_full(self, kind: Kind, chunk: ChunkId) -> bytes:
        absent = "is a delta base without a full copy in this repository"
        return self._first_whole(kind, chunk, self._full_copies(chunk), absent, keep=True)

    def _full_copies(self, chunk: ChunkId) -> list[Location]:
        return [copy for copy in self._copies(chunk) if not self._deltas.has(copy.pack_no, copy.block_no)]

    def _first_whole(
        self, kind: Kind, chunk: ChunkId, copies: Sequence[Location], absent: str, *, keep: bool = False
    ) -> bytes:
        failure: RepositoryError | None = None
        for location in copies:
            try:
                block = self._block(kind, location.pack_no, location.block_no, keep=keep)
                return self._piece(kind, block, location.position, chunk)
            except StoreGone:
                # No copy is there while the place itself is not.
                raise
            except (IntegrityError, StoreError) as error:
                # A sector that cannot be read is no reason to do without the other copies.
                self._cache.forget((location.pack_no, location.block_no))
                failure = failure or error
        if isinstance(failure, ObjectNotFound):
            raise PackGone(f"chunk {chunk.hex()[:16]} cannot be read: {failure.message}", hints=["dedup check"])
        raise failure or _missing(chunk, absent)

    def _copies(self, chunk: ChunkId) -> list[Location]:
        found = self._index.find_all(chunk)
        usable = self._usable
        if usable is not None:
            found = [location for location in found if location.pack_no in usable]
        if len(found) > 1:
            found.sort(key=self._is_doubtful)
        return found

    def _is_doubtful(self, copy: Location) -> bool:
        return copy.pack_no in self._gone or (copy.pack_no, copy.block_no) in self._bad

    def _piece(self, kind: Kind, block: Decoded, position: int, chunk: ChunkId) -> bytes:
        if position >= len(block.ends):
            raise CorruptChunk("the index names a chunk that its block does not have")
        piece = block.raw[block.ends[position - 1] if position else 0 : block.ends[position]]
        if self._keyring.id_key(kind).digest(piece) != chunk:
            raise _mismatch(chunk)
        return piece

    def _block(self, kind: Kind, pack_no: int, block_no: int, *, keep: bool) -> Decoded:
        def decode() -> Decoded:
            info = self._index.block(pack_no, block_no)
            return Decoded(self._decode(kind, pack_no, block_no, info, keep=keep), list(accumulate(info.lengths)))

        return self._cache.get((pack_no, block_no), decode)

    def _decode(self, kind: Kind, pack_no: int, block_no: int, info: BlockInfo, *, keep: bool = False) -> bytes:
        """The block as it was before it was sealed. `keep`: on this machine, once it has opened."""
        name, sealer = self._pack(kind, pack_no)
        span = Span(info.offset, info.stored)
        bases = self.read_bases(kind, info.bases) if info.codec in BASED else None

        def opened(sealed: Data) -> bytes:
            return sealer.open(
                sealed, ordinal=block_no, codec=Codec(info.codec), raw_length=info.raw, chunks=len(info.lengths),
                bases=bases,
            )  # fmt: skip

        # It stays: the memory is that of the whole run, and a base may be needed by several deltas.
        fetched = self._fetched.get((pack_no, block_no))
        if fetched is not None:
            try:
                raw = opened(fetched)
            except IntegrityError:
                self._fetched.pop((pack_no, block_no), None)
                raise
            if self.kept is not None and keep:
                self.kept.keep_part(name, span, fetched)
            return raw
        here = None if self.kept is None else self.kept.read(name, span)
        if here is not None and self.kept is not None:
            try:
                return opened(here)
            except IntegrityError:
                # Never told: storage has it, and decides.
                self.kept.drop(name, span)
        sealed = read_part(self._store, name, span)
        raw = opened(sealed)
        if self.kept is not None and keep:
            self.kept.keep_part(name, span, sealed)
        return raw

    def _is_here(self, block: Block, span: Span) -> bool:
        return self.kept is not None and self.kept.has(self._index.pack(block[0]).name, span)

    def _pack(self, kind: Kind, pack_no: int) -> tuple[PackName, BlockSealer]:
        known = self._packs.get(pack_no)
        if known is None:
            row = self._index.pack(pack_no)
            if row.kind is not kind:
                # A manifest served from a data pack (or the reverse) is an attack, not a mix-up: ids differ by kind.
                raise CorruptChunk(f"a {kind.name.lower()} chunk is indexed in a pack of another kind")
            pack_key = self._keyring.pack_key(row.epoch, row.salt, row.kind)
            known = (row.name, BlockSealer(pack_key, self._keyring.repository, row.salt, row.kind))
            if len(self._packs) >= MAX_OPEN_PACKS:
                self._packs.clear()
            self._packs[pack_no] = known
        return known


def _missing(chunk: ChunkId, absent: str) -> MissingChunk:
    return MissingChunk(
        f"chunk {chunk.hex()[:16]} {absent}",
        hints=["dedup check", "if it says that index segments are lost: dedup repair index"],
    )


def _mismatch(chunk: ChunkId) -> CorruptChunk:
    return CorruptChunk(f"the stored bytes of chunk {chunk.hex()[:16]} do not match its id")
