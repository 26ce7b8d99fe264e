"""Key slots: the repository's secrets, wrapped by something a person or a machine holds.

     0  94  header          `slot_header.py`
    94  32  commitment
    126 84  sealed secrets  epoch u32 | master[32] | domain[32], then 16 bytes of tag
    210 80  sealed label    epoch u32 | UTF-8, zero-padded to 60, then 16 bytes of tag   = 290 bytes, always

KEK = Argon2id(passphrase, salt, cost), or HKDF-Extract(salt, secret) for secrets of full strength;
key | nonce | commitment = derive(KEK, "slot", repository, header); AAD = header. The label is sealed under the domain
secret (key | nonce = the first 44 bytes of derive(domain, "slot-label", repository, header)), so that whoever opened one
slot can read the labels and epochs of all; storage reads none.

What storage could try with the cost fields. *Cheaper*: the header is part of the key derivation, so a changed
cost opens nothing, and what a cheap run computes never leaves this process; the danger would be a new slot made at a
cost read from storage, hence cost is always the caller's argument when a slot is made. *Dearer*: memory and
time are bounded before anything is allocated.
"""

from __future__ import annotations

import os
import struct
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from dedupstore.codec import claims, crypto
from dedupstore.errors import CorruptObject, Refused, RepositoryError, UsageError, WrongPassphrase
from dedupstore.repo.ahead import Ahead
from dedupstore.repo.slot_header import (
    FLAG_TEST_COST,
    HEADER,
    MAGIC,
    SLOT_ID_LENGTH,
    SLOT_LENGTH,
    KdfCost,
    SlotHeader,
    SlotKind,
    parse_header,
)
from dedupstore.types import RepositoryId
from dedupstore.units import GIB, KIB, MIB

MAX_LABEL_BYTES = 60

_SECRETS = struct.Struct(">I32s32s")
_SEALED_AT = HEADER.size
_LABEL = struct.Struct(f">I{MAX_LABEL_BYTES}s")
_LABEL_AT = SLOT_LENGTH - _LABEL.size - claims.TAG_LENGTH
_SALT_LENGTH = 32

_MIN_MEMORY_KIB = 64 * MIB // KIB
_MAX_MEMORY_KIB = 2 * GIB // KIB
_MAX_ITERATIONS = 16
_MAX_LANES = 16
_MAX_PASSPHRASE_BYTES = 4096
_MIN_KEY_FILE_BYTES = 32
_MAX_KEY_FILE_BYTES = MIB


