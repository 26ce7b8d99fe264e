"""`forget`, `undo-forget`, `protect`, `unprotect`, `tag` and `note` as a user calls them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.support.dedup import COMMAND, Dedup, write_tree
from tests.support.golden_repository import FOLDER
from tests.support.terminal import Terminal


@pytest.fixture
def five(dedup: Dedup, site: Path) -> list[str]:
    """The ids of five daily snapshots, oldest first."""
    ids = []
    for day in range(1, 6):
        write_tree(site, {"index.html": f"day {day}\n"})
        ids.append(dedup.snapshot(site, "--source", "site", "--time", f"2026-01-0{day} 12:00"))
    return ids


def ids(dedup: Dedup) -> list[str]:
    return [str(row["id"]) for row in dedup.ok("snapshots", "--json").document["snapshots"]]


def test_a_dry_run_shows_every_snapshot_with_its_reason_and_changes_nothing(dedup: Dedup, five: list[str]) -> None:
    run = dedup.ok("forget", "--keep-last", "2", "--dry-run")

    assert "only with --yes" in run.err
    text = run.out
    lines = text.splitlines()
    assert [line.split()[0] for line in lines[1:6]] == ["FORGET", "FORGET", "FORGET", "keep", "keep"]
    assert lines[1].endswith("no rule keeps it")
    assert lines[5].endswith("last, newest good of its source and host")
    assert "keep 2 snapshots, forget 3" in text
    assert ids(dedup) == five


def test_the_same_as_json(dedup: Dedup, five: list[str]) -> None:
    run = dedup.ok("forget", "--keep-last", "2", "--dry-run", "--bytes", "--json")

    assert [row["snapshot"]["id"] for row in run.summary["remove"]] == five[:3]
    assert run.summary["keep"][1]["reasons"] == ["last", "newest good of its source and host"]
    assert run.summary["bytes"]["freed"] == run.summary["bytes"]["packs"] + run.summary["bytes"]["blocks"] > 0
    assert run.summary["dry_run"] is True
    assert run.summary["forgotten"] == []
    assert run.summary["majorities"][0]["source"] == "site"


def test_without_somebody_to_ask_nothing_is_forgotten(dedup: Dedup, five: list[str]) -> None:
    run = dedup("forget", "--keep-last", "3")

    assert (run.exit_code, run.code) == (8, "refused.not_confirmed")
    assert ids(dedup) == five


def test_more_than_half_needs_a_clear_yes(dedup: Dedup, five: list[str]) -> None:
    run = dedup("forget", "--keep-last", "2")

    assert (run.exit_code, run.code) == (8, "refused.majority")
    assert "--yes" in run.err
    assert ids(dedup) == five
    assert dedup.ok("forget", "--keep-last", "2", "--yes", "--json").summary["forgotten"] == five[:3]
    assert ids(dedup) == five[3:]


def test_snapshots_are_forgotten_by_name_and_brought_back(dedup: Dedup, five: list[str], tmp_path: Path) -> None:
    dedup.ok("forget", five[0][:6], "--snapshot", five[1], "--yes")
    assert ids(dedup) == five[2:]
    listed = dedup.ok("undo-forget", "--list", "--json").document["forgotten"]
    assert [row["snapshot"]["id"] for row in listed] == five[:2]
    assert five[0][:4] in dedup.ok("undo-forget", "--list").out

    new = dedup.ok("undo-forget", five[0], "--json").summary["snapshot"]

    assert new["time"].startswith("2026-01-01T12:00")
    assert ids(dedup) == [new["id"], *five[2:]]
    dedup.ok("restore", "--snapshot", new["id"], "--to", tmp_path / "back")
    assert (tmp_path / "back" / "site" / "index.html").read_text() == "day 1\n"
    dedup.ok("check", "--read-data")


def test_of_snapshots_named_only_those_and_what_is_guarded_are_shown(dedup: Dedup, five: list[str]) -> None:
    rows = dedup.ok("forget", five[1], "--dry-run").out.splitlines()[1:-1]

    assert [(row.split()[0], row.split()[1][:4]) for row in rows] == [("FORGET", five[1][:4]), ("keep", five[4][:4])]


def test_undo_says_when_it_cannot(dedup: Dedup, five: list[str]) -> None:
    assert dedup("undo-forget", five[0]).code == "snapshot.not_forgotten"
    assert dedup("undo-forget", "yyyy-yy").code == "snapshot.undo_too_late"
    assert dedup("undo-forget").exit_code == 2
    assert dedup("undo-forget", five[0], "--list").exit_code == 2


def test_the_newest_good_one_is_refused_by_name(dedup: Dedup, five: list[str]) -> None:
    run = dedup("forget", "latest", "--yes")

    assert (run.exit_code, run.code) == (8, "refused.guarded_snapshot")
    assert "newest good" in run.err
    assert ids(dedup) == five


def test_a_protected_snapshot_stays_until_it_is_unprotected(dedup: Dedup, five: list[str]) -> None:
    dedup.ok("protect", five[0], "--until", "2099-01-01", "--reason", "audit")
    listed = dedup.ok("snapshots", "--json").document["snapshots"][0]
    assert listed["protected"]["reason"] == "audit"
    assert listed["protected"]["until"].startswith("2099-01-01")
    assert "protected until 2099-01-01 23:59 (audit)" in dedup.ok("snapshots").out

    run = dedup("forget", five[0], "--yes")
    assert (run.exit_code, run.code) == (8, "refused.guarded_snapshot")
    assert "protected: audit" in run.err
    dedup.ok("forget", "--keep-last", "1", "--yes")
    assert ids(dedup) == [five[0], five[4]]

    dedup.ok("unprotect", five[0])
    dedup.ok("forget", "--keep-last", "1", "--yes")
    assert ids(dedup) == [five[4]]


def test_protection_until_a_time_gone_by_is_refused(dedup: Dedup, five: list[str]) -> None:
    assert dedup("protect", five[0], "--until", "2020-01-01").code == "usage.time"
    assert dedup("protect", five[0], "--until", "2999-01-01").code == "usage.time"


def test_tags_and_notes_change_and_are_found(dedup: Dedup, five: list[str]) -> None:
    dedup.ok("tag", five[1], "--add", "release", "--add", "pinned")
    dedup.ok("note", five[1], "the good one")
    assert [row["id"] for row in dedup.ok("snapshots", "--tag", "release", "--json").document["snapshots"]] == [five[1]]
    assert dedup.ok("cat", "@tag:release:site/index.html").out == "day 2\n"
    assert "#release  #pinned  the good one" in dedup.ok("snapshots").out

    dedup.ok("forget", "--keep-last", "1", "--yes")
    assert ids(dedup) == [five[1], five[4]]

    changed = dedup.ok("tag", five[1], "--remove", "pinned", "--json").document
    assert changed["changed"] is True and changed["snapshot"]["tags"] == ["release"]
    again = dedup.ok("tag", five[1], "--remove", "pinned", "--json").document
    assert again["changed"] is False
    dedup.ok("note", five[1], "")
    assert dedup.ok("snapshots", "--json").document["snapshots"][0]["note"] == ""
    dedup.ok("check")


@pytest.mark.parametrize(
    "arguments",
    [
        ("tag", "latest"),
        ("tag", "latest", "--add", "x", "--remove", "x"),
        ("tag", "latest", "--add", " "),
        ("tag", "latest", "--add", "x" * 257),
        ("tag", "latest", "--add", "\udcff"),
        ("note", "latest", "x" * 4097),
        ("note", "latest", "\udcff"),
        ("protect", "latest", "--reason", "\udcff"),
    ],
)
def test_senseless_words_are_refused(dedup: Dedup, five: list[str], arguments: tuple[str, ...]) -> None:
    assert dedup(*arguments).exit_code == 2
    assert not [path for path in (dedup.repository / "marks").iterdir() if path.name not in ("-begin", "zz-end")]


def test_rules_are_needed_and_exclude_names(dedup: Dedup, five: list[str]) -> None:
    assert dedup("forget", "--yes").code == "usage.no_policy"
    assert dedup("forget", "--keep-last", "0", "--yes").code == "usage.no_policy"
    assert dedup("forget", five[0], "--keep-last", "1", "--yes").exit_code == 2
    assert dedup("forget", "--keep-within", "5 minutes", "--yes").code == "usage.span"
    assert dedup("forget", "--keep-last", "-1", "--yes").exit_code == 2
    assert dedup("forget", "--keep-last", "1", "--source", "typo", "--yes").exit_code == 5
    assert ids(dedup) == five


def test_every_rule_has_its_option(dedup: Dedup, five: list[str]) -> None:
    periods = ("hourly", "daily", "weekly", "monthly", "quarterly", "yearly")
    rules = [word for name in periods for word in (f"--keep-{name}", "unlimited", f"--keep-within-{name}", "1y")]

    summary = dedup.ok(
        "forget", "--keep-last", "1", "--keep-within", "2d", "--keep-tag", "x", *rules, "--dry-run", "--json"
    ).summary

    assert summary["remove"] == []
    newest = summary["keep"][-1]["reasons"]
    assert newest == [
        "last", "within 2d", *(reason for name in periods for reason in (name, f"{name} within 1y")),
        "newest good of its source and host",
    ]  # fmt: skip


def test_only_the_source_and_host_that_are_named_are_judged(dedup: Dedup, five: list[str], site: Path) -> None:
    others = [dedup.snapshot(site, "--source", "other", "--time", f"2026-01-0{day} 12:00") for day in (1, 2, 3)]

    dedup.ok("forget", "--source", "other", "--keep-last", "1", "--yes")

    assert set(ids(dedup)) == {*five, others[2]}
    assert dedup("forget", "--host", "nowhere", "--keep-last", "1", "--yes").exit_code == 5


def test_the_last_snapshot_that_a_check_proved_stays(dedup: Dedup, five: list[str], site: Path) -> None:
    dedup.ok("check", "--read-data")
    newer = dedup.snapshot(site, "--source", "site", "--time", "2026-01-09 12:00")

    dedup.ok("forget", "--keep-last", "1", "--yes")

    assert ids(dedup) == [five[4], newer]
    assert "last verified of its source and host" in dedup.ok("forget", "--keep-last", "1", "--dry-run").out


@pytest.mark.parametrize("content", [b"garbage", b'{"v": 1, "verified": [{"url": 7}]}'])
def test_the_loss_of_what_was_verified_is_told(dedup: Dedup, five: list[str], content: bytes) -> None:
    dedup.ok("check", "--restore")
    file = dedup.home / "state" / "checks.json"
    assert file.stat().st_mode & 0o777 == 0o600
    assert five[4] in file.read_text()

    file.write_bytes(content)
    run = dedup.ok("forget", "--keep-last", "4", "--dry-run")

    assert "what was verified on this machine is not taken into account" in run.err


def test_what_was_proven_of_a_mirror_does_not_speak_for_the_repository(
    dedup: Dedup, five: list[str], tmp_path: Path
) -> None:
    mirror = str(tmp_path / "mirror")
    dedup.ok("mirror", "--to", mirror, "--init")
    dedup.ok("check", "--read-data", "-r", mirror)

    plans = [dedup.ok("forget", "--keep-last", "1", "--dry-run", *where).out for where in ((), ("-r", mirror))]

    assert ["last verified" in plan for plan in plans] == [False, True]


def test_snapshots_of_the_future_are_told_and_take_no_place(dedup: Dedup, five: list[str], site: Path) -> None:
    future = dedup.snapshot(site, "--source", "site", "--time", "2099-01-01 12:00")

    run = dedup("forget", "--keep-last", "2", "--yes")

    assert run.exit_code == 3
    assert "1 snapshot dated in the future" in run.err
    assert ids(dedup) == [*five[3:], future]


@pytest.mark.parametrize("name", ["v1-files", "v1-delta", "v1-epochs"])
def test_a_repository_from_before_marks_takes_them(name: str, dedup: Dedup) -> None:
    shutil.rmtree(dedup.repository)
    shutil.copytree(FOLDER / name / "repository", dedup.repository)
    dedup.setenv("DEDUP_PASSPHRASE", "correct horse battery staple")
    dedup.ok("repo", "trust", "--yes")
    assert not (dedup.repository / "marks").exists()
    before = ids(dedup)
    dedup.ok("check")
    dedup.ok("repair", "index")
    assert not (dedup.repository / "marks").exists()

    dedup.ok("protect", before[0])

    assert dedup("forget", before[0], "--yes").code == "refused.guarded_snapshot"
    dedup.ok("check", "--read-data")
    (dedup.repository / "marks" / "-begin").unlink()
    assert dedup("forget", "--keep-last", "1", "--yes").code == "store.incomplete_listing"
    assert dedup("check").exit_code == 4
    dedup.ok("repair", "index")
    dedup.ok("check")


@pytest.mark.parametrize(("answer", "exit_code", "left"), [("y\n", 0, 3), ("n\n", 8, 5), ("\n", 8, 5)])
def test_on_a_terminal_the_plan_is_shown_and_somebody_asked(
    dedup: Dedup, five: list[str], answer: str, exit_code: int, left: int
) -> None:
    command = [*COMMAND, "forget", "--keep-last", "3"]
    with Terminal(command, cwd=dedup.home, env=dedup.process_environment()) as terminal:
        terminal.wait_for("keep 3 snapshots, forget 2")
        terminal.wait_for("Forget 2 snapshots? [y/N]:")
        terminal.type(answer)
        assert terminal.end() == exit_code

    assert ids(dedup) == five[-left:]


def test_a_snapshot_that_cannot_be_read_is_given_up_by_name_and_prune_goes_on(dedup: Dedup, five: list[str]) -> None:
    dedup.ok("protect", five[1])
    (dedup.repository / "roots" / five[1]).unlink()
    stopped = dedup("prune")
    assert (stopped.exit_code, stopped.code) == (4, "check.root_missing")
    assert f"dedup forget {five[1][:4]}-{five[1][4:6]}" in stopped.err

    assert dedup("forget", five[1], "--yes").code == "refused.guarded_snapshot"
    assert "nothing protects it" in dedup.ok("unprotect", five[1]).out
    shown = dedup.ok("forget", five[1], "--dry-run")
    assert "give up" in shown.out and "forget 1" in shown.out
    run = dedup.ok("forget", five[1], "--yes", "--json")

    assert [row["id"] for row in run.summary["give_up"]] == run.summary["forgotten"] == [five[1]]
    dedup.ok("prune")
    assert ids(dedup) == [five[0], *five[2:]]
    dedup.ok("check", "--read-data")


def test_measuring_says_how_far_it_is(dedup: Dedup, five: list[str]) -> None:
    run = dedup.ok("forget", "--keep-last", "2", "--dry-run", "--bytes", "--progress", "log")

    assert "measure" in run.err
