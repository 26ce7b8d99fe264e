"""`dedup mirror` as a user calls it: no passphrase, a plan before anything goes, and the same passphrase opens the mirror."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.support.dedup import Dedup, read_tree


def test_a_mirror_is_made_without_a_passphrase_and_opened_with_it(dedup: Dedup, site: Path, tmp_path: Path) -> None:
    dedup.snapshot(site, "--source", "site")
    mirror = tmp_path / "mirror"
    dedup.setenv("DEDUP_PASSPHRASE", None)

    made = dedup.ok("mirror", "--to", mirror, "--init", "--verify", "--json").summary

    assert made["copied"]["snapshots"] == 1 and made["verified"]["objects"] >= made["copied"]["objects"] > 4
    dedup.setenv("DEDUP_PASSPHRASE", "tangerine-forty-two-umbrellas")
    dedup.ok("check", "-r", mirror, "--read-data")
    dedup.ok("restore", "-r", mirror, "--to", tmp_path / "back")
    assert read_tree(tmp_path / "back" / "site") == read_tree(site)
    dedup.ok("check", "--read-data")


def test_a_place_without_a_repository_is_not_filled_unasked(dedup: Dedup, site: Path, tmp_path: Path) -> None:
    dedup.snapshot(site)
    (tmp_path / "unmounted").mkdir()

    for place in (tmp_path / "unmounted", tmp_path / "missing"):
        run = dedup("mirror", "--to", place)
        assert run.exit_code == 10 and "--init" in run.err
    assert list((tmp_path / "unmounted").iterdir()) == [] and not (tmp_path / "missing").exists()


def test_a_dry_run_of_a_first_mirror_makes_nothing(dedup: Dedup, site: Path, tmp_path: Path) -> None:
    dedup.snapshot(site)
    (tmp_path / "empty").mkdir()

    for place in (tmp_path / "empty", tmp_path / "missing"):
        planned = dedup.ok("mirror", "--to", place, "--init", "--dry-run", "--json").summary["planned"]
        assert planned["snapshots"] == 1 and planned["objects"] > 4
    assert list((tmp_path / "empty").iterdir()) == [] and not (tmp_path / "missing").exists()


def test_a_mirror_into_itself_is_refused(dedup: Dedup, site: Path, tmp_path: Path) -> None:
    dedup.snapshot(site)
    (tmp_path / "alias").symlink_to(dedup.repository)

    for place in (dedup.repository, tmp_path / "alias", dedup.repository / "packs", tmp_path):
        run = dedup("mirror", "--to", place, "--init")
        assert (run.exit_code, run.code) == (8, "copy.same_place")


def test_deleting_shows_a_plan_and_needs_consent(dedup: Dedup, site: Path, tmp_path: Path) -> None:
    gone = dedup.snapshot(site)
    mirror = tmp_path / "mirror"
    dedup.ok("mirror", "--to", mirror, "--init")
    kept = dedup.snapshot(site, "--force")
    for folder in ("commits", "roots"):
        (dedup.repository / folder / gone).unlink()

    looked = dedup.ok("mirror", "--to", mirror, "--delete", "--dry-run")
    refused = dedup("mirror", "--to", mirror, "--delete")
    assert "delete 2 objects" in looked.out and "1 snapshot" in looked.out
    assert (refused.exit_code, refused.code) == (8, "mirror.needs_consent")
    assert (mirror / "commits" / gone).exists() and not (mirror / "commits" / kept).exists()

    dedup.ok("mirror", "--to", mirror, "--delete", "--yes")

    assert not (mirror / "commits" / gone).exists() and (mirror / "commits" / kept).exists()
    dedup.ok("check", "-r", mirror, "--read-data")


def test_damage_in_the_repository_is_exit_code_4(dedup: Dedup, site: Path, tmp_path: Path) -> None:
    dedup.snapshot(site)
    pack = next((dedup.repository / "packs").glob("*/*.d*"))
    whole = pack.read_bytes()
    pack.chmod(0o600)
    pack.write_bytes(whole[:100] + b"\0" * 8 + whole[108:])
    mirror = tmp_path / "mirror"

    run = dedup("mirror", "--to", mirror, "--init")

    assert (run.exit_code, run.code) == (4, "mirror.incomplete")
    assert pack.name in run.err and "--despite-damage" in run.err
    pack.write_bytes(whole)
    dedup.ok("mirror", "--to", mirror)
    dedup.ok("check", "-r", mirror, "--read-data")


def test_a_mirror_on_a_disk_that_was_taken_away_is_no_empty_mirror(dedup: Dedup, site: Path, tmp_path: Path) -> None:
    dedup.snapshot(site)
    mirror = tmp_path / "mirror"
    dedup.ok("mirror", "--to", mirror, "--init")
    shutil.move(mirror, tmp_path / "elsewhere")
    mirror.mkdir()

    assert dedup("mirror", "--to", mirror).exit_code == 10
    assert list(mirror.iterdir()) == []
