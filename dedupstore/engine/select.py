"""Which snapshot is meant: by time, by id, by position, by tag."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dedupstore.errors import NothingMatches, UsageError
from dedupstore.model.snapshot import Snapshot
from dedupstore.units import format_duration, format_id, short_id

MIN_PREFIX = 4
_LATEST = re.compile(r"latest(?:~(\d{1,6}))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which snapshots come into question at all; empty fields say nothing."""

    source: str = ""
    host: str = ""
    tags: tuple[str, ...] = ()
    before_ns: int | None = None
    after_ns: int | None = None

    def matches(self, snapshot: Snapshot) -> bool:
        return (
            (not self.source or snapshot.source == self.source)
            and (not self.host or snapshot.host == self.host)
            and all(tag in snapshot.tags for tag in self.tags)
            and (self.before_ns is None or snapshot.time_ns <= self.before_ns)
            and (self.after_ns is None or snapshot.time_ns >= self.after_ns)
        )


def matching(snapshots: Sequence[Snapshot], wanted: Filter) -> list[Snapshot]:
    """Those that match, oldest first."""
    return [snapshot for snapshot in snapshots if wanted.matches(snapshot)]


def by_time(snapshots: Sequence[Snapshot], at_ns: int, describe: Callable[[int], str]) -> Snapshot:
    """The newest at or before an instant. `describe` turns nanoseconds into the user's local time."""
    candidates = [snapshot for snapshot in snapshots if snapshot.time_ns <= at_ns]
    if candidates:
        return candidates[-1]
    if not snapshots:
        raise _nothing()
    first = snapshots[0]
    seconds = (first.time_ns - at_ns) / 1e9
    later = f"{seconds / 86_400:.0f} days" if seconds >= 2 * 86_400 else format_duration(seconds)
    # Times are shown in whole seconds; the hint must name one that is not before the snapshot.
    reached = describe(-(-first.time_ns // 1_000_000_000) * 1_000_000_000)
    raise NothingMatches(
        f'no snapshot of "{first.source}" at or before {describe(at_ns)}',
        why=f"the oldest is of {describe(first.time_ns)} ({short_id(first.id)}), {later} later",
        hints=[f'dedup restore --at "{reached}"', "list them: dedup snapshots"],
        code="snapshot.none_before",
    )


def by_name(snapshots: Sequence[Snapshot], selector: str) -> Snapshot:
    """The one meant by `latest`, `latest~2`, `@tag:NAME` or the beginning of an id."""
    if not snapshots:
        raise _nothing()
    latest = _LATEST.fullmatch(selector)
    if latest is not None:
        back = int(latest[1] or 0)
        if back >= len(snapshots):
            raise NothingMatches(
                f"{selector} goes back further than the {len(snapshots)} snapshots there are",
                hints=["dedup snapshots"],
                code="snapshot.not_found",
            )
        return snapshots[-1 - back]
    if selector.startswith("@tag:"):
        return _by_tag(snapshots, selector[5:])
    return _by_prefix(snapshots, selector)


def _by_tag(snapshots: Sequence[Snapshot], tag: str) -> Snapshot:
    tagged = [snapshot for snapshot in snapshots if tag in snapshot.tags]
    if not tagged:
        raise NothingMatches(f"no snapshot has the tag {tag!r}", hints=["dedup snapshots"], code="snapshot.not_found")
    return tagged[-1]


def _by_prefix(snapshots: Sequence[Snapshot], selector: str) -> Snapshot:
    prefix = selector.replace("-", "").lower()
    if len(prefix) < MIN_PREFIX:
        raise UsageError(f"{selector!r} is too short for a snapshot id", hints=["give four characters or more"])
    found = [snapshot for snapshot in snapshots if format_id(snapshot.id).startswith(prefix)]
    if not found:
        raise NothingMatches(
            f"no snapshot has an id that begins with {selector!r}", hints=["dedup snapshots"], code="snapshot.not_found"
        )
    if len(found) > 1:
        names = ", ".join(format_id(snapshot.id)[:10] for snapshot in found[:5])
        raise UsageError(f"{selector!r} begins the id of {len(found)} snapshots", why=names, hints=["give more of it"])
    return found[0]


def _nothing() -> NothingMatches:
    return NothingMatches(
        "there is no such snapshot",
        why="no complete snapshot matches the source, host and tags given",
        hints=["dedup snapshots", "make one: dedup snapshot PATH"],
        code="snapshot.not_found",
    )
