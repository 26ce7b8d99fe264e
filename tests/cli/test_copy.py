"""`dedup copy` as a user calls it: two passphrases, none in an argument, and the same files from the other repository."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.dedup import Dedup, read_tree

OTHER = "walnut-ninety-nine-bicycles"


@pytest.fixture
def replica(dedup: Dedup, tmp_path: Path) -> Path:
    """An empty repository with another passphrase; the file that holds it is `other.pass`."""
    secret = tmp_path / "other.pass"
    secret.write_text(OTHER + "\n")
    secret.chmod(0o600)
    dedup.setenv("DEDUP_NEW_PASSPHRASE", OTHER)
    dedup.ok("init", "-r", tmp_path / "replica", "--insecure-test-kdf", "--chunk-size", "4KiB")
    dedup.setenv("DEDUP_NEW_PASSPHRASE", None)
    return tmp_path / "replica"


def open_with(dedup: Dedup, passphrase: str) -> None:
    dedup.setenv("DEDUP_PASSPHRASE", passphrase)


def test_a_copy_is_restored_from_the_other_repository(dedup: Dedup, site: Path, replica: Path, tmp_path: Path) -> None:
    first = dedup.snapshot(site, "--source", "site", "--tag", "monday", "--note", "before the move")
    (site / "new.txt").write_text("new\n")
    second = dedup.snapshot(site, "--source", "site")
    password = ("--to-passphrase-file", tmp_path / "other.pass")

    summary = dedup.ok("copy", "--to", replica, *password, "--json").summary
    again = dedup.ok("copy", "--to", replica, *password, "--json").summary

    assert [one["original"] for one in summary["copied"]] == [first, second]
    assert again["copied"] == [] and again["present"] == [first, second]
    dedup.ok("check", "--read-data")
    open_with(dedup, OTHER)
    listed = dedup.ok("snapshots", "-r", replica, "--json").document["snapshots"]
    assert [(row["tags"], row["note"], row["source"]) for row in listed] == [
        (["monday"], "before the move", "site"),
        ([], "", "site"),
    ]
    assert [row["copy_of"] for row in listed] == [first, second]
    assert "copy  #monday" in dedup.ok("snapshots", "-r", replica).out
    dedup.ok("restore", "-r", replica, "--to", tmp_path / "back")
    assert read_tree(tmp_path / "back" / "site") == read_tree(site)
    dedup.ok("check", "-r", replica, "--read-data")


def test_tags_and_note_of_today_travel_and_protection_stays(dedup: Dedup, site: Path, replica: Path) -> None:
    first = dedup.snapshot(site, "--source", "site", "--tag", "monday", "--note", "before the move")
    second = dedup.snapshot(site, "--source", "site")
    dedup.ok("tag", first, "--add", "release", "--remove", "monday")
    dedup.ok("note", first, "moved")
    dedup.ok("protect", first)
    dedup.setenv("DEDUP_TO_PASSPHRASE", OTHER)

    copied = dedup.ok("copy", "--to", replica, "--tag", "release", "--json").summary["copied"]
    assert [one["original"] for one in copied] == [first]
    dedup.ok("tag", first, "--add", "later")
    copied = dedup.ok("copy", "--to", replica, "@tag:later", second, "--json").summary["copied"]
    assert [one["original"] for one in copied] == [second]

    open_with(dedup, OTHER)
    listed = dedup.ok("snapshots", "-r", replica, "--json").document["snapshots"]
    assert [(row["tags"], row["note"], row.get("protected")) for row in listed] == [
        (["release"], "moved", None),
        ([], "", None),
    ]
    dedup.ok("check", "-r", replica, "--read-data")


def test_only_what_is_asked_for_is_copied(dedup: Dedup, site: Path, replica: Path, tmp_path: Path) -> None:
    blog = dedup.snapshot(site / "uploads", "--source", "blog")
    dedup.snapshot(site, "--source", "site")
    tagged = dedup.snapshot(site, "--source", "site", "--tag", "keep", "--force")
    dedup.setenv("DEDUP_TO_PASSPHRASE_FILE", str(tmp_path / "other.pass"))

    dry = dedup.ok("copy", "--to", replica, "--source", "blog", "--dry-run", "--json").summary
    assert dry["lacking"] == [blog] and dry["copied"] == []
    copied = dedup.ok("copy", "--to", replica, "--source", "blog", "--json").summary["copied"]
    assert [one["original"] for one in copied] == [blog]
    copied = dedup.ok("copy", "--to", replica, "latest", blog[:6], "--json").summary["copied"]
    assert [one["original"] for one in copied] == [tagged]
    assert dedup("copy", "--to", replica, "zzzzzz").exit_code == 5


def test_the_target_is_not_opened_by_the_secret_of_the_source(
    dedup: Dedup, site: Path, replica: Path, tmp_path: Path
) -> None:
    dedup.snapshot(site)

    missing = dedup("copy", "--to", replica)
    assert (missing.exit_code, missing.code) == (2, "usage.no_passphrase")
    assert "DEDUP_TO_PASSPHRASE_FILE" in missing.err
    dedup.setenv("DEDUP_TO_PASSPHRASE", "wrong")
    wrong = dedup("copy", "--to", replica)
    assert (wrong.exit_code, wrong.code) == (12, "repo.wrong_passphrase")
    assert str(replica) in wrong.err
    dedup.setenv("DEDUP_TO_PASSPHRASE", OTHER)
    run = dedup.ok("copy", "--to", replica)
    assert OTHER not in run.out + run.err


def test_a_command_gives_the_passphrase_and_sees_no_other_secret(
    dedup: Dedup, site: Path, replica: Path, tmp_path: Path
) -> None:
    dedup.snapshot(site)
    script = tmp_path / "ask"
    script.write_text(f'#!/bin/sh\nenv > "{tmp_path}/seen"\ncat "{tmp_path}/other.pass"\n')
    script.chmod(0o700)

    dedup.ok("copy", "--to", replica, "--to-passphrase-command", str(script))

    seen = (tmp_path / "seen").read_text()
    assert "PASSPHRASE" not in seen


def test_targets_of_another_kind_are_refused(dedup: Dedup, site: Path, replica: Path, tmp_path: Path) -> None:
    dedup.snapshot(site)
    dedup.setenv("DEDUP_TO_PASSPHRASE", OTHER)
    (tmp_path / "photos").mkdir()
    newer = tmp_path / "newer"
    newer.mkdir()
    (newer / "FORMAT").write_text("dedupstore 2\nwhatever\n")
    dedup.ok("mirror", "--to", tmp_path / "mirror", "--init")

    assert dedup("copy", "--to", tmp_path / "photos").exit_code == 10
    assert dedup("copy", "--to", tmp_path / "missing").exit_code == 10
    assert dedup("copy", "--to", newer).exit_code == 13
    same = dedup("copy", "--to", dedup.repository)
    assert (same.exit_code, same.code) == (8, "copy.same_place")
    mirrored = dedup("copy", "--to", tmp_path / "mirror")
    assert (mirrored.exit_code, mirrored.code) == (8, "copy.same_repository")
    assert list((tmp_path / "photos").iterdir()) == []


def test_damage_in_the_source_is_exit_code_4_and_other_snapshots_are_copied(
    dedup: Dedup, site: Path, replica: Path, tmp_path: Path
) -> None:
    good = dedup.snapshot(site / "uploads", "--source", "blog")
    before = set((dedup.repository / "packs").glob("*/*.d*"))
    (site / "index.html").write_bytes(bytes(range(256)) * 300)
    bad = dedup.snapshot(site / "index.html", "--source", "page")
    (pack,) = set((dedup.repository / "packs").glob("*/*.d*")) - before
    pack.chmod(0o600)
    whole = pack.read_bytes()
    pack.write_bytes(whole[:80] + b"\0" * 8 + whole[88:])
    dedup.setenv("DEDUP_TO_PASSPHRASE", OTHER)

    run = dedup("copy", "--to", replica, "--json")

    assert run.exit_code == 4
    assert [one["original"] for one in run.summary["copied"]] == [good] and run.summary["failed"] == [bad]
    assert any(event.get("path", "").endswith("index.html") for event in run.events)
    pack.write_bytes(whole)
    dedup.ok("copy", "--to", replica)
    dedup.ok("check", "--read-data")
    open_with(dedup, OTHER)
    dedup.ok("check", "-r", replica, "--read-data")
