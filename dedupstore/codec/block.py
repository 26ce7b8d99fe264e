"""Blocks: whole chunks, compressed together, encrypted together, read back together.

    stored block = nonce[12] | AES-256-GCM(payload) | tag[16]
    payload      = codec 0: the chunks, concatenated
                   codec 1: one zstd frame of them
                   codec 2: one zstd frame of them, the concatenated bases as its raw-content dictionary
                   codec 3: one zstd frame of a script that makes them from the concatenated bases (patch.py)
    AAD          = repository[16] | pack salt[24] | kind u8 | ordinal u32 | codec u8 | raw length u32 | chunks u16

The AAD binds a block to its place: moved, swapped or relabelled it does not open.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from dedupstore.codec.claims import SALT_LENGTH
from dedupstore.codec.compression import (
    DEFAULT_LEVEL,
    MAX_RAW_LENGTH,
    compress,
    compress_delta,
    decompress,
    decompress_at_most,
    worth_compressing,
)
from dedupstore.codec.crypto import OVERHEAD, REPOSITORY_LENGTH, Cipher, RandomSource, random_bytes
from dedupstore.codec.hashing import Keyed
from dedupstore.codec.patch import apply_patch, make_patch
from dedupstore.errors import CorruptChunk, CorruptObject, RepositoryTooNew
from dedupstore.types import ChunkId, Data, Kind

STORED_OVERHEAD = OVERHEAD
_PLACE = struct.Struct(">IBIH")


class Codec(IntEnum):
    """How a payload is made from raw bytes. The numbers are part of the format."""

    RAW = 0
    ZSTD = 1
    DELTA = 2
    PATCH = 3


BASED = frozenset((Codec.DELTA, Codec.PATCH))
"""The codecs of delta blocks: without their bases they cannot be read."""

_PATCH_LEVEL = 9
_PATCH_SCRIPT = 128
_PATCH_PAYLOAD = 512
"""A script of a 128th of a block, in a frame of a 512th, is as good as what zstd would find, ten times as fast
(docs/decisions/0056). Where more has changed, zstd finds in the bases what the new bytes resemble besides.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Payload:
    """A block's bytes, compressed and not yet encrypted."""

    codec: Codec
    data: Data


def encode(raw: Data, *, bases: Data | None = None, level: int = DEFAULT_LEVEL) -> Payload:
    """The cheapest payload to keep: a delta where it pays, else a full frame, else `raw` itself (not copied)."""
    if len(raw) > MAX_RAW_LENGTH:
        raise ValueError(f"a block holds {MAX_RAW_LENGTH} bytes at most, not {len(raw)}")
    if not bases:
        return _encode_full(raw, level)
    script = make_patch(raw, bases, len(raw) // _PATCH_SCRIPT)
    if script is not None:
        frame = compress(script, level=max(level, _PATCH_LEVEL))
        if len(frame) <= len(raw) // _PATCH_PAYLOAD:
            return Payload(codec=Codec.PATCH, data=frame)
    delta = compress_delta(raw, bases, level=level)
    # A good delta is far below a 32nd (a 1 % change: 1/160 of sources, 1/600 of a dump); no full frame could save
    # more than these few bytes, so the second compression is skipped. Above that, a delta must beat the full frame
    # by a quarter: it costs every reader the blocks of its bases, and it keeps those from being pruned.
    if len(delta) <= len(raw) // 32:
        return Payload(codec=Codec.DELTA, data=delta)
    full = _encode_full(raw, level)
    return Payload(codec=Codec.DELTA, data=delta) if len(delta) <= len(full.data) // 4 * 3 else full


def _encode_full(raw: Data, level: int) -> Payload:
    if worth_compressing(raw):
        frame = compress(raw, level=level)
        # Less than a 64th saved is not worth decompressing for at every read.
        if len(frame) <= len(raw) - len(raw) // 64 and len(frame) < len(raw):
            return Payload(codec=Codec.ZSTD, data=frame)
    return Payload(codec=Codec.RAW, data=raw)


class BlockSealer:
    """Seals and opens the blocks of one pack. Safe to share between threads."""

    __slots__ = ("_cipher", "_prefix")

    def __init__(
        self, pack_key: bytes, repository: bytes, salt: bytes, kind: Kind, *, random: RandomSource = random_bytes
    ) -> None:
        if len(repository) != REPOSITORY_LENGTH or len(salt) != SALT_LENGTH:
            raise ValueError(f"a repository id has {REPOSITORY_LENGTH} bytes and a pack salt {SALT_LENGTH}")
        self._cipher = Cipher(pack_key, random=random)
        self._prefix = repository + salt + bytes((kind,))

    def seal(self, payload: Payload, *, ordinal: int, raw_length: int, chunks: int) -> bytes:
        """The stored block: `STORED_OVERHEAD` bytes longer than the payload. `ordinal` counts blocks in the pack."""
        place = _PLACE.pack(ordinal, payload.codec, raw_length, chunks)
        return self._cipher.encrypt(payload.data, self._prefix + place)

    def open(
        self, sealed: Data, *, ordinal: int, codec: int, raw_length: int, chunks: int, bases: Data | None = None
    ) -> bytes:
        """The raw bytes, exactly `raw_length` of them.

        `bases` is the concatenation the directory names, in its order, for codecs 2 and 3. The caller still has to compare
        every chunk with its id (`split_verified`). Raises CorruptObject.
        """
        payload = self.payload(sealed, ordinal=ordinal, codec=codec, raw_length=raw_length, chunks=chunks)
        if codec == Codec.RAW:
            if len(payload) != raw_length:
                raise CorruptObject("a block has another length", why=f"{len(payload)} bytes, {raw_length} expected")
            return payload
        if codec == Codec.ZSTD:
            return decompress(payload, raw_length)
        if codec not in BASED:
            raise RepositoryTooNew(f"a block uses codec {codec}", hints=["upgrade dedup"])
        if bases is None:
            raise ValueError("a delta block needs its bases")
        if codec == Codec.DELTA:
            return decompress(payload, raw_length, bases)
        return apply_patch(decompress_at_most(payload, raw_length), bases, raw_length)

    def payload(self, sealed: Data, *, ordinal: int, codec: int, raw_length: int, chunks: int) -> bytes:
        """What was sealed, authenticated and still compressed: to seal it again elsewhere. Raises CorruptObject."""
        return self._cipher.decrypt(sealed, self._prefix + _PLACE.pack(ordinal, codec, raw_length, chunks))


def split_verified(raw: bytes, ids: Sequence[ChunkId], lengths: Sequence[int], keyed: Keyed) -> list[memoryview]:
    """The chunks of a block as views of it, each compared with its id: nothing of a bad block is given away.

    Raises CorruptChunk when content and id differ: rot has been excluded by then, so this is a poisoned chunk or a bug.
    """
    if len(ids) != len(lengths) or sum(lengths) != len(raw):
        raise CorruptObject("a block does not hold its chunks", why=f"{len(raw)} bytes for lengths of {sum(lengths)}")
    view = memoryview(raw)
    chunks = []
    start = 0
    for length in lengths:
        chunks.append(view[start : start + length])
        start += length
    for chunk_id, found in zip(ids, keyed.digests(chunks), strict=True):
        if found != chunk_id:
            raise CorruptChunk(
                f"chunk {chunk_id.hex()[:16]} does not match its id", why="its block authenticates: a poisoned chunk"
            )
    return chunks
