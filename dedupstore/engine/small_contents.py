"""Small files named many at once: where each is cut, and the ids of its chunks, before any of them is stored.

Cutting and hashing let go of the interpreter. File by file the archiver would have to win it back from the threads that
compress for each of them, which takes longer than the work itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dedupstore.chunking.chunker import Chunker
from dedupstore.codec.hashing import DIGEST_LENGTH, digests
from dedupstore.model.entry import FILE, Entry, split_references
from dedupstore.types import ChunkId, Data, Kind


@dataclass(slots=True)
class Named:
    """The bytes of a small file, and what its chunks are called."""

    data: bytes
    cuts: Sequence[int]
    """Where its chunks end; one number for each."""
    ids: Sequence[ChunkId]
    hash: bytes = b""
    """Plain, of all bytes; only with two chunks or more."""
    same: bool = False
    """The chunks are those of the previous version, each where it was."""

    stored: bool = False
    """Whoever asked for the names knows that the chunks of the previous version are stored."""


def pieces_of(data: bytes, cuts: Sequence[int]) -> list[Data]:
    """The chunks of a file that is in memory; of one chunk the file itself."""
    if len(cuts) == 1:
        return [data]
    view, start = memoryview(data), 0
    pieces: list[Data] = []
    for end in cuts:
        pieces.append(view[start:end])
        start = end
    return pieces


def previous_cuts(data: bytes, before: Entry) -> list[int]:
    """Where the chunks of the previous version ended; empty when `data` cannot be that, or it is no plain file.

    A hostile parent can give anything the size of this file: a link, or a file with holes.
    """
    if before.kind != FILE or before.size != len(data) or before.holes or before.pages is not None or before.page_size:
        return []
    if len(before.content) == DIGEST_LENGTH:
        return [before.size]
    cuts, end = [], 0
    for _, length in split_references(before.content):
        end += length
        cuts.append(end)
    return cuts


def name_contents(
    contents: Sequence[bytes | None],
    before: Sequence[Entry | None],
    chunker: Chunker,
    ids_of: Callable[[Kind, Sequence[Data]], list[ChunkId]],
) -> list[Named | None]:
    """What each of these files is cut into; None for None. `before` has the previous version of each that has one.

    As long as its bytes are those of its previous version a file is not cut: its chunks are named and compared.
    """
    named: list[Named | None] = [None] * len(contents)
    follow: list[tuple[int, bytes, Sequence[int]]] = []
    anew: list[tuple[int, bytes]] = []
    for number, (data, entry) in enumerate(zip(contents, before, strict=True)):
        if data is None:
            continue
        cuts = previous_cuts(data, entry) if entry is not None else None
        if cuts:
            follow.append((number, data, cuts))
        else:
            anew.append((number, data))
    for number, found in _named(follow, ids_of):
        entry = before[number]
        assert entry is not None
        if _are_those_of(entry, found.ids):
            found.same = True
            named[number] = found
        else:
            anew.append((number, found.data))
    for number, found in _named(_cut(anew, chunker), ids_of):
        named[number] = found
    _add_hashes(named)
    return named


def _are_those_of(entry: Entry, ids: Sequence[ChunkId]) -> bool:
    if len(ids) == 1:
        # As nearly all are; see `previous_cuts` for why this is the one chunk then.
        return ids[0] == entry.content[:DIGEST_LENGTH]
    return list(ids) == [chunk for chunk, _ in entry.inline_references()]


def _cut(files: list[tuple[int, bytes]], chunker: Chunker) -> list[tuple[int, bytes, Sequence[int]]]:
    shortest = chunker.params.minimum
    found = iter(chunker.cuts_of_all(tuple(data for _, data in files if len(data) > shortest)))
    return [(number, data, next(found) if len(data) > shortest else (len(data),)) for number, data in files]


def _named(
    files: list[tuple[int, bytes, Sequence[int]]], ids_of: Callable[[Kind, Sequence[Data]], list[ChunkId]]
) -> list[tuple[int, Named]]:
    pieces: list[Data] = []
    for _, data, cuts in files:
        pieces.extend(pieces_of(data, cuts))
    ids = ids_of(Kind.DATA, pieces) if pieces else []
    named, start = [], 0
    for number, data, cuts in files:
        end = start + len(cuts)
        named.append((number, Named(data, cuts, ids[start:end])))
        start = end
    return named


def _add_hashes(named: Sequence[Named | None]) -> None:
    several = [one for one in named if one is not None and len(one.cuts) > 1]
    # Never the one that the previous version is said to have: a restore refuses what has another hash than its entry.
    for one, hashed in zip(several, digests(None, [one.data for one in several]), strict=True):
        one.hash = hashed
