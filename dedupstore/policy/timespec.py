"""Words for time: `yesterday 18:00`, `2h ago`, `2026-11-20` to an instant; `24h` to a duration.

    2026-11-20                  the end of that day, 23:59:59.999999999
    2026-11-20 03:00[:00]       that moment; with an offset (`Z`, `+08:00`, also after a `T`) it is RFC 3339
    03:00[:00]                  the last time clocks showed it
    now
    today, yesterday, monday    the end of that day; with a time of day behind it, that moment
    2h ago, 3 days ago, -90m    before now

Decisions. A weekday is the last one before today: on a Monday, `monday` is a week ago, for today has its
own word. Days, weeks, months and years are steps in the calendar (`1 day ago` is the same wall-clock time
yesterday, also across a change of the clocks; a month without that day ends earlier); hours, minutes and
seconds are elapsed time. A wall-clock time that is skipped in spring moves on by the skipped hour, one that
comes twice in autumn is the first (as in RFC 5545), but the end of a day is always its very end.
Dates such as 03/04/26 are refused: half of the world reads them the other way round.
"""

from __future__ import annotations

import calendar
import os
import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from dedupstore.errors import UsageError

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NS = 1_000_000_000
_HINT = 'write it as "2026-11-20", "2026-11-20 03:00", "yesterday 18:00", "2h ago" or "now"'
_DURATION_HINT = "write it as 90m, 24h, 7d or 1h30m"

_WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")

_CLOCK = r"(?P<hour>[0-9]{1,2}):(?P<minute>[0-9]{2})(?::(?P<second>[0-9]{2})(?:\.(?P<fraction>[0-9]{1,9}))?)?"
_DATE = re.compile(r"(?P<year>[0-9]{4})-(?P<month>[0-9]{2})-(?P<day>[0-9]{2})")
_MOMENT = re.compile(_DATE.pattern + r"[t ]\s*" + _CLOCK + r"\s*(?P<offset>z|[+-][0-9]{2}:?[0-9]{2})?")
_TIME_OF_DAY = re.compile(_CLOCK)
_DAY_WORD = re.compile(rf"(?P<word>today|yesterday|{'|'.join(_WEEKDAYS)})(?:\s+(?P<clock>\S+))?")
_AMBIGUOUS = re.compile(r"(?P<first>[0-9]{1,2})([/.-])(?P<second>[0-9]{1,2})\2(?P<year>[0-9]{4}|[0-9]{2})(\s.*)?")
_BACKWARDS = re.compile(r"(?:-\s*(?P<minus>.+)|(?P<ago>.+?)\s+ago)")
_STEP = re.compile(r"\s*([0-9]{1,6})\s*([a-z]+)\s*")

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_UNITS = {
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), "s"),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), "m"),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), "h"),
    **dict.fromkeys(("d", "day", "days"), "d"),
    **dict.fromkeys(("w", "week", "weeks"), "w"),
    **dict.fromkeys(("month", "months"), "month"),
    **dict.fromkeys(("y", "year", "years"), "y"),
}


def parse_time(text: str, *, now_ns: int, zone: tzinfo) -> int:
    """The instant `text` names, in nanoseconds since the epoch, read on the clocks of `zone`.

    Raises UsageError for everything the grammar does not name; nothing is guessed.
    """
    words = " ".join(text.lower().split())
    try:
        moment = _instant(words, now_ns, zone)
    except (ValueError, OverflowError) as exc:
        raise _not_a_time(text, str(exc)) from exc
    if moment is None:
        raise _ambiguous(words, text) or _not_a_time(text)
    return moment


def parse_duration(text: str) -> int:
    """Nanoseconds from `90m`, `24h`, `7d`, `1h30m`, `2 weeks` or `0`; days are 24 hours here."""
    words = text.strip().lower()
    steps = [("0", "s")] if words == "0" else _steps(words)
    if steps is None or any(unit not in _SECONDS for _, unit in steps):
        raise UsageError(f"not a duration: {text!r}", hints=[_DURATION_HINT])
    return sum(int(count) * _SECONDS[unit] for count, unit in steps) * _NS


def local_zone(environ: Mapping[str, str], *, localtime: str = "/etc/localtime") -> tzinfo:
    """The machine's zone with its rules for daylight saving: `TZ`, else the system's, else UTC."""
    name = environ.get("TZ", "").removeprefix(":")
    try:
        if name and not name.startswith("/"):
            return ZoneInfo(name)
        with open(name or localtime, "rb") as file:
            return ZoneInfo.from_file(file, key=os.path.basename(name or localtime))
    except (OSError, ValueError, ZoneInfoNotFoundError):
        return UTC


