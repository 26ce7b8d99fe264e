"""Blocks into packs: two packs open at a time, every block verified as a reader would read it, then put.

Called from pool threads. Which open pack a block goes to is random: sizes and order tell storage nothing
about where a file was cut (the attack of Alexeev, Percival and Zhang 2025 needs visible cut points).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field

from dedupstore.codec.block import BlockSealer, Payload, split_verified
from dedupstore.codec.crypto import random_bytes
from dedupstore.codec.hashing import digest
from dedupstore.errors import CorruptObject
from dedupstore.repo.directory import BLOCK_OVERHEAD, HEADER_BYTES, parse_directory
from dedupstore.repo.keyring import KeyRing
from dedupstore.repo.pack import FinishedPack, PackBuilder, padme, padme_step, trailer_units
from dedupstore.repo.pack_cache import PackCache
from dedupstore.repo.pack_name import UNIT_BYTES
from dedupstore.repo.parity import make_parity, parity_key
from dedupstore.repo.segment import PackFacts
from dedupstore.storage.base import ObjectStore
from dedupstore.types import ChunkId, Kind

OPEN_PACKS = 2
PUTS_IN_FLIGHT = 2
_SECOND_PACK_AFTER = 1 << 20
"""A second pack opens once the first holds this much: a small snapshot should not leave two small packs."""


def size_of_packs(stored: int, directory: int, pack_size: int) -> int:
    """What packs take up together that hold so many bytes of blocks and of their directories.

    On the average: chance decides which of the open packs a block falls into, and so how much padding each gets.
    """
    held = stored + directory
    if not held:
        return 0
    full, rest = divmod(held, pack_size)
    packs = OPEN_PACKS if min(held, pack_size) > _SECOND_PACK_AFTER else 1
    blocks, described = (rest * part // held // packs for part in (stored, directory))
    least = HEADER_BYTES + blocks + trailer_units(described) * UNIT_BYTES
    short = padme(least) if held == rest and packs == 1 else least + padme_step(least) // 2
    return full * pack_size + packs * min(short, pack_size)


@dataclass(slots=True)
class _OpenPack:
    builder: PackBuilder
    sealer: BlockSealer
    unverified: int = 0
    closed: bool = False
    full: bool = True
    lock: threading.Lock = field(default_factory=threading.Lock)


class Packer:
    """The open packs of one kind."""

    def __init__(
        self,
        store: ObjectStore,
        keyring: KeyRing,
        kind: Kind,
        pack_size: int,
        puts: Executor,
        on_stored: Callable[[PackFacts, Sequence[ChunkId]], None],
        on_failure: Callable[[BaseException], None],
        *,
        parity: bool = False,
        kept: PackCache | None = None,
    ) -> None:
        self._store = store
        self._kept = kept
        self._parity = parity
        self._keyring = keyring
        self._kind = kind
        self._pack_size = pack_size
        self._puts = puts
        self._on_stored = on_stored
        self._on_failure = on_failure
        self._id_key = keyring.id_key(kind)
        self._open: list[_OpenPack] = []
        self._lock = threading.Lock()
        # Bounds memory: packs being filled plus packs being put.
        self._slots = threading.Semaphore(OPEN_PACKS + PUTS_IN_FLIGHT)
        self._stopped = False

    def add(
        self,
        payload: Payload,
        raw_length: int,
        ids: Sequence[ChunkId],
        lengths: Sequence[int],
        bases: Sequence[ChunkId],
        base_bytes: bytes | None,
    ) -> None:
        """Seal one block into an open pack and verify it. Raises CorruptObject when it does not read back."""
        with self._lock:
            pack = self._choose(len(payload.data) + BLOCK_OVERHEAD, len(ids), len(bases))
            ordinal, sealed = pack.builder.add(payload, raw_length, ids, lengths, bases)
            with pack.lock:
                pack.unverified += 1
        # A compressor that is wrong once in a million blocks must be found now, not at the restore (restic #4523).
        raw = pack.sealer.open(
            sealed, ordinal=ordinal, codec=payload.codec, raw_length=raw_length, chunks=len(ids), bases=base_bytes
        )
        split_verified(raw, ids, lengths, self._id_key)
        with pack.lock:
            pack.unverified -= 1
            ready = pack.closed and pack.unverified == 0
        if ready:
            self._submit(pack)

    def use_executor(self, puts: Executor) -> None:
        """Put packs by this executor from now on."""
        self._puts = puts

    def close(self) -> None:
        """Close what is open, as short packs. Call when no `add` is running any more."""
        with self._lock:
            packs, self._open = self._open, []
        for pack in packs:
            self._close(pack, full=False)

    def stop(self) -> None:
        """Give up: wake whoever waits for room."""
        self._stopped = True
        for _ in range(64):
            self._slots.release()

    def _choose(self, stored: int, chunks: int, bases: int) -> _OpenPack:
        open_packs = self._open
        if not open_packs or (len(open_packs) < OPEN_PACKS and open_packs[0].builder.size > _SECOND_PACK_AFTER):
            open_packs.append(self._new())
        pack = open_packs[random_bytes(1)[0] % len(open_packs)]
        if not pack.builder.fits(stored, chunks, bases):
            open_packs.remove(pack)
            self._close(pack, full=True)
            pack = self._new()
            open_packs.append(pack)
        return pack

    def _new(self) -> _OpenPack:
        self._slots.acquire()
        builder = PackBuilder(self._keyring, self._kind, self._pack_size)
        key = self._keyring.pack_key(builder.header.epoch, builder.header.salt, self._kind)
        sealer = BlockSealer(key, self._keyring.repository, builder.header.salt, self._kind)
        return _OpenPack(builder=builder, sealer=sealer)

    def _close(self, pack: _OpenPack, *, full: bool) -> None:
        with pack.lock:
            pack.closed = True
            pack.full = full
            ready = pack.unverified == 0
        if ready:
            self._submit(pack)

    def _submit(self, pack: _OpenPack) -> None:
        if not self._stopped:
            future: Future[None] = self._puts.submit(self._put, pack)
            future.add_done_callback(self._report)

    def _report(self, future: Future[None]) -> None:
        self._slots.release()
        error = None if future.cancelled() else future.exception()
        if error is not None:
            self._on_failure(error)

    def _put(self, pack: _OpenPack) -> None:
        finished = pack.builder.finish(pack.full)
        self._check(finished)
        self._store.put(finished.name.key, finished.parts)
        if self._kept is not None:
            self._kept.keep_pack(finished.name, finished.parts)
        if self._parity:
            # After its pack: parity without one is what prune takes away.
            self._store.put(parity_key(finished.name.id), [make_parity(finished.name.id, finished.parts)])
        facts = PackFacts(
            id=finished.name.id,
            size=finished.size,
            kind=finished.name.kind,
            units=finished.name.units,
            epoch=finished.epoch,
            salt=finished.salt,
            directory=finished.directory,
            repeated=pack.full,
        )
        ids = [chunk for block in finished.blocks for chunk in block.ids]
        self._on_stored(facts, ids)

    def _check(self, finished: FinishedPack) -> None:
        """The parts the blocks' own verification does not cover: name, size, directory."""
        if sum(map(len, finished.parts)) != finished.size or digest(finished.parts) != finished.name.id:
            raise CorruptObject(f"pack {finished.name.key} changed in memory before it was stored")
        blocks = parse_directory(finished.directory, body_end=finished.size - finished.name.trailer_bytes)
        if len(blocks) != len(finished.blocks):
            raise CorruptObject(f"pack {finished.name.key} has a directory that does not read back")
