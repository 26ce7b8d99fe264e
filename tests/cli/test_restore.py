"""`dedup restore` from the outside: which snapshot, where to, what is asked before anything is lost."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

import pytest

from tests.support.dedup import Dedup, read_tree, write_tree


def test_the_newest_snapshot_goes_to_a_new_directory(dedup: Dedup, site: Path) -> None:
    dedup.snapshot(site, "--source", "site")

    run = dedup.ok("restore")

    (target,) = dedup.home.glob("restored-*")
    assert read_tree(target / "site") == read_tree(site)
    assert "source   site, snapshot " in run.out
    assert " ago)" in run.out
    assert "verified: all hashes match" in run.out
    dedup.ok("restore")
    assert len(list(dedup.home.glob("restored-*"))) == 2


def test_a_restore_as_of_a_time_takes_the_newest_before_it(dedup: Dedup, site: Path) -> None:
    for day, text in (("01", "one"), ("03", "three"), ("05", "five")):
        (site / "index.html").write_text(text)
        dedup.snapshot(site, "--time", f"2026-01-{day} 12:00", "--force")

    run = dedup.ok("restore", "--at", "2026-01-04", "--to", "r")

    assert (dedup.home / "r" / "site" / "index.html").read_text() == "three"
    assert "(36 h 00 min before " in run.out or "(35 h 59 min before " in run.out
    assert dedup.ok("restore", "--at", "2026-01-05 12:00", "--to", "r2")
    assert (dedup.home / "r2" / "site" / "index.html").read_text() == "five"


def test_nothing_as_old_as_asked_names_the_oldest_and_a_line_that_works(dedup: Dedup, site: Path) -> None:
    dedup.snapshot(site, "--source", "site", "--time", "2026-01-03 12:00:00.5")

    run = dedup("restore", "--at", "2026-01-01 03:00")

    assert (run.exit_code, run.code) == (5, "snapshot.none_before")
    assert 'no snapshot of "site" at or before 2026-01-01 03:00:00' in run.err
    assert "2 days later" in run.err
    hint = run.err.split('--at "')[1].split('"')[0]
    assert dedup.ok("restore", "--at", hint, "--to", "r")


@pytest.mark.parametrize("selector", ["latest~1", "@tag:first", "PREFIX", "SHORT"])
def test_a_snapshot_is_named_in_many_ways(dedup: Dedup, site: Path, selector: str) -> None:
    first = dedup.snapshot(site, "--tag", "first")
    (site / "index.html").write_text("second")
    dedup.snapshot(site)
    selector = {"PREFIX": first[:5], "SHORT": f"{first[:4]}-{first[4:6]}"}.get(selector, selector)

    dedup.ok("restore", "--snapshot", selector, "--to", "r")

    assert (dedup.home / "r" / "site" / "index.html").read_text() == "<h1>hello</h1>\n"


def test_parts_and_patterns_are_restored_alone(dedup: Dedup, site: Path) -> None:
    dedup.snapshot(site)

    dedup.ok("restore", "site/uploads", "--to", "one")
    dedup.ok("restore", "--include", "*.txt", "--include", "/site/cache/", "--to", "two")
    dedup.ok("restore", "--exclude", "uploads/", "--to", "three")

    assert set(read_tree(dedup.home / "one")) == {"site/uploads/a.txt", "site/uploads/b.bin"}
    assert set(read_tree(dedup.home / "two")) == {"site/uploads/a.txt", "site/cache/tmp"}
    assert set(read_tree(dedup.home / "three")) == {"site/cache/tmp", "site/index.html"}


def test_what_is_not_there_is_named_with_what_is_near(dedup: Dedup, site: Path) -> None:
    identifier = dedup.snapshot(site)

    run = dedup("restore", "site/upload", "--to", "r")

    assert run.exit_code == 5
    assert "did you mean site/uploads" in run.err
    assert not (dedup.home / "r").exists()
    assert dedup("restore", "--source", "other").exit_code == 5
    other = "8888" if identifier.startswith("9999") else "9999"
    assert dedup("restore", "--snapshot", other).exit_code == 5
    assert dedup("restore", "--snapshot", "99").exit_code == 2


def test_nothing_is_replaced_unless_agreed(dedup: Dedup, site: Path) -> None:
    dedup.snapshot(site)
    (site / "index.html").write_text("newer")
    (site / "extra").write_text("extra")

    refused = dedup("restore", "--in-place")
    planned = dedup.ok("restore", "--in-place", "--delete", "--dry-run")

    assert (refused.exit_code, refused.code) == (8, "refused.not_confirmed")
    assert "M site/index.html" in planned.out
    assert f"  place    {site}\n" in planned.out and f"  place    {site}\n" in refused.out
    assert "- site/extra" in planned.out
    assert "nothing was changed" in planned.err
    assert (site / "index.html").read_text() == "newer"
    assert (site / "extra").exists()
    assert len(dedup.ok("snapshots", "--json").document["snapshots"]) == 1


def test_a_restore_in_place_keeps_what_was_there_as_a_snapshot(dedup: Dedup, site: Path) -> None:
    dedup.snapshot(site, "--source", "site")
    before = read_tree(site)
    (site / "index.html").write_text("newer")
    (site / "extra").write_text("extra")

    run = dedup.ok("restore", "--in-place", "--delete", "--yes", "--json")

    assert read_tree(site) == before
    safety = run.summary["safety"]
    assert run.summary["plan"]["replace"] == 1
    assert dedup.ok("cat", f"{safety['id']}:site/index.html").raw == b"newer"
    assert dedup.ok("cat", f"{safety['id']}:site/extra").raw == b"extra"
    # It is not what "the newest" means: that would be the state one wanted to get away from.
    assert dedup.ok("cat", "latest:site/index.html").raw == before["index.html"]


def test_in_place_with_a_path_and_an_exclude_touches_nothing_else(dedup: Dedup, site: Path) -> None:
    dedup.snapshot(site)
    write_tree(site, {"index.html": "mine", "uploads/a.txt": "changed", "uploads/keep/x": "mine", "uploads/gone": ""})

    dedup.ok("restore", "site/uploads", "--in-place", "--delete", "--exclude", "/site/uploads/keep", "--yes")

    assert (site / "index.html").read_text() == "mine"
    assert (site / "uploads" / "a.txt").read_text() == "first version\n"
    assert (site / "uploads" / "keep" / "x").read_text() == "mine"
    assert not (site / "uploads" / "gone").exists()


def test_a_policy_says_what_may_be_replaced(dedup: Dedup, site: Path) -> None:
    dedup.snapshot(site)
    target = dedup.home / "r"
    dedup.ok("restore", "--to", target)
    file = target / "site" / "index.html"
    file.write_text("mine")
    os.utime(file, (time.time() + 60, time.time() + 60))

    assert "1 left alone" in dedup.ok("restore", "--to", target, "--overwrite", "never").out
    dedup.ok("restore", "--to", target, "--overwrite", "older", "--yes")
    assert file.read_text() == "mine"
    assert dedup("restore", "--to", target).code == "refused.not_confirmed"
    dedup.ok("restore", "--to", target, "--yes")
    assert file.read_text() == "<h1>hello</h1>\n"


def test_links_of_all_sorts_come_back(dedup: Dedup, site: Path) -> None:
    os.link(site / "index.html", site / "again.html")
    (site / "link").symlink_to("/nowhere/else")
    dedup.snapshot(site)

    dedup.ok("restore", "--to", "r")

    restored = dedup.home / "r" / "site"
    assert (restored / "index.html").stat().st_ino == (restored / "again.html").stat().st_ino
    assert os.readlink(restored / "link") == "/nowhere/else"


def test_targets_that_contradict_each_other_are_refused(dedup: Dedup, site: Path) -> None:
    dedup.snapshot(site)

    assert dedup("restore", "--to", "r", "--in-place").code == "usage"
    assert dedup("restore", "--at", "now", "--snapshot", "latest").code == "usage"
    dedup.ok("snapshot", "--command", "x", "--", "true")
    assert dedup("restore", "--in-place").code == "restore.no_origin"


def test_the_stream_tells_what_was_chosen(dedup: Dedup, site: Path) -> None:
    began = time.time()
    identifier = dedup.snapshot(site)

    run = dedup.ok("restore", "--json", "--at", "now", "--to", "r")

    (chosen,) = [event for event in run.events if event["event"] == "chosen"]
    assert chosen["snapshot"]["id"] == identifier
    assert 0 <= chosen["distance_s"] <= time.time() - began + 1
    assert run.summary["files"] == 4
    assert run.summary["verified"] is True
    assert run.summary["target"] == {"path": "r"}


def test_damage_is_told_and_everything_else_restored(dedup: Dedup, site: Path) -> None:
    dedup.snapshot(site)
    (pack,) = dedup.repository.glob("packs/*/*.d*")
    data = bytearray(pack.read_bytes())
    data[200:210] = bytes(10)
    pack.chmod(0o600)
    pack.write_bytes(data)

    run = dedup("restore", "--to", "r", "--json")

    assert run.exit_code == 4
    assert run.summary["status"] == "failed"
    assert any(event.get("code") == "restore.chunk_damaged" for event in run.events)
    check = dedup("check", "--read-data", "--json")
    assert check.exit_code == 4
    assert check.summary["damage"]["files"] > 0
    human = dedup("check", "--read-data")
    assert human.code == "check.damaged"
    assert "hit      site/" in human.out


def test_no_option_is_promised_to_restore_a_socket(dedup: Dedup, site: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(os.fspath(site / "socket"))
    dedup.snapshot(site)

    run = dedup.ok("restore", "--to", dedup.home / "r")

    assert "left out 1 x socket\n" in run.err
