"""What may be forgotten at all: a policy between its guards. Pure: the same snapshots give the same verdicts anywhere.

Snapshots are judged for each source and host by themselves. Within that, three kinds are judged apart, so that they
cannot take the places of others: those taken before a restore in place, those dated back (committed long after the time
they stand for: imported history, or a clock that was wrong), and all the rest. What is dated in the future, and what
came in a burst, is not judged at all: it stays, and counts for nothing.

Guards hold whatever the policy or the user says: the newest good snapshot, the last one that was verified, what is
protected, what is pinned by a tag, and what may be protected by a mark that cannot be read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import tzinfo

from dedupstore.policy.retention import Dated, Policy, judge
from dedupstore.types import SnapshotId

PIN_TAG = "pinned"
"""A snapshot with this tag is never forgotten."""

BURST_COUNT = 60
BURST_NS = 3600 * 1_000_000_000
"""More snapshots of one source and host than one a minute, over an hour, are a flood and not a history."""

DATED_BACK_NS = 24 * 3600 * 1_000_000_000
"""Few runs take longer; those that do are judged among themselves by the same rules, which harms nobody."""

FUTURE_NS = 3600 * 1_000_000_000
"""Clocks that differ by less are what networks have."""

NO_RULE = "no rule keeps it"
ASKED_FOR = "asked for"
NOT_ASKED_FOR = "not asked for"
FUTURE = "dated in the future"
BURST = "one of a burst"
NEWEST_GOOD = "newest good of its source and host"
YOUNG = "younger than min_age"
ALSO_VERIFIED = "verified"
VERIFIED = "last verified of its source and host"
UNCLEAR = "a mark of it cannot be read"

_RETRO = "dated back"
_SAFETY = "before a restore"
_STAND_IN = "repaired"


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One complete snapshot, as far as keeping it is concerned."""

    id: SnapshotId
    source: str
    host: str
    time_ns: int
    made_ns: int
    """When it was committed."""

    tags: tuple[str, ...] = ()
    good: bool = True
    """Whether the run that made it had nothing to complain of."""

    safety: bool = False
    """Taken before a restore in place."""

    stand_in: bool = False
    """Made by a repair beside a damaged one, which a replica may mend yet: neither takes the place of the other."""

    protection: str = ""
    """Why nobody may forget it, when somebody said so."""

    unclear: bool = False
    """It has a mark that cannot be read."""

    verified_ns: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether a snapshot stays, and why. `guarded`: whatever anyone asks for."""

    id: SnapshotId
    keep: bool
    reasons: tuple[str, ...]
    guarded: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceRules:
    """What to keep of one source. `verified`: so many of the newest that passed a check stay, one at least."""

    policy: Policy = field(default_factory=Policy)
    min_age_ns: int = 0
    """What was made, or stands for a time, less than that ago stays."""

    verified: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What to decide by: a policy, rules of each source, or the snapshots that were asked for by name."""

    zone: tzinfo
    policy: Policy = field(default_factory=Policy)
    sources: Mapping[str, SourceRules] = field(default_factory=dict)
    """Instead of `policy`, by the name of the source."""

    named: frozenset[SnapshotId] = frozenset()
    count_bursts: bool = False
    """Judge the snapshots of a burst as any others."""

    def of(self, source: str) -> SourceRules:
        return self.sources[source] if self.sources else SourceRules(policy=self.policy)


@dataclass(slots=True)
class _Group:
    """The snapshots of one source and host, oldest first."""

    rows: list[Candidate]
    future: set[SnapshotId] = field(default_factory=set)
    burst: set[SnapshotId] = field(default_factory=set)
    guards: dict[SnapshotId, list[str]] = field(default_factory=dict)


def decide(candidates: Iterable[Candidate], rules: Rules, now_ns: int) -> list[Verdict]:
    """A verdict on each snapshot, grouped by source and host, oldest first."""
    verdicts: list[Verdict] = []
    for rows in grouped(candidates).values():
        group = _Group(rows)
        group.future = {row.id for row in rows if row.time_ns > now_ns + FUTURE_NS}
        group.burst = set() if rules.count_bursts else bursts(rows)
        group.guards = _guards(group)
        verdicts += _named(group, rules) if rules.named else _judged(group, rules, now_ns)
    return verdicts


