"""Forgetting snapshots: a plan that says why of each, and the steps F1 to F4 that carry it out.

What is forgotten is a promise of prune, not a deletion: the record stays a garbage collection root for the undo window.
Killed at any point, every snapshot either exists as before or is forgotten and can be brought back; running it again
is all that is ever needed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import tzinfo

from dedupstore.clock import Clock
from dedupstore.engine.origin import REPAIR_OF
from dedupstore.engine.unreadable import record_left, unreadable_snapshots
from dedupstore.errors import DedupError, NothingMatches, ObjectNotFound, Refused, StoreError
from dedupstore.events import Finding
from dedupstore.model.snapshot import Snapshot
from dedupstore.policy.keeping import (
    BURST,
    FUTURE,
    NEWEST_GOOD,
    PIN_TAG,
    Candidate,
    Rules,
    SourceRules,
    Verdict,
    decide,
    grouped,
)
from dedupstore.policy.retention import Policy
from dedupstore.repo import layout
from dedupstore.repo.catalog import Catalog, Listing
from dedupstore.repo.forgetting import (
    delete_commits,
    list_forgotten,
    open_forgotten,
    put_markers,
    take_back_markers,
)
from dedupstore.repo.marks import MarkBook
from dedupstore.repo.watch import require_all
from dedupstore.types import SnapshotId
from dedupstore.units import format_id, format_number, short_id

SAFETY_TRIGGER = "safety"
"""The trigger of snapshots taken before a restore in place."""

STALE_NS = 24 * 3600 * 1_000_000_000
"""No forget runs so long: an older marker beside a commit marker was left by one that was stopped. Comfort, not safety."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ForgetOptions:
    """A policy, rules of each source, or snapshots by name; exactly one of the three says something."""

    zone: tzinfo
    policy: Policy = field(default_factory=Policy)
    rules: Mapping[str, SourceRules] = field(default_factory=dict)
    """By source; other sources are not judged."""

    snapshots: frozenset[SnapshotId] = frozenset()
    source: str = ""
    host: str = ""
    """Only snapshots of this source and host are judged; empty means all."""

    count_bursts: bool = False
    verified: Mapping[SnapshotId, int] = field(default_factory=dict)
    """When each snapshot was last proven restorable, as far as this machine knows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """One snapshot, with today's tags and note, and what is to become of it."""

    snapshot: Snapshot
    keep: bool
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ForgetPlan:
    """What a forget would do. `rows` are by source and host, oldest first."""

    options: ForgetOptions
    rows: tuple[Judged, ...]
    majorities: tuple[tuple[str, str], ...]
    """Sources and hosts that would lose more than half of their snapshots: only with a clear yes."""

    findings: tuple[Finding, ...]
    unreadable: Mapping[SnapshotId, str]
    """Named, and to be given up although no rule can judge them: what is wrong with each."""

    others: int = 0
    """How many snapshots of other sources and hosts there are, which were not judged."""

    @property
    def removed(self) -> list[Snapshot]:
        return [row.snapshot for row in self.rows if not row.keep]

    @property
    def kept(self) -> list[Snapshot]:
        return [row.snapshot for row in self.rows if row.keep]


def plan_forget(catalog: Catalog, options: ForgetOptions, clock: Clock) -> ForgetPlan:
    """Judge every snapshot of the sources chosen. Reads records and marks only.

    Raises Refused when a snapshot that was named must not go, NothingMatches when there is none to judge,
    IncompleteListing when it is not known which snapshots are protected.
    """
    if (not options.policy.empty) + bool(options.rules) + bool(options.snapshots) != 1:
        raise ValueError("a policy, rules of sources, or names")
    if any(rules.policy.empty for rules in options.rules.values()):
        raise ValueError("rules that keep nothing")
    listing, book = catalog.marked()
    book.require_whole()
    require_all(catalog.store, listing.withheld, listing.returned)
    named = options.snapshots - {snapshot.id for snapshot in listing.snapshots}
    unreadable = unreadable_snapshots(catalog, listing) if named else {}
    given_up = {identifier: why for identifier, why in unreadable.items() if identifier in named}
    return _plan(listing, book, options, clock.now_ns(), given_up)


