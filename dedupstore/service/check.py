"""Prove that what is stored can be restored, or say exactly what cannot."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from dedupstore.cancel import CancelToken
from dedupstore.engine.check import check_repository
from dedupstore.engine.check_options import CheckOptions, CheckReport, Counts, Coverage, DataShare, Level
from dedupstore.errors import NothingMatches
from dedupstore.events import Finding, Listener
from dedupstore.repo.repository import Repository
from dedupstore.service.access import Access
from dedupstore.service.check_memory import CheckMemory, Proven, remember_check
from dedupstore.service.opened import with_repository
from dedupstore.service.repair import PacksOutcome, Replica
from dedupstore.service.repair import packs as mend_packs
from dedupstore.service.selection import Selection, choose
from dedupstore.types import SnapshotId
from dedupstore.units import format_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """How deep to look. Without anything: the structure of all snapshots."""

    quick: bool = False
    read_data: str | None = None
    """`all`, `5%` or `2G`; None reads no data."""

    max_seconds: float | None = None
    restore: bool = False
    restore_sources: tuple[str, ...] = ()
    snapshots: tuple[Selection, ...] = ()
    """Walk only these; empty means all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DamagedPath:
    """A file, or a directory whose listing is lost, and the snapshots from which it cannot be restored."""

    path: bytes
    source: str
    host: str
    directory: bool
    snapshots: tuple[str, ...]
    newest_intact: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What was looked at and found. `counts` and `coverage` are those of engine/check_options.py; sizes in bytes."""

    counts: Counts
    coverage: Coverage | None
    findings: tuple[Finding, ...]
    errors: int
    warnings: int
    damaged_chunks: int
    damaged_paths: tuple[DamagedPath, ...]
    damaged_total: int
    damaged_snapshots: tuple[str, ...]
    complete: bool
    recorded: int
    seconds: float
    exit_code: int


def check_request(request: Request) -> CheckOptions:
    """The options of a request, but for its snapshots. Raises UsageError for a share that is none."""
    return CheckOptions(
        level=Level.QUICK if request.quick else Level.STRUCTURE,
        read_data=DataShare.parse(request.read_data) if request.read_data is not None else None,
        restore=request.restore,
        restore_sources=request.restore_sources,
        max_seconds=request.max_seconds,
    )


def run(request: Request, access: Access, listener: Listener, cancel: CancelToken) -> Outcome:
    """Damage is in the outcome; what raises is trouble that says nothing about the data."""
    options = check_request(request)

    def work(repository: Repository) -> _Checked:
        chosen: tuple[SnapshotId, ...] = tuple(
            choose(repository.catalog, selection, cached=False).id for selection in request.snapshots
        )
        if request.restore_sources:
            _require(repository, request.restore_sources)
        report = check_repository(
            repository,
            CheckOptions(
                level=options.level,
                read_data=options.read_data,
                restore=options.restore,
                restore_sources=options.restore_sources,
                snapshots=chosen,
                max_seconds=options.max_seconds,
                object_lock_ns=access.options.object_lock_ns,
            ),
            listener=listener,
            cancel=cancel,
        )
        existing = repository.catalog.snapshots().snapshots if report.verified else ()
        proven = Proven(snapshots=report.verified, existing=tuple(snapshot.id for snapshot in existing))
        return _Checked(repository.id.hex(), repository.store.url, report, proven)

    # What storage has is asked for, not what this machine has kept of it.
    checked = with_repository(replace(access, kept_bytes=0), work)
    outcome = _outcome(checked.report)
    remember_check(
        access.environ,
        CheckMemory(
            repository=checked.repository,
            url=checked.url,
            depth=_depth(request, outcome),
            time_ns=access.clock.now_ns(),
            errors=outcome.errors,
        ),
        access.note,
        checked.proven,
    )
    return outcome


def _require(repository: Repository, sources: Collection[str]) -> None:
    """A name that nothing has must not be found intact. Raises NothingMatches."""
    listing = repository.catalog.marked(cached=False)[0]
    known = {snapshot.source for snapshot in listing.snapshots}
    for name in sources:
        # One that cannot be read may be of any source; the check says so.
        if name not in known and not listing.damaged:
            raise NothingMatches(
                f'there is no snapshot of a source "{name}"', hints=["dedup snapshots"], code="snapshot.not_found"
            )


def run_and_mend(
    request: Request, access: Access, replica: Replica | None, listener: Listener, cancel: CancelToken, *, dry_run: bool
) -> tuple[Outcome, PacksOutcome | None]:
    """Check; where something is damaged, mend it by what is whole here, by parity, then by the replica, and look again.

    The second check walks all snapshots and reads what is known to be damaged; its verdict counts. With `dry_run` nothing
    is mended, and the verdict is that of the first. None when nothing was damaged.
    """
    before = run(request, access, listener, cancel)
    if before.exit_code != 4:
        return before, None
    mended = mend_packs(access, replica, dry_run=dry_run, listener=listener, cancel=cancel)
    if dry_run or not (mended.packs or mended.chunks):
        return before, mended
    return run(Request(), access, listener, cancel), mended


@dataclass(frozen=True, slots=True)
class _Checked:
    """What was found, and where."""

    repository: str
    url: str
    report: CheckReport
    proven: Proven


def _depth(request: Request, outcome: Outcome) -> str:
    """How deep a check went, as `dedup replicas` tells it."""
    if request.quick:
        return "quick"
    if request.snapshots:
        return "sample"
    if request.read_data is not None:
        return "data" if request.read_data == "all" and outcome.complete else "sample"
    return "restore" if request.restore and not request.restore_sources else "structure"


def _outcome(report: CheckReport) -> Outcome:
    damage = report.damage
    return Outcome(
        counts=report.counts,
        coverage=report.coverage,
        findings=report.findings,
        errors=report.errors,
        warnings=report.warnings,
        damaged_chunks=damage.chunks,
        damaged_paths=tuple(
            DamagedPath(
                path=hit.path,
                source=hit.source,
                host=hit.host,
                directory=hit.directory,
                snapshots=tuple(format_id(identifier) for identifier in hit.snapshots),
                newest_intact=hit.newest_intact,
            )
            for hit in damage.files
        ),
        damaged_total=damage.files_total,
        damaged_snapshots=tuple(format_id(identifier) for identifier in damage.snapshots),
        complete=report.complete,
        recorded=report.recorded,
        seconds=sum(report.seconds.values()),
        exit_code=report.exit_code,
    )
