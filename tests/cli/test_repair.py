"""`dedup repair` as a user calls it: from a mirror without a word, from a copy by its own passphrase, or without what is lost."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.dedup import Dedup, read_tree, write_tree

OTHER = "walnut-ninety-nine-bicycles"


def data_packs(dedup: Dedup) -> list[Path]:
    return sorted((dedup.repository / "packs").glob("*/*.d*"))


def break_data(dedup: Dedup, but: Sequence[Path] = ()) -> list[Path]:
    """One bit in the first block of each data pack; the packs."""
    packs = [path for path in data_packs(dedup) if path not in but]
    for pack in packs:
        data = bytearray(pack.read_bytes())
        data[100] ^= 1
        pack.chmod(0o600)
        pack.write_bytes(data)
    return packs


def test_a_mirror_mends_what_a_check_found(dedup: Dedup, site: Path, tmp_path: Path) -> None:
    dedup.snapshot(site, "--source", "site")
    dedup.ok("mirror", "--to", tmp_path / "mirror", "--init")
    packs = break_data(dedup)
    broken = [pack.read_bytes() for pack in packs]
    found = dedup("check", "--read-data", "--json")
    assert found.exit_code == 4 and found.summary["recorded"] == len(packs)

    planned = dedup.ok("repair", "packs", "--from", tmp_path / "mirror", "--dry-run", "--json").summary
    helpless = dedup("repair", "packs")
    assert dedup("repair", "packs", "--json").summary["lost"] > 0
    done = dedup.ok("repair", "packs", "--from", tmp_path / "mirror", "--json").summary

    assert (helpless.exit_code, helpless.code) == (4, "repair.incomplete")
    assert (planned["dry_run"], done["dry_run"]) == (True, False)
    assert done["chunks"] == planned["chunks"] > 0
    assert [pack.read_bytes() for pack in packs] == broken
    dedup.ok("check", "--read-data")
    dedup.ok("restore", "--to", tmp_path / "back")
    assert read_tree(tmp_path / "back" / "site") == read_tree(site)
    pruned = dedup.ok("prune", "--grace", "0", "--json").summary
    assert pruned["chosen"]["dead"]["packs"] + pruned["chosen"]["damaged"]["packs"] == len(packs)
    assert not any(pack.exists() for pack in packs)
    assert "stored again" in dedup.ok("repair", "packs", "--from", tmp_path / "mirror").out
    dedup.ok("check", "--read-data")


def test_a_copy_mends_by_its_own_passphrase_and_by_no_other(dedup: Dedup, site: Path, tmp_path: Path) -> None:
    secret = tmp_path / "other.pass"
    secret.write_text(OTHER + "\n")
    secret.chmod(0o600)
    dedup.setenv("DEDUP_NEW_PASSPHRASE", OTHER)
    dedup.ok("init", "-r", tmp_path / "copy", "--insecure-test-kdf", "--chunk-size", "4KiB")
    dedup.setenv("DEDUP_NEW_PASSPHRASE", None)
    dedup.snapshot(site, "--source", "site")
    dedup.ok("copy", "--to", tmp_path / "copy", "--to-passphrase-file", secret)
    break_data(dedup)
    assert dedup("check", "--read-data").exit_code == 4

    dedup.setenv("DEDUP_TO_PASSPHRASE", "not this one")
    wrong = dedup("repair", "packs", "--from", tmp_path / "copy")
    assert (wrong.exit_code, wrong.code) == (12, "repo.wrong_passphrase")
    assert dedup("check").exit_code == 4
    dedup.ok("repair", "packs", "--from", tmp_path / "copy", "--from-passphrase-file", secret)

    dedup.ok("check", "--read-data")
    dedup.ok("restore", "--to", tmp_path / "back")
    assert read_tree(tmp_path / "back" / "site") == read_tree(site)


@pytest.mark.parametrize("command", ["packs", "snapshots"])
def test_where_nothing_is_damaged_nothing_is_done(dedup: Dedup, site: Path, command: str) -> None:
    dedup.snapshot(site, "--source", "site")
    before = read_tree(dedup.repository)

    dedup.ok("repair", command)

    assert read_tree(dedup.repository) == before
    dedup.ok("check", "--read-data")


def test_a_place_that_is_no_replica_is_refused(dedup: Dedup, site: Path, tmp_path: Path) -> None:
    dedup.snapshot(site)
    (tmp_path / "empty").mkdir()

    missing = dedup("repair", "packs", "--from", tmp_path / "empty")
    itself = dedup("repair", "packs", "--from", dedup.repository)

    assert (missing.exit_code, missing.code) == (10, "repo.not_found")
    assert (itself.exit_code, itself.code) == (8, "copy.same_place")
    dedup.ok("check")


def test_snapshots_go_on_without_what_is_lost_and_say_what_that_is(dedup: Dedup, site: Path, tmp_path: Path) -> None:
    damaged = dedup.snapshot(site, "--source", "site")
    break_data(dedup)
    assert dedup("check", "--read-data").exit_code == 4
    lost = {"uploads/a.txt", "uploads/b.bin", "index.html", "cache/tmp"}

    planned = dedup("repair", "snapshots", "--dry-run", "--json").summary
    shown = dedup("repair", "snapshots", "--dry-run")
    done = dedup("repair", "snapshots", "--json").summary

    assert shown.exit_code == 3
    assert [(one["status"], one["exit_code"]) for one in (planned, done)] == [("warnings", 3)] * 2
    assert {path["path"] for path in planned["snapshots"][0]["lost"]} <= {f"site/{name}" for name in lost}
    assert "lost     site/" in shown.out and "would be made anew" in shown.out
    (one,) = done["snapshots"]
    assert one["original"] == damaged and one["repaired"] != damaged
    assert dedup.ok("repair", "snapshots", "--json").summary["repaired_before"] == [damaged]
    left = {f"site/{name}" for name in read_tree(site)} - {path["path"] for path in one["lost"]}
    dedup.ok("restore", "--snapshot", one["repaired"], "--to", tmp_path / "back")
    assert {f"site/{name}" for name in read_tree(tmp_path / "back" / "site")} == left
    assert dedup("check").exit_code == 4
    dedup.ok("forget", damaged, "--yes")
    dedup.ok("check", "--read-data")


def test_parity_mends_without_a_replica_and_check_repairs_by_it(dedup: Dedup, site: Path, tmp_path: Path) -> None:
    dedup.snapshot(site, "--source", "site")
    planned = dedup.ok("repair", "parity", "--dry-run", "--json").summary
    made = dedup.ok("repair", "parity", "--json").summary
    assert planned["made"] == made["made"] == made["packs"] > 0 and made["made_bytes"] > 0
    assert dedup.ok("repair", "parity", "--json").summary["made"] == 0
    dedup.ok("mirror", "--to", tmp_path / "mirror", "--init", "--verify")
    dedup.ok("check", "-r", tmp_path / "mirror", "--read-data")
    packs = break_data(dedup)

    looked = dedup("check", "--read-data", "--repair-plan", "--json")
    assert looked.exit_code == 4 and looked.summary["repair"]["dry_run"] and looked.summary["repair"]["lost"] == 0
    mended = dedup.ok("check", "--read-data", "--repair", "--json").summary

    assert mended["repair"]["chunks"] == looked.summary["repair"]["chunks"] > 0
    assert mended["errors"] == 0
    dedup.ok("prune", "--grace", "0")
    assert not any(pack.exists() for pack in packs)
    assert {path.name for path in (dedup.repository / "parity").glob("*/*")} == {
        path.name.split(".")[0] for path in (dedup.repository / "packs").glob("*/*.*")
    }
    dedup.ok("check", "--read-data")
    assert dedup.ok("check", "--repair", "--json").summary["repair"] is None


def test_check_repairs_from_a_replica_and_says_what_is_left(dedup: Dedup, site: Path, tmp_path: Path) -> None:
    dedup.snapshot(site, "--source", "site")
    dedup.ok("mirror", "--to", tmp_path / "mirror", "--init")
    break_data(dedup)

    left = dedup("check", "--read-data", "--repair", "--json")
    assert left.exit_code == 4 and left.summary["repair"]["lost"] > 0
    needs = dedup("check", "--from", tmp_path / "mirror")
    assert needs.exit_code == 2 and "--repair" in needs.err
    mended = dedup.ok("check", "--repair", "--from", tmp_path / "mirror")

    assert "mended" in mended.out
    dedup.ok("check", "--read-data")


def test_neither_a_damaged_snapshot_nor_what_is_left_of_it_is_the_newest_good_one(
    dedup: Dedup, site: Path, tmp_path: Path
) -> None:
    write_tree(tmp_path / "old" / "site", {"a": "whole"})
    whole = dedup.snapshot(tmp_path / "old" / "site", "--source", "site")
    before = data_packs(dedup)
    damaged = dedup.snapshot(site, "--source", "site")
    break_data(dedup, but=before)
    assert dedup("check", "--read-data").exit_code == 4
    (one,) = dedup("repair", "snapshots", "--json").summary["snapshots"]

    run = dedup("forget", whole, "--yes")

    assert one["original"] == damaged
    assert run.code == "refused.guarded_snapshot" and "newest good" in run.err