def grouped(candidates: Iterable[Candidate]) -> Mapping[tuple[str, str], list[Candidate]]:
    """By source and host, in the order of their names; oldest first."""
    groups: dict[tuple[str, str], list[Candidate]] = {}
    for row in sorted(candidates, key=lambda row: (row.source, row.host, row.time_ns, row.id)):
        groups.setdefault((row.source, row.host), []).append(row)
    return groups


def bursts(rows: Sequence[Candidate]) -> set[SnapshotId]:
    """The snapshots, oldest first, that are among more than BURST_COUNT within BURST_NS."""
    found: set[SnapshotId] = set()
    start = 0
    marked = 0
    for end, row in enumerate(rows):
        while row.time_ns - rows[start].time_ns >= BURST_NS:
            start += 1
        if end - start + 1 > BURST_COUNT:
            found.update(rows[position].id for position in range(max(start, marked), end + 1))
            marked = end + 1
    return found


def _named(group: _Group, rules: Rules) -> list[Verdict]:
    verdicts = []
    for row in group.rows:
        guards = group.guards.get(row.id, [])
        asked = row.id in rules.named
        reasons = tuple(guards) if guards else (ASKED_FOR if asked else NOT_ASKED_FOR,)
        verdicts.append(Verdict(id=row.id, keep=not asked or bool(guards), reasons=reasons, guarded=bool(guards)))
    return verdicts


def _judged(group: _Group, rules: Rules, now_ns: int) -> list[Verdict]:
    own = rules.of(group.rows[0].source)
    series: dict[str, list[Dated]] = {}
    for row in group.rows:
        if row.id not in group.future and row.id not in group.burst:
            series.setdefault(_kind(row), []).append(Dated(id=row.id, time_ns=row.time_ns, tags=row.tags))
    kept: dict[SnapshotId, list[str]] = {}
    for rows in series.values():
        kept.update({identifier: list(why) for identifier, why in judge(own.policy, rows, rules.zone).items()})
    for identifiers, why in ((group.future, FUTURE), (group.burst, BURST)):
        for identifier in identifiers:
            kept.setdefault(identifier, []).append(why)
    for row in group.rows if own.min_age_ns else ():
        if row.id not in group.future and now_ns - max(row.time_ns, row.made_ns) < own.min_age_ns:
            kept.setdefault(row.id, []).append(YOUNG)
    for row in _verified(group.rows)[1 : own.verified]:
        kept.setdefault(row.id, []).append(ALSO_VERIFIED)
    for identifier, guards in group.guards.items():
        kept.setdefault(identifier, []).extend(guards)
    return [
        Verdict(
            id=row.id,
            keep=row.id in kept,
            reasons=tuple(kept.get(row.id, (NO_RULE,))),
            guarded=row.id in group.guards,
        )
        for row in group.rows
    ]


def _guards(group: _Group) -> dict[SnapshotId, list[str]]:
    guards: dict[SnapshotId, list[str]] = {}
    newest = _newest_good(group)
    guards[newest.id] = [NEWEST_GOOD]
    for row in _verified(group.rows)[:1]:
        guards.setdefault(row.id, []).append(VERIFIED)
    for row in group.rows:
        if row.protection:
            guards.setdefault(row.id, []).append(row.protection)
        if PIN_TAG in row.tags:
            guards.setdefault(row.id, []).append(f"tag {PIN_TAG}")
        if row.unclear:
            guards.setdefault(row.id, []).append(UNCLEAR)
    return guards


def _verified(rows: Sequence[Candidate]) -> list[Candidate]:
    """Those that passed a check, the last verified first."""
    found = [(row.verified_ns, row.time_ns, row.id, row) for row in rows if row.verified_ns is not None]
    return [row for *_, row in sorted(found, key=lambda each: each[:3], reverse=True)]


def _newest_good(group: _Group) -> Candidate:
    """The newest snapshot one would restore: a good one of the ordinary kind, if there is any, else the next best."""

    def worth(row: Candidate) -> tuple[bool, bool, bool, int, SnapshotId]:
        credible = row.id not in group.future and row.id not in group.burst
        return credible, _kind(row) in ("", _STAND_IN), row.good, row.time_ns, row.id

    return max(group.rows, key=worth)


def _kind(row: Candidate) -> str:
    if row.safety:
        return _SAFETY
    if row.stand_in:
        return _STAND_IN
    return _RETRO if row.made_ns - row.time_ns > DATED_BACK_NS else ""
