"""The end of a snapshot: publish the root, look again, store again what is no longer safe, commit (W4 to W6).

Root first, then look: whoever condemns packs after our root is listed sees the root and saves our chunks;
whoever condemned before is seen by us now. One of the two always holds, without a lock or a clock.
"""

from __future__ import annotations

from collections.abc import Callable

from dedupstore.clock import Clock
from dedupstore.errors import DedupError, IntegrityError, ObjectNotFound, RepositoryError
from dedupstore.model.snapshot import Snapshot
from dedupstore.repo.catalog import Catalog
from dedupstore.repo.index import Index
from dedupstore.repo.reachable import reachable
from dedupstore.repo.reader import ChunkReader
from dedupstore.repo.view import View
from dedupstore.repo.writer import ChunkWriter
from dedupstore.types import ChunkId

MAX_ROUNDS = 8
MAX_SECONDS = 7 * 24 * 3600.0
"""A root this old without a marker may have been expired by a pruner: start again instead."""


class SnapshotCommitter:
    """Carries one finished tree through W4, W5 and W6."""

    def __init__(
        self, catalog: Catalog, index: Index, reader: ChunkReader, look: Callable[[], View], clock: Clock,
        settle: Callable[[], None] = lambda: None,
    ) -> None:  # fmt: skip
        self._catalog = catalog
        self._index = index
        self._reader = reader
        self._look = look
        self._clock = clock
        self._settle = settle

    def commit(self, writer: ChunkWriter, snapshot: Snapshot, *, walk: bool = False) -> None:
        """Make `snapshot` exist, or raise with nothing shown as complete.

        Every chunk is in durable packs and segments when this is called; `walk` when that is not known, because the
        tree was not put together by this writer: then every chunk is looked for.
        """
        before = writer.view
        record_hash = self._catalog.put_root(snapshot)
        began = self._clock.monotonic()
        for _ in range(MAX_ROUNDS):
            # What a listing does not show yet would be missed by us, as our root would be by others.
            self._settle()
            view = self._look()
            if not walk and _untouched(before, view):
                break
            # Whatever was stored again lies in new packs that the next look has to find, too.
            writer.refresh(view)
            if not self._rescue(writer, snapshot):
                break
        else:
            raise RepositoryError(
                "the repository changed faster than this snapshot could be validated",
                why=f"chunks it uses were condemned in each of {MAX_ROUNDS} rounds",
                hints=["run the snapshot again when prune is done"],
            )
        if self._clock.monotonic() - began > MAX_SECONDS:
            raise RepositoryError("the snapshot was validated too late to be committed", hints=["run it again"])
        try:
            self._catalog.put_commit(snapshot.id, record_hash, self._clock.now_ns())
        except ObjectNotFound as error:
            raise RepositoryError("the snapshot's root disappeared before it was committed") from error

    def _rescue(self, writer: ChunkWriter, snapshot: Snapshot) -> bool:
        """Store again, in full, each chunk that safe packs alone do not give; whether there was any."""
        stored: set[ChunkId] = set()

        try:
            for kind, chunk in reachable(self._reader.load_manifest, snapshot.root):
                if chunk not in stored and not writer.has(chunk):
                    # From wherever a copy still is: a condemned pack is readable until it is deleted.
                    writer.store_again(kind, chunk, self._reader.read(kind, chunk))
                    stored.add(chunk)
            writer.finish()
        except (IntegrityError, ObjectNotFound) as error:
            raise _lost(error) from error
        return bool(stored)


def _untouched(before: View, after: View) -> bool:
    """Whether every chunk that could be used since `before` is surely still safe.

    It is enough that no indexed pack was lost or condemned at either look and that each one usable then, or stored
    since, is usable now: new chunks, and those taken over with the parent's directories without a look, all lie in
    such packs. With any plan or any loss in sight, with a pack that went in between although a prune accounts for it,
    and when there was no prune before and there is one now, the whole tree is looked at.
    """
    return before.whole and after.whole and before.usable <= after.usable and (before.pruned or not after.pruned)


def _lost(error: DedupError) -> RepositoryError:
    return RepositoryError(
        "chunks this snapshot uses disappeared while it ran; it was not committed",
        why=error.message,
        hints=["run the snapshot again: it stores them anew"],
        code="snapshot.chunks_lost",
    )
