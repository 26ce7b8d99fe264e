"""The rules of `forget --keep-…`: what users know from restic, time zones, spans, and a golden file of it all."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dedupstore.errors import UsageError
from dedupstore.policy.retention import UNLIMITED, Dated, Policy, Span, judge, parse_span
from dedupstore.types import SnapshotId
from tests.support.golden import check_golden

BERLIN = ZoneInfo("Europe/Berlin")
KOLKATA = ZoneInfo("Asia/Kolkata")


def dated(*moments: str, zone: tzinfo = UTC, tags: tuple[str, ...] = ()) -> list[Dated]:
    """One for each moment; its id begins with the number of the moment."""
    rows = []
    for number, text in enumerate(moments):
        moment = datetime.fromisoformat(text)
        moment = moment if moment.tzinfo else moment.replace(tzinfo=zone)
        time_ns = round(moment.timestamp()) * 10**9
        rows.append(Dated(id=SnapshotId(bytes([number]).ljust(16)), time_ns=time_ns, tags=tags))
    return rows


def kept(policy: Policy, series: list[Dated], zone: tzinfo = UTC) -> dict[int, tuple[str, ...]]:
    """The numbers of those that are kept, with the reasons."""
    return {identifier[0]: reasons for identifier, reasons in judge(policy, series, zone).items()}


def hours(count: int) -> list[Dated]:
    """One an hour, 90 minutes past midnight of the first day of 2026 first; nothing else is special about it."""
    start = datetime(2026, 1, 1, 1, 30, tzinfo=UTC)
    return [
        Dated(
            id=SnapshotId(number.to_bytes(2, "big").ljust(16)),
            time_ns=round((start + timedelta(hours=number)).timestamp()) * 10**9,
            tags=("noon",) if (number + 1) % 24 == 12 else (),
        )
        for number in range(count)
    ]


def test_last_keeps_the_newest_whatever_the_order_given() -> None:
    series = dated("2026-01-03", "2026-01-01", "2026-01-02")

    assert kept(Policy(last=2), series) == {0: ("last",), 2: ("last",)}


def test_a_day_keeps_its_newest_and_days_without_any_do_not_count() -> None:
    series = dated("2026-01-01T01:00", "2026-01-01T23:00", "2026-01-05T10:00", "2026-01-09T10:00", "2026-01-09T11:00")

    assert kept(Policy(daily=2), series) == {4: ("daily",), 2: ("daily",)}


def test_while_a_rule_has_room_the_oldest_is_kept_so_that_history_grows() -> None:
    series = dated("2026-01-01T01:00", "2026-01-01T02:00", "2026-01-01T03:00")

    assert kept(Policy(yearly=3), series) == {2: ("yearly",), 0: ("oldest yearly",)}
    assert kept(Policy(yearly=1), series) == {2: ("yearly",)}


def test_unlimited_keeps_every_period() -> None:
    series = dated("2024-06-01", "2025-01-01", "2025-06-01", "2026-01-01")

    assert kept(Policy(yearly=UNLIMITED), series) == {3: ("yearly",), 2: ("yearly",), 0: ("yearly",)}
    assert len(kept(Policy(last=UNLIMITED), series)) == 4


def test_weeks_are_iso_weeks_and_quarters_those_of_the_year() -> None:
    # 2026-01-01 is in the same ISO week as 2025-12-29, and in another quarter.
    series = dated("2025-12-28", "2025-12-29", "2026-01-01", "2026-03-31", "2026-04-01")

    assert kept(Policy(weekly=UNLIMITED), series).keys() == {4, 2, 0}
    assert kept(Policy(quarterly=UNLIMITED), series).keys() == {4, 3, 1, 0}


def test_a_tag_keeps_whatever_else_is_said() -> None:
    series = [*dated("2026-01-01", tags=("release", "x")), *dated("2026-01-01", "2026-01-02")[1:]]

    assert kept(Policy(last=1, tags=("release",)), series) == {1: ("last",), 0: ("tag release",)}


def test_spans_count_from_the_newest_snapshot_not_from_now() -> None:
    series = dated("2019-12-31T11:00", "2020-01-01T12:00", "2020-01-02T12:00", "2020-01-08T12:00")

    assert kept(Policy(within=Span(days=7)), series) == {3: ("within 7d",), 2: ("within 7d",)}


def test_a_month_before_the_31st_is_the_last_day_of_the_month_before() -> None:
    series = dated("2026-02-27T12:00", "2026-02-28T12:00", "2026-02-28T13:00", "2026-03-31T12:00")

    assert kept(Policy(within=Span(months=1)), series).keys() == {3, 2}


def test_within_a_span_each_period_keeps_its_newest() -> None:
    series = dated("2026-01-01T10:00", "2026-01-05T10:00", "2026-01-05T11:00", "2026-01-06T10:00", "2026-01-06T11:00")

    found = kept(Policy(within_daily=Span(days=3)), series)

    assert found == {4: ("daily within 3d",), 2: ("daily within 3d",)}


def test_days_are_those_of_the_zone() -> None:
    series = dated("2026-01-01T17:00+00:00", "2026-01-01T19:00+00:00")

    assert kept(Policy(daily=UNLIMITED), series, UTC).keys() == {1, 0}  # the oldest, too
    assert kept(Policy(daily=1), series, UTC).keys() == {1}
    assert kept(Policy(daily=2), series, KOLKATA) == {1: ("daily",), 0: ("daily",)}


def test_the_hour_that_comes_twice_in_autumn_is_two_hours() -> None:
    series = dated("2026-10-25T02:30+02:00", "2026-10-25T02:10+01:00", "2026-10-25T02:50+01:00")

    assert kept(Policy(hourly=2), series, BERLIN) == {2: ("hourly",), 0: ("hourly",)}


def test_hours_of_a_zone_half_an_hour_off_begin_at_its_own_full_hour() -> None:
    series = dated("2026-01-01T10:05", "2026-01-01T10:35", "2026-01-01T10:55", zone=KOLKATA)

    assert kept(Policy(hourly=1), series, KOLKATA) == {2: ("hourly",)}
    assert kept(Policy(hourly=9), series, KOLKATA).keys() == {2, 0}


@pytest.mark.parametrize("day", ["2026-03-29", "2026-10-25"])
def test_a_day_of_23_or_25_hours_is_one_day(day: str) -> None:
    series = dated(f"{day}T00:10", f"{day}T12:00", f"{day}T23:50", zone=BERLIN)

    assert kept(Policy(daily=1), series, BERLIN) == {2: ("daily",)}


def test_a_day_before_the_clocks_change_is_the_same_time_of_day() -> None:
    series = dated("2026-03-28T11:59", "2026-03-28T12:01", "2026-03-29T12:00", zone=BERLIN)

    assert kept(Policy(within=Span(days=1)), series, BERLIN).keys() == {2, 1}
    # 24 elapsed hours reach back to 11:00 of the day before: that night lasted an hour less.
    assert kept(Policy(within=Span(hours=24)), series, BERLIN).keys() == {2, 1, 0}


def test_equal_times_are_told_apart_by_their_ids() -> None:
    series = dated("2026-01-01", "2026-01-01", "2026-01-01")

    assert kept(Policy(last=1), series) == kept(Policy(last=1), series[::-1]) == {2: ("last",)}


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("12h", Span(hours=12)),
        ("14d", Span(days=14)),
        ("8w", Span(days=56)),
        ("6m", Span(months=6)),
        ("1Y6M14d12h", Span(years=1, months=6, days=14, hours=12)),
        ("1w 2d", Span(days=9)),
    ],
)
def test_spans_are_read(text: str, span: Span) -> None:
    assert parse_span(text) == span


@pytest.mark.parametrize("text", ["", "5", "d", "-5d", "1.5d", "5min", "12h14d", "5 minutes", "999999d", "1d1d"])
def test_what_is_no_span_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_span(text)


def test_a_policy_that_says_nothing_is_empty() -> None:
    assert Policy().empty
    assert not Policy(yearly=1).empty
    assert not Policy(within_weekly=Span(days=1)).empty
    assert not Policy(tags=("x",)).empty


@given(
    st.lists(st.integers(0, 2**63 - 1), max_size=40),
    st.builds(
        Policy,
        last=st.integers(-1, 5),
        hourly=st.integers(-1, 5),
        daily=st.integers(-1, 5),
        weekly=st.integers(-1, 5),
        quarterly=st.integers(-1, 5),
        yearly=st.integers(-1, 5),
        within=st.none() | st.builds(Span, years=st.integers(0, 99_999), days=st.integers(0, 99_999)),
        within_monthly=st.none() | st.builds(Span, months=st.integers(0, 99_999), hours=st.integers(0, 99_999)),
    ),
)
def test_any_times_and_rules_have_an_answer_and_the_newest_is_always_kept(times: list[int], policy: Policy) -> None:
    series = [
        Dated(id=SnapshotId(number.to_bytes(2, "big").ljust(16)), time_ns=time) for number, time in enumerate(times)
    ]

    found = judge(policy, series, BERLIN)

    assert found.keys() <= {row.id for row in series}
    assert all(found.values())
    if series and (policy.last or policy.hourly or policy.daily or policy.weekly or policy.quarterly or policy.yearly):
        assert max(series, key=lambda row: (row.time_ns, row.id)).id in found


def test_more_of_any_rule_never_keeps_less() -> None:
    series = hours(400)
    for rule in ("last", "hourly", "daily", "weekly", "monthly", "quarterly", "yearly"):
        before: set[SnapshotId] = set()
        for count in range(1, 30):
            now = set(judge(Policy(**{rule: count}), series, UTC))
            # The oldest of a history that still has room may go when there is none left.
            assert before - now <= {series[0].id}
            before = now


def test_the_rules_keep_what_they_always_kept() -> None:
    policies = {
        "last 3": Policy(last=3),
        "hourly 5": Policy(hourly=5),
        "daily 3": Policy(daily=3),
        "weekly 2": Policy(weekly=2),
        "monthly 12": Policy(monthly=12),
        "quarterly 4": Policy(quarterly=4),
        "yearly 3": Policy(yearly=3),
        "all of them": Policy(last=2, hourly=3, daily=4, weekly=2, monthly=2, yearly=10),
        "tag": Policy(tags=("noon",)),
        "within 36h": Policy(within=parse_span("36h")),
        "within daily 1m": Policy(within_daily=parse_span("1m")),
        "within spans": Policy(
            within_hourly=parse_span("6h"), within_daily=parse_span("3d"), within_weekly=parse_span("2m")
        ),
    }
    series = hours(24 * 70)
    zones: dict[str, tzinfo] = {"UTC": UTC, "Europe/Berlin": BERLIN, "Asia/Kolkata": KOLKATA}

    found = {
        f"{name}, {zone}": {
            (datetime(2026, 1, 1, 1, 30, tzinfo=UTC) + timedelta(hours=int.from_bytes(identifier[:2], "big"))).strftime(
                "%Y-%m-%d %H:%M"
            ): list(reasons)
            for identifier, reasons in sorted(judge(policy, series, zones[zone]).items())
        }
        for name, policy in policies.items()
        for zone in zones
    }

    check_golden("retention", found)


@pytest.mark.parametrize("text", ["0d", "0h", "0y0m"])
def test_a_span_of_nothing_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="keeps nothing"):
        parse_span(text)
