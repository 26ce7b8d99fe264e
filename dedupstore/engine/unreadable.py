"""Snapshots that are there and cannot be read: of which no rule can judge, and which stop prune until somebody does.

| what | why prune stops |
|---|---|
| a commit marker whose record is missing | nobody knows what the snapshot needs |
| a commit marker or a record that does not open | the same |
| a record without a commit marker that does not open | it may be the root of a snapshot that is being made |

A forgotten snapshot whose record is damaged is none of them as long as its forget marker holds a copy.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from dedupstore.engine.select import MIN_PREFIX
from dedupstore.engine.twice import twice
from dedupstore.errors import IntegrityError, ObjectNotFound
from dedupstore.model.snapshot import Snapshot
from dedupstore.repo.catalog import Catalog, Listing
from dedupstore.repo.forgetting import RecordLost, open_forgotten
from dedupstore.types import SnapshotId
from dedupstore.units import format_id


def unreadable_snapshots(catalog: Catalog, listing: Listing) -> dict[SnapshotId, str]:
    """By id, what is wrong with each. Read twice before it is believed: a flaky line is no damage."""
    found: dict[SnapshotId, str] = {}
    for identifier, _ in listing.damaged:
        why = _trouble(partial(catalog.get, identifier))
        if why and catalog.has_commit(identifier):
            found[identifier] = why
    for identifier in listing.uncommitted:
        why = _trouble(partial(catalog.get_uncommitted, identifier))
        if why and catalog.has_root(identifier) and _trouble(partial(as_forgotten, catalog, identifier)):
            found[identifier] = why
    return found


def unreadable_by_id(catalog: Catalog, listing: Listing, selector: str) -> SnapshotId | None:
    """The one of them whose id begins so; None when there is none, or more than one."""
    prefix = selector.replace("-", "").lower()
    if len(prefix) < MIN_PREFIX:
        return None
    found = [one for one in unreadable_snapshots(catalog, listing) if format_id(one).startswith(prefix)]
    return found[0] if len(found) == 1 else None


def record_left(catalog: Catalog, identifier: SnapshotId) -> bytes:
    """The record of such a snapshot, when only its commit marker is damaged; empty when there is none to be had."""
    try:
        return twice(partial(catalog.get_uncommitted, identifier)).encode()
    except (IntegrityError, ObjectNotFound):
        return b""


def as_forgotten(catalog: Catalog, identifier: SnapshotId) -> Snapshot | None:
    """The snapshot of a record that does not open, as the forget marker has it; None: lost before it was forgotten.

    Raises IntegrityError or ObjectNotFound when it is not forgotten, or the marker does not open either.
    """
    try:
        return open_forgotten(catalog.store, catalog.keyring, identifier).snapshot
    except RecordLost:
        return None


def _trouble(read: Callable[[], object]) -> str:
    try:
        twice(read)
    except (IntegrityError, ObjectNotFound) as error:
        return error.in_one_line
    return ""
