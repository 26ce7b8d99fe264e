"""Buckets that keep versions and lock objects: what deleting means there, and locks.

A plain delete in such a bucket only puts a marker on top; the object stays, costs money, and looks deleted. So each version
is deleted by its id, the oldest first. A locked one refuses that before anything has changed.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from dedupstore.clock import Clock
from dedupstore.errors import ObjectNotFound, StoreError
from dedupstore.storage.s3_client import NOT_UNDERSTOOD, S3Client, answer_code

_NO_LOCK = frozenset(
    {"NoSuchObjectLockConfiguration", "ObjectLockConfigurationNotFoundError", "InvalidRequest", "NoSuchKey", "404"}
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Versions:
    """The versions in the bucket of one client."""

    def __init__(self, client: S3Client, clock: Clock) -> None:
        self._client = client
        self._clock = clock
        self._kept: bool | None = None

    def delete(self, name: str, *, what: str) -> None:
        """Delete the object with the whole name `name`. Raises StoreError `store.locked`, `store.denied`."""
        if not self._are_kept():
            self._client.call("delete_object", {"Key": name}, what=what)
            return
        for version in self.of(name, what=what):
            try:
                self._client.call("delete_object", {"Key": name, "VersionId": version}, what=what)
            except StoreError as error:
                if error.code != "store.denied":
                    raise
                until = self._locked_until(name, version)
                if until is not None:
                    raise _locked(what, until) from error
                raise

    def lock_for(self, duration_ns: int) -> dict[str, object]:
        """What a put says so that nobody, its owner included, can delete the object for that long."""
        until = self._now() + timedelta(microseconds=duration_ns // 1000)
        return {"ObjectLockMode": "COMPLIANCE", "ObjectLockRetainUntilDate": until}

    def of(self, name: str, *, what: str) -> list[str]:
        """The ids of all versions of one object, the oldest first, and then those of its markers."""
        found: list[str] = []
        markers: list[str] = []
        more: dict[str, object] = {}
        while True:
            answer = self._client.call("list_object_versions", {"Prefix": name, **more}, what=what)
            found += [row["VersionId"] for row in answer.get("Versions", ()) if row["Key"] == name]
            markers += [row["VersionId"] for row in answer.get("DeleteMarkers", ()) if row["Key"] == name]
            if not answer.get("IsTruncated") or str(answer.get("NextKeyMarker", "")) > name:
                return [*reversed(found), *markers]
            more = {"KeyMarker": answer["NextKeyMarker"], "VersionIdMarker": answer.get("NextVersionIdMarker", "")}

    def _are_kept(self) -> bool:
        if self._kept is None:
            try:
                answer = self._client.call("get_bucket_versioning", {}, what="ask whether the bucket keeps versions")
                self._kept = "Status" in answer
            except StoreError as error:
                if error.transient and answer_code(error.__cause__) not in NOT_UNDERSTOOD:
                    raise
                self._kept = False
        return self._kept

    def _locked_until(self, name: str, version: str) -> datetime | None:
        asked = {"Key": name, "VersionId": version}
        try:
            answer = self._client.call("get_object_retention", asked, what="ask for the lock of an object", key=name)
        except ObjectNotFound:
            return None
        except StoreError as error:
            if answer_code(error.__cause__) in _NO_LOCK or error.is_denial:
                return None
            raise
        until: datetime = answer["Retention"]["RetainUntilDate"]
        return until if until > self._now() else None

    def _now(self) -> datetime:
        return _EPOCH + timedelta(microseconds=self._clock.now_ns() // 1000)


def _locked(what: str, until: datetime) -> StoreError:
    return StoreError(
        f"cannot {what}",
        why=f"it is locked until {until.astimezone(UTC):%Y-%m-%d %H:%M} UTC",
        hints=["prune again after that; the plan stays"],
        code="store.locked",
    )
