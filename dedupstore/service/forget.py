"""Forgetting snapshots by policy or by name, and bringing them back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC

from dedupstore.cancel import CancelToken
from dedupstore.engine.attribution import Freed, freed_together
from dedupstore.engine.forget import ForgetOptions, ForgetPlan, execute_forget, plan_forget, sweep_marks
from dedupstore.engine.select import by_name
from dedupstore.engine.undo_forget import forgotten_snapshots, undo_forget
from dedupstore.engine.unreadable import unreadable_by_id
from dedupstore.errors import NothingMatches, Refused, StoreError, UsageError
from dedupstore.events import Finding, Listener
from dedupstore.policy.keeping import NOT_ASKED_FOR, SourceRules
from dedupstore.policy.retention import Policy, parse_span
from dedupstore.policy.timespec import local_zone
from dedupstore.repo.catalog import UNDO_WINDOW_SECONDS, Catalog, Listing
from dedupstore.repo.config import Operation
from dedupstore.repo.repository import Repository
from dedupstore.service.access import Access
from dedupstore.service.check_memory import verified_at
from dedupstore.service.opened import with_repository
from dedupstore.service.records import SnapshotInfo, snapshot_info
from dedupstore.types import SnapshotId
from dedupstore.units import format_id, short_id

PERIODS = ("hourly", "daily", "weekly", "monthly", "quarterly", "yearly")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What to keep, or which snapshots to forget by name; exactly one of them says something."""

    rules: Mapping[str, SourceRules] = field(default_factory=dict)
    """What to keep of each source, as the configuration says: `configured_rules`."""

    keep: Mapping[str, int] = field(default_factory=dict)
    """Counts by rule: `last` and PERIODS; -1 keeps all."""

    within: Mapping[str, str] = field(default_factory=dict)
    """Spans by rule: `` (everything) and PERIODS."""

    keep_tags: tuple[str, ...] = ()
    snapshots: tuple[str, ...] = ()
    source: str = ""
    host: str = ""
    count_bursts: bool = False
    measure: bool = False
    """Say how many bytes it would free: reads every manifest."""

    dry_run: bool = False
    utc: bool = False
    """Hours and days are those of UTC instead of this machine's zone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One snapshot, what is to become of it, and why."""

    snapshot: SnapshotInfo
    keep: bool
    reasons: tuple[str, ...]

    @property
    def is_beside(self) -> bool:
        """Whether it stays for no other reason than that others were named."""
        return self.reasons == (NOT_ASKED_FOR,)


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenUp:
    """A snapshot that cannot be read and is forgotten because it was named: there is no way back."""

    id: str
    short: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a forget would do. `majorities` are sources and hosts that would lose more than half."""

    rows: tuple[Row, ...]
    majorities: tuple[tuple[str, str], ...]
    findings: tuple[Finding, ...]
    given_up: tuple[GivenUp, ...]
    freed: Freed | None
    """None when nobody asked for it."""

    others: int
    """With rules of sources: snapshots of other sources and hosts, which were not judged."""

    @property
    def removed(self) -> tuple[Row, ...]:
        return tuple(row for row in self.rows if not row.keep)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    plan: Plan
    forgotten: tuple[str, ...]
    """Ids of what was forgotten; empty on a dry run."""

    undo_window_s: int
    dry_run: bool


Measuring = Callable[[], AbstractContextManager[Listener]]


def policy_of(request: Request) -> Policy:
    """The policy a request means. Raises UsageError for a span that is none."""
    spans = {f"within_{name}" if name else "within": parse_span(text) for name, text in request.within.items()}
    return Policy(**request.keep, **spans, tags=request.keep_tags)  # type: ignore[arg-type]  # names are PERIODS


def run(
    request: Request, access: Access, approve: Callable[[Plan], bool], measuring: Measuring, cancel: CancelToken
) -> Outcome:
    """Plan, ask, and forget. `measuring` is open while bytes are counted, and closed before `approve` asks.

    Raises Refused when it was not agreed to, or something must not be forgotten.
    """
    policy = policy_of(request)
    if policy.empty and not request.snapshots and not request.rules:
        raise UsageError(
            "nothing says what to keep",
            why="without a rule everything would go",
            hints=[
                "dedup forget --keep-daily 14 --keep-weekly 8 --keep-monthly 12",
                "dedup forget --policy",
                "dedup forget ID",
            ],
            code="usage.no_policy",
        )
    if (not policy.empty) + bool(request.snapshots) + bool(request.rules) > 1:
        raise UsageError(
            "rules, --policy and snapshots by name exclude one another", hints=["give one of them"]
        )  # fmt: skip
    if request.measure:
        return with_repository(
            access,
            lambda repository: _run(
                request, policy, access, repository.catalog, repository, approve, measuring, cancel
            ),
            Operation.GC,
        )
    opened = access.open_keys(Operation.GC)
    return _run(request, policy, access, opened.catalog, None, approve, measuring, cancel)


def _run(
    request: Request,
    policy: Policy,
    access: Access,
    catalog: Catalog,
    repository: Repository | None,
    approve: Callable[[Plan], bool],
    measuring: Measuring,
    cancel: CancelToken,
) -> Outcome:
    named: frozenset[SnapshotId] = frozenset()
    if request.snapshots:
        listing, _ = catalog.marked()
        named = frozenset(_named(catalog, listing, selector) for selector in request.snapshots)
    options = ForgetOptions(
        zone=UTC if request.utc else local_zone(access.environ),
        policy=policy,
        rules=request.rules,
        snapshots=named,
        source=request.source,
        host=request.host,
        count_bursts=request.count_bursts,
        verified=verified_at(access.environ, catalog.keyring.repository.hex(), catalog.store.url, access.note),
    )
    found = plan_forget(catalog, options, access.clock)
    freed = None
    if repository is not None:
        with measuring() as listener:
            freed = freed_together(repository, found.removed, listener, cancel)
    plan = _plan(found, freed)
    forgotten: tuple[str, ...] = ()
    if (found.removed or found.unreadable) and not request.dry_run:
        if not approve(plan):
            raise Refused(
                "the plan was not agreed to; nothing was forgotten",
                hints=["add --yes to agree to plans like this", "look first: add --dry-run"],
                code="refused.not_confirmed",
            )
        cancel.check()
        forgotten = tuple(format_id(one) for one in execute_forget(catalog, found, access.clock))
        _sweep(catalog, access)
    return Outcome(plan=plan, forgotten=forgotten, undo_window_s=UNDO_WINDOW_SECONDS, dry_run=request.dry_run)


def _named(catalog: Catalog, listing: Listing, selector: str) -> SnapshotId:
    """The snapshot that is meant; one that cannot be read only by the beginning of its id."""
    try:
        return by_name(listing.snapshots, selector).id
    except NothingMatches:
        found = unreadable_by_id(catalog, listing, selector)
        if found is None:
            raise
        return found


def _sweep(catalog: Catalog, access: Access) -> None:
    try:
        sweep_marks(catalog)
    except StoreError as error:
        # What was to be forgotten is; some small objects that say nothing any more are left for the next time.
        access.note(
            Finding(code="forget.marks_left", message=f"old marks were left behind: {error.message}", severity="note")
        )


def _plan(plan: ForgetPlan, freed: Freed | None) -> Plan:
    return Plan(
        rows=tuple(Row(snapshot=snapshot_info(row.snapshot), keep=row.keep, reasons=row.reasons) for row in plan.rows),
        majorities=plan.majorities,
        findings=plan.findings,
        given_up=tuple(
            GivenUp(id=format_id(identifier), short=short_id(identifier), why=why)
            for identifier, why in sorted(plan.unreadable.items())
        ),
        freed=freed,
        others=plan.others if plan.options.rules else 0,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ForgottenInfo:
    """A snapshot that can be brought back; at least until `until_ns`, by the default undo window."""

    snapshot: SnapshotInfo
    forgotten_ns: int
    until_ns: int


def forgotten(access: Access) -> tuple[ForgottenInfo, ...]:
    """What can be brought back, oldest first."""
    return tuple(
        ForgottenInfo(
            snapshot=snapshot_info(row.snapshot),
            forgotten_ns=row.forgotten_ns,
            until_ns=row.forgotten_ns + UNDO_WINDOW_SECONDS * 1_000_000_000,
        )
        for row in forgotten_snapshots(access.open_keys().catalog)
    )


def undo(access: Access, selector: str, listener: Listener) -> SnapshotInfo:
    """Bring a forgotten snapshot back; the new one. Raises NothingMatches when it is too late."""
    return with_repository(
        access,
        lambda repository: snapshot_info(undo_forget(repository, selector, listener=listener)),
        Operation.WRITE,
    )
