"""A stored file read from any byte on is what was stored, and a manifest that lies is refused."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from dedupstore.engine.file_content import file_content
from dedupstore.errors import CorruptChunk, CorruptObject
from dedupstore.model.entry import Entry
from dedupstore.types import ChunkId
from tests.support.restoring import DictReader, file_entry


def random_file(reader: DictReader, chooser: random.Random, size: int, holes: int) -> tuple[bytes, Entry]:
    """Bytes with holes in them, and the entry that stands for them."""
    cuts = sorted(chooser.sample(range(size + 1), 2 * holes))
    pairs = [(start, end - start) for start, end in zip(cuts[::2], cuts[1::2], strict=True)]
    data = bytearray(chooser.randbytes(size))
    stored = bytearray()
    position = 0
    for start, length in pairs:
        data[start : start + length] = bytes(length)
        stored += data[position:start]
        position = start + length
    stored += data[position:]
    flat = tuple(number for pair in pairs for number in pair)
    return bytes(data), file_entry(reader, b"f", bytes(stored), chunk=chooser.randint(1, 40), size=size, holes=flat)


@pytest.mark.parametrize("seed", range(30))
def test_from_any_byte_on_the_file_is_what_was_stored(seed: int) -> None:
    chooser = random.Random(seed)
    reader = DictReader()
    size = chooser.choice((5, 100, 3_000, 40_000))
    data, entry = random_file(reader, chooser, size, chooser.choice((0, 1, 2)))

    for start in {0, len(data), *(chooser.randrange(len(data)) for _ in range(20))}:
        pieces = list(file_content(reader, entry, start))
        assert all(pieces)
        assert b"".join(pieces) == data[start:]


def test_only_the_pages_on_the_way_are_read() -> None:
    reader = DictReader()
    data = random.Random(1).randbytes(30_000)
    entry = file_entry(reader, b"f", data, chunk=1)
    assert entry.pages is not None and entry.pages[0] > 1
    loaded: list[ChunkId] = []
    plain = reader.load_manifest
    reader.load_manifest = lambda chunk: loaded.append(chunk) or plain(chunk)  # type: ignore[method-assign,func-returns-value]

    assert bytes(next(file_content(reader, entry, 29_000))) == data[29_000:29_001]

    assert len(loaded) == entry.pages[0]


def test_damage_and_lies_are_refused_before_a_byte_is_given() -> None:
    reader = DictReader()
    entry = file_entry(reader, b"f", bytes(range(256)) * 10)
    first, second = (chunk for chunk, _ in entry.inline_references()[:2])
    lying = replace(
        entry,
        content=first + (900).to_bytes(3, "big") + second + (1100).to_bytes(3, "big") + entry.content[70:],
    )
    with pytest.raises(CorruptObject, match="another length"):
        next(file_content(reader, lying))

    reader.damaged.add(second)
    pieces = file_content(reader, entry)
    assert len(next(pieces)) == 1000
    with pytest.raises(CorruptChunk):
        next(pieces)
    assert b"".join(file_content(reader, entry, 2000)) == (bytes(range(256)) * 10)[2000:]
