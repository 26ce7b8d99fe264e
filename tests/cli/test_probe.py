"""`dedup repo probe` on servers that differ."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dedupstore.clock import FrozenClock
from dedupstore.storage import s3_probe
from dedupstore.storage.s3_client import S3Client
from tests.support.dedup import Dedup
from tests.support.s3_servers import S3Server, use


@pytest.fixture
def dedup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Dedup:
    """The command, and no repository anywhere."""
    monkeypatch.setattr(s3_probe, "ROUNDS", 5)
    return Dedup(tmp_path, monkeypatch)


def names(server: S3Server, bucket: str) -> list[str]:
    return [row["Key"] for row in server.client().list_object_versions(Bucket=bucket).get("Versions", ())]


def test_a_server_that_keeps_what_aws_promises(
    dedup: Dedup, moto_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(moto_server, monkeypatch)
    bucket = moto_server.bucket()

    found = dedup.ok("repo", "probe", "--json", moto_server.url(bucket, "backup")).document
    shown = dedup.ok("repo", "probe", "-r", moto_server.url(bucket)).out

    assert (found["ranges"], found["create_only"], found["delete"]) == ("yes", "yes", "yes")
    # It takes no notice of checksums.
    assert (found["md5"], found["object_lock"], found["versions"]) == ("no", "off", "off")
    assert found["put_lag"] == {"rounds": 5, "late": 0, "longest_seconds": 0.0} == found["delete_lag"]
    assert (found["strong_url"], found["warnings"], found["left"]) == ("", [], [])
    assert "at once, 5 times after a put, at once, 5 times after a delete" in shown
    assert names(moto_server, bucket) == []


def test_an_unknown_server_is_called_consistent_only_by_whoever_reads_its_manual(
    dedup: Dedup, rclone_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(rclone_server, monkeypatch)
    bucket = rclone_server.bucket()
    url = rclone_server.url(bucket)

    run = dedup.ok("repo", "probe", url)
    found = dedup.ok("repo", "probe", "--json", url).document
    declared = dedup.ok("repo", "probe", "--json", found["strong_url"]).document

    # Silently replaced: that is what it is known for.
    assert found["create_only"] == "no" and found["ranges"] == "yes"
    assert (found["waits_seconds"], declared["waits_seconds"]) == (120.0, 0.0)
    assert "each snapshot waits 2 min" in run.err and f"say so: {url}&consistency=strong" in run.err
    assert declared["advice"] == []


@pytest.mark.slow
def test_locks_versions_and_checksums_of_a_real_server(
    dedup: Dedup, ceph_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(ceph_server, monkeypatch)
    monkeypatch.setattr(s3_probe, "LOCK_SECONDS", 3)
    locking, plain = ceph_server.bucket(lock=True), ceph_server.bucket()

    locked = dedup.ok("repo", "probe", "--json", ceph_server.url(locking, "backup")).document
    found = dedup.ok("repo", "probe", "--json", ceph_server.url(plain)).document
    ceph_server.deny(plain, "s3:DeleteObject")
    kept = dedup("repo", "probe", "--json", ceph_server.url(plain))

    assert (locked["object_lock"], locked["versions"], locked["left"]) == ("enforced", "enabled", [])
    assert (found["object_lock"], found["versions"], found["md5"], found["create_only"]) == ("off", "off", "yes", "yes")
    assert names(ceph_server, locking) == []
    assert kept.exit_code == 3 and kept.document["delete"] == "denied" and len(kept.document["left"]) > 5
    assert [warning["code"] for warning in kept.document["warnings"]] == ["probe.left"]


def test_listings_that_lag_are_measured_and_told(
    dedup: Dedup, moto_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(moto_server, monkeypatch)
    url = moto_server.url(moto_server.bucket())
    clock = FrozenClock(1_800_000_000 * 10**9)
    original = S3Client.call
    before: dict[str, Any] = {"Contents": []}
    due = 0.0

    def late(self: S3Client, operation: str, arguments: dict[str, Any], **more: Any) -> dict[str, Any]:
        """Three seconds after a change listings show it."""
        nonlocal before, due
        answer = original(self, operation, arguments, **more)
        if operation in ("put_object", "delete_object"):
            due = clock.monotonic() + 3.0
        elif operation == "list_objects_v2":
            if clock.monotonic() < due:
                return before
            before = answer
        return answer

    monkeypatch.setattr(S3Client, "call", late)

    found = s3_probe.probe(url, clock=clock, sleep=clock.advance)

    assert found.delete_lag is not None
    assert (found.put_lag.late, found.delete_lag.late) == (5, 5)
    assert 3.0 <= found.put_lag.longest_seconds < 6.5


def test_what_cannot_be_probed_is_told(dedup: Dedup, moto_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    use(moto_server, monkeypatch)

    directory = dedup("repo", "probe", "/srv/backup")
    missing = dedup("repo", "probe", moto_server.url("nobody-made-this"))
    past = dedup("repo", "probe", moto_server.url(moto_server.bucket(), **{"at-store-time": "2026-01-01T00:00:00Z"}))

    assert (directory.exit_code, directory.code) == (2, "usage")
    assert (missing.exit_code, missing.code) == (10, "repo.not_found")
    assert (past.exit_code, past.code) == (2, "usage")
