"""The list of snapshots, and which of them is meant."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from dedupstore.engine.select import Filter as Filter
from dedupstore.engine.select import by_name, by_time, matching
from dedupstore.errors import UsageError
from dedupstore.events import Finding
from dedupstore.model.snapshot import Snapshot
from dedupstore.repo.catalog import Catalog, Listing
from dedupstore.service.access import Access
from dedupstore.service.records import SnapshotInfo, snapshot_info
from dedupstore.units import format_id, format_number, short_id

SAFETY = "safety"
"""The trigger of snapshots taken before a restore in place. They are chosen by id, tag or source only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which snapshot is meant. `describe` prints an instant as the user writes times."""

    snapshot: str = ""
    at_ns: int | None = None
    source: str = ""
    host: str = ""
    tags: tuple[str, ...] = ()
    describe: Callable[[int], str] = str


def choose(
    catalog: Catalog,
    selection: Selection,
    *,
    cached: bool = True,
    note: Callable[[Finding], None] = lambda finding: None,
) -> Snapshot:
    """The one snapshot a selection means; the newest complete one when it says nothing. `cached`: see Catalog.snapshots.

    `note` is told of those that cannot be read when the selection could have meant one of them.
    """
    listing = catalog.marked(cached=cached)[0]
    if listing.damaged and (not selection.snapshot or selection.snapshot.startswith("latest")):
        note(_perhaps_older(listing))
    found = matching(
        listing.snapshots,
        Filter(source=selection.source, host=selection.host, tags=selection.tags),
    )
    if not (selection.source or selection.tags) and (not selection.snapshot or selection.snapshot.startswith("latest")):
        found = [snapshot for snapshot in found if snapshot.trigger != SAFETY]
    if selection.snapshot and selection.at_ns is not None:
        raise UsageError("--at and --snapshot exclude one another")
    if selection.at_ns is not None:
        return by_time(found, selection.at_ns, selection.describe)
    return by_name(found, selection.snapshot or "latest")


def _perhaps_older(listing: Listing) -> Finding:
    names = ", ".join(short_id(identifier) for identifier, _ in listing.damaged)
    return Finding(
        code="snapshot.unreadable",
        message=f"{format_number(len(listing.damaged), 'snapshot')} cannot be read ({names}); "
        "the one chosen may not be the newest; see: dedup check",
        severity="warning",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotList:
    snapshots: tuple[SnapshotInfo, ...]
    findings: tuple[Finding, ...]
    """Snapshots that exist and cannot be read."""

    rolled_back: bool = False
    """Whether storage shows an older state than this machine has seen."""


def snapshots(access: Access, wanted: Filter, *, limit: int | None = None) -> SnapshotList:
    """Complete snapshots, oldest first; the newest `limit` of them."""
    listing, book = access.open_keys().catalog.marked(cached=True)
    found = matching(listing.snapshots, wanted)
    if limit is not None:
        found = found[max(0, len(found) - limit) :]
    return SnapshotList(
        snapshots=tuple(snapshot_info(snapshot, book.of(snapshot)) for snapshot in found),
        findings=unreadable(listing),
        rolled_back=bool(listing.withheld or listing.returned),
    )


def unreadable(listing: Listing) -> tuple[Finding, ...]:
    """Of each snapshot that exists and cannot be read, why."""
    return tuple(
        Finding(
            code="snapshot.unreadable",
            message=f"snapshot {format_id(identifier)} cannot be read: {reason}",
            severity="error",
        )
        for identifier, reason in listing.damaged
    )
