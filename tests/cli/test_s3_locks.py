"""A real server that enforces what it promises: locked objects, versions, keys that may not delete, lagging listings."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.dedup import Dedup, read_tree
from tests.support.s3_servers import S3Server, use

PRUNE = ("prune", "--grace", "0", "--undo-window", "0", "--yes")


@pytest.fixture
def remote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ceph_server: S3Server) -> Dedup:
    use(ceph_server, monkeypatch)
    return Dedup(tmp_path, monkeypatch)


def configured(remote: Dedup, url: str) -> Dedup:
    """The command with a repository of the configuration whose objects are locked for a day."""
    folder = remote.home / "etc"
    folder.mkdir()
    (folder / "config.toml").write_text(f'version = 1\n[repos.main]\nurl = "{url}"\nobject_lock = "1d"\n')
    remote.setenv("DEDUP_REPO", "repo:main")
    return remote.init()


def test_locked_objects_stop_prune_politely_and_everything_stays(
    remote: Dedup, site: Path, ceph_server: S3Server
) -> None:
    bucket = ceph_server.bucket(lock=True)
    configured(remote, ceph_server.url(bucket, "backup"))
    before = read_tree(site)
    first = remote.snapshot(site)
    (site / "uploads/b.bin").write_bytes(b"another")
    second = remote.snapshot(site)

    forgotten = remote("forget", "--snapshot", first, "--yes")

    assert (forgotten.exit_code, forgotten.code) in ((7, "store.locked"), (8, "prune.denied"))
    assert "locked until" in forgotten.err
    remote.ok("restore", "--snapshot", first, "--to", "back")
    assert read_tree(remote.home / "back/site") == before
    assert second in remote.ok("snapshots", "--json").out
    remote.ok("check")


def test_a_bucket_with_versions_is_really_freed_by_prune(remote: Dedup, site: Path, ceph_server: S3Server) -> None:
    bucket = ceph_server.bucket(lock=True)
    remote.setenv("DEDUP_REPO", ceph_server.url(bucket, "backup"))
    remote.init()
    first = remote.snapshot(site)
    (site / "uploads/b.bin").write_bytes(b"another")
    remote.snapshot(site)
    packs = versions(ceph_server, bucket, "backup/packs/")

    remote.ok("forget", "--snapshot", first, "--yes")
    remote.ok(*PRUNE)

    assert versions(ceph_server, bucket, "backup/packs/") != packs
    assert not ceph_server.client().list_object_versions(Bucket=bucket).get("DeleteMarkers")
    remote.ok("check")


def test_keys_that_may_not_delete_are_enough_for_everything_but_prune(
    remote: Dedup, site: Path, ceph_server: S3Server
) -> None:
    bucket = ceph_server.bucket()
    remote.setenv("DEDUP_REPO", ceph_server.url(bucket, "backup"))
    ceph_server.deny(bucket, "s3:DeleteObject", "s3:DeleteObjectVersion")
    remote.init()

    first = remote.snapshot(site)
    (site / "uploads/a.txt").write_text("second version\n")
    remote.snapshot(site)
    remote.ok("restore", "--to", "back")
    refused = remote("forget", "--snapshot", first, "--yes")

    assert refused.exit_code in (7, 8)
    assert refused.code in ("store.denied", "prune.denied")
    assert read_tree(remote.home / "back/site") == read_tree(site)
    assert len(remote.ok("snapshots").out.splitlines()) >= 2
    remote.ok("check")


def versions(server: S3Server, bucket: str, prefix: str) -> set[str]:
    answer = server.client().list_object_versions(Bucket=bucket, Prefix=prefix)
    return {row["Key"] for row in answer.get("Versions", ())}
