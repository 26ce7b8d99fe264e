"""The time grammar, row by row, on a frozen clock."""

from __future__ import annotations

import os
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dedupstore.errors import UsageError
from dedupstore.policy.timespec import local_zone, parse_duration, parse_time

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SECOND = 1_000_000_000


def ns(text: str) -> int:
    """Nanoseconds of an RFC 3339 text; `…` at its end adds all but one nanosecond of the last second."""
    end = text.endswith("…")
    moment = datetime.fromisoformat(text.removesuffix("…"))
    return (moment - EPOCH) // timedelta(microseconds=1) * 1000 + (SECOND - 1 if end else 0)


def parse(text: str, now: str, zone: str) -> int:
    return parse_time(text, now_ns=ns(now), zone=ZoneInfo(zone))


# A Saturday evening in Shanghai, which knows no daylight saving.
SHANGHAI = "2026-11-21T23:10:01+08:00"

PLAIN = [
    ("now", "2026-11-21T23:10:01+08:00"),
    ("NOW", "2026-11-21T23:10:01+08:00"),
    ("2026-11-20", "2026-11-20T23:59:59+08:00…"),
    (" 2026-11-20 ", "2026-11-20T23:59:59+08:00…"),
    ("2024-02-29", "2024-02-29T23:59:59+08:00…"),
    ("2030-01-01", "2030-01-01T23:59:59+08:00…"),
    ("1969-12-31", "1969-12-31T23:59:59+08:00…"),
    ("2026-11-20 03:00", "2026-11-20T03:00:00+08:00"),
    ("2026-11-20   03:00", "2026-11-20T03:00:00+08:00"),
    ("2026-11-20 3:00", "2026-11-20T03:00:00+08:00"),
    ("2026-11-20 03:00:07", "2026-11-20T03:00:07+08:00"),
    ("2026-11-20 03:00:07.25", "2026-11-20T03:00:07.250+08:00"),
    ("2026-11-20T03:00", "2026-11-20T03:00:00+08:00"),
    ("2026-11-20T03:00:00Z", "2026-11-20T03:00:00+00:00"),
    ("2026-11-20t03:00:00z", "2026-11-20T03:00:00+00:00"),
    ("2026-11-20T03:00:00+01:00", "2026-11-20T03:00:00+01:00"),
    ("2026-11-20T03:00:00-05:30", "2026-11-20T03:00:00-05:30"),
    ("2026-11-20T03:00:00.123456Z", "2026-11-20T03:00:00.123456+00:00"),
    ("2026-11-20 03:00 +02:00", "2026-11-20T03:00:00+02:00"),
    ("2026-11-20 03:00 +0200", "2026-11-20T03:00:00+02:00"),
    ("03:00", "2026-11-21T03:00:00+08:00"),
    ("3:00", "2026-11-21T03:00:00+08:00"),
    ("23:10", "2026-11-21T23:10:00+08:00"),
    ("23:10:01", "2026-11-21T23:10:01+08:00"),
    ("23:10:02", "2026-11-20T23:10:02+08:00"),
    ("23:59", "2026-11-20T23:59:00+08:00"),
    ("00:00", "2026-11-21T00:00:00+08:00"),
    ("today", "2026-11-21T23:59:59+08:00…"),
    ("today 18:00", "2026-11-21T18:00:00+08:00"),
    ("today 23:30", "2026-11-21T23:30:00+08:00"),
    ("yesterday", "2026-11-20T23:59:59+08:00…"),
    ("yesterday 18:00", "2026-11-20T18:00:00+08:00"),
    ("Yesterday 18:00:30", "2026-11-20T18:00:30+08:00"),
    ("friday", "2026-11-20T23:59:59+08:00…"),
    ("monday", "2026-11-16T23:59:59+08:00…"),
    ("monday 09:15", "2026-11-16T09:15:00+08:00"),
    ("sunday", "2026-11-15T23:59:59+08:00…"),
    ("Saturday", "2026-11-14T23:59:59+08:00…"),
    ("2h ago", "2026-11-21T21:10:01+08:00"),
    ("2 hours ago", "2026-11-21T21:10:01+08:00"),
    ("1h30m ago", "2026-11-21T21:40:01+08:00"),
    ("1 h 30 min ago", "2026-11-21T21:40:01+08:00"),
    ("90 seconds ago", "2026-11-21T23:08:31+08:00"),
    ("3 days ago", "2026-11-18T23:10:01+08:00"),
    ("1 day ago", "2026-11-20T23:10:01+08:00"),
    ("2 weeks ago", "2026-11-07T23:10:01+08:00"),
    ("1 month ago", "2026-10-21T23:10:01+08:00"),
    ("12 months ago", "2025-11-21T23:10:01+08:00"),
    ("1 year ago", "2025-11-21T23:10:01+08:00"),
    ("0s ago", "2026-11-21T23:10:01+08:00"),
    ("-90m", "2026-11-21T21:40:01+08:00"),
    ("- 90m", "2026-11-21T21:40:01+08:00"),
    ("-1d12h", "2026-11-20T11:10:01+08:00"),
    ("-7d", "2026-11-14T23:10:01+08:00"),
]


