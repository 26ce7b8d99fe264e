"""A dump whose newest rows have changed so much that no chunk is the same is still compared with the rows it was made from."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

import pytest

from dedupstore.cancel import CancelToken
from dedupstore.chunking.chunker import Chunker
from dedupstore.chunking.params import ChunkerParams
from dedupstore.engine.content import ContentStore
from dedupstore.engine.parent import Alignment, align
from dedupstore.errors import MissingChunk
from dedupstore.model.entry import FILE, Entry
from dedupstore.model.tree import Load
from dedupstore.types import ChunkId, Data, Kind
from tests.engine.test_content import Chunks, stream
from tests.support.gear import gear_table

ROW_BYTES = 200
AVERAGE = 16 << 10


class Likes(Chunks):
    """Remembers what each new chunk was compared with."""

    def __init__(self) -> None:
        super().__init__()
        self.compared: list[tuple[bytes, list[ChunkId]]] = []

    def save_as(self, kind: Kind, chunk: ChunkId, data: Data, like: Sequence[ChunkId] = ()) -> bool:
        if kind is Kind.DATA and chunk not in self.stored:
            self.compared.append((bytes(data), list(like)))
        return super().save_as(kind, chunk, data, like)


@pytest.fixture(scope="module")
def rows() -> list[bytes]:
    source = random.Random("rows")
    return [source.randbytes(ROW_BYTES // 2 - 1).hex().encode() + b"\n\n" for _ in range(25_000)]


def stored(sink: Chunks, data: bytes, previous: Entry | None, read: Load | None) -> Entry:
    entry = Entry(name=b"f", kind=FILE, mode=0o644)
    contents = ContentStore(
        sink, Chunker(ChunkerParams.for_average(AVERAGE), gear_table()), CancelToken(), lambda _: None
    )
    contents.store_stream(stream(data), entry, align(sink.stored.__getitem__, previous, read))
    return entry


def found_again(sink: Likes) -> float:
    """The part of the rows in new chunks that stand in what their chunk was compared with."""
    rows = there = 0
    for data, like in sink.compared:
        text = b"".join(sink.stored[chunk] for chunk in like)
        lines = [line for line in data.split(b"\n\n")[1:-1] if line]
        rows += len(lines)
        there += sum(line in text for line in lines)
    return there / rows


@pytest.mark.parametrize(("reads", "least", "most"), [(True, 0.9, 1.0), (False, 0.0, 0.7)])
def test_new_chunks_are_compared_with_the_rows_they_are_made_from(
    rows: list[bytes], reads: bool, least: float, most: float
) -> None:
    source = random.Random("gone")
    sink = Likes()
    before = stored(sink, b"".join(rows), None, None)
    sink.compared.clear()
    # A quarter of the rows of a long stretch is gone: no chunk of it is the same.
    kept = [row for number, row in enumerate(rows) if not 5_000 < number < 20_000 or source.random() < 0.75]

    stored(sink, b"".join(kept), before, sink.stored.__getitem__ if reads else None)

    assert len(sink.compared) > 100
    assert least <= found_again(sink) <= most


def test_text_that_cannot_be_read_is_only_a_hint_that_is_missing(rows: list[bytes]) -> None:
    sink = Likes()
    before = stored(sink, b"".join(rows[:5_000]), None, None)

    def lost(chunk: ChunkId) -> bytes:
        raise MissingChunk("gone")

    after = stored(sink, b"".join(row.upper() for row in rows[:5_000]), before, lost)

    assert after.size == 5_000 * ROW_BYTES


def test_the_end_that_is_nearest_counts() -> None:
    """The same bytes end every second chunk: the distance must not jump to another of them."""
    pieces = [bytes([number]) * 9_000 + b"x" * 1_000 for number in range(40)]
    chunks = [ChunkId(bytes([number]) * 33) for number in range(40)]
    texts = dict(zip(chunks, pieces, strict=True))

    def previous() -> Iterator[tuple[ChunkId, int]]:
        yield from ((chunk, len(texts[chunk])) for chunk in chunks)

    alignment = Alignment(previous(), read=texts.__getitem__)

    for number in range(10, 20):
        changed = b"y" * 8_000 + pieces[number][8_000:]
        found = alignment.like(number * 10_000, changed)

        assert chunks[number] in found
        assert len(found) <= 3


def test_where_each_chunk_lost_a_row_the_close_cuts_are_enough(
    rows: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each text that is read is a block that the cutting thread has to unpack."""
    sink = Likes()
    before = stored(sink, b"".join(rows), None, None)
    sink.compared.clear()
    searches: list[int] = []
    search = Alignment._search

    def counted(self: Alignment, read: Load, end: int, tail: bytes) -> int:
        searches.append(end)
        return search(self, read, end, tail)

    monkeypatch.setattr(Alignment, "_search", counted)

    stored(sink, b"".join(row for number, row in enumerate(rows) if number % 60), before, sink.stored.__getitem__)

    assert len(sink.compared) > 200
    assert found_again(sink) > 0.95
    assert len(searches) < len(sink.compared) // 4
