"""Looking behind a store at the versions and locks of a bucket, and doing there what a thief of keys would."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.support.s3_servers import S3Server


def versions(server: S3Server, bucket: str, prefix: str = "") -> list[dict[str, Any]]:
    """Every version of every object, without markers."""
    return list(_rows(server, bucket, prefix, "Versions"))


def markers(server: S3Server, bucket: str) -> list[dict[str, Any]]:
    return list(_rows(server, bucket, "", "DeleteMarkers"))


def locks(server: S3Server, bucket: str, prefix: str = "") -> dict[str, datetime | None]:
    """When the lock of each object ends, of the version whose lock ends first; None: it has none."""
    found: dict[str, datetime | None] = {}
    for row in versions(server, bucket, prefix):
        until = _lock(server, bucket, row)
        before = found.get(row["Key"], until)
        found[row["Key"]] = None if until is None or before is None else min(before, until)
    return found


def lock_for(server: S3Server, bucket: str, prefix: str, seconds: float) -> None:
    """Lock all that is there by now so that the owner can still change it; once they are over, it is unlocked."""
    until = datetime.now(UTC) + timedelta(seconds=seconds)
    for row in versions(server, bucket, prefix):
        server.client().put_object_retention(
            Bucket=bucket, Key=row["Key"], VersionId=row["VersionId"], BypassGovernanceRetention=True,
            Retention={"Mode": "GOVERNANCE", "RetainUntilDate": until},
        )  # fmt: skip


def next_second(server: S3Server, bucket: str) -> datetime:
    """A time that lies after all that is there, and before all that comes: versions have the times of the server.

    After all that was done, too: Ceph gives a version the time at which it was locked last, once something comes above it.
    """
    last: datetime = max(row["LastModified"] for row in versions(server, bucket)).astimezone(UTC)
    moment = max(last, datetime.now(UTC)).replace(microsecond=0) + timedelta(seconds=1)
    while datetime.now(UTC) < moment + timedelta(seconds=1.1):
        time.sleep(0.02)
    return moment


def delete_everything(server: S3Server, bucket: str) -> None:
    """What whoever may delete, but not by version, can do."""
    for key in {row["Key"] for row in versions(server, bucket)}:
        server.client().delete_object(Bucket=bucket, Key=key)


def overwrite(server: S3Server, bucket: str, prefix: str) -> int:
    """Put noise of the same size in the place of each object; how many there were."""
    rows = [row for row in versions(server, bucket, prefix) if row["IsLatest"]]
    for row in rows:
        server.client().put_object(Bucket=bucket, Key=row["Key"], Body=b"\x55" * row["Size"])
    return len(rows)


def _rows(server: S3Server, bucket: str, prefix: str, kind: str) -> Iterator[dict[str, Any]]:
    pages = server.client().get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=prefix)
    for page in pages:
        yield from page.get(kind, ())


def _lock(server: S3Server, bucket: str, row: dict[str, Any]) -> datetime | None:
    answer = server.client().head_object(Bucket=bucket, Key=row["Key"], VersionId=row["VersionId"])
    until: datetime | None = answer.get("ObjectLockRetainUntilDate")
    return None if until is None else until.astimezone(UTC)
