"""Locked objects: what forget and prune do about them, and how locks are kept long enough.

Each on a server in memory, and on a real one (slow: it takes half a minute to start) that enforces what it promises.
"""

from __future__ import annotations

import random
import re
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.support.dedup import Dedup, read_tree
from tests.support.s3_servers import S3Server, use
from tests.support.s3_versions import lock_for, locks, markers, versions

PRUNE = ("prune", "--grace", "0", "--undo-window", "0", "--yes")


def configured(remote: Dedup, url: str, text: str = 'object_lock = "1d"') -> Dedup:
    """The command with a repository of the configuration whose objects are locked for a day."""
    folder = remote.home / "etc"
    folder.mkdir(exist_ok=True)
    (folder / "config.toml").write_text(f'version = 1\ndefault_repo = "main"\n[repos.main]\nurl = "{url}"\n{text}\n')
    remote.setenv("DEDUP_REPO", "repo:main")
    return remote


def in_days(days: float) -> datetime:
    return datetime.now(UTC) + timedelta(days=days)


@pytest.mark.slow
def test_locked_objects_stop_forget_politely_and_everything_stays(remote: Dedup, site: Path, server: S3Server) -> None:
    bucket = server.bucket(lock=True)
    configured(remote, server.url(bucket, "backup")).init()
    before = read_tree(site)
    first = remote.snapshot(site)
    (site / "uploads/b.bin").write_bytes(b"another")
    second = remote.snapshot(site)

    forgotten = remote("forget", "--snapshot", first, "--yes")

    assert (forgotten.exit_code, forgotten.code) == (8, "forget.denied")
    assert "locked until" in forgotten.err
    remote.ok("restore", "--snapshot", first, "--to", "back")
    assert read_tree(remote.home / "back/site") == before
    assert second in remote.ok("snapshots", "--json").out
    remote.ok("check")


@pytest.mark.slow
def test_prune_waits_for_locked_packs_with_its_plan_and_frees_them_later(
    remote: Dedup, site: Path, server: S3Server
) -> None:
    bucket = server.bucket(lock=True)
    remote.setenv("DEDUP_REPO", server.url(bucket, "backup"))
    remote.init()
    (site / "uploads/b.bin").write_bytes(random.Random(1).randbytes(200_000))
    first = remote.snapshot(site)
    (site / "uploads/b.bin").write_bytes(b"another")
    remote.snapshot(site)
    remote.ok("forget", "--snapshot", first, "--yes")
    lock_for(server, bucket, "backup/packs/", 3600)

    refused = remote(*PRUNE)
    again = remote(*PRUNE)

    for run in (refused, again):
        assert (run.exit_code, run.code) == (8, "prune.denied")
        assert "locked until" in run.err
    assert len(versions(server, bucket, "backup/gc/plan-")) == 1
    assert not markers(server, bucket)
    remote.ok("check")

    lock_for(server, bucket, "backup/packs/", 1)
    time.sleep(2)
    pruned = remote.ok(*PRUNE, "--json").summary

    assert pruned["done"]["packs_deleted"] > 0
    assert not versions(server, bucket, "backup/gc/plan-")
    remote.ok("restore", "--to", "back")
    assert read_tree(remote.home / "back/site") == read_tree(site)
    remote.ok("check", "--read-data")


@pytest.mark.slow
def test_a_bucket_with_versions_is_really_freed_by_prune(remote: Dedup, site: Path, server: S3Server) -> None:
    bucket = server.bucket(lock=True)
    remote.setenv("DEDUP_REPO", server.url(bucket, "backup"))
    remote.init()
    first = remote.snapshot(site)
    (site / "uploads/b.bin").write_bytes(b"another")
    remote.snapshot(site)
    packs = {row["Key"] for row in versions(server, bucket, "backup/packs/")}

    remote.ok("forget", "--snapshot", first, "--yes")
    remote.ok(*PRUNE)

    assert {row["Key"] for row in versions(server, bucket, "backup/packs/")} != packs
    assert not markers(server, bucket)
    remote.ok("check")


