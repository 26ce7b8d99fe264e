"""Bringing back a forgotten snapshot: a new snapshot of the same tree, by the writer protocol (W4 to W6).

The old record is never made a snapshot again: prune may already be on its way to delete it. The new one is published,
and then every chunk of its tree is looked for, as if nothing were known of it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from dedupstore.codec.crypto import random_bytes
from dedupstore.errors import DedupError, IntegrityError, NothingMatches, ObjectNotFound, RepositoryError
from dedupstore.events import Listener, Progress
from dedupstore.model.snapshot import Snapshot
from dedupstore.repo import layout
from dedupstore.repo.catalog import Catalog
from dedupstore.repo.forgetting import list_forgotten, open_forgotten
from dedupstore.repo.repository import Repository
from dedupstore.types import SnapshotId
from dedupstore.units import format_id, short_id

UNDO_OF = "undo-forget-of"
"""The detail of a snapshot's record that names the one it brings back."""

MIN_PREFIX = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class ForgottenSnapshot:
    """A snapshot that can be brought back, with the tags and the note it had last."""

    snapshot: Snapshot
    forgotten_ns: int


def forgotten_snapshots(catalog: Catalog) -> list[ForgottenSnapshot]:
    """What was forgotten and is not expired, oldest first. Markers that cannot be read are left out."""
    commits = {
        layout.parse_id_key(row.key, layout.COMMITS) for row in layout.list_complete(catalog.store, layout.COMMITS)
    }
    book = catalog.marks()
    found = []
    for identifier in list_forgotten(catalog.store) - commits:
        try:
            marker = open_forgotten(catalog.store, catalog.keyring, SnapshotId(identifier))
        except (IntegrityError, ObjectNotFound):
            continue
        found.append(ForgottenSnapshot(snapshot=book.apply(marker.snapshot), forgotten_ns=marker.time_ns))
    return sorted(found, key=lambda row: (row.snapshot.time_ns, row.snapshot.id))


def undo_forget(repository: Repository, selector: str, *, listener: Listener) -> Snapshot:
    """Make the forgotten snapshot whose id begins with `selector` exist again, under a new id.

    Raises NothingMatches `snapshot.undo_too_late` when its data or its marker is gone, `snapshot.not_forgotten` when it
    exists, or was brought back already.
    """
    old = _chosen(repository.catalog, selector)
    listener.progress(Progress(phase="commit"))
    new = replace(
        old.snapshot,
        id=SnapshotId(random_bytes(16)),
        details=(*_other_details(old.snapshot), (UNDO_OF, format_id(old.snapshot.id))),
    )
    with repository.writer(repository.look()) as writer:
        try:
            repository.committer().commit(writer, new, walk=True)
        except RepositoryError as error:
            if error.code != "snapshot.chunks_lost":
                raise
            raise _too_late(short_id(old.snapshot.id), f"data it needs is gone: {error.why}") from error
    return new


def _chosen(catalog: Catalog, selector: str) -> ForgottenSnapshot:
    prefix = selector.replace("-", "").lower()
    if len(prefix) < MIN_PREFIX:
        raise NothingMatches(f"{selector!r} is too short for a snapshot id", hints=["give four characters or more"])
    existing = catalog.snapshots().snapshots
    for snapshot in existing:
        undone = dict(snapshot.details).get(UNDO_OF, "")
        if undone.startswith(prefix):
            raise _not_forgotten(f"snapshot {selector} was brought back already, as {short_id(snapshot.id)}")
        if format_id(snapshot.id).startswith(prefix):
            raise _not_forgotten(f"snapshot {selector} is not forgotten")
    found = [row for row in forgotten_snapshots(catalog) if format_id(row.snapshot.id).startswith(prefix)]
    if not found:
        raise _too_late(selector, "no forgotten snapshot has such an id, or the undo window is over and it was pruned")
    if len(found) > 1:
        raise NothingMatches(
            f"{selector!r} begins the id of {len(found)} forgotten snapshots", hints=["give more of it"]
        )
    return found[0]


def _other_details(snapshot: Snapshot) -> tuple[tuple[str, str], ...]:
    return tuple((name, value) for name, value in snapshot.details if name != UNDO_OF)


def _not_forgotten(message: str) -> DedupError:
    return NothingMatches(message, hints=["dedup snapshots"], code="snapshot.not_forgotten")


def _too_late(name: str, why: str) -> DedupError:
    return NothingMatches(
        f"snapshot {name} cannot be brought back",
        why=why,
        hints=["list what can be: dedup undo-forget --list"],
        code="snapshot.undo_too_late",
    )
