"""Deterministic bytes and gear tables for chunker tests: the same on every machine, for ever."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from dedupstore.chunking.chunker import Chunker
from dedupstore.chunking.params import ChunkerParams


def noise(seed: str, length: int) -> bytes:
    """Incompressible bytes."""
    return hashlib.shake_128(seed.encode()).digest(length)


def gear_table(seed: str = "table") -> bytes:
    return noise(seed, 2048)


def chunker(average: int, seed: str = "table") -> Chunker:
    return Chunker(ChunkerParams.for_average(average), gear_table(seed))


def chunks(data: bytes, ends: list[int]) -> Iterator[bytes]:
    start = 0
    for end in ends:
        yield data[start:end]
        start = end
