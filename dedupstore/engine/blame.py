"""Which stored blocks keep a chunk from being read: of a delta block that opens with no base, the base's."""

from __future__ import annotations

from collections.abc import Container

from dedupstore.codec.block import BASED
from dedupstore.errors import IntegrityError, StoreError, StoreGone
from dedupstore.repo.index import Index, Location
from dedupstore.repo.reader import ChunkReader
from dedupstore.types import ChunkId, Kind


def bad_copies(
    reader: ChunkReader, index: Index, present: Container[int], kind: Kind, chunk: ChunkId
) -> set[tuple[int, int]]:
    """The damaged blocks, by pack and number, among those that a chunk could be read from. Each is read once.

    What the store does not give at all is not called damaged.
    """
    bad: set[tuple[int, int]] = set()
    for copy in index.find_all(chunk):
        if copy.pack_no not in present or _reads(reader, kind, chunk, copy):
            continue
        block = index.block(copy.pack_no, copy.block_no)
        innocent = False
        for base in block.bases if block.codec in BASED else ():
            # Depth is one: a base is read from full copies alone.
            fulls = [full for full in index.find_all(base) if full.pack_no in present and _is_full(index, full)]
            damaged = [full for full in fulls if not _reads(reader, kind, base, full)]
            bad |= {(full.pack_no, full.block_no) for full in damaged}
            innocent |= len(damaged) == len(fulls)
        if not innocent:
            bad.add((copy.pack_no, copy.block_no))
    return bad


def _is_full(index: Index, copy: Location) -> bool:
    return index.block(copy.pack_no, copy.block_no).codec not in BASED


def _reads(reader: ChunkReader, kind: Kind, chunk: ChunkId, copy: Location) -> bool:
    try:
        reader.read_block(kind, copy.pack_no, copy.block_no, {copy.position: chunk})
    except StoreGone:
        raise
    except IntegrityError:
        return False
    except StoreError:
        return True
    return True