def execute_forget(catalog: Catalog, plan: ForgetPlan, clock: Clock) -> list[SnapshotId]:
    """Forget what the plan shows, as far as a fresh look agrees; what was forgotten.

    Raises Refused, with every snapshot as it was, when others forgot or protected something meanwhile so that the
    guards would not hold. A store that denies deletes makes it Refused `forget.denied`, one that fails raises StoreError:
    each snapshot then exists, or is forgotten and can be brought back.
    """
    fresh = _look_again(catalog, plan, clock)
    shown = {snapshot.id for snapshot in plan.removed}
    removed = [snapshot.id for snapshot in fresh.removed if snapshot.id in shown]
    given_up = sorted(fresh.unreadable.keys() & plan.unreadable.keys())
    identifiers = {*removed, *given_up}
    if not identifiers:
        return []
    store, keyring = catalog.store, catalog.keyring
    waiting = _clear_stale_markers(catalog, clock.now_ns())
    # As they were committed: today's tags and note are in the marks, which stay.
    records = {identifier: catalog.get(identifier).encode() for identifier in sorted(removed)}
    records |= {identifier: record_left(catalog, identifier) for identifier in given_up}
    for identifier in given_up:
        # A marker that does not open is in the way of the one to come.
        store.delete(layout.forgotten_key(identifier))
    ours = {identifier: record for identifier, record in records.items() if identifier not in waiting}
    put_markers(store, keyring, ours, clock.now_ns())
    try:
        _require_guards(catalog, fresh, identifiers, clock.now_ns())
    except Refused:
        take_back_markers(store, keyring, ours, clock.now_ns())
        raise
    denied = delete_commits(store, identifiers)
    marked = list_forgotten(store)
    lost = {identifier: record for identifier, record in records.items() if identifier not in marked}
    if lost:
        # One of these markers was that of another forget, which gave way: without it there would be no way back.
        put_markers(store, keyring, lost, clock.now_ns())
    if denied:
        raise _denied(denied, len(identifiers))
    return [*removed, *given_up]


def _denied(denied: Sequence[StoreError], asked: int) -> Refused:
    return Refused(
        f"the storage does not allow deleting: {format_number(len(denied), 'snapshot')} of {asked} still there",
        why=denied[0].in_one_line,
        hints=["nothing is lost; run it again where deleting is allowed, or once locks have ended: dedup forget"],
        code="forget.denied",
    )


def sweep_marks(catalog: Catalog) -> int:
    """Delete the marks of snapshots of which nothing is left, neither record nor markers; how many.

    A mark is only ever made of a snapshot that exists, and no id is used twice.
    """
    store = catalog.store
    rows = layout.list_if_there(store, layout.MARKS) or []
    alive = {
        layout.parse_id_key(row.key, prefix)
        for prefix in (layout.COMMITS, layout.FORGOTTEN, layout.ROOTS)
        for row in layout.list_complete(store, prefix)
    }
    stale = [row.key for row in rows if layout.parse_mark_key(row.key)[0] not in alive]
    for key in stale:
        store.delete(key)
    return len(stale)


# Planning


def _plan(
    listing: Listing, book: MarkBook, options: ForgetOptions, now_ns: int, unreadable: Mapping[SnapshotId, str]
) -> ForgetPlan:
    snapshots = {
        snapshot.id: snapshot
        for snapshot in listing.snapshots
        if (not options.source or snapshot.source == options.source)
        and (not options.host or snapshot.host == options.host)
        and (not options.rules or snapshot.source in options.rules)
    }
    missing = options.snapshots - snapshots.keys() - unreadable.keys()
    if missing or (not snapshots and not unreadable and (options.source or options.host or options.rules)):
        names = ", ".join(sorted(short_id(identifier) for identifier in missing))
        raise NothingMatches(
            f"no snapshot {names}" if names else "there is no such snapshot",
            hints=["dedup snapshots"],
            code="snapshot.not_found",
        )
    damaged = {value for snapshot in listing.snapshots for name, value in snapshot.details if name == REPAIR_OF}
    candidates = [
        replace(candidate, good=candidate.good and format_id(candidate.id) not in damaged)
        for candidate in (_candidate(snapshot, listing, book, options, now_ns) for snapshot in snapshots.values())
    ]
    rules = Rules(
        zone=options.zone,
        policy=options.policy,
        sources=options.rules,
        named=options.snapshots,
        count_bursts=options.count_bursts,
    )
    verdicts = decide(candidates, rules, now_ns)
    _refuse_guarded([verdict for verdict in verdicts if verdict.guarded and verdict.id in options.snapshots])
    _refuse_protected(book, unreadable, now_ns)
    return ForgetPlan(
        options=options,
        rows=tuple(
            Judged(snapshot=snapshots[verdict.id], keep=verdict.keep, reasons=verdict.reasons) for verdict in verdicts
        ),
        majorities=tuple(_majorities(candidates, verdicts)),
        findings=tuple(_findings(listing, verdicts, unreadable)),
        unreadable=unreadable,
        others=len(listing.snapshots) - len(snapshots),
    )


def _candidate(snapshot: Snapshot, listing: Listing, book: MarkBook, options: ForgetOptions, now_ns: int) -> Candidate:
    marking = book.of(snapshot)
    protection = ""
    if marking.holds(now_ns):
        protection = f"protected: {marking.reason}" if marking.reason else "protected"
    return Candidate(
        id=snapshot.id,
        source=snapshot.source,
        host=snapshot.host,
        time_ns=snapshot.time_ns,
        made_ns=listing.made_ns[snapshot.id],
        tags=snapshot.tags,
        good=not snapshot.statistics.errors,
        safety=snapshot.trigger == SAFETY_TRIGGER,
        stand_in=any(name == REPAIR_OF for name, _ in snapshot.details),
        protection=protection,
        unclear=snapshot.id in book.unclear,
        verified_ns=options.verified.get(snapshot.id),
    )


