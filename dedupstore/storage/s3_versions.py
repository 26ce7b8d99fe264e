"""Buckets that keep versions and lock objects: what deleting means there, and locks.

A plain delete in such a bucket only puts a marker on top; the object stays, costs money, and looks deleted. So each version
is deleted by its id, the oldest first. A locked one refuses that before anything has changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from dedupstore.clock import Clock
from dedupstore.errors import ObjectNotFound, StoreError
from dedupstore.storage.s3_client import NOT_UNDERSTOOD, S3Client, answer_code
from dedupstore.storage.versions import COMPLIANCE, Lock, Version
from dedupstore.types import Span

_NO_LOCK = frozenset(
    {"NoSuchObjectLockConfiguration", "ObjectLockConfigurationNotFoundError", "InvalidRequest", "NoSuchKey", "404"}
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


Read = Callable[[str, Span | None, str], bytes]
"""Reads a key, or a span of it, of the version with that id."""


class S3Versions:
    """The versions in the bucket of one client; those of `all_of` and after are named by keys below its prefix."""

    def __init__(self, client: S3Client, clock: Clock) -> None:
        self._client = client
        self._clock = clock
        self._prefix = client.location.prefix
        self._url = client.location.url
        self._kept: bool | None = None

    def can_lock(self) -> bool:
        what = "ask whether the bucket locks objects"
        try:
            answer = self._client.call("get_object_lock_configuration", {}, what=what, key="configuration of locks")
        except ObjectNotFound:
            return False
        except StoreError as error:
            if answer_code(error.__cause__) in _NO_LOCK or answer_code(error.__cause__) in NOT_UNDERSTOOD:
                return False
            raise
        return bool(answer.get("ObjectLockConfiguration", {}).get("ObjectLockEnabled") == "Enabled")

    def all_of(self, prefix: str) -> Iterator[Version]:
        more: dict[str, object] = {}
        while True:
            answer = self._client.call(
                "list_object_versions",
                {"Prefix": self._prefix + prefix, **more},
                what=f"list the versions of {prefix or 'everything'} in {self._url}",
            )
            found = [self._version(row, marker=False) for row in answer.get("Versions", ())]
            found += [self._version(row, marker=True) for row in answer.get("DeleteMarkers", ())]
            # Two lists, each in the order that is wanted; of one second, an object counts before a marker.
            found.sort(key=lambda row: (row.key, not row.newest, -row.modified_ns))
            yield from found
            if not answer.get("IsTruncated"):
                return
            more = {"KeyMarker": answer["NextKeyMarker"], "VersionIdMarker": answer.get("NextVersionIdMarker", "")}

    def lock_of(self, version: Version) -> Lock | None:
        return self._lock_of(self._prefix + version.key, version.id)

    def lock(self, version: Version, lock: Lock) -> None:
        retention = {"Mode": lock.mode or COMPLIANCE, "RetainUntilDate": _moment(lock.until_ns)}
        asked = {"Key": self._prefix + version.key, "VersionId": version.id, "Retention": retention}
        self._client.call("put_object_retention", asked, what=f"lock {version.key} in {self._url}")

    def _version(self, row: Mapping[str, Any], *, marker: bool) -> Version:
        return Version(
            key=str(row["Key"])[len(self._prefix) :],
            id=str(row["VersionId"]),
            size=int(row.get("Size", 0)),
            modified_ns=_nanoseconds(row["LastModified"]),
            newest=bool(row.get("IsLatest")),
            marker=marker,
        )

    def delete(self, name: str, *, what: str) -> None:
        """Delete the object with the whole name `name`. Raises StoreError `store.locked`, `store.denied`."""
        if not self._are_kept():
            self._client.call("delete_object", {"Key": name}, what=what)
            return
        for version in self.ids_of(name, what=what):
            try:
                self._client.call("delete_object", {"Key": name, "VersionId": version}, what=what)
            except StoreError as error:
                if error.code != "store.denied":
                    raise
                lock = self._lock_of(name, version)
                if lock is not None and lock.until_ns > self._clock.now_ns():
                    raise _locked(what, _moment(lock.until_ns)) from error
                raise

    def lock_for(self, duration_ns: int) -> dict[str, object]:
        """What a put says so that nobody, its owner included, can delete the object for that long."""
        until = _moment(self._clock.now_ns() + duration_ns)
        return {"ObjectLockMode": COMPLIANCE, "ObjectLockRetainUntilDate": until}

    def ids_of(self, name: str, *, what: str) -> list[str]:
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

    def _lock_of(self, name: str, version: str) -> Lock | None:
        """From the head of a version: what not every server gives by itself. Without s3:GetObjectRetention it looks unlocked."""
        what = f"ask for the lock of {name} in {self._url}"
        answer = self._client.call("head_object", {"Key": name, "VersionId": version}, what=what, key=name)
        until = answer.get("ObjectLockRetainUntilDate")
        return None if until is None else Lock(_nanoseconds(until), str(answer.get("ObjectLockMode", "")))


class ReadableVersions(S3Versions):
    """The same with a way to read them: all that `Versions` asks for."""

    def __init__(self, client: S3Client, clock: Clock, read: Read) -> None:
        super().__init__(client, clock)
        self._read = read

    def read(self, version: Version, span: Span | None = None) -> bytes:
        return self._read(version.key, span, version.id)


def _moment(time_ns: int) -> datetime:
    return _EPOCH + timedelta(microseconds=time_ns // 1000)


def _nanoseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1) * 1000


def _locked(what: str, until: datetime) -> StoreError:
    return StoreError(
        f"cannot {what}",
        why=f"it is locked until {until.astimezone(UTC):%Y-%m-%d %H:%M} UTC",
        hints=["prune again after that; the plan stays"],
        code="store.locked",
    )
