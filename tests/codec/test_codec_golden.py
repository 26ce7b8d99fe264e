"""Golden vectors of every layout of this layer: what version 1 wrote stays readable for ever."""

from __future__ import annotations

import json
from pathlib import Path

from dedupstore.codec.block import BlockSealer, Codec, Payload
from dedupstore.codec.claims import ObjectType
from dedupstore.codec.compression import decompress
from dedupstore.codec.crypto import Cipher, derive, open_object, seal_object
from dedupstore.codec.hashing import Keyed, derive_bytes, digest
from dedupstore.repo.recovery import format_recovery_key, parse_recovery_key
from dedupstore.repo.slots import Secret, open_slot_bytes, seal_slot
from dedupstore.types import Kind
from tests.support.golden import check_golden
from tests.support.keys import CREATED_NS, REPOSITORY, FixedRandom, fixed_ring, weak_slot

ROOT = bytes(range(32))
SALT = bytes(range(100, 124))
BASES = b"the quick brown fox jumps over the lazy dog. " * 8
RAW = BASES.replace(b"lazy", b"sleepy")
RECOVERY = Secret.recovery(FixedRandom("recovery")(32))


def sealed_objects() -> dict[str, str]:
    return {
        type.name: seal_object(
            ROOT,
            type=type,
            repository=REPOSITORY,
            epoch=7,
            name="name",
            payload=b"payload",
            random=FixedRandom("object"),
        ).hex()
        for type in ObjectType
    }


def block(codec: Codec, data: bytes) -> bytes:
    sealer = BlockSealer(ROOT, REPOSITORY, SALT, Kind.DATA, random=FixedRandom("block"))
    return sealer.seal(Payload(codec=codec, data=data), ordinal=2, raw_length=len(RAW), chunks=3)


def slots() -> dict[str, str]:
    ring = fixed_ring()
    recovery = seal_slot(
        RECOVERY,
        ring.secrets(),
        repository=REPOSITORY,
        created_ns=CREATED_NS,
        label="paper",
        random=FixedRandom("slot"),
    )
    return {"passphrase": weak_slot(ring).hex(), "recovery": recovery.hex()}


def test_every_layout_is_written_as_it_was_in_version_1():
    ring = fixed_ring()
    result = {
        "block": block(Codec.RAW, RAW).hex(),
        "cipher": Cipher(ROOT, random=FixedRandom("cipher")).encrypt(b"data", b"aad").hex(),
        "derive": {
            "pack": derive(ROOT, "pack", REPOSITORY, SALT + b"\1").hex(),
            "object": derive(ROOT, "object", REPOSITORY, b"header", 76).hex(),
        },
        "hashing": {
            "keyed": Keyed(ROOT).digest(RAW).hex(),
            "plain": digest((RAW,)).hex(),
            "stream": derive_bytes(ROOT, b"gear", 64).hex(),
        },
        "object": sealed_objects(),
        "recovery key": format_recovery_key(RECOVERY.material),
        "ring": {
            "cache": ring.cache_key().hex(),
            "chunker": ring.chunker_key().hex(),
            "id data": ring.id_key(Kind.DATA).digest(b"chunk").hex(),
            "id manifest": ring.id_key(Kind.MANIFEST).digest(b"chunk").hex(),
            "pack": ring.pack_key(1, SALT, Kind.DATA).hex(),
        },
        "slot": slots(),
    }
    check_golden("codec", result)


def test_blocks_slots_and_objects_of_version_1_still_open():
    golden = json.loads((Path(__file__).parent.parent / "golden" / "codec.json").read_text())
    sealer = BlockSealer(ROOT, REPOSITORY, SALT, Kind.DATA)
    slots = {kind: bytes.fromhex(slot) for kind, slot in golden["slot"].items()}

    raw = sealer.open(bytes.fromhex(golden["block"]), ordinal=2, codec=Codec.RAW, raw_length=len(RAW), chunks=3)
    payloads = {
        name: open_object(
            ROOT, type=ObjectType[name], repository=REPOSITORY, epoch=7, name="name", sealed=bytes.fromhex(sealed)
        )
        for name, sealed in golden["object"].items()
    }

    assert raw == RAW
    assert set(payloads.values()) == {b"payload"} and len(payloads) == len(ObjectType)
    passphrase = Secret.passphrase("correct horse")
    assert open_slot_bytes(slots["passphrase"], passphrase, repository=REPOSITORY, allow_weak=True).epoch == 1
    recovery = Secret.recovery(parse_recovery_key(golden["recovery key"]))
    assert open_slot_bytes(slots["recovery"], recovery, repository=REPOSITORY) == fixed_ring().secrets()


# Made once by zstd 1.5.7; a later library writes other frames and must read these.
FULL_FRAME = (
    "28b52ffd607800cd0100e40274686520717569636b2062726f776e20666f78206a756d7073206f7665722074686520736c65"
    "65707920646f672e0200425229e0116619"
)
DELTA_FRAME = "28b52ffd60780095000028736c6565700300235255b06d410a922a08"


def test_frames_of_version_1_still_decompress():
    assert decompress(bytes.fromhex(FULL_FRAME), len(RAW)) == RAW
    assert decompress(bytes.fromhex(DELTA_FRAME), len(RAW), BASES) == RAW