@pytest.mark.parametrize(("text", "expected"), PLAIN)
def test_the_grammar(text: str, expected: str) -> None:
    assert parse(text, SHANGHAI, "Asia/Shanghai") == ns(expected)


# Berlin: clocks go 02:00 -> 03:00 on 2026-03-29, and 03:00 -> 02:00 on 2026-10-25.
CHANGES = [
    ("2026-03-29T10:00:00+02:00", "2026-03-29", "2026-03-29T23:59:59+02:00…"),
    ("2026-03-29T10:00:00+02:00", "2026-03-28", "2026-03-28T23:59:59+01:00…"),
    ("2026-03-29T10:00:00+02:00", "2026-03-29 02:30", "2026-03-29T03:30:00+02:00"),
    ("2026-03-29T10:00:00+02:00", "02:30", "2026-03-28T02:30:00+01:00"),
    ("2026-03-29T10:00:00+02:00", "01:30", "2026-03-29T01:30:00+01:00"),
    ("2026-03-29T10:00:00+02:00", "12h ago", "2026-03-28T21:00:00+01:00"),
    ("2026-03-29T10:00:00+02:00", "1 day ago", "2026-03-28T10:00:00+01:00"),
    ("2026-03-29T10:00:00+02:00", "24h ago", "2026-03-28T09:00:00+01:00"),
    ("2026-03-29T10:00:00+02:00", "yesterday 18:00", "2026-03-28T18:00:00+01:00"),
    ("2026-10-25T10:00:00+01:00", "2026-10-25 02:30", "2026-10-25T02:30:00+02:00"),
    ("2026-10-25T10:00:00+01:00", "2026-10-25T02:30:00+01:00", "2026-10-25T02:30:00+01:00"),
    ("2026-10-25T10:00:00+01:00", "02:30", "2026-10-25T02:30:00+01:00"),
    ("2026-10-25T02:20:00+01:00", "02:30", "2026-10-25T02:30:00+02:00"),
    ("2026-10-25T02:20:00+01:00", "02:10", "2026-10-25T02:10:00+01:00"),
    ("2026-10-25T02:20:00+01:00", "now", "2026-10-25T02:20:00+01:00"),
    ("2026-10-25T02:20:00+01:00", "-30m", "2026-10-25T02:50:00+02:00"),
    ("2026-10-25T02:20:00+02:00", "-30m", "2026-10-25T01:50:00+02:00"),
    ("2026-10-25T10:00:00+01:00", "1 day ago", "2026-10-24T10:00:00+02:00"),
    ("2026-10-25T10:00:00+01:00", "24h ago", "2026-10-24T11:00:00+02:00"),
    ("2026-10-26T10:00:00+01:00", "yesterday", "2026-10-25T23:59:59+01:00…"),
    ("2026-03-31T10:00:00+02:00", "1 month ago", "2026-02-28T10:00:00+01:00"),
    ("2024-02-29T10:00:00+01:00", "1 year ago", "2023-02-28T10:00:00+01:00"),
    ("2026-11-23T08:00:00+01:00", "monday", "2026-11-16T23:59:59+01:00…"),
    ("2026-11-23T08:00:00+01:00", "sunday", "2026-11-22T23:59:59+01:00…"),
]


@pytest.mark.parametrize(("now", "text", "expected"), CHANGES)
def test_clocks_that_change(now: str, text: str, expected: str) -> None:
    assert parse(text, now, "Europe/Berlin") == ns(expected)


def test_a_day_that_ends_twice_ends_at_its_very_end() -> None:
    # Paraguay turned 2024-03-24 00:00 back to 23:00: the last hour of the 23rd came twice.
    assert parse("2024-03-23", "2024-06-01T12:00:00-04:00", "America/Asuncion") == ns("2024-03-23T23:59:59-04:00…")


def test_fractions_of_now_are_kept() -> None:
    now = ns(SHANGHAI) + 123_456_789

    assert parse_time("now", now_ns=now, zone=UTC) == now
    assert parse_time("-1s", now_ns=now, zone=UTC) == now - SECOND
    assert parse_time("1 day ago", now_ns=now, zone=UTC) == now - 86_400 * SECOND


def test_nanoseconds_of_rfc_3339_are_exact() -> None:
    moment = parse_time("2026-11-20T03:00:00.123456789Z", now_ns=0, zone=UTC)

    assert moment == ns("2026-11-20T03:00:00+00:00") + 123_456_789


