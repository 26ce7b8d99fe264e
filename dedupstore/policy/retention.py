"""Which snapshots of one series a policy keeps, and why: the rules users know from restic, as pure arithmetic.

Each rule looks at the snapshots from the newest to the oldest. `last` keeps the first N. A calendar rule keeps the newest
snapshot of each of the N most recent hours, days, ISO weeks, months, quarters or years *that have one*; while it has not
found N, the very oldest snapshot is kept, too, so that a young history reaches back as far as it can. `within` keeps
everything less than a span older than the newest snapshot, and `within_daily` and its kin the newest of each day (…)
of that span. A snapshot that any rule keeps is kept.

Time zones. Hours, days, weeks … are those of the clocks of `zone`. The hour that comes twice in autumn is two hours;
the one that is skipped in spring is none. Spans are steps in the calendar of that zone (a month before 31 March is
the last of February), except hours, which are elapsed time. Spans count back from the newest snapshot, not from now:
a machine that was off for a year has lost nothing of its history by that.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta, tzinfo

from dedupstore.errors import UsageError
from dedupstore.types import SnapshotId

UNLIMITED = -1
"""As a count: every one of them."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SPAN_HINT = "write it as 12h, 14d, 8w, 6m (months) or 1y6m"
_SPAN = re.compile(r"(?:(\d{1,5})y)?(?:(\d{1,5})m)?(?:(\d{1,5})w)?(?:(\d{1,5})d)?(?:(\d{1,5})h)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A length in the calendar: `1y6m14d12h`. `m` is months; there is nothing shorter than an hour."""

    years: int = 0
    months: int = 0
    days: int = 0
    hours: int = 0

    def __str__(self) -> str:
        parts = ((self.years, "y"), (self.months, "m"), (self.days, "d"), (self.hours, "h"))
        return "".join(f"{count}{unit}" for count, unit in parts if count) or "0h"


def parse_span(text: str) -> Span:
    """From `12h`, `14d`, `8w`, `6m` (months), `1y6m14d12h`. Raises UsageError."""
    match = _SPAN.fullmatch(text.strip().lower().replace(" ", ""))
    if match is None or not any(match.groups()):
        raise UsageError(f"not a span of time: {text!r}", hints=[_SPAN_HINT], code="usage.span")
    years, months, weeks, days, hours = (int(group or 0) for group in match.groups())
    if not any((years, months, weeks, days, hours)):
        raise UsageError(f"a span of nothing keeps nothing: {text!r}", hints=[_SPAN_HINT], code="usage.span")
    return Span(years=years, months=months, days=7 * weeks + days, hours=hours)


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What to keep of each series. A count of 0 and a span of None say nothing; UNLIMITED keeps all."""

    last: int = 0
    hourly: int = 0
    daily: int = 0
    weekly: int = 0
    monthly: int = 0
    quarterly: int = 0
    yearly: int = 0
    within: Span | None = None
    within_hourly: Span | None = None
    within_daily: Span | None = None
    within_weekly: Span | None = None
    within_monthly: Span | None = None
    within_quarterly: Span | None = None
    within_yearly: Span | None = None
    tags: tuple[str, ...] = ()

    @property
    def empty(self) -> bool:
        """Whether it says nothing at all; such a policy must not be carried out."""
        return not any(getattr(self, field.name) for field in fields(self))


@dataclass(frozen=True, slots=True, kw_only=True)
class Dated:
    """All that a policy looks at."""

    id: SnapshotId
    time_ns: int
    tags: tuple[str, ...] = ()


_Period = Callable[[datetime], object]

# Two moments are of one period when these are equal. The offset is that of UTC: the second 02:30 of a night in autumn
# is not of the same hour as the first.
_PERIODS: dict[str, _Period] = {
    "hourly": lambda moment: (moment.date(), moment.hour, moment.utcoffset()),
    "daily": lambda moment: moment.date(),
    "weekly": lambda moment: moment.isocalendar()[:2],
    "monthly": lambda moment: (moment.year, moment.month),
    "quarterly": lambda moment: (moment.year, (moment.month - 1) // 3),
    "yearly": lambda moment: moment.year,
}


def judge(policy: Policy, series: Sequence[Dated], zone: tzinfo) -> dict[SnapshotId, tuple[str, ...]]:
    """The reasons for which snapshots of one series are kept; who is not in it is not kept.

    Equal times are told apart by their ids, so that every machine judges alike.
    """
    newest_first = sorted(series, key=lambda dated: (dated.time_ns, dated.id), reverse=True)
    reasons: dict[SnapshotId, list[str]] = {dated.id: [] for dated in newest_first}
    moments = [_moment(dated.time_ns, zone) for dated in newest_first]
    for position, reason in _all_rules(policy, newest_first, moments, zone):
        reasons[newest_first[position].id].append(reason)
    return {identifier: tuple(found) for identifier, found in reasons.items() if found}


def _all_rules(
    policy: Policy, series: Sequence[Dated], moments: Sequence[datetime], zone: tzinfo
) -> Iterator[tuple[int, str]]:
    """Positions that are kept, each with a reason."""
    for position, dated in enumerate(series):
        found = [tag for tag in policy.tags if tag in dated.tags]
        if found:
            yield position, f"tag {found[0]}"
        if policy.last == UNLIMITED or position < policy.last:
            yield position, "last"
    if policy.within is not None:
        for position in _within(policy.within, series, moments, zone):
            yield position, f"within {policy.within}"
    for name, period in _PERIODS.items():
        count: int = getattr(policy, name)
        if count:
            yield from _newest_of_each(name, period, moments, range(len(series)), count)
        span: Span | None = getattr(policy, f"within_{name}")
        if span is not None:
            positions = _within(span, series, moments, zone)
            for position, reason in _newest_of_each(name, period, moments, positions, UNLIMITED):
                yield position, f"{reason} within {span}"


def _newest_of_each(
    name: str, period: _Period, moments: Sequence[datetime], positions: Sequence[int], count: int
) -> Iterator[tuple[int, str]]:
    """The newest of each of the first `count` periods, and the oldest of the whole series if there are fewer."""
    left = count
    last: object = None
    for position in positions:
        if not left:
            return
        this = period(moments[position])
        oldest = position == len(moments) - 1
        if this != last or oldest:
            yield position, name if this != last else f"oldest {name}"
            last = this
            left -= left > 0


def _within(span: Span, series: Sequence[Dated], moments: Sequence[datetime], zone: tzinfo) -> Sequence[int]:
    """The positions of all that are younger than `span` before the newest."""
    if not series:
        return range(0)
    start = _before(moments[0], span, zone)
    # By the clock of UTC: two moments of one zone that differ in their offset are compared by the wall clock otherwise.
    return [position for position, moment in enumerate(moments) if moment.astimezone(UTC) > start]


def _before(moment: datetime, span: Span, zone: tzinfo) -> datetime:
    """The instant that a span before `moment` is, in UTC."""
    if span.years or span.months:
        wall = moment.replace(tzinfo=None)
        months = max(wall.year * 12 + wall.month - 1 - span.years * 12 - span.months, 12)
        year, month = divmod(months, 12)
        day = min(wall.day, calendar.monthrange(year, month + 1)[1])
        wall = wall.replace(year=year, month=month + 1, day=day)
        moment = wall.replace(tzinfo=zone)
    try:
        return (moment - timedelta(days=span.days)).astimezone(UTC) - timedelta(hours=span.hours)
    except OverflowError:
        return datetime(1, 1, 1, tzinfo=UTC)


def _moment(time_ns: int, zone: tzinfo) -> datetime:
    try:
        return (_EPOCH + timedelta(microseconds=time_ns // 1000)).astimezone(zone)
    except (OverflowError, ValueError):
        return datetime(9999, 12, 30, tzinfo=zone)
