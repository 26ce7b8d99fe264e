"""`dedup forget --policy`: each source by its own rules, and nothing that the configuration does not speak of."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.configuration import write
from tests.support.dedup import Dedup

DAYS = range(10, 16)


@pytest.fixture
def history(dedup: Dedup, site: Path, tmp_path: Path) -> Dedup:
    """Six days of two sources of this machine, one of another machine, and one that nobody configured."""
    configure(tmp_path, site, "[retention.default]\nkeep_last = 2\n[retention.long]\nkeep_daily = 4\n")
    for day in DAYS:
        dedup.ok("snapshot", "--time", f"2025-11-{day} 03:00")
        dedup.ok("snapshot", "site", "--host", "elsewhere", "--time", f"2025-11-{day} 04:00")
        dedup.ok("snapshot", site, "--source", "stray", "--time", f"2025-11-{day} 05:00")
    return dedup


def configure(tmp_path: Path, site: Path, retention: str) -> None:
    write(
        tmp_path / "etc" / "config.toml",
        f'host = "here"\n[sources.site]\ntype = "files"\npaths = ["{site}"]\n'
        f'[sources.db]\ntype = "command"\ncommand = ["date"]\nfilename = "db"\nretention = "long"\n{retention}',
    )


def days(dedup: Dedup, source: str, host: str) -> list[int]:
    rows = dedup.ok("snapshots", "--json", "--source", source, "--host", host).document["snapshots"]
    return [int(row["time"][8:10]) for row in rows]


def test_each_source_goes_by_its_own_rules_and_others_stay(history: Dedup, site: Path) -> None:
    run = history.ok("forget", "--policy", "--yes")

    assert days(history, "site", "here") == [14, 15]
    assert days(history, "db", "here") == [12, 13, 14, 15]
    assert days(history, "site", "elsewhere") == list(DAYS)
    assert len(history.ok("snapshots", "--json", "--source", "stray").document["snapshots"]) == 6
    assert "12 snapshots of other sources or hosts: not judged" in run.out
    history.ok("check", "--read-data")


def test_one_source_and_another_host_can_be_named(history: Dedup) -> None:
    history.ok("forget", "--policy", "--source", "db", "--yes")
    history.ok("forget", "--policy", "--source", "site", "--host", "elsewhere", "--yes")

    assert days(history, "site", "here") == list(DAYS)
    assert days(history, "site", "elsewhere") == [14, 15]
    assert days(history, "db", "here") == [12, 13, 14, 15]


def test_a_dry_run_shows_the_plan(history: Dedup) -> None:
    document = history.ok("forget", "--policy", "--dry-run", "--json").summary

    assert len(document["remove"]) == 4 + 2
    assert document["others"] == 12
    assert days(history, "site", "here") == list(DAYS)


def test_nothing_younger_than_min_age_goes(history: Dedup, site: Path, tmp_path: Path) -> None:
    configure(tmp_path, site, '[retention.default]\nkeep_last = 1\nmin_age = "30d"\n[retention.long]\nkeep_last = 9\n')

    run = history.ok("forget", "--policy", "--yes")

    # Made just now, whatever time they stand for.
    assert days(history, "site", "here") == list(DAYS)
    assert "younger than min_age" in run.out


@pytest.mark.parametrize("retention", ["", "[retention.default]\n", '[retention.default]\nmin_age = "3d"\n'])
def test_without_rules_nothing_goes(history: Dedup, site: Path, tmp_path: Path, retention: str) -> None:
    configure(tmp_path, site, f"{retention}[retention.long]\nkeep_last = 1\n")

    run = history("forget", "--policy", "--yes")

    assert (run.exit_code, run.code) == (2, "usage.no_policy")
    assert "[retention.default]" in run.err
    assert days(history, "db", "here") == list(DAYS)


def test_policy_and_rules_and_names_exclude_one_another(history: Dedup) -> None:
    assert history("forget", "--policy", "--keep-last", "1").exit_code == 2
    assert history("forget", "--policy", "latest").exit_code == 2
    assert history("forget", "--policy", "--source", "nobody").code == "config.unknown_source"
    assert days(history, "site", "here") == list(DAYS)


def test_what_was_kept_before_a_restore_goes_by_the_rules_of_its_source(history: Dedup, site: Path) -> None:
    for number in range(3):
        (site / "index.html").write_text(f"changed {number}")
        history.ok("restore", "--source", "site", "--host", "here", "--in-place", "--yes")
    rows = [row for row in history.ok("snapshots", "--json").document["snapshots"] if row["trigger"] == "safety"]
    host = rows[0]["host"]
    assert len(rows) == 3

    history.ok("forget", "--policy", "--host", host, "--yes")

    assert len(history.ok("snapshots", "--json", "--source", "site (before restore)").document["snapshots"]) == 2
