"""Rings, stores and secrets for tests: the same every time, and cheap to open."""

from __future__ import annotations

import hashlib

from dedupstore.repo import layout
from dedupstore.repo.keyring import KeyRing
from dedupstore.repo.slot_header import KdfCost
from dedupstore.repo.slots import Secret, seal_slot
from dedupstore.storage.memory import MemoryStore
from dedupstore.types import RepositoryId

REPOSITORY = RepositoryId(bytes(range(16)))
OTHER_REPOSITORY = RepositoryId(bytes(range(16, 32)))
CREATED_NS = 1_790_000_000_000_000_000
WEAK = KdfCost.insecure_for_tests()


class FixedRandom:
    """Bytes that only look random: SHA-256 of a seed and a counter."""

    def __init__(self, seed: str) -> None:
        self._seed = seed.encode()
        self._count = 0

    def __call__(self, count: int) -> bytes:
        self._count += 1
        return hashlib.shake_256(self._seed + self._count.to_bytes(4, "big")).digest(count)


def fixed_ring(repository: RepositoryId = REPOSITORY) -> KeyRing:
    return KeyRing.generate(repository, random=FixedRandom("ring"))


def store_with_sentinels() -> MemoryStore:
    store = MemoryStore()
    for key in layout.SENTINELS:
        store.put(key, [layout.SENTINEL_BODY])
    return store


def weak_slot(ring: KeyRing, passphrase: str = "correct horse", *, seed: str = "slot", label: str = "laptop") -> bytes:
    """A passphrase slot that opens in microseconds."""
    return seal_slot(
        Secret.passphrase(passphrase),
        ring.secrets(),
        repository=ring.repository,
        created_ns=CREATED_NS,
        cost=WEAK,
        label=label,
        allow_weak=True,
        random=FixedRandom(seed),
    )
