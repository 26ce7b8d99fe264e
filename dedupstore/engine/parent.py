"""The parent snapshot, seen from the walk: what stood at a path, and which of its chunks lie where a new chunk lies."""

from __future__ import annotations

import struct
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise

from dedupstore.errors import CorruptObject, IntegrityError, ObjectNotFound
from dedupstore.model.entry import Entry
from dedupstore.model.tree import Load, read_content, read_tree_pages
from dedupstore.types import ChunkId, Data

SLACK_BYTES = 4096
"""Cut points move a little when content changes: bases reach this far beyond the new chunk's own span."""

AHEAD_BYTES = 64 << 20
BEHIND_BYTES = 16 << 20
"""How far from the current position the parent's chunks are kept in mind; bounds memory for files of any size."""

_CLOSE_PART = 32
_CLOSE_BYTES = 512
"""How far from where it is expected a cut is taken for the same one: this part of a chunk, and a row or two of a table at least.
The wider, the more often it is another cut.
"""

_TAIL_BYTES = 48
_LOST_AFTER = 3
"""So many new chunks whose end is not met, and the distance is looked for in the text of the previous version."""

_SEARCH_BYTES = 1 << 20
_TAILS_KEPT = 4096
_WIDEST = 4
"""How many times as long as a new chunk the text may be that it is made from: more is another text."""

_EXPECTED = 128
"""Chunks of the previous version handed out at a time."""


