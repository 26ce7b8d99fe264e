"""Streams into chunks: a file that was stored before is cut exactly as if it had never been seen."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import cast

import pytest

from dedupstore.cancel import CancelToken
from dedupstore.chunking.chunker import Chunker
from dedupstore.chunking.params import ChunkerParams
from dedupstore.codec.hashing import Keyed, digest
from dedupstore.engine import content
from dedupstore.engine.content import ContentStore
from dedupstore.engine.parent import Alignment, align
from dedupstore.model.entry import FILE, Entry
from dedupstore.model.tree import read_content
from dedupstore.repo.view import View
from dedupstore.types import ChunkId, Data, Kind
from tests.support.gear import gear_table

AVERAGE = 4096


@dataclass
class Chunks:
    """A sink that keeps what it is given."""

    stored: dict[ChunkId, bytes] = field(default_factory=dict)
    hashed: int = 0
    view: View = field(default_factory=lambda: cast("View", None))
    _keyed: Keyed = field(default_factory=lambda: Keyed(bytes(32)))

    def digest(self, kind: Kind, data: Data) -> ChunkId:
        self.hashed += 1
        return ChunkId(self._keyed.digest(data))

    def digests(self, kind: Kind, pieces: Sequence[Data]) -> list[ChunkId]:
        return [self.digest(kind, piece) for piece in pieces]

    def has(self, chunk: ChunkId) -> bool:
        return chunk in self.stored

    def save(self, kind: Kind, data: Data, like: Sequence[ChunkId] = ()) -> ChunkId:
        chunk = self.digest(kind, data)
        self.save_as(kind, chunk, data, like)
        return chunk

    def save_as(self, kind: Kind, chunk: ChunkId, data: Data, like: Sequence[ChunkId] = ()) -> bool:
        if chunk in self.stored:
            return False
        self.stored[chunk] = bytes(data)
        return True

    def checkpoint(self) -> bool:
        return False


class CountingChunker(Chunker):
    """Counts the bytes it was asked to cut."""

    scanned = 0

    def cuts(self, buffer: Data, length: int, *, final: bool, page_size: int = 0) -> list[int]:
        found = super().cuts(buffer, length, final=final, page_size=page_size)
        self.scanned += found[-1] if found else length
        return found


@pytest.fixture
def chunker() -> CountingChunker:
    return CountingChunker(ChunkerParams.for_average(AVERAGE), gear_table())


@pytest.fixture(autouse=True)
def small_buffers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(content, "BUFFER_BYTES", 1 << 16)


def stream(data: bytes, step: int = 10_000) -> Callable[[memoryview], int]:
    position = 0

    def readinto(view: memoryview) -> int:
        nonlocal position
        piece = data[position : position + min(len(view), step)]
        view[: len(piece)] = piece
        position += len(piece)
        return len(piece)

    return readinto


def store(sink: Chunks, chunker: Chunker, data: bytes, previous: Entry | None = None, page_size: int = 0) -> Entry:
    entry = Entry(name=b"f", kind=FILE, mode=0o644, page_size=page_size)
    contents = ContentStore(sink, chunker, CancelToken(), lambda _: None)
    contents.store_stream(stream(data), entry, align(sink.stored.__getitem__, previous), page_size)
    return entry


def restored(sink: Chunks, entry: Entry) -> bytes:
    return b"".join(sink.stored[chunk] for chunk, _ in read_content(sink.stored.__getitem__, entry))


def edits(data: bytes, generator: random.Random) -> dict[str, bytes]:
    middle = len(data) // 2
    insert = generator.randbytes(777)
    many = bytearray(data)
    for _ in range(12):
        many[generator.randrange(len(many))] ^= 1
    return {
        "the same": data,
        "one byte": data[:middle] + bytes((data[middle] ^ 1,)) + data[middle + 1 :],
        "many bytes": bytes(many),
        "inserted": data[:middle] + insert + data[middle:],
        "removed": data[:middle] + data[middle + 5000 :],
        "in front": insert + data,
        "behind": data + insert,
        "cut short": data[: middle + 123],
        "cut at a chunk's end": data[:-1],
        "twice": data + data,
        "moved": data[middle:] + data[:middle],
        "other": generator.randbytes(len(data)),
        "zeros": bytes(len(data)),
        "zeros inside": data[:middle] + bytes(200_000) + data[middle:],
        "empty": b"",
    }


@pytest.mark.parametrize("page_size", [0, 4096])
@pytest.mark.parametrize("seed", range(3))
def test_what_was_stored_before_is_cut_as_if_it_were_new(chunker: CountingChunker, seed: int, page_size: int) -> None:
    generator = random.Random(seed)
    data = generator.randbytes(300_000 + generator.randrange(100_000)) + bytes(50_000)
    for change, changed in edits(data, generator).items():
        sink = Chunks()
        before = store(sink, chunker, data, page_size=page_size)
        fresh = store(Chunks(), chunker, changed, page_size=page_size)

        entry = store(sink, chunker, changed, before, page_size)

        assert entry == fresh, change
        assert restored(sink, entry) == changed, change
        assert not entry.hash or entry.hash == digest([changed]), change


def test_every_end_of_the_previous_version_is_cut_as_if_it_were_new(chunker: CountingChunker) -> None:
    """The last chunk ends where the file ended, not where its content says so."""
    data = random.Random(1).randbytes(120_000)
    cuts = chunker.cuts(data, len(data), final=True)
    for end in (*cuts, *(cut + 1 for cut in cuts[:-1]), *(cut - 1 for cut in cuts)):
        sink = Chunks()
        before = store(sink, chunker, data[:end])

        assert store(sink, chunker, data, before) == store(Chunks(), chunker, data)
        assert store(sink, chunker, data[:end], store(sink, chunker, data)) == before


def test_nothing_unchanged_is_cut_again(chunker: CountingChunker) -> None:
    data = random.Random(2).randbytes(2_000_000)
    sink = Chunks()
    before = store(sink, chunker, data)
    chunker.scanned = sink.hashed = 0
    stored = len(sink.stored)

    store(sink, chunker, data, before)

    longest = chunker.rule().maximum
    # Only what is left of a buffer when the next chunk reaches beyond it.
    assert chunker.scanned < 2_000_000 // (1 << 16) * longest // 2
    assert sink.hashed < len(list(read_content(sink.stored.__getitem__, before))) * 1.1 + 20
    assert len(sink.stored) == stored


def test_a_chunk_that_the_repository_has_lost_is_stored_again(chunker: CountingChunker) -> None:
    data = random.Random(3).randbytes(500_000)
    sink = Chunks()
    before = store(sink, chunker, data)
    lost = [chunk for number, chunk in enumerate(sink.stored) if number % 5 == 2]
    for chunk in lost:
        del sink.stored[chunk]

    entry = store(sink, chunker, data, before)

    assert restored(sink, entry) == data


def test_a_version_cut_on_other_pages_is_not_followed(chunker: CountingChunker) -> None:
    data = random.Random(4).randbytes(500_000)
    sink = Chunks()
    before = store(sink, chunker, data, page_size=4096)

    assert store(sink, chunker, data, before, page_size=0) == store(Chunks(), chunker, data)


def test_a_damaged_list_of_the_previous_version_is_only_a_hint(chunker: CountingChunker) -> None:
    data = random.Random(5).randbytes(500_000)
    sink = Chunks()
    fresh = store(sink, chunker, data)
    wrong = [(ChunkId(bytes([number] * 32)), 1 + 3000 * number) for number in range(1, 60)]
    entry = Entry(name=b"f", kind=FILE, mode=0o644)
    contents = ContentStore(sink, chunker, CancelToken(), lambda _: None)

    contents.store_stream(stream(data), entry, Alignment(iter(wrong)))

    assert entry == fresh


def test_an_error_of_the_stream_is_raised_and_its_buffers_serve_again(chunker: CountingChunker) -> None:
    sink = Chunks()
    contents = ContentStore(sink, chunker, CancelToken(), lambda _: None)
    data = random.Random(6).randbytes(300_000)
    whole = stream(data)
    calls = 0

    def failing(view: memoryview) -> int:
        nonlocal calls
        calls += 1
        if calls > 20:
            raise OSError(5, "broken")
        return whole(view)

    with pytest.raises(OSError, match="broken"):
        contents.store_stream(failing, Entry(name=b"f", kind=FILE, mode=0), None)
    entry = Entry(name=b"f", kind=FILE, mode=0o644)
    contents.store_stream(stream(data), entry, None)

    assert restored(sink, entry) == data
    assert entry.size == len(data)