def _instant(words: str, now_ns: int, zone: tzinfo) -> int | None:
    """The instant, or None when no form of the grammar matches."""
    local = (_EPOCH + timedelta(seconds=now_ns // _NS)).astimezone(zone)
    if words == "now":
        return now_ns
    if _DATE.fullmatch(words):
        return _end_of(date.fromisoformat(words), zone)
    if match := _MOMENT.fullmatch(words):
        return _moment(match, zone)
    if match := _TIME_OF_DAY.fullmatch(words):
        return _last_time(match, local, now_ns, zone)
    if match := _DAY_WORD.fullmatch(words):
        return _day_word(match, local.date(), zone)
    if match := _BACKWARDS.fullmatch(words):
        steps = _steps(match["minus"] or match["ago"])
        return None if steps is None else _before(local, now_ns % _NS, steps, zone)
    return None


def _moment(match: re.Match[str], zone: tzinfo) -> int:
    day = date(int(match["year"]), int(match["month"]), int(match["day"]))
    clock, fraction_ns = _time_of_day(match)
    offset = match["offset"]
    if offset:
        zone = UTC if offset == "z" else _fixed(offset)
    return _nanoseconds(datetime.combine(day, clock, tzinfo=zone)) + fraction_ns


def _fixed(offset: str) -> timezone:
    hours, minutes = int(offset[1:3]), int(offset[-2:])
    if hours > 23 or minutes > 59:
        raise ValueError(f"no such offset: {offset}")
    distance = timedelta(hours=hours, minutes=minutes)
    return timezone(-distance if offset[0] == "-" else distance)


def _last_time(match: re.Match[str], local: datetime, now_ns: int, zone: tzinfo) -> int:
    clock, fraction_ns = _time_of_day(match)
    for days in range(4):
        day = local.date() - timedelta(days=days)
        for fold in (1, 0):
            candidate = datetime.combine(day, clock.replace(fold=fold), tzinfo=zone)
            # A time skipped in spring was never shown by any clock on that day.
            shown = candidate.astimezone(UTC).astimezone(zone).replace(tzinfo=None) == candidate.replace(tzinfo=None)
            moment = _nanoseconds(candidate) + fraction_ns
            if shown and moment <= now_ns:
                return moment
    raise ValueError("clocks did not show it lately")


def _day_word(match: re.Match[str], today: date, zone: tzinfo) -> int | None:
    word, clock_text = match["word"], match["clock"]
    if word == "today":
        back = 0
    elif word == "yesterday":
        back = 1
    else:
        back = (today.weekday() - _WEEKDAYS.index(word) - 1) % 7 + 1
    day = today - timedelta(days=back)
    if clock_text is None:
        return _end_of(day, zone)
    clock_match = _TIME_OF_DAY.fullmatch(clock_text)
    if clock_match is None:
        return None
    clock, fraction_ns = _time_of_day(clock_match)
    return _nanoseconds(datetime.combine(day, clock, tzinfo=zone)) + fraction_ns


def _before(local: datetime, fraction_ns: int, steps: list[tuple[str, str]], zone: tzinfo) -> int:
    wall, elapsed = local.replace(tzinfo=None), 0
    calendar_steps = False
    for count, unit in steps:
        if unit in ("s", "m", "h"):
            elapsed += int(count) * _SECONDS[unit]
            continue
        calendar_steps = True
        if unit in ("d", "w"):
            wall -= timedelta(days=int(count) * (7 if unit == "w" else 1))
        else:
            wall = _months_before(wall, int(count) * (12 if unit == "y" else 1))
    # Without a calendar step the instant itself is kept: a wall clock in autumn shows two instants alike.
    start = wall.replace(tzinfo=zone) if calendar_steps else local
    return _nanoseconds(start) + fraction_ns - elapsed * _NS


def _months_before(wall: datetime, months: int) -> datetime:
    year, month = divmod(wall.year * 12 + wall.month - 1 - months, 12)
    if year < 1:
        raise ValueError("before the first year")
    return wall.replace(year=year, month=month + 1, day=min(wall.day, calendar.monthrange(year, month + 1)[1]))


def _steps(words: str) -> list[tuple[str, str]] | None:
    """`1h30m` as [("1", "h"), ("30", "m")], or None when anything else is in it."""
    steps, position = [], 0
    while position < len(words):
        match = _STEP.match(words, position)
        if match is None or match[2] not in _UNITS:
            return None
        steps.append((match[1], _UNITS[match[2]]))
        position = match.end()
    return steps or None


def _time_of_day(match: re.Match[str]) -> tuple[time, int]:
    """The time of day to the second, and the nanoseconds after it."""
    clock = time(int(match["hour"]), int(match["minute"]), int(match["second"] or 0))
    return clock, int((match["fraction"] or "0").ljust(9, "0"))


def _end_of(day: date, zone: tzinfo) -> int:
    return _nanoseconds(datetime.combine(day, time(23, 59, 59, fold=1), tzinfo=zone)) + _NS - 1


def _nanoseconds(moment: datetime) -> int:
    return (moment.astimezone(UTC) - _EPOCH) // timedelta(microseconds=1) * 1000


def _not_a_time(text: str, why: str = "") -> UsageError:
    return UsageError(f"not a time: {text!r}", why=why, hints=[_HINT], code="usage.time")


def _ambiguous(words: str, text: str) -> UsageError | None:
    """The refusal of a date with a local order, with every reading that exists; None for other text."""
    match = _AMBIGUOUS.fullmatch(words)
    if match is None:
        return None
    first, second, year = int(match["first"]), int(match["second"]), int(match["year"])
    if year < 100:
        year += 2000
    readings = [(second, first, "day first"), (first, second, "month first")]
    if first == second:
        readings = readings[:1]
    if len(match["year"]) == 2 and first > 12:
        readings.append((second, year - 2000, "year first"))
        year_first = 2000 + first
    else:
        year_first = 0
    hints = []
    for month, day, reading in readings:
        try:
            hints.append(f"{reading}: {date(year_first if reading == 'year first' else year, month, day).isoformat()}")
        except ValueError:
            continue
    why = (
        "day and month can be read in both orders" if len(hints) > 1 else "the order of day and month differs by place"
    )
    return UsageError(f"not a time: {text!r}", why=why, hints=hints or [_HINT], code="usage.ambiguous_time")