class Alignment:
    """Pairs the chunks of a file being read with those of its previous version.

    Chunks that are found again are anchors: the distance between their old and new place is taken for what
    follows them. A new chunk resembles what stood at its own place, moved by that distance.

    A cut depends on the bytes before it, so most ends of new chunks are ends of old ones as well: an old cut close to where one is
    expected is taken for it. Where a lot was left out, as among the newest rows of a table of which a quarter changed, none is close,
    and after a few chunks bases would be taken from elsewhere. There `read` is asked for the text that stood nearby.
    """

    def __init__(self, previous: Iterator[tuple[ChunkId, int]], page_size: int = 0, read: Load | None = None) -> None:
        self.page_size = page_size
        """On what pages the previous version was cut."""
        self._previous = previous
        self._starts: list[int] = []
        self._chunks: list[ChunkId] = []
        self._places: dict[ChunkId, int] = {}
        self._end = 0
        self._shift = 0
        self._exhausted = False
        self._read = read
        self._unseen = 0
        self._tails: dict[ChunkId, bytes] = {}

    def anchor(self, chunk: ChunkId, offset: int) -> None:
        """A known chunk stands at `offset` of the new version."""
        self._advance(offset)
        self.regained()
        place = self._places.get(chunk)
        if place is not None:
            self._shift = place - offset

    def regained(self) -> None:
        """What was read last is known, and the distance is right."""
        self._unseen = 0

    def like(self, offset: int, piece: Data) -> Sequence[ChunkId]:
        """The previous version's chunks that lie where this one lies, a new one."""
        self._advance(offset)
        length = len(piece)
        begin = self._around(offset + self._shift, -SLACK_BYTES)
        close = max(_CLOSE_BYTES, length // _CLOSE_PART)
        if self._read is None or self._unseen < _LOST_AFTER:
            self._unseen = 0 if self._met(offset + length, close) else self._unseen + 1
        elif self._search(self._read, offset + length, bytes(piece[-_TAIL_BYTES:])) <= close:
            self.regained()
        end = self._around(offset + self._shift + length, SLACK_BYTES)
        if not 0 < end - begin <= _WIDEST * length + 2 * SLACK_BYTES:
            begin = end - length - 2 * SLACK_BYTES
        first = max(0, bisect_right(self._starts, begin) - 1)
        last = bisect_left(self._starts, end)
        return self._chunks[first:last]

    def expected(self, offset: int) -> list[tuple[ChunkId, int, bool]]:
        """The previous version's next chunks, the first of which begins exactly where `offset` lies: some of them.

        With each its length, and whether it is the last. Empty where no chunk begins there.
        """
        self._advance(offset)
        place = offset + self._shift
        first = bisect_left(self._starts, place)
        if first == len(self._starts) or self._starts[first] != place:
            return []
        starts = self._starts[first : first + _EXPECTED + 1]
        chunks = self._chunks[first : first + _EXPECTED]
        # Whole batches are read ahead: only at the very end are there fewer chunks than asked for.
        if len(starts) == len(chunks):
            starts.append(self._end)
        final = first + len(chunks) == len(self._starts)
        lengths = [end - start for start, end in pairwise(starts)]
        last = len(chunks) - 1 if final else len(chunks)
        return [
            (chunk, length, number == last) for number, (chunk, length) in enumerate(zip(chunks, lengths, strict=True))
        ]

    def _around(self, place: int, slack: int) -> int:
        """Where the previous version was cut there as well, what lies beyond is another chunk's."""
        at = bisect_left(self._starts, place)
        cut = self._starts[at] if at < len(self._starts) else self._end
        return place if cut == place else place + slack

    def _met(self, end: int, close: int) -> bool:
        """Correct the distance where the previous version was cut close to where a new chunk ends; whether it was."""
        place = end + self._shift
        first = bisect_left(self._starts, place - close)
        near = self._starts[first : bisect_right(self._starts, place + close)]
        if abs(self._end - place) <= close:
            near.append(self._end)
        if near:
            self._shift = min(near, key=lambda cut: abs(cut - place)) - end
        return bool(near)

    def _search(self, read: Load, end: int, tail: bytes) -> int:
        """Correct the distance where a chunk of the previous version, not far from here, ends as the new one at `end` does.

        By how much; `_SEARCH_BYTES` where there is none.
        """
        place = end + self._shift
        first = bisect_left(self._starts, place - _SEARCH_BYTES)
        last = bisect_right(self._starts, place + _SEARCH_BYTES)
        ends = [*self._starts[first + 1 : last + 1], self._end][: last - first]
        found = [
            there
            for chunk, there in zip(self._chunks[first:last], ends, strict=True)
            if self._tail(read, chunk) == tail
        ]
        if not found:
            return _SEARCH_BYTES
        nearest = min(found, key=lambda there: abs(there - place))
        self._shift = nearest - end
        return abs(nearest - place)

    def _tail(self, read: Load, chunk: ChunkId) -> bytes:
        known = self._tails.get(chunk)
        if known is None:
            if len(self._tails) >= _TAILS_KEPT:
                self._tails.clear()
            try:
                known = read(chunk)[-_TAIL_BYTES:]
            except (IntegrityError, ObjectNotFound):
                known = b""
            self._tails[chunk] = known
        return known

    def _advance(self, offset: int) -> None:
        place = offset + self._shift
        try:
            while not self._exhausted and self._end < place + AHEAD_BYTES:
                batch = list(islice(self._previous, 64))
                self._exhausted = len(batch) < 64
                for chunk, length in batch:
                    self._starts.append(self._end)
                    self._chunks.append(chunk)
                    self._places[chunk] = self._end
                    self._end += length
        except (IntegrityError, ObjectNotFound):
            # The parent is only a hint here: damage in it is for `check` to report.
            self._exhausted = True
        behind = place - BEHIND_BYTES
        if self._starts and self._starts[0] < behind - BEHIND_BYTES:
            keep = max(0, bisect_right(self._starts, behind) - 1)
            for chunk, start in zip(self._chunks[:keep], self._starts[:keep], strict=True):
                if self._places.get(chunk) == start:
                    del self._places[chunk]
            del self._starts[:keep]
            del self._chunks[:keep]


def align(load: Load, previous: Entry | None, read: Load | None = None) -> Alignment | None:
    """The alignment with a file's previous version; None when there was none or it was empty. `read` gives its text."""
    if previous is None or not (previous.content or previous.pages):
        return None
    return Alignment(read_content(load, previous), previous.page_size, read)


class PageHints:
    """Which of the parent's manifest pages a new page of the same directory resembles."""

    def __init__(self, load: Load, tree: ChunkId | None) -> None:
        self._load = load
        self._tree = tree
        self._pages: list[tuple[bytes, ChunkId]] | None = None

    def like(self, first: bytes) -> Sequence[ChunkId]:
        """Candidates for the page that begins at the name `first` (b"" for the directory's root object)."""
        if self._tree is None:
            return ()
        if not first:
            return (self._tree,)
        if self._pages is None:
            try:
                self._pages = read_tree_pages(self._load, self._tree)
            except (IntegrityError, ObjectNotFound):
                self._pages = []
        place = bisect_right(self._pages, (first, ChunkId(b"\xff" * 33))) - 1
        return [page for _, page in self._pages[max(0, place) : place + 2]]


_ROW = struct.Struct(">16s32sQBI")


@dataclass(slots=True, kw_only=True)
class DirectoryRow:
    """What this machine remembers of a directory: enough to see that nothing changed without reading a manifest.

    `fingerprint` is a keyed hash over names, owners, modes, sizes, times and inodes of everything in it,
    `tree` the manifest it had then, `children` the manifests of its subdirectories in name order, `inodes` one
    number per name. `settled`: no file had been written within 2 s of being read.

    Bytes: fingerprint[16] | tree[32] | read_at u64 | settled u8 | children u32 | ids[32] ... | inodes u64 ...
    """

    fingerprint: bytes
    tree: ChunkId
    read_at: int
    settled: bool
    children: list[ChunkId]
    inodes: Sequence[int]

    def encode(self) -> bytes:
        head = _ROW.pack(self.fingerprint, self.tree, self.read_at, self.settled, len(self.children))
        return b"".join((head, *self.children, struct.pack(f">{len(self.inodes)}Q", *self.inodes)))

    @classmethod
    def decode(cls, data: bytes) -> DirectoryRow:
        """Raises CorruptObject; a row that does not decode is as good as none."""
        try:
            fingerprint, tree, read_at, settled, count = _ROW.unpack_from(data)
            end = _ROW.size + 32 * count
            children = [ChunkId(data[start : start + 32]) for start in range(_ROW.size, end, 32)]
            inodes = struct.unpack(f">{(len(data) - end) // 8}Q", data[end:])
        except struct.error as error:
            raise CorruptObject("a row of the directory cache is malformed") from error
        return cls(
            fingerprint=fingerprint,
            tree=ChunkId(tree),
            read_at=read_at,
            settled=bool(settled),
            children=children,
            inodes=inodes,
        )