@pytest.mark.slow
def test_keys_that_may_not_delete_are_enough_for_everything_but_prune(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, site: Path, ceph_server: S3Server
) -> None:
    use(ceph_server, monkeypatch)
    remote = Dedup(tmp_path, monkeypatch)
    bucket = ceph_server.bucket()
    remote.setenv("DEDUP_REPO", ceph_server.url(bucket, "backup"))
    ceph_server.deny(bucket, "s3:DeleteObject", "s3:DeleteObjectVersion")
    remote.init()

    first = remote.snapshot(site)
    (site / "uploads/a.txt").write_text("second version\n")
    remote.snapshot(site)
    remote.ok("restore", "--to", "back")
    refused = remote("forget", "--snapshot", first, "--yes")

    assert (refused.exit_code, refused.code) == (8, "forget.denied")
    assert read_tree(remote.home / "back/site") == read_tree(site)
    assert len(remote.ok("snapshots").out.splitlines()) >= 2
    remote.ok("check")


def test_locks_of_what_snapshots_need_are_extended_and_of_nothing_else(
    remote: Dedup, site: Path, server: S3Server
) -> None:
    bucket = server.bucket(lock=True)
    remote.setenv("DEDUP_REPO", server.url(bucket, "backup"))
    remote.init()
    first = remote.snapshot(site / "uploads", "--source", "a")
    gone = {row["Key"] for row in versions(server, bucket, "backup/roots/")}
    second = remote.snapshot(site / "index.html", "--source", "a")
    remote.ok("forget", "--snapshot", first, "--yes")

    would = remote.ok("extend-locks", "--for", "2d", "--dry-run", "--json").summary
    unlocked = locks(server, bucket)
    done = remote.ok("extend-locks", "--for", "2d", "--json").summary
    after = locks(server, bucket)
    again = remote.ok("extend-locks", "--for", "2d", "--ending-within", "1d", "--json").summary
    longer = remote.ok("extend-locks", "--for", "3d", "--json").summary

    assert not any(unlocked.values())
    assert would["short"] == would["unlocked"] == done["extended"] == done["needed"]["objects"] > 20
    assert (again["short"], again["extended"], again["unlocked"]) == (0, 0, 0)
    assert longer["extended"] == longer["needed"]["objects"]
    for key, until in after.items():
        name = key.removeprefix("backup/")
        sentinel = name.endswith(("/-begin", "/zz-end"))
        if key in gone - {"backup/roots/-begin", "backup/roots/zz-end"} or (
            name.startswith(("forgotten/", "gc/")) and not sentinel
        ):
            assert until is None, key
        elif not name.startswith("packs/") or sentinel:
            assert until is not None and until > in_days(1.9), key
    kept = [
        until
        for key, until in after.items()
        if key.startswith("backup/packs/") and not key.endswith(("-begin", "zz-end"))
    ]
    assert None in kept, "what only the forgotten snapshot needs is not locked"
    assert any(kept), "what the other one needs is"
    assert second in remote.ok("snapshots", "--json").out
    remote.ok("check")


@pytest.mark.slow
def test_check_tells_of_locks_that_end_too_early_until_they_are_extended(
    remote: Dedup, site: Path, server: S3Server
) -> None:
    url = server.url(server.bucket(lock=True), "backup")
    remote.setenv("DEDUP_REPO", url)
    remote.init()
    remote.snapshot(site)
    configured(remote, url, 'object_lock = "10d"')

    early = remote("check", "--json")
    remote.ok("extend-locks")
    enough = remote("check", "--json")
    again = remote("check")
    configured(remote, url, 'object_lock = "30d"')
    longer = remote("check")

    (finding,) = [event for event in early.events if event.get("code") == "check.lock_ends_early"]
    assert early.exit_code == 3
    assert "less than 5 days" in finding["message"] and "not at all" in finding["message"]
    assert enough.exit_code == 0
    assert enough.summary["counts"]["locks_asked"] > 20
    assert again.exit_code == 0
    assert re.search(r"0 objects asked for; \d\d remembered, of a mode that nobody can end", again.out)
    assert longer.exit_code == 3
    assert "locked for less than 15 days, the first until" in longer.err


