"""`dedup prune`: what it says, what it does, and how it ends."""

from __future__ import annotations

import errno
import itertools
import os
import subprocess
import time
from pathlib import Path

import pytest

from dedupstore.clock import SystemClock
from dedupstore.errors import StoreError
from dedupstore.repo.repository import Repository
from dedupstore.repo.slots import Secret
from dedupstore.storage.base import ObjectStore
from dedupstore.storage.local import LocalStore
from dedupstore.storage.system import System
from dedupstore.units import format_id
from tests.support import pruning
from tests.support.dedup import COMMAND, PASSPHRASE, Dedup, read_tree, write_tree
from tests.support.faults import Fault, FaultPlan, FaultyStore
from tests.support.repositories import random_bytes


def open_here(store: ObjectStore) -> Repository:
    """The repository, opened in this process and by no command."""
    secret = Secret.passphrase(PASSPHRASE)
    return Repository.open(store, secret, clock=SystemClock(), cache_path=None, allow_weak=True)


def forget(dedup: Dedup, identifier: str) -> None:
    """What `dedup forget` does to the repository."""
    with open_here(LocalStore(str(dedup.repository))) as repository:
        snapshots = {format_id(one.id): one for one in repository.catalog.snapshots().snapshots}
        pruning.forget(repository, snapshots[identifier])


@pytest.fixture
def forgotten(dedup: Dedup, site: Path, tmp_path: Path) -> Dedup:
    """A repository with a snapshot of the site, and a larger one of something else that was forgotten."""
    other = write_tree(tmp_path / "other", {f"noise{number}": random_bytes(str(number), 90_000) for number in range(9)})
    identifier = dedup.snapshot(other, "--source", "other")
    dedup.snapshot(site, "--source", "site")
    forget(dedup, identifier)
    return dedup


def stored(dedup: Dedup) -> int:
    return sum(path.stat().st_size for path in (dedup.repository / "packs").rglob("*") if path.is_file())


def test_a_dry_run_says_what_would_be_freed_and_changes_nothing(forgotten: Dedup) -> None:
    before = read_tree(forgotten.repository)

    run = forgotten.ok("prune", "--dry-run", "--grace", "0", "--undo-window", "0")
    events = forgotten.ok("prune", "--dry-run", "--grace", "0", "--undo-window", "0", "--json").summary

    assert "that no snapshot needs" in run.out
    assert "about 8" in run.out and "kB once they would be deleted" in run.out
    assert events["dry_run"] is True and events["done"] is None
    assert events["bytes_free"] > 800_000
    assert read_tree(forgotten.repository) == before


def test_without_waiting_the_space_is_free_at_once(forgotten: Dedup, site: Path, tmp_path: Path) -> None:
    before = stored(forgotten)

    summary = forgotten.ok("prune", "--grace", "0", "--undo-window", "0", "--json").summary

    assert summary["done"]["packs_deleted"] > 0
    assert stored(forgotten) < before - 800_000
    assert summary["done"]["next_due"] is None
    forgotten.ok("check", "--read-data")
    forgotten.ok("restore", "--to", tmp_path / "back")
    assert read_tree(tmp_path / "back" / "site") == read_tree(site)


def test_a_forgotten_snapshot_is_kept_for_a_week(forgotten: Dedup) -> None:
    before = stored(forgotten)

    summary = forgotten.ok("prune", "--grace", "0", "--json").summary

    assert (summary["roots_expired"], summary["done"]["packs_condemned"]) == ([], 0)
    assert stored(forgotten) == before


def test_condemned_packs_wait_for_a_day(forgotten: Dedup) -> None:
    """Made older than a day, so that they are not taken for a snapshot under way."""
    for path in (forgotten.repository / "packs").rglob("*"):
        os.utime(path, (1_700_000_000, 1_700_000_000))
    before = stored(forgotten)

    first = forgotten.ok("prune", "--undo-window", "0")
    second = forgotten.ok("prune", "--undo-window", "0")

    assert "next: dedup prune" in first.err
    assert "waiting" in second.out
    assert stored(forgotten) == before
    forgotten.ok("prune", "--grace", "0")
    assert stored(forgotten) < before - 800_000
    forgotten.ok("check", "--read-data")


def test_young_packs_may_belong_to_a_snapshot_under_way(forgotten: Dedup) -> None:
    run = forgotten.ok("prune", "--undo-window", "0")

    assert "one may be under way" in run.out
    assert "condemn  nothing" in run.out