def _refuse_guarded(verdicts: Sequence[Verdict]) -> None:
    if verdicts:
        first, *others = verdicts
        more = f" and {len(others)} more" if others else ""
        raise Refused(
            f"snapshot {short_id(first.id)}{more} must not be forgotten",
            why=", ".join(first.reasons),
            hints=["take a new snapshot first, or: dedup unprotect ID, dedup tag ID --remove TAG"],
            code="refused.guarded_snapshot",
        )


def _refuse_protected(book: MarkBook, unreadable: Iterable[SnapshotId], now_ns: int) -> None:
    """Of a snapshot whose record cannot be read, the marks still say whether it may go."""
    for identifier in unreadable:
        marking = book.of_unreadable(identifier)
        if marking.holds(now_ns) or identifier in book.unclear or PIN_TAG in marking.tags:
            raise Refused(
                f"snapshot {short_id(identifier)} must not be forgotten",
                why="it is protected, and its record may still be found in a copy of the repository",
                hints=["put its record back: dedup check names it", f"dedup unprotect {short_id(identifier)}"],
                code="refused.guarded_snapshot",
            )


def _majorities(candidates: Sequence[Candidate], verdicts: Sequence[Verdict]) -> list[tuple[str, str]]:
    removed = {verdict.id for verdict in verdicts if not verdict.keep}
    return [
        group for group, rows in grouped(candidates).items() if 2 * sum(row.id in removed for row in rows) > len(rows)
    ]


def _findings(listing: Listing, verdicts: Sequence[Verdict], given_up: Mapping[SnapshotId, str]) -> list[Finding]:
    findings = [
        Finding(code="snapshot.unreadable", message=f"snapshot {short_id(identifier)} cannot be read and stays: {why}")
        for identifier, why in listing.damaged
        if identifier not in given_up
    ]
    future = sum(FUTURE in verdict.reasons for verdict in verdicts)
    if future:
        message = f"{format_number(future, 'snapshot')} dated in the future: kept, and no rule counts on them; is the clock right?"
        findings.append(Finding(code="forget.future", message=message))
    burst = sum(BURST in verdict.reasons for verdict in verdicts)
    if burst:
        message = f"{format_number(burst, 'snapshot')} that came in a burst: kept, and no rule counts on them; see who made them"
        findings.append(Finding(code="forget.burst", message=message))
    return findings


# Carrying out


def _look_again(catalog: Catalog, plan: ForgetPlan, clock: Clock) -> ForgetPlan:
    """The plan of now: a person may have thought for a long time about the one that was shown."""
    try:
        return plan_forget(catalog, plan.options, clock)
    except NothingMatches as error:
        raise _changed("some of the snapshots are gone already") from error


def _clear_stale_markers(catalog: Catalog, now_ns: int) -> set[SnapshotId]:
    """Take away markers that a stopped forget left; the snapshots whose markers are of today, to be used as they are."""
    commits = {
        SnapshotId(layout.parse_id_key(row.key, layout.COMMITS))
        for row in layout.list_complete(catalog.store, layout.COMMITS)
    }
    stale: dict[SnapshotId, bytes] = {}
    recent = set()
    for identifier in sorted(list_forgotten(catalog.store) & commits):
        try:
            age_ns = now_ns - open_forgotten(catalog.store, catalog.keyring, identifier).time_ns
        except ObjectNotFound:
            continue
        except DedupError:
            age_ns = STALE_NS
        if abs(age_ns) < STALE_NS:
            recent.add(identifier)
        else:
            stale[identifier] = record_left(catalog, identifier)
    if stale:
        take_back_markers(catalog.store, catalog.keyring, stale, now_ns)
    return recent


def _require_guards(catalog: Catalog, plan: ForgetPlan, removed: set[SnapshotId], now_ns: int) -> None:
    """Publish, then look: of two forgets at once, at least one sees the other's markers and gives way.

    A snapshot with a marker counts as gone: the newest good one of each source and host must have none.
    """
    marked = list_forgotten(catalog.store)
    listing, book = catalog.marked()
    book.require_whole()
    groups = {(row.snapshot.source, row.snapshot.host) for row in plan.rows if row.snapshot.id in removed}
    staying = {snapshot.id for snapshot in listing.snapshots} - marked
    for row in plan.rows:
        source, host = group = (row.snapshot.source, row.snapshot.host)
        if NEWEST_GOOD in row.reasons and group in groups and row.snapshot.id not in staying:
            raise _changed(f'the newest good snapshot of "{source}" on {host} is being forgotten by someone else')
    _refuse_protected(book, plan.unreadable.keys() & removed, now_ns)
    for snapshot in listing.snapshots:
        if snapshot.id in removed:
            candidate = _candidate(snapshot, listing, book, plan.options, now_ns)
            if candidate.protection or candidate.unclear or PIN_TAG in candidate.tags:
                raise _changed(f"snapshot {short_id(snapshot.id)} was protected meanwhile")


def _changed(why: str) -> Refused:
    return Refused(
        "the snapshots changed while they were being forgotten; nothing was done",
        why=why,
        hints=["run it again"],
        code="refused.changed_meanwhile",
    )
