"""Chunks of one repository on their way into another: read in block order, verified under one key, named under the other.

The only place where two key rings meet. Worker threads decode and hash; what comes out is in the order asked for.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from dedupstore.codec.block import BASED
from dedupstore.errors import IntegrityError, ObjectNotFound, RepositoryError
from dedupstore.repo.repository import Repository
from dedupstore.types import ChunkId, Data, Kind

Name = Callable[[Kind, Data], ChunkId]
"""The id that bytes have in the target."""

Block = tuple[int, int]
"""Number of the pack and of the block in it, in the source's index."""

THREADS = 2
_AHEAD = 3 * THREADS
"""Decoded blocks that wait or are being decoded: with full blocks of the usual size 12 MiB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """One block's wanted chunks. `bases`: the source's chunks it was compressed against there, empty for a full one."""

    chunks: Sequence[tuple[ChunkId, ChunkId, Data]]
    """Id in the source, id in the target, bytes."""

    bases: Sequence[ChunkId]
    failed: Mapping[ChunkId, RepositoryError]


class ForeignChunks:
    """Reads chunks of `source` for a target that names bytes by `name`. Use it as a context manager."""

    def __init__(self, source: Repository, name: Name, kind: Kind = Kind.DATA) -> None:
        self._source = source
        self._name = name
        self._kind = kind
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="foreign")

    def __enter__(self) -> ForeignChunks:
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def blocks(self, wanted: Mapping[Block, Mapping[int, ChunkId]]) -> Iterator[Fetched]:
        """Every wanted chunk (by its position in its block), each block decoded once, blocks in ascending order.

        A chunk that no copy gives is in `failed`, and its neighbours are not hit.
        """
        pending: deque[Future[Fetched]] = deque()
        try:
            for block in sorted(wanted):
                pending.append(self._pool.submit(self._fetch, block, wanted[block]))
                if len(pending) >= _AHEAD:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()

    def read(self, chunk: ChunkId) -> tuple[ChunkId, bytes]:
        """One chunk, from whichever copy is whole: its id in the target, and its bytes. Raises IntegrityError."""
        data = self._source.reader.read(self._kind, chunk)
        return self._name(self._kind, data), data

    def _fetch(self, block: Block, wanted: Mapping[int, ChunkId]) -> Fetched:
        bases: Sequence[ChunkId] = ()
        try:
            info = self._source.index.block(*block)
            bases = info.bases if info.codec in BASED else ()
            raw, spans = self._source.reader.read_block(self._kind, *block, wanted)
        except (IntegrityError, ObjectNotFound):
            return self._one_by_one(wanted, bases)
        pieces = [(chunk, raw[slice(*spans[position])]) for position, chunk in sorted(wanted.items())]
        return Fetched(
            chunks=[(chunk, self._name(self._kind, piece), piece) for chunk, piece in pieces], bases=bases, failed={}
        )

    def _one_by_one(self, wanted: Mapping[int, ChunkId], bases: Sequence[ChunkId]) -> Fetched:
        """One bad chunk spoils a block, not its neighbours; and another pack may hold a good copy."""
        chunks: list[tuple[ChunkId, ChunkId, Data]] = []
        failed: dict[ChunkId, RepositoryError] = {}
        for _, chunk in sorted(wanted.items()):
            try:
                own, data = self.read(chunk)
                chunks.append((chunk, own, data))
            except (IntegrityError, ObjectNotFound) as error:
                failed[chunk] = error
        return Fetched(chunks=chunks, bases=bases, failed=failed)
