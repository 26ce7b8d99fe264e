"""New chunks in, durable packs and index segments out: steps W2 to W4 of the snapshot protocol.

One thread (the archiver's) calls `save`; it alone touches the pending chunks, the open groups and the index.
Pool threads compress, seal, verify; two more put packs. Work in flight is bounded. Any failure anywhere is raised
by the next call and the writer is dead from then on: a repository error always ends the snapshot.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from types import TracebackType

from dedupstore.codec.block import BASED, Codec, Payload, encode
from dedupstore.errors import IntegrityError, Interrupted, ObjectNotFound, RepositoryError
from dedupstore.repo.bases import BaseChooser
from dedupstore.repo.directory import BlockRecord
from dedupstore.repo.group import BufferPool, Group
from dedupstore.repo.index import Index
from dedupstore.repo.keyring import KeyRing
from dedupstore.repo.packer import Packer
from dedupstore.repo.reader import ChunkReader
from dedupstore.repo.segment import PackFacts, encode_segment
from dedupstore.repo.view import View
from dedupstore.storage.base import ObjectStore
from dedupstore.threads import BriskSwitching
from dedupstore.types import ChunkId, Data, Kind

MAX_BLOCK_CHUNKS = 1 << 14
"""A block is closed then, however small its chunks are: it may not hold four times as many, and its row names each."""

PATCH_BLOCKS = 4
"""So many times as long, up to a full block, is a delta block after one that was a patch: what it costs hangs little on
its length then.
"""

SEGMENT_PACKS = 64
SEGMENT_CHUNKS = 100_000
SEGMENT_SECONDS = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WriterSettings:
    """Sizes in bytes. Blocks and packs describe themselves: these may change from run to run."""

    full_block: int = 2 << 20
    delta_block: int = 128 << 10
    data_pack: int = 32 << 20
    manifest_pack: int = 8 << 20
    level: int = 3
    parity: bool = False
    """Whether each pack gets a parity object."""

    threads: int = field(default_factory=lambda: max(1, min(os.cpu_count() or 1, 8)))


@dataclass(slots=True)
class WriterTotals:
    """What this run added. Sizes in bytes; `stored` counts packs and segments as written."""

    chunks: int = 0
    raw: int = 0
    stored: int = 0
    delta_raw: int = 0
    packs: int = 0


class ChunkWriter:
    """Stores chunks once. A context manager: leaving it normally stores everything, leaving it by an error nothing more."""

    def __init__(
        self,
        store: ObjectStore,
        keyring: KeyRing,
        index: Index,
        reader: ChunkReader,
        view: View,
        settings: WriterSettings,
    ) -> None:
        self._store = store
        self._keyring = keyring
        self._index = index
        self._reader = reader
        self._settings = settings
        self.view = view
        self.totals = WriterTotals()
        self._usable = view.usable
        self._chooser = BaseChooser(index, view.usable, view.bad)
        self._digests = {kind: keyring.id_key(kind).digest for kind in Kind}
        self._pending: set[bytes] = set()
        self._buffers = BufferPool(settings.full_block + settings.full_block // 4)
        self._small_buffers = BufferPool(settings.delta_block * 4)
        self._full = {kind: self._buffers.group() for kind in Kind}
        self._delta = {kind: self._small_buffers.group() for kind in Kind}
        self._patched = dict.fromkeys(Kind, False)
        """Whether the last delta block was a patch; told by the workers."""

        self._switching = BriskSwitching()
        self._workers = ThreadPoolExecutor(settings.threads, thread_name_prefix="seal")
        self._puts = ThreadPoolExecutor(2, thread_name_prefix="put")
        self._room = threading.Semaphore(settings.threads * 2 + 2)
        sizes = {Kind.DATA: settings.data_pack, Kind.MANIFEST: settings.manifest_pack}
        self._packers = {
            kind: Packer(
                store,
                keyring,
                kind,
                sizes[kind],
                self._puts,
                self._stored,
                self._fail,
                parity=settings.parity,
                kept=reader.kept,
            )
            for kind in Kind
        }
        self._lock = threading.Lock()
        self._facts: list[PackFacts] = []
        self._fact_ids: list[ChunkId] = []
        self._failure: BaseException | None = None
        self._segment_at = time.monotonic() + SEGMENT_SECONDS
        self._futures: set[Future[None]] = set()
        self.segments_written = 0

    def __enter__(self) -> ChunkWriter:
        self._switching.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None or (isinstance(error, Interrupted) and self._failure is None):
                # A polite stop keeps what was read so far: the next run finds it and goes on from there.
                self.finish()
            else:
                self._abandon()
        finally:
            self._workers.shutdown(wait=True, cancel_futures=True)
            self._puts.shutdown(wait=True, cancel_futures=True)
            self._switching.__exit__(kind, error, trace)

    def digest(self, kind: Kind, data: Data) -> ChunkId:
        """The id that `data` has (or would have) in this repository. Any thread may ask."""
        return ChunkId(self._digests[kind](data))

    def digests(self, kind: Kind, pieces: Sequence[Data]) -> list[ChunkId]:
        """As `digest`, for many at once: with one release of the GIL."""
        return list(map(ChunkId, self._keyring.id_key(kind).digests(pieces)))

    def has(self, chunk: ChunkId) -> bool:
        """Whether the chunk need not be stored: written by this run, or in a usable pack."""
        if chunk in self._pending:
            return True
        if not self._usable:
            return False
        location = self._index.find(chunk)
        if location is None:
            return False
        if location.pack_no in self._usable and self._readable(location.pack_no, location.block_no):
            return True
        # A copy that is damaged, or a delta whose bases are gone, says nothing about the other copies.
        return any(
            copy.pack_no in self._usable and self._readable(copy.pack_no, copy.block_no)
            for copy in self._index.find_all(chunk)
        )

    def save(self, kind: Kind, data: Data, like: Sequence[ChunkId] = ()) -> ChunkId:
        """Store a chunk unless the repository has it; its id.

        `like` names chunks that `data` probably resembles (what stood there in the parent): candidates for
        a delta block. `data` is copied before this returns.
        """
        chunk = ChunkId(self._digests[kind](data))
        self.save_as(kind, chunk, data, like)
        return chunk

    def save_as(self, kind: Kind, chunk: ChunkId, data: Data, like: Sequence[ChunkId] = ()) -> bool:
        """As `save` for a caller that has computed the id; whether the chunk was new."""
        if self._failure is not None:
            self._raise_failure()
        if self.has(chunk):
            return False
        self.store_again(kind, chunk, data, like)
        return True

    def store_again(self, kind: Kind, chunk: ChunkId, data: Data, like: Sequence[ChunkId] = ()) -> None:
        """Store a chunk whether or not a copy exists: for chunks whose copies are condemned or lost."""
        self._pending.add(chunk)
        totals = self.totals
        totals.chunks += 1
        length = len(data)
        totals.raw += length
        bases = self._chooser.choose(like, length) if like else []
        if bases:
            group = self._group_for_delta(kind, bases)
            group.add_bases(bases)
            group.add(chunk, data)
            if group.filled >= self._delta_target(kind) or len(group.ids) >= MAX_BLOCK_CHUNKS:
                self._submit(kind, group)
                self._delta[kind] = self._small_buffers.group()
            return
        group = self._full[kind]
        target = self._settings.full_block
        if group.ids and group.filled + length > target + target // 8:
            self._submit(kind, group)
            group = self._full[kind] = self._buffers.group()
        group.add(chunk, data)
        if group.filled >= target or len(group.ids) >= MAX_BLOCK_CHUNKS:
            self._submit(kind, group)
            self._full[kind] = self._buffers.group()

    def store_block(self, kind: Kind, payload: Payload, block: BlockRecord, bases: bytes | None) -> None:
        """Store a block as it is, under the key of its new pack; `bases`: the bytes of those that `block` names.

        Verified like a new one before it returns; if that fails, nothing this writer has open is stored any more. The
        caller answers for the bases: each needs a full copy that stays.
        """
        if self._failure is not None:
            self._raise_failure()
        self._pending.update(block.ids)
        self.totals.chunks += len(block.ids)
        self.totals.raw += block.raw
        try:
            self._packers[kind].add(payload, block.raw, block.ids, block.lengths, block.bases, bases)
        except BaseException as error:
            self._fail(error)
            raise

    def checkpoint(self) -> bool:
        """Write an index segment when one is due; whether it did. Call between files."""
        if self._failure is not None:
            self._raise_failure()
        with self._lock:
            due = len(self._facts) >= SEGMENT_PACKS or len(self._fact_ids) >= SEGMENT_CHUNKS
        if not due and time.monotonic() < self._segment_at:
            return False
        return self._write_segment()

    def finish(self) -> None:
        """Everything saved so far is in packs and segments, durable. May be called again after more saves."""
        for kind in Kind:
            for groups, buffers in ((self._full, self._buffers), (self._delta, self._small_buffers)):
                if groups[kind].ids:
                    self._submit(kind, groups[kind])
                    groups[kind] = buffers.group()
        self._drain()
        for packer in self._packers.values():
            packer.close()
        self._puts.shutdown(wait=True)
        self._puts = ThreadPoolExecutor(2, thread_name_prefix="put")
        for packer in self._packers.values():
            packer.use_executor(self._puts)
        self._raise_failure()
        self._write_segment()
        if self._pending:
            # Whatever the reason: nobody may be told that these are stored, least of all who then deletes other copies.
            raise RepositoryError(f"{len(self._pending)} chunks were taken and are in no pack that was stored")

    def adopt(self, facts: Sequence[PackFacts]) -> None:
        """Index packs of an interrupted run that no segment describes, so that their chunks are used, not stored again."""
        with self._lock:
            self._facts.extend(facts)
        self._write_segment()

    def refresh(self, view: View) -> None:
        """Judge by a newer look at the store from now on."""
        self.view = view
        self._usable = view.usable
        self._chooser = BaseChooser(self._index, view.usable, view.bad)
        self._reader.use_packs(None)

    def _readable(self, pack_no: int, block_no: int) -> bool:
        # Where nothing ever went or broke, every base is where it was when the delta was made.
        return self.view.closed or self._chooser.is_readable(pack_no, block_no)

    def _group_for_delta(self, kind: Kind, bases: list[tuple[ChunkId, int]]) -> Group:
        """The open delta group, or a new one when these bases do not fit into it any more."""
        group = self._delta[kind]
        if group.ids:
            added = [size for base, size in bases if base not in group.bases]
            full = len(group.bases) + len(added) > BaseChooser.MAX_BASES
            if full or group.base_bytes + sum(added) > BaseChooser.MAX_BASE_BYTES:
                self._submit(kind, group)
                group = self._delta[kind] = self._small_buffers.group()
        return group

    def _delta_target(self, kind: Kind) -> int:
        short = self._settings.delta_block
        return max(short, min(short * PATCH_BLOCKS, self._settings.full_block)) if self._patched[kind] else short

    def _submit(self, kind: Kind, group: Group) -> None:
        self._room.acquire()
        if self._failure is not None:
            self._room.release()
            self._raise_failure()
        future = self._workers.submit(self._seal, kind, group)
        self._futures.add(future)
        future.add_done_callback(self._sealed)

    def _seal(self, kind: Kind, group: Group) -> None:
        bases = tuple(group.bases)
        base_bytes = self._base_bytes(kind, bases) if bases else None
        raw = group.raw()
        payload = encode(raw, bases=base_bytes, level=self._settings.level)
        if bases:
            self._patched[kind] = payload.codec == Codec.PATCH
        if payload.codec not in BASED:
            bases, base_bytes = (), None
        self._packers[kind].add(payload, len(raw), group.ids, group.lengths, bases, base_bytes)
        group.done()

    def _base_bytes(self, kind: Kind, bases: tuple[ChunkId, ...]) -> bytes | None:
        """None when one of them cannot be read any more, pruned since the look or damaged: then the block is a full one."""
        try:
            return self._reader.read_bases(kind, bases)
        except (IntegrityError, ObjectNotFound):
            return None

    def _sealed(self, future: Future[None]) -> None:
        self._room.release()
        self._futures.discard(future)
        error = None if future.cancelled() else future.exception()
        if error is not None:
            self._fail(error)

    def _drain(self) -> None:
        for future in list(self._futures):
            error = None if future.cancelled() else future.exception()
            if error is not None:
                self._fail(error)
        self._raise_failure()

    def _fail(self, error: BaseException) -> None:
        if self._failure is None:
            self._failure = error
            for packer in self._packers.values():
                packer.stop()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _abandon(self) -> None:
        """Keep what is finished: full packs already put are indexed, so that the next run continues from them."""
        for packer in self._packers.values():
            packer.stop()
        if self._failure is None:
            self._puts.shutdown(wait=True)
            if self._failure is None:
                self._write_segment()

    def _stored(self, facts: PackFacts, ids: Sequence[ChunkId]) -> None:
        with self._lock:
            self._facts.append(facts)
            self._fact_ids.extend(ids)
            self.totals.stored += facts.size
            self.totals.packs += 1

    def _write_segment(self) -> bool:
        with self._lock:
            facts, self._facts = self._facts, []
            ids, self._fact_ids = self._fact_ids, []
        self._segment_at = time.monotonic() + SEGMENT_SECONDS
        if not facts:
            return False
        self._store.barrier()
        segment, key, sealed = encode_segment(self._keyring, facts)
        self._store.put(key, [sealed])
        self._store.barrier()
        self.totals.stored += len(sealed)
        self._index.apply(segment, facts)
        for fact in facts:
            number = self._index.pack_no(fact.id)
            if number is not None:
                self._usable.add(number)
        self._pending.difference_update(ids)
        self.segments_written += 1
        return True