def test_storage_that_denies_deleting_is_no_failure_of_the_data(
    forgotten: Dedup, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a folder that may not be written to; root may delete even there."""
    unlink = System.unlink

    def denied(self: System, path: str) -> None:
        if "packs" in Path(path).parts:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        unlink(self, path)

    with monkeypatch.context() as patch:
        patch.setattr(System, "unlink", denied)
        run = forgotten("prune", "--grace", "0", "--undo-window", "0")

    assert run.exit_code == 8
    assert run.code == "prune.denied"
    forgotten.ok("check", "--read-data")
    forgotten.ok("prune", "--grace", "0", "--undo-window", "0")
    forgotten.ok("check", "--read-data")


@pytest.mark.parametrize("option", [["--grace", "soon"], ["--max-repack", "much"], ["--undo-window", "x"]])
def test_what_is_no_time_or_size_is_refused_before_anything_else(dedup: Dedup, option: list[str]) -> None:
    assert dedup("prune", *option).exit_code == 2


@pytest.mark.slow
def test_a_prune_killed_at_any_moment_is_ended_by_the_next(forgotten: Dedup, site: Path, tmp_path: Path) -> None:
    """A real process, killed later and later, until one gets to its end; a snapshot is taken in between."""
    command = [*COMMAND, "prune", "--grace", "0", "--undo-window", "0", "-q"]
    killed = 0

    for number in itertools.count():
        identifier = forgotten.snapshot(write_tree(tmp_path / "day", {"file": random_bytes(f"day {number}", 50_000)}))
        forget(forgotten, identifier)
        process = subprocess.Popen(command, env=forgotten.process_environment(), stdin=subprocess.DEVNULL)
        try:
            process.wait(timeout=0.06 + 0.01 * number)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            killed += 1
            continue
        assert process.returncode == 0
        break

    assert killed > 0
    forgotten.ok("check", "--read-data")
    forgotten.ok("restore", "--source", "site", "--to", tmp_path / "back")
    assert read_tree(tmp_path / "back" / "site") == read_tree(site)
    summary = forgotten.ok("prune", "--grace", "0", "--undo-window", "0", "--json").summary
    assert summary["done"]["next_due"] is None


def test_a_restore_finds_what_was_moved_with_the_index_from_before(dedup: Dedup, tmp_path: Path) -> None:
    files = {f"f{number:02}": random_bytes(f"moved {number}", 60_000) for number in range(30)}
    tree = write_tree(tmp_path / "tree", files)
    first = dedup.snapshot(tree)
    for number in range(0, 30, 2):
        (tree / f"f{number:02}").unlink()
    dedup.snapshot(tree)
    forget(dedup, first)

    summary = dedup.ok("prune", "--grace", "0", "--undo-window", "0", "--json").summary

    assert summary["done"]["bytes_moved"] >= 15 * 60_000
    dedup.ok("restore", "--to", tmp_path / "back")
    assert read_tree(tmp_path / "back" / "tree") == read_tree(tree)
    dedup.ok("check", "--restore")
    assert dedup.ok("stats", "--json").exit_code == 0


def test_of_a_mirror_made_after_a_prune_that_was_killed_a_check_says_how_it_gets_what_it_lacks(
    forgotten: Dedup, tmp_path: Path
) -> None:
    """The packs are deleted and the record that says so is not there: they look as lost ones do."""
    mirror = tmp_path / "mirror"
    # The first record is about roots that are over, the second about the packs.
    killed = FaultPlan(fault=Fault.FAIL_BEFORE, at=1, verb="put", below="gc/done-")
    with open_here(FaultyStore(LocalStore(str(forgotten.repository)), killed)) as repository:
        with pytest.raises(StoreError):
            pruning.prune(repository)
    forgotten.ok("mirror", "--to", mirror, "--init")
    assert forgotten("check").exit_code == 0, "the plan says here where they went"

    for depth in ("--quick", "--read-data"):
        found = forgotten("check", "-r", mirror, depth)

        assert (found.exit_code, found.code) == (4, "check.damaged")
        assert "no file of a snapshot is known to be hit" in found.err
        assert "dedup prune there, then dedup mirror" in found.err
        for record in (mirror / "gc").glob("bad-*"):
            record.unlink()
    forgotten.ok("prune", "--grace", "0", "--undo-window", "0")
    forgotten.ok("mirror", "--to", mirror)
    forgotten.ok("check", "-r", mirror, "--read-data")


def test_a_clock_set_a_year_ahead_is_told_and_ends_no_undo_window(
    forgotten: Dedup, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    real = time.time_ns
    monkeypatch.setattr(SystemClock, "now_ns", lambda self: real() + 365 * 24 * 3600 * 10**9)

    told = forgotten.ok("prune", "--grace", "0")
    events = forgotten.ok("prune", "--grace", "0", "--json")

    assert "note: 1 snapshot forgotten before a long pause" in told.err and "for 365 days" in told.err
    assert events.summary["roots_expired"] == []
    assert forgotten.ok("prune", "--grace", "0", "--undo-window", "0", "--json").summary["done"]["roots_expired"] == 1
    forgotten.ok("check")