DEFAULT_COST = KdfCost(memory_kib=64 * MIB // KIB, iterations=3, lanes=4)
"""RFC 9106's second choice; 0.16 s. Every command pays it."""

STRONG_COST = KdfCost(memory_kib=256 * MIB // KIB, iterations=3, lanes=4)
"""0.7 s."""

_NO_COST = KdfCost(memory_kib=0, iterations=0, lanes=0)


def weak_cost_allowed(environment: Mapping[str, str]) -> bool:
    """Whether this is a test run, for `allow_weak`. Only slots that carry the test flag are affected by it."""
    return environment.get("DEDUP_TEST_WEAK_KDF") == "1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Secret:
    """What a person or a machine presents to open a slot. Built by the class methods, which check it."""

    kind: SlotKind
    material: bytes = field(repr=False)
    ahead: tuple[bytes, Ahead[bytes]] | None = field(default=None, repr=False, compare=False)
    """The header of one slot, and the key that this secret has for it; see `derive_ahead`."""

    read: Mapping[str, bytes] = field(default_factory=dict, repr=False, compare=False)
    """Slots that were read just now, by their object names: while they are listed, they need not be read again."""

    @classmethod
    def passphrase(cls, text: str, *, allow_empty: bool = False) -> Secret:
        """A passphrase as typed: its composed and decomposed Unicode forms are one (NFC)."""
        if not text and not allow_empty:
            raise UsageError("the passphrase is empty", hints=["give a passphrase"], code="usage.empty_passphrase")
        normal = unicodedata.normalize("NFC", text)
        # Asked beforehand: the exception of a failed `encode` would carry the passphrase into a traceback.
        if any("\ud800" <= letter <= "\udfff" for letter in normal):
            raise UsageError("the passphrase is not valid UTF-8", code="usage.passphrase_encoding")
        material = normal.encode("utf-8")
        if len(material) > _MAX_PASSPHRASE_BYTES:
            raise UsageError(f"the passphrase is longer than {_MAX_PASSPHRASE_BYTES} bytes")
        return cls(kind=SlotKind.PASSPHRASE, material=material)

    @classmethod
    def key_file(cls, content: bytes) -> Secret:
        """The bytes of a key file, which must be random: they are not stretched."""
        if not _MIN_KEY_FILE_BYTES <= len(content) <= _MAX_KEY_FILE_BYTES:
            raise UsageError(
                "not a key file",
                why=f"it has {len(content)} bytes; {_MIN_KEY_FILE_BYTES} to {_MAX_KEY_FILE_BYTES} are allowed",
                hints=["make one: head -c 32 /dev/urandom > key; chmod 600 key"],
            )
        return cls(kind=SlotKind.KEY_FILE, material=content)

    @classmethod
    def recovery(cls, key: bytes) -> Secret:
        """A recovery key's 32 bytes; `recovery.parse_recovery_key` reads the printed form."""
        if len(key) != crypto.KEY_LENGTH:
            raise ValueError("a recovery key has 32 bytes")
        return cls(kind=SlotKind.RECOVERY, material=key)


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotSecrets:
    """What a slot protects: one epoch's master secret and the domain secret that outlives epochs."""

    epoch: int
    master: bytes = field(repr=False)
    domain: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotLabel:
    """What only the repository's own users may read of a slot they cannot open: its epoch and its name."""

    epoch: int
    text: str


def seal_slot(
    secret: Secret,
    secrets: SlotSecrets,
    *,
    repository: RepositoryId,
    created_ns: int,
    cost: KdfCost = DEFAULT_COST,
    label: str = "",
    allow_weak: bool = False,
    random: crypto.RandomSource = crypto.random_bytes,
) -> bytes:
    """The bytes of a new slot with an id of its own. `cost` matters for passphrases only."""
    plain_label = _LABEL.pack(secrets.epoch, _encode_label(label))
    if secret.kind is SlotKind.PASSPHRASE:
        check_cost(cost, allow_weak=allow_weak)
    else:
        cost = _NO_COST
    header = HEADER.pack(
        MAGIC,
        secret.kind,
        FLAG_TEST_COST if cost.insecure else 0,
        repository,
        random(SLOT_ID_LENGTH),
        created_ns,
        cost.memory_kib,
        cost.iterations,
        cost.lanes,
        random(_SALT_LENGTH),
    )
    material = _slot_material(secret, parse_header(header + bytes(SLOT_LENGTH - len(header))))
    sealed = crypto.seal_once(material, _SECRETS.pack(secrets.epoch, secrets.master, secrets.domain), header)
    label_material = crypto.derive(secrets.domain, "slot-label", repository, header, crypto.MATERIAL_LENGTH)
    # The label's commitment is left out: the domain secret is not a choice an attacker has.
    return header + sealed + crypto.seal_once(label_material, plain_label, header)[claims.COMMITMENT_LENGTH :]


def open_slot_bytes(slot: bytes, secret: Secret, *, repository: RepositoryId, allow_weak: bool = False) -> SlotSecrets:
    """The secrets of one slot, whose kind must be the secret's.

    WrongPassphrase for a wrong secret and for an altered slot alike; CorruptObject for what is no slot of this
    repository; RepositoryError `repo.slot_cost` for a cost we refuse to pay.
    """
    header = _triable(slot, secret, repository, allow_weak)
    material = _slot_material(secret, header)
    try:
        plain = crypto.open_once(material, memoryview(slot)[_SEALED_AT:_LABEL_AT], header.raw)
    except CorruptObject:
        raise _wrong(secret.kind) from None
    epoch, master, domain = _SECRETS.unpack(plain)
    label = open_label(slot, domain)
    if label is None or label.epoch != epoch:
        raise _wrong(secret.kind)
    return SlotSecrets(epoch=epoch, master=master, domain=domain)


def derive_ahead(slot: bytes, secret: Secret, *, repository: RepositoryId, allow_weak: bool = False) -> Secret:
    """The same secret; the key that opens this slot is being derived in another thread from now on.

    Raises what `open_slot_bytes` raises before it derives anything. A key that needs no deriving is not derived ahead.
    """
    header = _triable(slot, secret, repository, allow_weak)
    if not header.needs_kdf:
        return secret
    return replace(secret, ahead=(header.raw, Ahead(lambda: _stretched(secret.material, header))))


def _triable(slot: bytes, secret: Secret, repository: RepositoryId, allow_weak: bool) -> SlotHeader:
    """The header of a slot that may be tried: nothing is derived at a cost that storage could choose freely."""
    header = parse_header(slot)
    check_repository(header, repository)
    if header.kind is not secret.kind:
        raise ValueError(f"a {secret.kind.noun} cannot open a slot for a {header.kind.noun}")
    if header.needs_kdf:
        check_cost(header.cost, allow_weak=allow_weak)
    elif header.cost != _NO_COST:
        raise _cost_error(f"a {header.kind.noun} has no cost", header.cost)
    return header


def _wrong(kind: SlotKind) -> WrongPassphrase:
    return WrongPassphrase(
        f"wrong {kind.noun} or altered key slot", hints=["try again", "or another key: dedup key list"]
    )


def check_repository(header: SlotHeader, repository: RepositoryId) -> None:
    """Refuse the slot of another repository by name: its right passphrase would look wrong."""
    if header.repository != repository:
        raise CorruptObject(
            "the key slot belongs to another repository",
            why=f"it is of {header.repository.hex()}, this is {repository.hex()}",
            code="repo.foreign_slot",
        )


def open_label(slot: bytes, domain: bytes) -> SlotLabel | None:
    """What the slot says of itself to whoever has opened the repository; None when it was altered."""
    header = parse_header(slot)
    material = crypto.derive(domain, "slot-label", header.repository, header.raw, crypto.MATERIAL_LENGTH)
    commitment = material[-claims.COMMITMENT_LENGTH :]
    try:
        plain = crypto.open_once(material, commitment + slot[_LABEL_AT:], header.raw)
        epoch, padded = _LABEL.unpack(plain)
        return SlotLabel(epoch=epoch, text=padded.rstrip(b"\0").decode("utf-8"))
    except (CorruptObject, UnicodeDecodeError):
        return None


def check_cost(cost: KdfCost, *, allow_weak: bool, memory_bytes: int | None = None) -> None:
    """Refuse a cost outside the allowed range before anything is allocated; `memory_bytes` is this machine's RAM."""
    if cost.insecure:
        if not allow_weak:
            raise Refused("this key slot cost is for tests only", code="refused.test_only_cost")
        if cost != KdfCost.insecure_for_tests():
            raise _cost_error("not the test profile", cost)
        return
    if not _MIN_MEMORY_KIB <= cost.memory_kib <= _MAX_MEMORY_KIB:
        raise _cost_error("memory must be 64 MiB to 2 GiB", cost)
    if not 1 <= cost.iterations <= _MAX_ITERATIONS or not 1 <= cost.lanes <= _MAX_LANES:
        raise _cost_error(f"iterations must be 1 to {_MAX_ITERATIONS}, lanes 1 to {_MAX_LANES}", cost)
    memory = _physical_memory() if memory_bytes is None else memory_bytes
    if cost.memory_kib * KIB > memory // 2:
        raise _cost_error("it takes more than half of this machine's memory", cost)


def _cost_error(why: str, cost: KdfCost) -> RepositoryError:
    asked = f"m={cost.memory_kib} KiB, t={cost.iterations}, p={cost.lanes}"
    return RepositoryError(
        "the key slot's cost is outside the allowed range", why=f"{why}: {asked}", code="repo.slot_cost"
    )


def _physical_memory() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _slot_material(secret: Secret, header: SlotHeader) -> bytes:
    if not header.needs_kdf:
        kek = crypto.extract(secret.material, salt=header.salt)
    elif secret.ahead is not None and secret.ahead[0] == header.raw:
        kek = secret.ahead[1].result()
    else:
        kek = _stretched(secret.material, header)
    return crypto.derive(kek, "slot", header.repository, header.raw, crypto.MATERIAL_LENGTH)


def _stretched(passphrase: bytes, header: SlotHeader) -> bytes:
    cost = header.cost
    try:
        return crypto.argon2id(
            passphrase,
            salt=header.salt,
            m_kib=cost.memory_kib,
            t=cost.iterations,
            p=cost.lanes,
            length=crypto.KEY_LENGTH,
        )
    except MemoryError:
        raise _cost_error("there is not that much memory free", cost) from None


def _encode_label(label: str) -> bytes:
    data = label.encode("utf-8", "replace")
    if len(data) > MAX_LABEL_BYTES or "\0" in label:
        raise UsageError("the key's label is too long", why=f"{len(data)} bytes, {MAX_LABEL_BYTES} at most")
    return data
