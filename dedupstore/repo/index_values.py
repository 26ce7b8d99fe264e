"""How the local index writes its keys and values: each checked on reading, none readable on a stolen disk.

| value | layout | protection |
|---|---|---|
| location | pack no u32, block u16, position u16, length u24, check u16 | XOR with the last 13 bytes of the chunk id |
| block | offset u32, stored u32, raw u32, codec u8, bases u8, chunks u16, lengths u24[], base ids | AES-256-GCM |
| pack | id[32], size u32, kind u8, units u16, epoch u32, salt[24], state u8 (1 merged, 2 removed) | CRC-32 |
| number | u64 | CRC-32 |

A location is keyed by the first 19 bytes of the chunk id, and the other 13 are not stored anywhere: they are
a pad only who asks for that very chunk has (an id is keyed BLAKE3, so they look random). That hides the
chunk's length, which would help an attack on the chunker, for the price of one XOR, and binds the value to
its id: a value that LMDB hands out for the wrong key fails its check. The check is the rest modulo 65521:
every single flipped bit changes it. Two copies of one chunk share a pad; what shows is the XOR of two pack
and block numbers, never the length.

Block values hold the lengths and base ids of many chunks and are sealed under the cache key: 28 bytes and
some 3 microseconds a block, once per megabyte read. What a pack row says, storage knows as well.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

from dedupstore.errors import CacheError
from dedupstore.repo.directory import BlockRecord
from dedupstore.repo.index import BlockInfo, Location, PackRow
from dedupstore.types import ChunkId, Kind, PackId

KEY_BYTES = 19
LOCATION_BYTES = 13
CHECK_MODULUS = 65_521

_from_bytes = int.from_bytes
_new_tuple = tuple.__new__
_PACK = struct.Struct(">32sIBHI24sB")
_MERGED, _REMOVED = 1, 2
_BLOCK = struct.Struct(">IIIBBH")
_NUMBER = struct.Struct(">Q")
_CRC = struct.Struct(">I")
_PLACE = struct.Struct(">IH")
_PACK_NO = struct.Struct(">I")

ENTRY_VALUE = slice(KEY_BYTES, KEY_BYTES + LOCATION_BYTES)
ENTRY_PLACE = slice(KEY_BYTES + LOCATION_BYTES, None)


class CacheDamaged(CacheError):
    """The local index contradicts itself: drop it and build it again."""

    code = "cache.damaged"


def damaged(what: str) -> CacheDamaged:
    return CacheDamaged(
        "the local index is damaged", why=what, hints=["nothing is lost: it is rebuilt by the next command"]
    )


def location_entries(pack_no: int, blocks: list[BlockRecord]) -> Iterator[bytes]:
    """The location of every chunk of a pack: key, value and place (pack and block, which tell copies apart) in one.

    One bytes object, not a tuple: a hundred thousand of them sort faster, and the garbage collector leaves them alone.
    """
    for block_no, block in enumerate(blocks):
        place = _PLACE.pack(pack_no, block_no)
        start = (pack_no << 16 | block_no) << 16
        for position, (identifier, length) in enumerate(zip(block.ids, block.lengths, strict=True)):
            plain = (start | position) << 24 | length
            value = (plain << 16 | plain % CHECK_MODULUS) ^ _from_bytes(identifier[KEY_BYTES:], "big")
            yield identifier[:KEY_BYTES] + value.to_bytes(LOCATION_BYTES, "big") + place


def location(identifier: ChunkId, value: bytes) -> Location:
    whole = _from_bytes(value, "big") ^ _from_bytes(identifier[KEY_BYTES:], "big")
    plain = whole >> 16
    if plain % CHECK_MODULUS != whole & 0xFFFF or len(value) != LOCATION_BYTES:
        raise damaged("a chunk's location fails its check")
    # Past the generated constructor: it would cost a third of the whole decoding.
    return _new_tuple(Location, (plain >> 56, plain >> 40 & 0xFFFF, plain >> 24 & 0xFFFF, plain & 0xFFFFFF))


def place_key(pack_no: int, block_no: int) -> bytes:
    return _PLACE.pack(pack_no, block_no)


def pack_key(pack_no: int) -> bytes:
    return _PACK_NO.pack(pack_no)


def pack_no_of(key: bytes) -> int:
    if len(key) != _PACK_NO.size:
        raise damaged("a pack number of a wrong length")
    number: int = _PACK_NO.unpack(key)[0]
    return number


def encode_block(block: BlockRecord) -> bytes:
    head = _BLOCK.pack(block.offset, block.stored, block.raw, block.codec, len(block.bases), len(block.ids))
    lengths = bytearray(3 * len(block.lengths))
    lengths[0::3] = bytes([length >> 16 for length in block.lengths])
    lengths[1::3] = bytes([length >> 8 & 0xFF for length in block.lengths])
    lengths[2::3] = bytes([length & 0xFF for length in block.lengths])
    return b"".join((head, lengths, *block.bases))


def decode_block(value: bytes) -> BlockInfo:
    """`value` has been authenticated: what is wrong here was written wrong."""
    offset, stored, raw, codec, base_count, count = _BLOCK.unpack_from(value)
    bases_at = _BLOCK.size + 3 * count
    if len(value) != bases_at + 32 * base_count:
        raise damaged("a block has a wrong length")
    packed = value[_BLOCK.size : bases_at]
    # Widened to four bytes each, column by column: a block has hundreds of chunks and is looked at often.
    lengths = bytearray(4 * count)
    lengths[1::4], lengths[2::4], lengths[3::4] = packed[0::3], packed[1::3], packed[2::3]
    return BlockInfo(
        offset=offset,
        stored=stored,
        raw=raw,
        codec=codec,
        lengths=list(struct.unpack(f">{count}I", lengths)),
        bases=[ChunkId(value[at : at + 32]) for at in range(bases_at, len(value), 32)],
    )


def encode_pack(row: PackRow, *, merged: bool) -> bytes:
    state = _MERGED * merged | _REMOVED * row.removed
    return _checked(pack_key(row.no), _PACK.pack(row.id, row.size, row.kind, row.units, row.epoch, row.salt, state))


def decode_pack(pack_no: int, value: bytes) -> tuple[PackRow, bool]:
    """The row, and whether all of the pack's chunks are in the index."""
    plain = _plain(pack_key(pack_no), value, _PACK.size)
    identifier, size, kind, units, epoch, salt, state = _PACK.unpack(plain)
    known, removed = bool(state & _MERGED), bool(state & _REMOVED)
    row = PackRow(pack_no, PackId(identifier), size, Kind(kind), units, epoch, salt, known, removed)
    return row, row.known


def encode_number(key: bytes, number: int) -> bytes:
    return _checked(key, _NUMBER.pack(number))


def decode_number(key: bytes, value: bytes) -> int:
    number: int = _NUMBER.unpack(_plain(key, value, _NUMBER.size))[0]
    return number


def _checked(key: bytes, plain: bytes) -> bytes:
    return plain + _CRC.pack(zlib.crc32(plain, zlib.crc32(key)))


def _plain(key: bytes, value: bytes, size: int) -> bytes:
    plain = value[:size]
    if len(value) != size + _CRC.size or _checked(key, plain) != value:
        raise damaged("a record fails its check")
    return plain
