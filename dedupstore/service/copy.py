"""Copy snapshots into another repository with keys of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from dedupstore.cancel import CancelToken
from dedupstore.engine.copy import CopyResult, copy_snapshots, split_known
from dedupstore.engine.copy import require_two as require_two
from dedupstore.engine.select import Filter, by_name, matching
from dedupstore.events import Finding, Listener
from dedupstore.model.snapshot import Snapshot
from dedupstore.repo.config import Operation
from dedupstore.repo.repository import Repository
from dedupstore.service.access import Access
from dedupstore.service.opened import open_repository
from dedupstore.service.places import require_apart
from dedupstore.service.records import SnapshotInfo, snapshot_info
from dedupstore.service.replica_state import Replica, device_of, remember_run
from dedupstore.service.selection import SAFETY, unreadable
from dedupstore.units import format_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Which snapshots: those named, or all that match. Safety snapshots only when named, or by tag or source."""

    names: tuple[str, ...] = ()
    wanted: Filter = field(default_factory=Filter)
    level: int = 3
    dry_run: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Copied:
    """One snapshot that was copied; `copy` is it in the target. Sizes in bytes."""

    original: SnapshotInfo
    copy: SnapshotInfo
    read: int
    stored: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    source: str
    target: str
    repository: str
    """Id of the source in hex."""

    target_repository: str
    copied: tuple[Copied, ...]
    lacking: tuple[SnapshotInfo, ...]
    """On a dry run: what would be copied."""

    present: tuple[SnapshotInfo, ...]
    failed: tuple[SnapshotInfo, ...]
    findings: tuple[Finding, ...]
    seconds: float
    dry_run: bool
    exit_code: int


def run(request: Request, source: Access, target: Access, listener: Listener, cancel: CancelToken) -> Outcome:
    """Raises Refused (one repository), NothingMatches, StoreError and the like for trouble with the target."""
    began = source.clock.monotonic()
    require_apart(source.url, target.url)
    operation = Operation.READ if request.dry_run else Operation.WRITE
    with open_repository(source) as here, open_repository(target, operation) as there:
        # The tags and notes of today travel in the records of the copies; marks, protection among them, stay here.
        listing, _ = here.catalog.marked()
        damaged = unreadable(listing)
        for finding in damaged:
            listener.finding(finding)
        chosen = _chosen(listing.snapshots, request)
        lacking, present = split_known(here, there, chosen)
        result = CopyResult(present=present)
        if not request.dry_run:
            result = copy_snapshots(here, there, chosen, listener=listener, cancel=cancel, level=request.level)
            lacking = []
            _, there_now = split_known(here, there, listing.snapshots)
            now_ns = source.clock.now_ns()
            seen = Replica(
                url=there.store.url, way="copy", repository=there.id.hex(), first_ns=now_ns, last_ns=now_ns,
                complete=result.exit_code == 0, snapshots=tuple(format_id(each.id) for each in there_now),
                device=device_of(there.store.url),
            )  # fmt: skip
            remember_run(source.environ, here.id.hex(), seen, listener.finding)
        return _outcome(here, there, result, lacking, damaged, request, source.clock.monotonic() - began)


def _chosen(snapshots: Sequence[Snapshot], request: Request) -> list[Snapshot]:
    found = matching(snapshots, request.wanted)
    if request.names:
        named = {snapshot.id: snapshot for snapshot in (by_name(found, name) for name in request.names)}
        return list(named.values())
    if request.wanted.source or request.wanted.tags:
        return found
    return [snapshot for snapshot in found if snapshot.trigger != SAFETY]


def _outcome(
    here: Repository, there: Repository, result: CopyResult, lacking: Sequence[Snapshot], damaged: Sequence[Finding],
    request: Request, seconds: float,
) -> Outcome:  # fmt: skip
    return Outcome(
        source=here.store.url,
        target=there.store.url,
        repository=here.id.hex(),
        target_repository=there.id.hex(),
        copied=tuple(
            Copied(original=snapshot_info(one.original), copy=snapshot_info(one.copy), read=one.read, stored=one.stored)
            for one in result.copied
        ),
        lacking=tuple(snapshot_info(snapshot) for snapshot in lacking),
        present=tuple(snapshot_info(snapshot) for snapshot in result.present),
        failed=tuple(snapshot_info(snapshot) for snapshot in result.failed),
        findings=(*damaged, *result.findings),
        seconds=seconds,
        dry_run=request.dry_run,
        exit_code=4 if damaged else result.exit_code,
    )
