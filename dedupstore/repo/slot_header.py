"""The clear part of a key slot: whose it is, and what it costs to try it.

    0    8  "DDKEY1\\0\\n"
    8    1  kind            1 passphrase, 2 key file, 3 recovery key
    9    1  flags           bit 0: test-only cost
    10  16  repository
    26  16  slot id         random; names the object
    42   8  created         ns since the epoch
    50   4  memory, KiB     Argon2id; these three are 0 where the secret is strong by itself
    54   4  iterations
    58   4  lanes
    62  32  salt            random                                              = header, 94 bytes

Read by whoever opens nothing, a mirror above all: so it loads no cryptography.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

from dedupstore.errors import CorruptObject, RepositoryTooNew
from dedupstore.types import RepositoryId

SLOT_LENGTH = 290
SLOT_ID_LENGTH = 16
MAGIC = b"DDKEY1\0\n"
HEADER = struct.Struct(">8sBB16s16sQIII32s")
FLAG_TEST_COST = 1

_MAGIC_FAMILY = b"DDKEY"


class SlotKind(IntEnum):
    """What opens a slot. The numbers are part of the format."""

    PASSPHRASE = 1
    KEY_FILE = 2
    RECOVERY = 3

    @property
    def noun(self) -> str:
        return self.name.lower().replace("_", " ").replace("recovery", "recovery key")


_KIND_NUMBERS = frozenset(int(kind) for kind in SlotKind)


@dataclass(frozen=True, slots=True, kw_only=True)
class KdfCost:
    """What one guess of a passphrase costs: Argon2id memory, iterations and lanes."""

    memory_kib: int
    iterations: int
    lanes: int
    insecure: bool = False

    @classmethod
    def insecure_for_tests(cls) -> KdfCost:
        """Next to nothing. Its slots carry a flag, and are made and opened only where `allow_weak` is given."""
        return cls(memory_kib=64, iterations=1, lanes=1, insecure=True)

    @property
    def work(self) -> int:
        return self.memory_kib * self.iterations


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotHeader:
    """The clear part of a slot, not authenticated until the slot opens."""

    kind: SlotKind
    repository: RepositoryId
    slot_id: bytes
    created_ns: int
    cost: KdfCost
    salt: bytes
    raw: bytes

    @property
    def needs_kdf(self) -> bool:
        return self.kind is SlotKind.PASSPHRASE


def parse_header(slot: bytes) -> SlotHeader:
    """The clear part of a slot, checked for shape. CorruptObject `repo.not_a_slot` for anything else."""
    if len(slot) != SLOT_LENGTH or not slot.startswith(MAGIC):
        if slot.startswith(_MAGIC_FAMILY) and not slot.startswith(MAGIC):
            raise RepositoryTooNew("a key slot has a newer format", hints=["upgrade dedup"])
        raise not_a_slot(f"{len(slot)} bytes where a slot has {SLOT_LENGTH}, or no mark of one")
    raw = slot[: HEADER.size]
    _, kind, flags, repository, slot_id, created_ns, memory_kib, iterations, lanes, salt = HEADER.unpack(raw)
    if kind not in _KIND_NUMBERS or flags & ~FLAG_TEST_COST:
        raise RepositoryTooNew(
            "a key slot has a newer format", why=f"kind {kind}, flags {flags:#x}", hints=["upgrade dedup"]
        )
    return SlotHeader(
        kind=SlotKind(kind),
        repository=RepositoryId(repository),
        slot_id=slot_id,
        created_ns=created_ns,
        cost=KdfCost(memory_kib=memory_kib, iterations=iterations, lanes=lanes, insecure=bool(flags & FLAG_TEST_COST)),
        salt=salt,
        raw=raw,
    )


def not_a_slot(why: str) -> CorruptObject:
    return CorruptObject("not a key slot", why=why, code="repo.not_a_slot")
