"""How much a repository holds, and what it really costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dedupstore.cancel import CancelToken
from dedupstore.errors import IntegrityError, ObjectNotFound
from dedupstore.model.snapshot import Snapshot
from dedupstore.repo import layout
from dedupstore.repo.reachable import reachable
from dedupstore.repo.repository import Repository
from dedupstore.types import ChunkId
from dedupstore.units import short_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Sizes in bytes.

    `logical`: every snapshot restored beside the others. `unique`: every chunk once. `stored`: all objects of
    the repository as they lie in the store, also those that no snapshot needs any more.
    """

    snapshots: int
    logical: int
    unique: int
    unique_chunks: int
    stored: int
    packs: int

    @property
    def ratio(self) -> float:
        """How many times larger the data would be without this program."""
        return self.logical / self.stored if self.stored else 0.0


def measure(repository: Repository, snapshots: Sequence[Snapshot], cancel: CancelToken) -> Usage:
    """Walk the manifests of these snapshots. Costs about 100 bytes of memory per chunk in use."""
    repository.look()
    trees: set[ChunkId] = set()
    chunks: set[ChunkId] = set()
    unique = 0
    locate = repository.reader.locate
    for snapshot in snapshots:
        cancel.check()
        try:
            for _, chunk in reachable(repository.reader.load_manifest, snapshot.root, trees):
                if chunk not in chunks:
                    chunks.add(chunk)
                    unique += locate(chunk).length
        except (IntegrityError, ObjectNotFound) as error:
            error.why = error.in_one_line
            error.message = f"snapshot {short_id(snapshot.id)} is damaged, so it cannot be measured"
            error.hints = ("dedup check", "measure the others: --source or --host")
            raise
    stored = packs = 0
    for row in repository.store.list(""):
        stored += row.size
        packs += row.key.startswith(layout.PACKS) and not row.key.endswith(("-begin", "zz-end"))
    return Usage(
        snapshots=len(snapshots),
        logical=sum(snapshot.statistics.bytes_total for snapshot in snapshots),
        unique=unique,
        unique_chunks=len(chunks),
        stored=stored,
        packs=packs,
    )
