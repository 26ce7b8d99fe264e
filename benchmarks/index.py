"""How fast the local index learns and finds, and what it takes: `python -m benchmarks.index [--chunks 50M]`.

Chunks are synthetic (random ids, 13 000 a pack, 16 a block) and learned as the program learns them: segments
of 64 packs through `LmdbIndex.apply`. Prints one JSON row and appends it to a results file when asked to.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.machine import about_this_run
from dedupstore.codec.hashing import digest
from dedupstore.repo.directory import BlockRecord, encode_directory
from dedupstore.repo.lmdb_index import LmdbIndex, open_index
from dedupstore.repo.segment import PackFacts
from dedupstore.types import ChunkId, Kind, PackId, RepositoryId, SegmentId
from dedupstore.units import format_count

REPOSITORY = RepositoryId(bytes(16))
KEY = bytes(32)
CHUNKS_PER_PACK = 13_000
CHUNKS_PER_BLOCK = 16
PACKS_PER_SEGMENT = 64
LOOKUPS = 200_000


def synthetic_pack(number: int, ids: list[ChunkId]) -> PackFacts:
    blocks = []
    offset = 64
    for start in range(0, len(ids), CHUNKS_PER_BLOCK):
        group = ids[start : start + CHUNKS_PER_BLOCK]
        raw = 65_536 * len(group)
        blocks.append(BlockRecord(offset, raw // 27, raw, 1, group, [65_536] * len(group), []))
        offset += raw // 27
    return PackFacts(
        id=PackId(digest([number.to_bytes(8, "big")])),
        size=offset + (128 << 12),
        kind=Kind.DATA,
        units=128,
        epoch=1,
        salt=bytes(24),
        directory=encode_directory(blocks),
    )


def synthetic_segments(chunks: int, rng: random.Random, sample: list[ChunkId]) -> Iterator[list[PackFacts]]:
    """Segments of `chunks` chunks in all; some of their ids are left in `sample`."""
    facts: list[PackFacts] = []
    for number, start in enumerate(range(0, chunks, CHUNKS_PER_PACK)):
        noise = rng.randbytes(32 * min(CHUNKS_PER_PACK, chunks - start))
        ids = [ChunkId(noise[at : at + 32]) for at in range(0, len(noise), 32)]
        sample.extend(ids[:: max(1, chunks // LOOKUPS)])
        facts.append(synthetic_pack(number, ids))
        if len(facts) == PACKS_PER_SEGMENT:
            yield facts
            facts = []
    if facts:
        yield facts


def look_up(index: LmdbIndex, ids: list[ChunkId], *, found: bool) -> float:
    """Look-ups a second."""
    started = time.perf_counter()
    for identifier in ids:
        if (index.find(identifier) is not None) is not found:
            raise SystemExit("the index gave a wrong answer")
    return len(ids) / (time.perf_counter() - started)


def peak_memory_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def anonymous_memory_bytes() -> int | None:
    """What the process itself holds: pages of the mapped file are the kernel's to drop."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon")), None)


def run(chunks: int, folder: Path) -> dict[str, object]:
    rng = random.Random(chunks)
    sample: list[ChunkId] = []
    learning = 0.0
    with open_index(folder, REPOSITORY, KEY) as index:
        for number, facts in enumerate(synthetic_segments(chunks, rng, sample)):
            started = time.perf_counter()
            index.apply(SegmentId(digest([b"segment", number.to_bytes(8, "big")])), facts)
            learning += time.perf_counter() - started
        anonymous = anonymous_memory_bytes()
        del facts
        rng.shuffle(sample)
        hits = look_up(index, sample[:LOOKUPS], found=True)
        misses = look_up(index, [ChunkId(rng.randbytes(32)) for _ in range(LOOKUPS)], found=False)
        size = os.stat(index.folder / "data.mdb").st_size
        started = time.perf_counter()
    syncing = time.perf_counter() - started
    return {
        "benchmark": "index",
        "chunks": chunks,
        "inserts_per_second": round(chunks / learning),
        "hits_per_second": round(hits),
        "misses_per_second": round(misses),
        "hit_microseconds": round(1e6 / hits, 2),
        "miss_microseconds": round(1e6 / misses, 2),
        "sync_at_close_seconds": round(syncing, 2),
        "file_bytes": size,
        "bytes_per_chunk": round(size / chunks, 1),
        "memory_anonymous_bytes": anonymous,
        "memory_peak_bytes": peak_memory_bytes(),
    }


def parse_count(text: str) -> int:
    scale = {"k": 1_000, "M": 1_000_000}.get(text[-1:], 1)
    return int(text.rstrip("kM")) * scale


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the local index.")
    parser.add_argument("--chunks", type=parse_count, default=1_000_000, help="such as 1M (default) or 50M")
    parser.add_argument("--folder", type=Path, help="where to build it (default: a temporary folder)")
    parser.add_argument("--results", type=Path, help="append the row to this JSON-lines file")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="dedup-benchmark-", dir=arguments.folder))
    try:
        print(f"{format_count(arguments.chunks)} chunks in {folder}", file=sys.stderr)
        line = json.dumps({**run(arguments.chunks, folder), **about_this_run()})
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(line)
    if arguments.results is not None:
        with arguments.results.open("a", encoding="utf-8") as file:
            file.write(line + "\n")


if __name__ == "__main__":
    main()