def test_locks_of_snapshots_that_the_rules_let_go_run_out_so_that_they_can_be_forgotten(
    remote: Dedup, site: Path, server: S3Server
) -> None:
    bucket = server.bucket(lock=True)
    rules = f'[sources.site]\ntype = "files"\npaths = ["{site}"]\n[retention.default]\nkeep_last = 1\n'
    configured(remote, server.url(bucket, "backup"), rules).init()
    first, second = remote.snapshot("site"), remote.snapshot("--force", "site")

    extended = remote.ok("extend-locks", "--for", "2d", "--policy", "--json").summary
    kept = locks(server, bucket, "backup/commits/")
    lock_for(server, bucket, f"backup/commits/{first}", 3600)
    refused = remote("forget", "--policy", "--yes")
    there = remote.ok("snapshots", "--json").out
    lock_for(server, bucket, f"backup/commits/{first}", 1)
    time.sleep(2)
    remote.ok("forget", "--policy", "--yes")
    remote.ok(*PRUNE)

    assert (extended["left_out"], extended["snapshots"]) == (1, 1)
    assert kept[f"backup/commits/{first}"] is None
    assert kept[f"backup/commits/{second}"] is not None
    assert (refused.exit_code, refused.code) == (8, "forget.denied")
    assert first in there and second in there
    assert [row["id"] for row in remote.ok("snapshots", "--json").document["snapshots"]] == [second]
    remote.ok("check", "--read-data")


def test_locks_for_ever_want_consent_and_a_place_without_locks_is_refused(
    remote: Dedup, site: Path, server: S3Server
) -> None:
    remote.setenv("DEDUP_REPO", server.url(server.bucket(lock=True), "backup"))
    remote.init()
    remote.snapshot(site)

    ever = remote("extend-locks", "--until", "2150-01-01")
    silent = remote("extend-locks")
    both = remote("extend-locks", "--until", "2150-01-01", "--for", "3d")
    remote.ok("check")
    remote.setenv("DEDUP_REPO", server.url(server.bucket(), "backup"))
    remote.init()
    none = remote("extend-locks", "--for", "3d")
    remote.ok("check")

    assert (ever.exit_code, ever.code) == (8, "locks.needs_consent")
    assert (silent.exit_code, silent.code) == (2, "usage")
    assert "object_lock" in silent.err
    assert both.exit_code == 2
    assert (none.exit_code, none.code) == (8, "locks.none")


def test_a_bucket_that_cannot_lock_says_so_before_anything_is_stored(
    remote: Dedup, site: Path, server: S3Server
) -> None:
    url = server.url(server.bucket(), "backup")
    remote.setenv("DEDUP_REPO", url)
    remote.init()
    configured(remote, url)

    run = remote("snapshot", site)

    assert run.code == "locks.none", run.err
    assert "object_lock" in run.err


def test_a_mirror_in_a_bucket_is_locked_and_limited_as_the_configuration_says(
    remote: Dedup, site: Path, server: S3Server
) -> None:
    remote.init()
    remote.snapshot(site)
    bucket = server.bucket(lock=True)
    configured(remote, str(remote.repository), f'[repos.offsite]\nurl = "{server.url(bucket)}"\nobject_lock = "7d"\n'
        'limit_upload = "100kB/s"')  # fmt: skip

    began = time.monotonic()
    mirrored = remote.ok("mirror", "--to", "repo:offsite", "--init", "--json").summary
    seconds = time.monotonic() - began

    kept = locks(server, bucket)
    assert kept
    for key, until in kept.items():
        assert (until is None) == (key.startswith("gc/") and not key.endswith(("-begin", "zz-end"))), key
        assert until is None or until > in_days(6.9)
    assert seconds >= mirrored["copied"]["bytes"] / 100e3 - 0.2
    remote.ok("mirror", "--to", "repo:offsite", "--verify")
    remote.ok("check", "-r", server.url(bucket))
