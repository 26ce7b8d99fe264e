"""Groups the chunks of many files by the block they lie in, window by window, so that each block is decoded once.

A window is bounded in files, bytes and chunk references: memory depends on neither the size of a snapshot
nor of a file in it. A file may continue over many windows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

from dedupstore.engine.restore_walk import Met
from dedupstore.engine.target import Folder
from dedupstore.errors import IntegrityError
from dedupstore.model.entry import Entry, split_references
from dedupstore.types import BlockChunks, ChunkId, Kind

MAX_WHOLE_BYTES = 1 << 20
"""Files of several chunks up to this size are put together in memory if all of them lie in one block."""

MAX_WINDOW_FILES = 16_384
MAX_WINDOW_CHUNKS = 32_768
MAX_WINDOW_BYTES = 512 << 20
FIRST_WINDOW_FILES = 512
FIRST_WINDOW_BYTES = 16 << 20
"""The first windows are small so that writing starts at once; each is twice the one before."""


Block = tuple[int, int]
"""Pack number and block number."""


class Place(Protocol):
    """Where a chunk lies (the repository's Location)."""

    @property
    def pack_no(self) -> int: ...
    @property
    def block_no(self) -> int: ...
    @property
    def position(self) -> int: ...


class Reader(Protocol):
    """What a restore needs of the repository's ChunkReader. Safe to call from many threads."""

    def locate(self, chunk: ChunkId) -> Place:
        """Raises MissingChunk when no pack holds the chunk."""
        ...

    def read(self, kind: Kind, chunk: ChunkId) -> bytes:
        """The verified bytes of a chunk, from whichever copy is whole."""
        ...

    def load_manifest(self, chunk: ChunkId) -> bytes: ...

    @property
    def requests_at_a_time(self) -> int:
        """How many threads should read at least."""
        ...

    def runs(self, blocks: Iterable[Block]) -> list[list[Block]]:
        """The blocks, in runs that are best read one after another by one thread."""
        ...

    def fetched(self, kind: Kind, run: Sequence[Block]) -> AbstractContextManager[None]:
        """To be inside of while the blocks of a run are read."""
        ...

    def read_block(self, kind: Kind, pack_no: int, block_no: int, wanted: Mapping[int, ChunkId]) -> BlockChunks:
        """The verified chunks at the wanted positions of one block, all of them, decoded once."""
        ...


class Use(NamedTuple):
    """One place a chunk is written to: a piece of `job`, or, when that is None, the whole of a small file."""

    position: int
    chunk: ChunkId
    folder: Folder
    entry: Entry
    job: object | None
    offset: int
    length: int
    rest: tuple[tuple[int, ChunkId, int], ...] = ()
    """Position, id and length of the second and all further chunks of a small file, all in the same block."""


class Link(NamedTuple):
    """A further name of a file restored earlier."""

    folder: Folder
    entry: Entry


class Window:
    """Work gathered until it is worth starting. Blocks keep the order in which they are first needed."""

    __slots__ = ("blocks", "links", "left", "files", "chunks", "bytes", "max_files", "max_bytes")

    def __init__(self, max_files: int, max_bytes: int) -> None:
        self.blocks: dict[tuple[int, int], list[Use]] = {}
        self.links: list[Link] = []
        self.left: list[Met] = []
        """Directories left in this window: complete, once its work is done."""
        self.files = 0
        self.chunks = 0
        self.bytes = 0
        self.max_files = max_files
        self.max_bytes = max_bytes

    def add(self, place: Place, use: Use) -> None:
        key = (place.pack_no, place.block_no)
        uses = self.blocks.get(key)
        if uses is None:
            self.blocks[key] = [use]
        else:
            uses.append(use)
        self.chunks += 1 + len(use.rest)
        self.bytes += use.length if not use.rest else use.entry.size

    def add_small(self, reader: Reader, folder: Folder, entry: Entry) -> bool:
        """Add a file of several chunks as a small one, if that is what it is; else False."""
        if entry.size > MAX_WHOLE_BYTES or entry.holes or entry.pages is not None:
            return False
        pieces: list[tuple[int, ChunkId, int]] = []
        first: Place | None = None
        try:
            for chunk, length in split_references(entry.content):
                place = reader.locate(chunk)
                if first is None:
                    first = place
                elif (place.pack_no, place.block_no) != (first.pack_no, first.block_no):
                    return False
                pieces.append((place.position, chunk, length))
        except IntegrityError:
            return False
        if first is None:
            return False
        (position, chunk, length), *rest = pieces
        self.add(first, Use(position, chunk, folder, entry, None, 0, length, tuple(rest)))
        return True

    @property
    def full(self) -> bool:
        return (
            self.files >= self.max_files
            or self.chunks >= MAX_WINDOW_CHUNKS
            or self.bytes >= self.max_bytes
            or len(self.left) >= MAX_WINDOW_FILES
        )

    def next(self) -> Window:
        return Window(min(2 * self.max_files, MAX_WINDOW_FILES), min(2 * self.max_bytes, MAX_WINDOW_BYTES))
