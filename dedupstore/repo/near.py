"""Which blocks are worth fetching together: a request to a bucket takes as long as sending a megabyte or more."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from dedupstore.repo.index import Index
from dedupstore.types import ChunkId, Span

MAX_GAP_BYTES = 1 << 20
"""So much that nobody needs is fetched along rather than asked for twice."""

MAX_RUN_BYTES = 8 << 20
"""Fetched by one request at most: it is in memory until all its blocks are decoded, and keeps one thread busy."""

TOGETHER_BYTES = 12 << 20
"""Decoded in advance for whoever reads one chunk after the other: with their bases, what is kept decoded has room for them."""

REQUESTS_AT_A_TIME = 8

Block = tuple[int, int]
"""Pack number and block number."""

Reference = TypeVar("Reference", bound="tuple[ChunkId, int, int]")
"""A chunk, and what the caller knows of it."""


def runs_of(index: Index, blocks: Iterable[Block], here: Callable[[Block, Span], bool]) -> list[list[Block]]:
    """The blocks in runs, each of one pack, in order and near to one another. Blocks that are `here` stay by themselves.

    Runs come in the order in which their first block was named.
    """
    found: list[tuple[int, list[Block]]] = []
    packs: dict[int, list[tuple[Span, Block, int]]] = {}
    for number, block in enumerate(blocks):
        info = index.block(*block)
        span = Span(info.offset, info.stored)
        if here(block, span):
            found.append((number, [block]))
        else:
            packs.setdefault(block[0], []).append((span, block, number))
    for rows in packs.values():
        rows.sort(key=lambda row: row[0].start)
        start = end = -1
        for span, block, number in rows:
            if start < 0 or span.start > end + MAX_GAP_BYTES or span.end > start + MAX_RUN_BYTES:
                start = span.start
                found.append((number, []))
            end = span.end
            first, run = found[-1]
            run.append(block)
            found[-1] = (min(first, number), run)
    return [run for _, run in sorted(found)]


def groups_of(
    index: Index,
    references: Iterable[Reference],
    place: Callable[[ChunkId], Block | None],
    decode: Callable[[Iterable[Block]], None],
) -> Iterator[list[Reference]]:
    """The references in order and in groups; `decode` has had the blocks of a group when it comes.

    The first group is one block: somebody who looks into a file wants no more. The next ones have more, up to `TOGETHER_BYTES`.
    """
    most = size = 0
    group: list[Reference] = []
    blocks: dict[Block, None] = {}
    for reference in references:
        block = place(reference[0])
        if block is not None and block not in blocks:
            raw = index.block(*block).raw
            if blocks and size + raw > most:
                decode(blocks)
                yield group
                most = min(2 * most or TOGETHER_BYTES // 8, TOGETHER_BYTES)
                group, blocks, size = [], {}, 0
            blocks[block] = None
            size += raw
        group.append(reference)
    if group:
        decode(blocks)
        yield group
