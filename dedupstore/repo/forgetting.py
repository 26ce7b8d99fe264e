"""The steps of forgetting a snapshot, each durable before the next: marker first, then the commit goes.

A snapshot exists exactly as long as its commit marker does. A forget marker beside a commit marker is a forget that was
stopped, or that someone without the right to delete tried: it means nothing. See docs/protocols.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from dedupstore.codec.claims import ObjectType
from dedupstore.errors import CorruptObject, StoreError
from dedupstore.model.snapshot import Snapshot
from dedupstore.repo import layout
from dedupstore.repo.forgotten import Forgotten, get_forgotten
from dedupstore.repo.keyring import KeyRing
from dedupstore.storage.base import ObjectStore
from dedupstore.types import SnapshotId

Records = Mapping[SnapshotId, bytes]
"""The plaintext of each snapshot's record; empty where it cannot be read any more."""


class RecordLost(CorruptObject):
    """A snapshot was forgotten because its record could not be read: there is no way back."""

    code = "snapshot.record_lost"


def list_forgotten(store: ObjectStore) -> set[SnapshotId]:
    """Every snapshot with a forget marker, also those whose commit marker is still there."""
    rows = layout.list_complete(store, layout.FORGOTTEN)
    return {SnapshotId(layout.parse_id_key(row.key, layout.FORGOTTEN)) for row in rows}


@dataclass(frozen=True, slots=True, kw_only=True)
class ForgottenRecord:
    """A forget marker, opened: the snapshot as it was committed, and when it was forgotten."""

    snapshot: Snapshot
    time_ns: int


def open_forgotten(store: ObjectStore, keyring: KeyRing, identifier: SnapshotId) -> ForgottenRecord:
    """One forget marker. Raises ObjectNotFound, RecordLost, CorruptObject, RepositoryTooNew."""
    marker = get_forgotten(store, keyring, identifier)
    if not marker.record:
        raise RecordLost("its record could not be read any more when it was forgotten")
    snapshot = Snapshot.decode(marker.record)
    if snapshot.id != identifier:
        raise CorruptObject(f"{layout.forgotten_key(identifier)} holds the record of another snapshot")
    return ForgottenRecord(snapshot=snapshot, time_ns=marker.time_ns)


def put_markers(store: ObjectStore, keyring: KeyRing, records: Records, time_ns: int) -> None:
    """F2: a copy of each record, durable. Nothing is forgotten yet."""
    for identifier, record in records.items():
        key = layout.forgotten_key(identifier)
        marker = Forgotten(record=record, time_ns=time_ns)
        store.put(key, [keyring.seal(ObjectType.FORGOTTEN, key, marker.encode())])
    store.barrier()


def take_back_markers(store: ObjectStore, keyring: KeyRing, records: Records, time_ns: int) -> None:
    """Markers of snapshots that are not to be forgotten after all.

    Another forget may have counted on one of them and deleted the commit marker. Here the forget marker goes first and
    the commit markers are listed then, in F4 it is the other way round: one of the two sees what is missing, and puts
    the forget marker again.
    """
    for identifier in records:
        store.delete(layout.forgotten_key(identifier))
    store.barrier()
    commits = {layout.parse_id_key(row.key, layout.COMMITS) for row in layout.list_complete(store, layout.COMMITS)}
    gone = {identifier: record for identifier, record in records.items() if identifier not in commits}
    if gone:
        put_markers(store, keyring, gone, time_ns)


def delete_commits(store: ObjectStore, snapshots: Iterable[SnapshotId]) -> list[StoreError]:
    """F4: from here on the snapshots do not exist; what they hold stays until a prune after the undo window.

    One that is locked keeps no other from going, and exists: what the store said of each such.
    """
    denied: list[StoreError] = []
    for snapshot in snapshots:
        try:
            store.delete(layout.commit_key(snapshot))
        except StoreError as error:
            if not error.is_denial:
                raise
            denied.append(error)
    store.barrier()
    return denied
