"""Which snapshot a snapshot is a copy of: kept in its record, so that it is copied once, by whatever way it comes."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from dedupstore.model.snapshot import Snapshot
from dedupstore.types import ChunkId, RepositoryId, SnapshotId
from dedupstore.units import format_id

REPOSITORY = "copy.repository"
SNAPSHOT = "copy.snapshot"
"""Names among the record's `details`."""

REPAIR_OF = "repair-of"
"""The detail of a snapshot's record that names the damaged one it takes the place of."""


class Origin(NamedTuple):
    """Where a snapshot was taken: the repository's id in hex, and the text of the snapshot's id there."""

    repository: str
    snapshot: str


def origin_of(snapshot: Snapshot, repository: RepositoryId) -> Origin:
    """Of a snapshot in `repository`: the one it is a copy of, however many copies lie between, or it itself."""
    details = dict(snapshot.details)
    if REPOSITORY in details and SNAPSHOT in details:
        return Origin(details[REPOSITORY], details[SNAPSHOT])
    return Origin(repository.hex(), format_id(snapshot.id))


def copied_record(
    snapshot: Snapshot, origin: Origin, *, identifier: SnapshotId, root: ChunkId, parent: SnapshotId | None
) -> Snapshot:
    """The record of a copy: everything its original says, but for what names things of another repository."""
    kept = tuple(pair for pair in snapshot.details if pair[0] not in (REPOSITORY, SNAPSHOT))
    details = (*kept, (REPOSITORY, origin.repository), (SNAPSHOT, origin.snapshot))
    return replace(snapshot, id=identifier, root=root, parent=parent, details=details)
