"""One stream into chunks: read, cut, name, store. The hot path of everything that is not a small file.

A file that was stored before is not cut again where it has not changed: from a cut point on, the same bytes give the
same chunk. So the next chunk of the previous version is compared by its id first, and only what differs is cut.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from dedupstore.cancel import CancelToken
from dedupstore.chunking.chunker import Chunker
from dedupstore.codec.hashing import StreamHash, digest
from dedupstore.engine.parent import Alignment
from dedupstore.engine.read_ahead import ReadAhead
from dedupstore.engine.sink import ChunkSink
from dedupstore.engine.small_contents import Named, name_contents, pieces_of
from dedupstore.model.entry import Entry
from dedupstore.model.tree import ContentWriter
from dedupstore.types import ChunkId, Data, Kind

BUFFER_BYTES = 8 << 20
"""Files up to here are read as a whole; longer ones are streams."""

PIECE_BYTES = 2 << 20
"""What is read of a stream at a time. Two threads hash the same bytes one after the other: those of the pieces on their
way are to be in the cache that they share still. Of 8 MiB a file of 2.5 GB took 1.00 s to follow, of 2 MiB 0.85 s.
"""

_CUT_AT_ONCE = 4
"""How many chunks of the greatest length are cut at a time where the previous version may be found again."""


@dataclass(slots=True)
class _Region:
    """Contiguous bytes of a stream that begin with a chunk: `view[at:end]`, `view[at]` being byte `offset`."""

    view: memoryview
    at: int
    end: int
    offset: int
    final: bool


class ContentStore:
    """Stores the content of files through one sink. Used by one thread; keeps its buffers from file to file."""

    def __init__(self, sink: ChunkSink, chunker: Chunker, cancel: CancelToken, advanced: Callable[[int], None]) -> None:
        self._sink = sink
        self._chunker = chunker
        self._cancel = cancel
        self._advanced = advanced
        self._read_ahead: dict[int, ReadAhead] = {}

    def name_all(self, contents: Sequence[bytes | None], before: Sequence[Entry | None]) -> list[Named | None]:
        """Cut and name many small files at once, for `store_named`; see `small_contents`."""
        return name_contents(contents, before, self._chunker, self._sink.digests)

    def store_bytes(self, data: bytes, entry: Entry, alignment: Alignment | None, page_size: int = 0) -> int:
        """Store a file that fits in memory; fills `content` (or `pages`) and `hash`. How many bytes were new."""
        if not data:
            return 0
        if page_size:
            cuts = self._chunker.cuts(data, len(data), final=True, page_size=page_size)
            ids = self._sink.digests(Kind.DATA, pieces_of(data, cuts))
            hashed = digest((data,)) if len(cuts) > 1 else b""
            return self.store_named(Named(data, cuts, ids, hashed), entry, alignment)
        (named,) = self.name_all((data,), (None,))
        assert named is not None
        return self.store_named(named, entry, alignment)

    def store_named(self, named: Named, entry: Entry, alignment: Alignment | None) -> int:
        """As `store_bytes`, for a file that was cut and named already."""
        data = named.data
        self._advanced(len(data))
        if len(named.ids) == 1:
            (chunk,) = named.ids
            entry.content = chunk
            # Most files that have a previous version still are that version: what it looked like is not asked for.
            if self._sink.has(chunk):
                return 0
            like = alignment.like(0, data) if alignment is not None else ()
            self._sink.save_as(Kind.DATA, chunk, data, like)
            return len(data)
        references = self._references(entry)
        view = memoryview(data)
        new_bytes = self._store_cuts(view, 0, named.cuts, 0, references, alignment, named.ids)
        references.finish(entry)
        entry.hash = named.hash
        return new_bytes

    def store_stream(
        self, readinto: Callable[[memoryview], int], entry: Entry, alignment: Alignment | None, page_size: int = 0
    ) -> int:
        """Store a stream of any length in bounded memory, read ahead by a second thread; sets `entry.size` to the
        bytes read. How many bytes were new.
        """
        references = self._references(entry)
        whole = StreamHash()
        longest = self._chunker.rule(page_size).maximum
        tail = b""
        offset = new_bytes = 0
        for piece in self._reader(longest).pieces(readinto, whole):
            self._cancel.check()
            start = piece.room - len(tail)
            with memoryview(piece.buffer) as view:
                view[start : piece.room] = tail
                region = _Region(view, start, piece.end, offset, piece.final)
                new_bytes += self._store_region(region, page_size, references, alignment)
                tail = bytes(view[region.at : region.end])
            self._advanced(region.offset - offset)
            offset = region.offset
        references.finish(entry)
        entry.size = offset
        if references.chunks > 1:
            entry.hash = whole.digest()
        return new_bytes

    def _reader(self, longest: int) -> ReadAhead:
        """What is left uncut is shorter than the longest chunk: so much room is kept before each buffer."""
        reader = self._read_ahead.get(longest)
        if reader is None:
            self._read_ahead.clear()
            reader = self._read_ahead[longest] = ReadAhead(max(PIECE_BYTES, 2 * longest), longest)
        return reader

    def _references(self, entry: Entry) -> ContentWriter:
        def save(data: bytes, first: bytes) -> ChunkId:
            return self._sink.save(Kind.MANIFEST, data)

        return ContentWriter(save)

    def _store_region(
        self, region: _Region, page_size: int, references: ContentWriter, alignment: Alignment | None
    ) -> int:
        """Store all chunks of a region that are complete; moves `at` and `offset` behind them."""
        new_bytes = 0
        followed = alignment if alignment is not None and alignment.page_size == page_size else None
        while region.at < region.end:
            if followed is not None:
                began = region.at
                new_bytes += self._follow(region, references, followed)
                if region.at > began:
                    followed.regained()
            cuts = self._cut(region, page_size, ahead=followed is not None)
            if not cuts:
                break
            pieces = [region.view[start:end] for start, end in pairwise((region.at, *cuts))]
            ids = self._sink.digests(Kind.DATA, pieces)
            new_bytes += self._store_cuts(region.view, region.at, cuts, region.offset, references, alignment, ids)
            region.offset += cuts[-1] - region.at
            region.at = cuts[-1]
        return new_bytes

    def _follow(self, region: _Region, references: ContentWriter, alignment: Alignment) -> int:
        """Take the chunks of the previous version for as long as the bytes are theirs; moves on behind them."""
        digest, has, add = self._sink.digest, self._sink.has, references.add
        view, stop = region.view, region.end
        new_bytes = 0
        while expected := alignment.expected(region.offset):
            at = region.at
            for chunk, length, last in expected:
                end = at + length
                # A cut that the end of the previous version made is one here only if this version ends there too.
                if end > stop or (last and not (region.final and end == stop)):
                    return new_bytes
                piece = view[at:end]
                if digest(Kind.DATA, piece) != chunk:
                    return new_bytes
                if not has(chunk) and self._sink.save_as(Kind.DATA, chunk, piece):
                    new_bytes += length
                add(chunk, length)
                region.at = at = end
                region.offset += length
        return new_bytes

    def _cut(self, region: _Region, page_size: int, *, ahead: bool) -> list[int]:
        """Where the next chunks end, as places of the view: of all that is left, or of `ahead` only a part of it."""
        length = region.end - region.at
        if ahead:
            length = min(length, _CUT_AT_ONCE * self._chunker.rule(page_size).maximum)
        final = region.final and region.at + length == region.end
        with region.view[region.at :] as rest:
            cuts = self._chunker.cuts(rest, length, final=final, page_size=page_size)
        return [region.at + cut for cut in cuts]

    def _store_cuts(
        self,
        view: Data,
        start: int,
        cuts: Sequence[int],
        offset: int,
        references: ContentWriter,
        alignment: Alignment | None,
        ids: Sequence[ChunkId],
    ) -> int:
        """Store the chunks that end at `cuts`, the first of which begins at `start`, byte `offset` of the stream."""
        save_as, add = self._sink.save_as, references.add
        new_bytes = 0
        moved = offset - start
        for chunk, end in zip(ids, cuts, strict=True):
            length = end - start
            if alignment is None:
                if save_as(Kind.DATA, chunk, view[start:end]):
                    new_bytes += length
            elif self._sink.has(chunk):
                alignment.anchor(chunk, moved + start)
            else:
                piece = view[start:end]
                save_as(Kind.DATA, chunk, piece, alignment.like(moved + start, piece))
                new_bytes += length
            add(chunk, length)
            start = end
        return new_bytes
