"""A pack's directory: which chunks lie in which block. Fixed-width records, parsed a pack at a time.

Big-endian:
```
counts  u32 blocks | u32 chunks | u32 bases
block   offset u32 | stored u32 | raw u32 | codec u8 | chunks u16 | bases u8      16 B each
chunk   id[32] | length u24                                                       35 B each
base    id[32]                                                                    32 B each
```
Chunks and bases belong to the blocks in order. A pack of 32 MiB has some 13 000 chunks: columns are cut out
by slices with a stride, not record by record.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from operator import itemgetter

from dedupstore.codec.block import BASED, Codec
from dedupstore.errors import CorruptObject
from dedupstore.types import ChunkId

HEADER_BYTES = 64
"""Where the first block of a pack may start."""

COUNTS_BYTES = 12
BLOCK_BYTES = 16
CHUNK_BYTES = 35
BASE_BYTES = 32
ID_BYTES = 32

BLOCK_OVERHEAD = 28
"""Nonce and tag: what a stored block has beyond its payload."""

MAX_BLOCKS = 65_535
MAX_CHUNKS = 65_535
MAX_BASES = 32
MAX_RAW_BYTES = 32 << 20
MAX_CHUNK_BYTES = (1 << 24) - 1

_CODECS = frozenset(Codec)

_COUNTS = struct.Struct(">III")
_BLOCK = struct.Struct(">IIIBHB")


@dataclass(slots=True)
class BlockRecord:
    """One block of a pack. Treat it as frozen; it is not, because thousands are made per pack read."""

    offset: int
    stored: int
    raw: int
    codec: int
    ids: Sequence[ChunkId]
    lengths: Sequence[int]
    bases: Sequence[ChunkId]

    @property
    def end(self) -> int:
        return self.offset + self.stored


def check_block(block: BlockRecord) -> str:
    """What is wrong with a block taken alone; empty when nothing is."""
    if not 1 <= len(block.ids) <= MAX_CHUNKS or len(block.ids) != len(block.lengths):
        return f"a block of {len(block.ids)} chunks"
    if block.codec not in _CODECS:
        return f"a block of unknown codec {block.codec}"
    if (block.codec in BASED) != bool(block.bases) or len(block.bases) > MAX_BASES:
        return f"a block of codec {block.codec} with {len(block.bases)} bases"
    if min(block.lengths) < 1 or max(block.lengths) > MAX_CHUNK_BYTES:
        return "a chunk of a length out of range"
    if block.raw > MAX_RAW_BYTES or block.raw != sum(block.lengths):
        return f"a block of {block.raw} bytes whose chunks have {sum(block.lengths)}"
    if block.stored <= BLOCK_OVERHEAD or (block.codec == Codec.RAW and block.stored != block.raw + BLOCK_OVERHEAD):
        return f"a block of codec {block.codec} stored in {block.stored} bytes"
    return ""


def encode_directory(blocks: Sequence[BlockRecord]) -> bytes:
    """The directory's bytes. The blocks are taken as valid: PackBuilder checks each when it is added."""
    rows = []
    chunks = bytearray()
    bases: list[bytes] = []
    for block in blocks:
        rows.append(_BLOCK.pack(block.offset, block.stored, block.raw, block.codec, len(block.ids), len(block.bases)))
        for identifier, length in zip(block.ids, block.lengths, strict=True):
            chunks += identifier
            chunks += length.to_bytes(3, "big")
        bases += block.bases
    head = _COUNTS.pack(len(rows), len(chunks) // CHUNK_BYTES, len(bases))
    return b"".join((head, *rows, chunks, *bases))


def parse_directory(directory: bytes, *, body_end: int) -> list[BlockRecord]:
    """Every block, in order; `body_end` is where the trailer starts. Raises CorruptObject for any contradiction."""
    if len(directory) < COUNTS_BYTES:
        raise CorruptObject("a pack directory is cut short")
    block_count, chunk_count, base_count = _COUNTS.unpack_from(directory)
    chunks_at = COUNTS_BYTES + block_count * BLOCK_BYTES
    bases_at = chunks_at + chunk_count * CHUNK_BYTES
    if bases_at + base_count * BASE_BYTES != len(directory) or block_count > MAX_BLOCKS:
        raise CorruptObject("the counts of a pack directory contradict its length")
    rows = list(_BLOCK.iter_unpack(directory[COUNTS_BYTES:chunks_at]))
    chunk_ends = list(accumulate(map(itemgetter(4), rows), initial=0))
    base_ends = list(accumulate(map(itemgetter(5), rows), initial=0))
    if chunk_ends[-1] != chunk_count or base_ends[-1] != base_count:
        raise CorruptObject("the counts of a pack directory contradict one another")
    ids = _ids(directory, chunks_at, bases_at, CHUNK_BYTES)
    lengths = _lengths(directory[chunks_at:bases_at])
    bases = _ids(directory, bases_at, len(directory), BASE_BYTES)

    blocks: list[BlockRecord] = []
    position = HEADER_BYTES
    for number, (offset, stored, raw, codec, _chunks, _bases) in enumerate(rows):
        chunk_span = slice(chunk_ends[number], chunk_ends[number + 1])
        base_span = slice(base_ends[number], base_ends[number + 1])
        block = BlockRecord(offset, stored, raw, codec, ids[chunk_span], lengths[chunk_span], bases[base_span])
        problem = check_block(block)
        if offset < position or problem:
            raise CorruptObject(problem or f"block {number} starts at {offset}, inside what lies before it")
        position = offset + stored
        blocks.append(block)
    if position > max(body_end, HEADER_BYTES):
        raise CorruptObject("the last block of a pack reaches into its trailer")
    return blocks


def _ids(directory: bytes, start: int, end: int, step: int) -> list[ChunkId]:
    return [ChunkId(directory[at : at + ID_BYTES]) for at in range(start, end, step)]


def _lengths(records: bytes) -> list[int]:
    high, middle, low = (records[ID_BYTES + byte :: CHUNK_BYTES] for byte in range(3))
    return [(h << 16) | (m << 8) | x for h, m, x in zip(high, middle, low, strict=True)]
