"""The guards: what stays whatever a policy or a user says, and who cannot push whom out."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from dedupstore.policy.keeping import (
    ALSO_VERIFIED,
    ASKED_FOR,
    BURST,
    BURST_COUNT,
    FUTURE,
    NEWEST_GOOD,
    NO_RULE,
    PIN_TAG,
    UNCLEAR,
    VERIFIED,
    YOUNG,
    Candidate,
    Rules,
    SourceRules,
    Verdict,
    bursts,
    decide,
)
from dedupstore.policy.retention import Policy
from dedupstore.types import SnapshotId

MINUTE = 60 * 10**9
DAY = 24 * 60 * MINUTE
NOW = round(datetime(2026, 11, 28, 12, tzinfo=UTC).timestamp()) * 10**9


def identifier(number: int) -> SnapshotId:
    return SnapshotId(number.to_bytes(4, "big").ljust(16))


def made(number: int, age_ns: int, **more: object) -> Candidate:
    """A snapshot of that age, committed right when it was taken."""
    time_ns = NOW - age_ns
    fields = {"source": "site", "host": "host", "made_ns": time_ns} | more
    return Candidate(id=identifier(number), time_ns=time_ns, **fields)  # type: ignore[arg-type]


def daily(count: int) -> list[Candidate]:
    """One a day, number 0 today."""
    return [made(number, number * DAY) for number in range(count)]


def judged(rows: list[Candidate], policy: Policy, **more: object) -> dict[int, Verdict]:
    verdicts = decide(rows, Rules(zone=UTC, policy=policy, **more), NOW)  # type: ignore[arg-type]
    assert len(verdicts) == len(rows)
    return {int.from_bytes(verdict.id[:4], "big"): verdict for verdict in verdicts}


def kept(rows: list[Candidate], policy: Policy, **more: object) -> set[int]:
    return {number for number, verdict in judged(rows, policy, **more).items() if verdict.keep}


def test_every_verdict_has_a_reason() -> None:
    found = judged(daily(4), Policy(last=2))

    assert [found[number].reasons for number in range(4)] == [
        ("last", NEWEST_GOOD), ("last",), (NO_RULE,), (NO_RULE,)]  # fmt: skip


def test_what_a_repair_made_takes_the_place_of_no_other() -> None:
    """The damaged one may be mended yet, from a replica that is found later."""
    damaged = [made(number, number * DAY, good=False) for number in range(3)]
    repaired = [made(10 + number, number * DAY - 1, good=False, stand_in=True) for number in range(3)]

    assert kept([*damaged, *repaired], Policy(last=2)) == {0, 1, 10, 11}


def test_sources_and_hosts_are_judged_by_themselves() -> None:
    rows = [*daily(3), made(10, 50 * DAY, source="blog"), made(11, 60 * DAY, host="other")]

    assert kept(rows, Policy(last=1)) == {0, 10, 11}


def test_a_tag_rule_that_matches_nothing_still_leaves_the_newest_good_one() -> None:
    assert kept(daily(5), Policy(tags=("nobody has it",))) == {0}


def test_a_newest_snapshot_with_missing_files_is_no_reason_to_drop_the_good_one_before() -> None:
    rows = [made(0, 0, good=False), *daily(4)[1:]]

    assert kept(rows, Policy(last=1)) == {0, 1}


def test_the_last_verified_snapshot_stays_until_a_later_one_is_verified() -> None:
    rows = [
        made(0, 0),
        made(1, DAY),
        made(2, 2 * DAY, verified_ns=NOW - DAY),
        made(3, 3 * DAY, verified_ns=NOW - 2 * DAY),
    ]

    found = judged(rows, Policy(last=1))

    assert {number for number in found if found[number].keep} == {0, 2}
    assert VERIFIED in found[2].reasons


@pytest.mark.parametrize(
    ("guard", "reason"),
    [
        ({"protection": "protected: audit"}, "protected: audit"),
        ({"tags": (PIN_TAG,)}, f"tag {PIN_TAG}"),
        ({"unclear": True}, UNCLEAR),
        ({"verified_ns": 1}, VERIFIED),
    ],
)
def test_a_guarded_snapshot_stays_even_when_it_is_asked_for(guard: dict[str, object], reason: str) -> None:
    rows = [*daily(3), made(3, 3 * DAY, **guard)]

    by_policy = judged(rows, Policy(last=1))[3]
    by_name = judged(rows, Policy(), named=frozenset([identifier(3), identifier(2)]))

    assert by_policy.keep and reason in by_policy.reasons
    assert by_name[3].keep and by_name[3].guarded and by_name[3].reasons == (reason,)
    assert not by_name[2].keep and by_name[2].reasons == (ASKED_FOR,)


def test_never_all_of_them() -> None:
    rows = daily(3)

    found = judged(rows, Policy(), named=frozenset(row.id for row in rows))

    assert {number for number in found if found[number].keep} == {0}


def test_future_snapshots_stay_and_push_no_other_out() -> None:
    rows = [*daily(5), *(made(100 + number, -(number + 1) * DAY) for number in range(10))]

    found = judged(rows, Policy(last=3))

    assert kept(rows, Policy(last=3)) == {0, 1, 2, *range(100, 110)}
    assert found[100].reasons == (FUTURE,)
    assert NEWEST_GOOD in found[0].reasons


def test_clocks_a_little_apart_are_no_future() -> None:
    assert kept([*daily(3), made(9, -MINUTE)], Policy(last=1)) == {9}


def test_a_flood_stays_and_pushes_no_good_snapshot_out() -> None:
    flood = [made(1000 + number, number * 10**9) for number in range(10_000)]
    rows = [*daily(20)[1:], *flood]

    found = judged(rows, Policy(last=3, daily=5))

    assert {number for number in found if found[number].keep and number < 1000} == {1, 2, 3, 4, 5}
    assert all(found[1000 + number].reasons == (BURST,) for number in range(10_000))
    assert NEWEST_GOOD in found[1].reasons


def test_a_flood_can_be_judged_when_asked_to_or_forgotten_by_name() -> None:
    flood = [made(1000 + number, number * 10**9) for number in range(200)]
    rows = [*daily(5)[1:], *flood]

    assert kept(rows, Policy(last=3), count_bursts=True) == {1000, 1001, 1002}
    named = frozenset(row.id for row in flood)
    assert kept(rows, Policy(), named=named) == {1, 2, 3, 4}


def test_one_a_minute_is_no_flood_and_more_is() -> None:
    minutes = [made(number, (500 - number) * MINUTE) for number in range(500)]
    extra = made(900, 250 * MINUTE + 10**9)
    with_extra = sorted([*minutes, extra], key=lambda row: row.time_ns)

    assert bursts(minutes) == set()
    assert extra.id in bursts(with_extra)
    assert len(bursts(with_extra)) <= 2 * BURST_COUNT + 1


def test_a_burst_of_another_source_is_none_of_ours() -> None:
    flood = [made(1000 + number, number * 10**9, source="noise") for number in range(100)]

    assert kept([*daily(4), *flood], Policy(last=2)) & set(range(1000)) == {0, 1}


def test_back_dated_snapshots_are_judged_apart() -> None:
    forged = [made(100 + number, number * DAY - MINUTE, made_ns=NOW) for number in range(2, 30)]
    rows = [*daily(30), *forged]

    found = kept(rows, Policy(daily=14))

    assert {number for number in found if number < 100} == set(range(14))
    assert {number for number in found if number >= 100} == set(range(102, 116))


def test_imported_history_is_thinned_by_the_rules() -> None:
    imported = [made(number, number * DAY, made_ns=NOW) for number in range(10, 110)]

    assert kept(imported, Policy(daily=7)) == set(range(10, 17))


def test_snapshots_before_a_restore_take_no_place_of_others() -> None:
    rows = [*daily(5), *(made(100 + number, number * DAY - MINUTE, safety=True) for number in range(5))]

    found = kept(rows, Policy(last=2))

    assert found == {0, 1, 100, 101}
    assert NEWEST_GOOD in judged(rows, Policy(last=2))[0].reasons


def test_a_clock_a_year_ahead_takes_no_more_than_the_rules_say() -> None:
    rules = Rules(zone=UTC, policy=Policy(last=3))

    right = decide(daily(10), rules, NOW)

    assert decide(daily(10), rules, NOW + 365 * DAY) == right


def test_a_clock_a_year_behind_keeps_everything() -> None:
    verdicts = decide(daily(10), Rules(zone=UTC, policy=Policy(last=3)), NOW - 365 * DAY)

    assert all(verdict.keep for verdict in verdicts)
    assert sum(FUTURE in verdict.reasons for verdict in verdicts) == 10


def by_source(rows: list[Candidate], **rules: SourceRules) -> dict[int, Verdict]:
    verdicts = decide(rows, Rules(zone=UTC, sources=rules), NOW)
    return {int.from_bytes(verdict.id[:4], "big"): verdict for verdict in verdicts}


def test_each_source_has_rules_of_its_own() -> None:
    rows = daily(6) + [made(number + 10, number * DAY, source="db") for number in range(6)]

    found = by_source(rows, site=SourceRules(policy=Policy(last=2)), db=SourceRules(policy=Policy(last=4)))

    assert {number for number, verdict in found.items() if verdict.keep} == {0, 1, 10, 11, 12, 13}


def test_what_is_younger_than_min_age_stays() -> None:
    found = by_source(daily(6), site=SourceRules(policy=Policy(last=1), min_age_ns=3 * DAY))

    assert {number for number, verdict in found.items() if verdict.keep} == {0, 1, 2}
    assert found[2].reasons == (YOUNG,)
    assert found[3].reasons == (NO_RULE,)


def test_history_that_was_imported_just_now_is_young() -> None:
    old = [made(number, number * DAY, made_ns=NOW - MINUTE) for number in range(100, 104)]

    found = by_source([*daily(2), *old], site=SourceRules(policy=Policy(last=1), min_age_ns=DAY))

    assert all(found[number].keep for number in range(100, 104))


def test_the_future_is_not_called_young() -> None:
    found = by_source([*daily(3), made(9, -30 * DAY)], site=SourceRules(policy=Policy(last=1), min_age_ns=DAY))

    assert found[9].reasons == (FUTURE,)


@pytest.mark.parametrize(("count", "expected"), [(1, {0, 3}), (2, {0, 3, 5}), (9, {0, 2, 3, 5})])
def test_so_many_verified_snapshots_stay_as_is_asked_for(count: int, expected: set[int]) -> None:
    proven = {3: NOW, 5: NOW - MINUTE, 2: NOW - DAY}
    rows = [made(number, number * DAY, verified_ns=proven.get(number)) for number in range(8)]

    found = by_source(rows, site=SourceRules(policy=Policy(last=1), verified=count))

    assert {number for number, verdict in found.items() if verdict.keep} == expected
    assert found[3].guarded and VERIFIED in found[3].reasons
    assert not found[5].guarded and (count == 1 or ALSO_VERIFIED in found[5].reasons)
