"""Pages of directories as bytes, ordinary and damaged, for tests of those who read them."""

from __future__ import annotations

import random

from dedupstore.model.entry import DIRECTORY, FILE, MAX_INLINE_CHUNKS, MAX_NAME, Entry, encode_entry
from dedupstore.model.wire import Value, pack
from dedupstore.types import ChunkId

ID = ChunkId(bytes(range(32)))
BASE = 1_700_000_000_123_456_789


def references(*lengths: int) -> bytes:
    return b"".join(bytes([number % 256]) * 32 + length.to_bytes(3, "big") for number, length in enumerate(lengths))


FILES = [
    Entry(name=b"a", kind=FILE, mode=0o644, uid=1000, gid=1000, user="me", group="us", size=7, content=ID, mtime=BASE),
    Entry(name=b"b", kind=FILE, mode=0o4755, uid=70_000, gid=2**32 - 1, ctime=-5, mtime=-(2**40)),
    Entry(
        name=b"c", kind=FILE, mode=0, size=300, content=references(100, 200), hash=ID, link_group=2**62, page_size=512
    ),
]
FOLDER = Entry(name=b"c.", kind=DIRECTORY, mode=0o755, tree=ID, user="x" * 32, group="y" * 256)
LARGE = Entry(name=b"\xff", kind=FILE, mode=0o644, size=255 * 256, content=references(*[255] * MAX_INLINE_CHUNKS))
LONGEST_NAME = b"e" * MAX_NAME

HOLE = Entry(name=b"hole", kind=FILE, mode=0o644, size=17, holes=(0, 10), content=ID)
DEVICE = Entry(name=b"node", kind="c", mode=0o600, device=(1, 3))
"""Which the kernel leaves to Python."""


def page(rows: list[Value], base_ns: Value = BASE) -> bytes:
    return pack({"e": rows, "t": base_ns, "v": 1})


def encoded(entries: list[Entry], base_ns: int = BASE) -> bytes:
    return page([encode_entry(entry, base_ns) for entry in entries], base_ns)


def damaged(sound: bytes, chooser: random.Random) -> bytes:
    """One to three bits or bytes are other, gone or new."""
    made = bytearray(sound)
    for _ in range(chooser.randint(1, 3)):
        at = chooser.randrange(len(made))
        change = chooser.randrange(4)
        if change == 0:
            made[at] ^= 1 << chooser.randrange(8)
        elif change == 1:
            made[at] = chooser.randrange(256)
        elif change == 2:
            del made[at : at + chooser.randint(1, 4)]
        else:
            made[at:at] = chooser.randbytes(chooser.randint(1, 4))
    return bytes(made)
