"""A repository and its mirror have one id, and what this machine knows of them is kept apart."""

from __future__ import annotations

from pathlib import Path

from tests.support.dedup import Dedup


def test_reading_the_mirror_proves_nothing_of_the_repository(dedup: Dedup, site: Path, tmp_path: Path) -> None:
    dedup.snapshot(site)
    mirror = tmp_path / "mirror"
    dedup.ok("mirror", "--to", mirror, "--init")

    read = dedup.ok("check", "-r", mirror, "--read-data", "--json").summary
    other = dedup.ok("check", "--read-data=1B", "--json").summary

    assert read["coverage"]["bytes_recent"] == read["coverage"]["bytes_total"] > 0
    assert other["coverage"]["bytes_recent"] < other["coverage"]["bytes_total"]


def test_a_mirror_that_is_behind_costs_no_new_index(dedup: Dedup, site: Path, tmp_path: Path) -> None:
    dedup.snapshot(site)
    mirror = tmp_path / "mirror"
    dedup.ok("mirror", "--to", mirror, "--init")
    (site / "new.txt").write_text("not mirrored yet")
    dedup.snapshot(site)

    for place in (mirror, dedup.repository, mirror):
        run = dedup.ok("check", "-r", place, "--read-data")
        assert "100 %" in run.out and "earlier state" not in run.err