REFUSED = [
    "", " ", "soon", "latest", "2026", "2026-11", "20261120", "2026-13-01", "2026-02-30", "2026-1-2", "2026-11-20 24:00",
    "2026-11-20 03", "2026-11-20 03:60", "2026-11-20 03:00:60", "2026-11-20+08:00", "2026-11-20T03:00+25:00",
    "2026-11-20T03:00+01:99", "18", "6pm", "25:00", "3 ago", "ago", "h ago", "2 fortnights ago", "-", "-5", "- ago",
    "yesterday morning", "yesterday 25:00", "tomorrow", "mon", "2h", "99999999h ago", "9999 years ago", "999999 weeks ago",
    "٠٣:٠٠", "2026-11-20\x0003:00", "now now", "0000-01-01", "0001-01-01 00:00 +23:00",
]  # fmt: skip


@pytest.mark.parametrize("text", REFUSED)
def test_what_the_grammar_does_not_name_is_refused(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(text, SHANGHAI, "Asia/Shanghai")

    assert caught.value.exit_code == 2
    assert caught.value.code == "usage.time"
    assert caught.value.hints


@pytest.mark.parametrize(
    ("text", "hints"),
    [
        ("03/04/26", ("day first: 2026-04-03", "month first: 2026-03-04")),
        ("03/04/2026", ("day first: 2026-04-03", "month first: 2026-03-04")),
        ("3.4.2026", ("day first: 2026-04-03", "month first: 2026-03-04")),
        ("03-04-26 18:00", ("day first: 2026-04-03", "month first: 2026-03-04")),
        ("25/12/2026", ("day first: 2026-12-25",)),
        ("12/25/2026", ("month first: 2026-12-25",)),
        ("26/03/04", ("day first: 2004-03-26", "year first: 2026-03-04")),
        ("05/05/26", ("day first: 2026-05-05",)),
    ],
)
def test_dates_that_read_both_ways_are_refused_with_the_readings(text: str, hints: tuple[str, ...]) -> None:
    with pytest.raises(UsageError) as caught:
        parse(text, SHANGHAI, "Asia/Shanghai")

    assert caught.value.code == "usage.ambiguous_time"
    assert caught.value.hints == hints


@given(st.text(max_size=30))
def test_any_text_is_an_instant_or_a_usage_error(text: str) -> None:
    try:
        parse_time(text, now_ns=ns(SHANGHAI), zone=UTC)
    except UsageError:
        pass


@given(
    st.integers(ns("1990-01-01T00:00:00+00:00"), ns("2037-01-01T00:00:00+00:00")),
    st.integers(0, 23),
    st.integers(0, 59),
)
def test_the_last_time_is_past_and_shows_what_was_asked(now: int, hour: int, minute: int) -> None:
    zone = ZoneInfo("Europe/Berlin")

    moment = parse_time(f"{hour:02}:{minute:02}", now_ns=now, zone=zone)

    local = (EPOCH + timedelta(seconds=moment // SECOND)).astimezone(zone)
    assert moment <= now
    assert (local.hour, local.minute, local.second) == (hour, minute, 0)
    assert now - moment <= 49 * 3600 * SECOND


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0), ("0s", 0), ("90m", 5400), ("24h", 86_400), ("7d", 604_800), ("1h30m", 5400), ("1h 30m", 5400),
        ("2 weeks", 1_209_600), (" 1H ", 3600), ("45 sec", 45), ("1 minute", 60),
    ],
)  # fmt: skip
def test_durations(text: str, seconds: int) -> None:
    assert parse_duration(text) == seconds * SECOND


@pytest.mark.parametrize("text", ["", "h", "5", "-1h", "1h ago", "1 month", "1y", "1.5h", "1hh", "h1", "99999999h"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="not a duration"):
        parse_duration(text)


def test_the_local_zone_comes_from_tz_then_the_system_then_utc(tmp_path: Path) -> None:
    summer = datetime(2026, 7, 1, tzinfo=UTC)
    localtime = tmp_path / "localtime"

    assert local_zone({"TZ": "Europe/Berlin"}).utcoffset(summer) == timedelta(hours=2)
    assert local_zone({"TZ": ":Asia/Shanghai"}).utcoffset(summer) == timedelta(hours=8)
    assert local_zone({"TZ": "No/Such"}) is UTC
    assert local_zone({"TZ": "../../etc/passwd"}) is UTC
    assert local_zone({}, localtime=os.fspath(localtime)) is UTC

    source = Path("/usr/share/zoneinfo/Europe/Berlin")
    if source.exists():
        shutil.copy(source, localtime)
        assert local_zone({}, localtime=os.fspath(localtime)).utcoffset(summer) == timedelta(hours=2)
        assert local_zone({"TZ": os.fspath(localtime)}).utcoffset(summer) == timedelta(hours=2)
