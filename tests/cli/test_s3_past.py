"""After somebody has deleted or overwritten everything in a bucket that keeps versions: the storage as it was before."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.support.dedup import Dedup, read_tree
from tests.support.mounting import mounted, require_fuse
from tests.support.s3_servers import S3Server
from tests.support.s3_versions import delete_everything, locks, next_second, overwrite, versions


def test_what_was_deleted_and_overwritten_is_restored_from_the_storage_of_before(
    remote: Dedup, site: Path, server: S3Server
) -> None:
    bucket = server.bucket(lock=True)
    remote.setenv("DEDUP_REPO", server.url(bucket, "backup"))
    remote.init()
    remote.snapshot(site)
    (site / "uploads/a.txt").write_text("second version\n")
    second = remote.snapshot(site)
    before = next_second(server, bucket).isoformat()

    assert overwrite(server, bucket, "backup/packs/") > 2
    damaged = remote("check", "--read-data")
    delete_everything(server, bucket)
    gone = remote("check")
    shutil.copytree(site, remote.home / "kept")
    (site / "uploads/a.txt").write_text("the attacker's\n")

    past = ("--at-store-time", before)
    assert damaged.exit_code == 4
    assert (gone.exit_code, gone.code) == (10, "repo.not_found")
    assert "--at-store-time" in gone.err
    assert second in remote.ok("snapshots", "--json", *past).out
    # Once as the machine that made it, once as one that knows nothing.
    remote.ok("restore", "--to", "back", *past)
    shutil.rmtree(remote.home / "cache")
    shutil.rmtree(remote.home / "state")
    remote.ok("check", "--read-data", *past)
    remote.ok("restore", "--to", "again", *past)
    for folder in ("back", "again"):
        assert read_tree(remote.home / folder / "site") == read_tree(remote.home / "kept")

    refused = remote("snapshot", site, *past)
    assert (refused.exit_code, refused.code) == (7, "store.read_only")
    locked = remote.ok("extend-locks", "--for", "2d", "--json", *past).summary
    assert locked["hidden"] and locked["extended"] == locked["needed"]["objects"]
    assert all(locks(server, bucket, "backup/roots/").values())

    remote.ok("mirror", "--to", server.url(bucket, "saved"), "--init", *past)
    remote.setenv("DEDUP_REPO", server.url(bucket, "saved"))
    remote.ok("check", "--read-data")
    remote.ok("snapshot", site)
    assert len(remote.ok("snapshots", "--json").document["snapshots"]) == 3


@pytest.mark.slow
def test_undeleting_by_taking_the_markers_away_brings_the_repository_back(
    remote: Dedup, site: Path, server: S3Server
) -> None:
    bucket = server.bucket(lock=True)
    remote.setenv("DEDUP_REPO", server.url(bucket, "backup"))
    remote.init()
    remote.snapshot(site)
    there = versions(server, bucket)
    delete_everything(server, bucket)

    gone = remote("snapshots")
    for row in server.client().list_object_versions(Bucket=bucket)["DeleteMarkers"]:
        server.client().delete_object(Bucket=bucket, Key=row["Key"], VersionId=row["VersionId"])

    assert gone.exit_code == 10
    assert [row["VersionId"] for row in versions(server, bucket)] == [row["VersionId"] for row in there]
    remote.ok("check", "--read-data")


@pytest.mark.slow
def test_the_past_brings_back_in_place_what_was_deleted_and_what_was_overwritten(
    remote: Dedup, site: Path, server: S3Server
) -> None:
    bucket = server.bucket(lock=True)
    url = server.url(bucket, "backup")
    remote.setenv("DEDUP_REPO", url)
    remote.init()
    remote.snapshot(site)
    before = next_second(server, bucket)
    past = f"{url}&at-store-time={before:%Y-%m-%dT%H:%M:%SZ}"

    overwrite(server, bucket, "backup/packs/")
    damaged = remote("check", "--read-data")
    remote.ok("repair", "packs", "--from", past)
    remote.ok("restore", "--to", "repaired")
    delete_everything(server, bucket)
    gone = remote("snapshots")
    remote.ok("mirror", "-r", past, "--to", url, "--init")

    assert (damaged.exit_code, gone.exit_code) == (4, 10)
    assert read_tree(remote.home / "repaired/site") == read_tree(site)
    remote.ok("check", "--read-data")
    remote.ok("restore", "--to", "back")
    assert read_tree(remote.home / "back/site") == read_tree(site)


def test_a_place_without_versions_has_no_past(remote: Dedup, site: Path) -> None:
    remote.init()
    remote.snapshot(site)

    run = remote("snapshots", "--at-store-time", "1h ago")

    assert (run.exit_code, run.code) == (2, "usage.no_past")
    remote.ok("check")


def test_the_past_is_mounted_after_everything_was_deleted_and_overwritten(
    remote: Dedup, site: Path, server: S3Server
) -> None:
    require_fuse()
    bucket = server.bucket(lock=True)
    environment = server.environment | {"DEDUP_REPO": server.url(bucket, "backup")}
    remote.setenv("DEDUP_REPO", environment["DEDUP_REPO"])
    remote.init()
    remote.snapshot(site, "--source", "site")
    before = next_second(server, bucket)
    expected = read_tree(site)
    (site / "uploads/a.txt").write_text("the attacker's\n")
    remote.snapshot(site, "--source", "site")
    overwrite(server, bucket, "backup/packs/")
    delete_everything(server, bucket)

    past = ("--at-store-time", before.isoformat())
    with mounted(remote, *past, **environment) as mount:
        (only,) = (mount.path / "by-time").iterdir()
        everything = read_tree(only / "site")
        latest = (mount.path / "by-source/site/latest/site/uploads/a.txt").read_text()
        ended = mount.end()
    # As a machine that knows nothing, and of one snapshot.
    shutil.rmtree(remote.home / "cache")
    shutil.rmtree(remote.home / "state")
    with mounted(remote, "--source", "site", *past, **environment) as mount:
        alone = read_tree(mount.path / "site")

    assert everything == alone == expected
    assert (latest, ended, mount.err) == ("first version\n", 0, "")
    too_early = remote("mount", "mnt", "--at-store-time", "2020-01-01")
    assert (too_early.exit_code, too_early.code) == (10, "repo.not_found")
    assert "there was nothing at that time" in too_early.err and "name a later time" in too_early.err
    remote.ok("check", "--read-data", *past)
