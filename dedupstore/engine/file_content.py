"""The bytes of one stored file, from its beginning or from anywhere: every chunk verified, holes as zeros."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Protocol

from dedupstore.errors import CorruptObject
from dedupstore.model.entry import Entry
from dedupstore.model.tree import read_content_from
from dedupstore.types import ChunkId, Kind

_ZEROS = bytes(1 << 20)


class Chunks(Protocol):
    """What reading files takes: `ChunkReader`, or a dictionary of the tests."""

    def read(self, kind: Kind, chunk: ChunkId) -> bytes: ...

    def load_manifest(self, chunk: ChunkId) -> bytes: ...

    def together(
        self, kind: Kind, references: Iterable[tuple[ChunkId, int, int]]
    ) -> Iterator[list[tuple[ChunkId, int, int]]]:
        """The same in groups, each of which is best read at once."""
        ...


def file_content(reader: Chunks, entry: Entry, start: int = 0) -> Iterator[bytes | memoryview]:
    """The file from byte `start` on, in pieces that are never empty; holes come in pieces of 1 MiB at most.

    Raises CorruptChunk, CorruptObject, MissingChunk or ObjectNotFound before a byte of what is damaged.
    """
    position = start
    chunks = _chunks(reader, entry, _stored_before(entry, start))
    rest = memoryview(b"")
    for end, hole in _stretches(entry):
        while position < end:
            if hole:
                piece: bytes | memoryview = _ZEROS[: end - position] if end - position < len(_ZEROS) else _ZEROS
            else:
                rest = rest or next(chunks)
                piece, rest = rest[: end - position], rest[end - position :]
            yield piece
            position += len(piece)


def _stretches(entry: Entry) -> Iterator[tuple[int, bool]]:
    """Where each stretch of data or of nothing ends, and whether it is nothing."""
    for offset, length in zip(entry.holes[::2], entry.holes[1::2], strict=True):
        yield offset, False
        yield offset + length, True
    yield entry.size, False


def _stored_before(entry: Entry, position: int) -> int:
    """How many bytes of the stored stream lie before a byte of the file."""
    holes = zip(entry.holes[::2], entry.holes[1::2], strict=True)
    return position - sum(min(length, position - offset) for offset, length in holes if offset < position)


def _chunks(reader: Chunks, entry: Entry, start: int) -> Iterator[memoryview]:
    """The stored stream from `start` on."""
    groups = reader.together(Kind.DATA, read_content_from(reader.load_manifest, entry, start))
    for chunk, length, begin in chain.from_iterable(groups):
        data = memoryview(reader.read(Kind.DATA, chunk))
        if len(data) != length:
            # Its id was compared: it is the list of chunks that lies.
            raise CorruptObject("a content list gives a chunk another length than it has")
        yield data[start - begin :] if begin < start else data
