"""Synthetic files: a small source tree and a large file of mixed contents. The same seed gives the same bytes."""

import os
import random
import struct
from pathlib import Path

from benchmarks.text import Prose

MIB = 1 << 20
EPOCH = 1_760_000_000


def make_tree(root: Path, *, files: int) -> tuple[str, ...]:
    """Two versions of a tree of small text files; in the second 3 % are edited and all have other times."""
    prose = Prose("tree")
    source = random.Random("tree")
    for number in range(files):
        name = Path(f"part{number % 23:02}") / f"section{number % 7}" / f"file{number:05}.txt"
        body = prose.block(source.randrange(200, 24_000))
        changed = body[: len(body) // 2] + prose.block(60) + body[len(body) // 2 :]
        _write(root / "v1" / name, body, EPOCH)
        _write(root / "v2" / name, changed if source.random() < 0.03 else body, EPOCH + 86_400)
    return ("v1", "v2")


def _write(path: Path, body: bytes, modified: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(body)
    os.utime(path, (modified, modified))


def make_mixed_file(root: Path, *, size: int) -> tuple[str, ...]:
    """One file: 35 % incompressible, 35 % prose, 20 % tables of fixed-width records, 10 % zeros, in runs of 1-8 MiB."""
    source = random.Random("mixed")
    prose = Prose("mixed")
    row = 0
    with open(root / "v1", "wb") as stream:
        left = size
        while left:
            length = min(source.randint(1, 8) * MIB, left)
            kind = source.random()
            if kind < 0.35:
                block = source.randbytes(length)
            elif kind < 0.70:
                block = prose.block(length)
            elif kind < 0.90:
                block = _records(source, row, length)
                row += length // RECORD.size
            else:
                block = bytes(length)
            stream.write(block)
            left -= length
    return ("v1",)


RECORD = struct.Struct("<QIIfHH")


def _records(source: random.Random, first: int, length: int) -> bytes:
    """Rows as of a measurement table: a key, a time, a sensor, a value, a status, a checksum."""
    count = length // RECORD.size + 1
    draws = memoryview(source.randbytes(4 * count)).cast("I")
    pack = RECORD.pack
    rows = (
        pack(first + number, EPOCH + number * 5, draw % 211, (draw >> 8) % 9000 / 100, draw & 3, draw >> 16)
        for number, draw in enumerate(draws)
    )
    return b"".join(rows)[:length]
