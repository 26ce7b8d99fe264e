"""What a sealed object says of itself in clear: enough to name its type, repository and epoch without any key.

    sealed object, big-endian
    0    8  "DDOBJ1\\0\\n"
    8    1  type            ObjectType
    9    1  suite           1 = HKDF-SHA256 + AES-256-GCM
    10   2  flags           0
    12  16  repository
    28   4  epoch           which master secret
    32  24  salt            random
    56  32  commitment
    88   n  ciphertext, then 16 bytes of tag

Nothing of it is authenticated until `crypto.open_object` returns. Here and not there, so that a mirror, which opens
nothing, loads no cryptography.
"""

from __future__ import annotations

import struct
from enum import IntEnum

from dedupstore.errors import CorruptObject, RepositoryTooNew

TAG_LENGTH = 16
SALT_LENGTH = 24
COMMITMENT_LENGTH = 32
MAGIC = b"DDOBJ1\0\n"
SUITE = 1
HEADER = struct.Struct(">8sBBH16sI24s")
OBJECT_OVERHEAD = HEADER.size + COMMITMENT_LENGTH + TAG_LENGTH

_MAGIC_FAMILY = b"DDOBJ"


class ObjectType(IntEnum):
    """What a sealed object is. The numbers are part of the format; a number is never reused."""

    CONFIG = 1
    SEGMENT = 2
    ROOT = 3
    COMMIT = 4
    FORGOTTEN = 5
    PLAN = 6
    DONE = 7
    BAD = 8
    CHECKED = 9
    MARK = 10


def peek_epoch(sealed: bytes) -> int:
    """The epoch an object claims, to choose the master secret by. Not authenticated until `open_object` returns."""
    return parse_claims(sealed, "a sealed object")[2]


def peek_claims(sealed: bytes, name: str) -> tuple[int, bytes]:
    """The type and the repository an object claims: all that can be told without a key. Nothing of it is authenticated."""
    found_type, repository, _ = parse_claims(sealed, name)
    return found_type, repository


def parse_claims(sealed: bytes, name: str) -> tuple[int, bytes, int]:
    """Type, repository and epoch that an object claims; CorruptObject or RepositoryTooNew for what has no such header."""
    if bytes(sealed[: len(MAGIC)]) != MAGIC:
        if bytes(sealed[: len(_MAGIC_FAMILY)]) == _MAGIC_FAMILY and len(sealed) >= OBJECT_OVERHEAD:
            raise RepositoryTooNew(f"{name} has a newer format", hints=["upgrade dedup"])
        raise CorruptObject(f"{name} is not a sealed object", why="it does not start with the mark of one")
    if len(sealed) < OBJECT_OVERHEAD:
        raise CorruptObject(f"{name} is cut short", why=f"{len(sealed)} bytes, {OBJECT_OVERHEAD} at least")
    _, found_type, suite, flags, repository, epoch, _ = HEADER.unpack_from(sealed)
    if suite != SUITE or flags:
        why = f"suite {suite}, flags {flags:#x}"
        raise RepositoryTooNew(f"{name} has a newer format", why=why, hints=["upgrade dedup"])
    return found_type, repository, epoch
