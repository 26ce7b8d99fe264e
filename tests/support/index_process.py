"""A known index, written by any process; the tests kill some of them.

Usage: python -m tests.support.index_process FOLDER apply|die SEED...
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from dedupstore.repo.lmdb_index import LmdbIndex, open_index
from dedupstore.repo.segment import PackFacts
from dedupstore.types import ChunkId, SegmentId
from tests.support.packs import REPOSITORY, chunk_id, synthetic_facts

KEY = bytes(32)
PACKS = 4
CHUNKS = 600


def ids_of(seed: int, pack: int) -> list[ChunkId]:
    return [chunk_id(f"{seed} {pack} {number}") for number in range(CHUNKS)]


def facts_of(seed: int) -> list[PackFacts]:
    return [synthetic_facts(f"{seed} {pack}", ids_of(seed, pack)) for pack in range(PACKS)]


def segment_of(seed: int) -> SegmentId:
    return SegmentId(chunk_id(f"segment {seed}"))


def read_everything(index: LmdbIndex, seed: int) -> int:
    """How many chunks are found, each exactly where it should be; raises AssertionError for a wrong place."""
    found = 0
    for fact in facts_of(seed):
        number = index.pack_no(fact.id)
        for block_no, block in enumerate(fact.blocks()):
            for position, identifier in enumerate(block.ids):
                location = index.find(identifier)
                if location is None:
                    continue
                found += 1
                assert location[1:] == (block_no, position, block.lengths[position]), location
                assert index.pack(location.pack_no).id == fact.id, location
            if number is not None:
                info = index.block(number, block_no)
                assert (info.offset, info.lengths) == (block.offset, block.lengths)
    for row in index.packs():
        index.last_verified(row.no)
    index.segments()
    for number in range(20):
        held = index.get_directory(chunk_id(f"directory {number}")[:20])
        assert held is None or held == b"entry " * 200 * number
    return found


def fill(folder: Path, seed: int) -> None:
    with open_index(folder, REPOSITORY, KEY) as index:
        index.apply(segment_of(seed), facts_of(seed))
        index.mark_verified(range(PACKS), 1_000)
        index.put_directories((chunk_id(f"directory {number}")[:20], b"entry " * 200 * number) for number in range(20))


def main() -> None:
    folder, action = Path(sys.argv[1]), sys.argv[2]
    seeds = [int(text) for text in sys.argv[3:]]
    if action == "apply":
        for seed in seeds:
            fill(folder, seed)
        return
    assert action == "die"
    index = open_index(folder, REPOSITORY, KEY)
    index.apply(segment_of(seeds[0]), facts_of(seeds[0]))
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main()
