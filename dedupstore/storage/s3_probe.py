"""What a bucket's server really does, found out by trying it on small objects that are taken away again.

Nothing of it is needed for safety (docs/protocols.md). It tells what to write into the URL, and what to expect.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from dedupstore.clock import Clock, SystemClock
from dedupstore.errors import DedupError, ObjectNotFound, StoreError, UsageError
from dedupstore.storage.s3 import client_for
from dedupstore.storage.s3_client import CHANGED_MEANWHILE, S3Client, answer_code
from dedupstore.storage.s3_location import parse_location
from dedupstore.storage.s3_versions import S3Versions

ROUNDS = 20
"""So many objects are put, listed at once, deleted and listed at once again."""

MAX_LAG_SECONDS = 30.0
LOCK_SECONDS = 10

YES, NO, DENIED, UNKNOWN = "yes", "no", "denied", "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lag:
    """How listings kept up: of `rounds` changes, how many did not show at once, and the longest wait in seconds."""

    rounds: int
    late: int
    longest_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Probed:
    """The answers: `yes`, `no`, `denied` (the keys may not ask) or `unknown`, unless something else is said."""

    url: str
    endpoint: str
    region: str
    style: str
    vendor: str
    strong_url: str
    """The URL with `consistency=strong`; empty where waiting is not asked for anyway."""

    waits_seconds: float
    """How long each snapshot waits as the URL is now."""

    milliseconds: Mapping[str, float]
    """The median time of a small `put`, `get` and `list`."""

    ranges: str
    create_only: str
    """Whether `If-None-Match: *` keeps the first of two objects of one name; `refused`: the server does not take it."""

    md5: str
    """Whether an upload with a wrong Content-MD5 is refused."""

    crc32: str
    delete: str
    put_lag: Lag
    delete_lag: Lag | None
    """None where nothing could be deleted."""

    versions: str
    """`enabled`, `suspended`, `off`, `denied` or `unknown`."""

    object_lock: str
    """`enforced`, `not enforced`, `off`, `denied` or `unknown`."""

    default_lock: str
    """The bucket's own: `COMPLIANCE 30 days`; empty where there is none."""

    left: tuple[str, ...] = ()
    """Objects that could not be taken away."""


def probe(url: str, *, clock: Clock | None = None, sleep: Callable[[float], None] = time.sleep) -> Probed:
    """Try the server of a bucket. Raises UsageError for the URL, StoreError when nothing can be put, read or listed."""
    location = parse_location(url)
    if location.past_ns is not None:
        raise UsageError("the past cannot be probed", why="a probe writes", hints=["leave the time of the storage out"])
    client = client_for(location)
    trial = _Trial(client, clock or SystemClock(), sleep)
    try:
        trial.put("first")
        versions = trial.versions()
        lock, default_lock = trial.lock()
        found = {
            "ranges": trial.ranges(),
            "create_only": trial.create_only(),
            "md5": trial.refuses("md5", {"ContentMD5": base64.b64encode(bytes(16)).decode()}),
            "crc32": trial.refuses("crc32", {"ChecksumCRC32": "AAAAAA=="}),
        }
        put_lag, delete_lag, delete = trial.lags()
    finally:
        left = trial.clean()
    waits = location.listing_delay_seconds
    return Probed(
        url=location.url,
        endpoint=location.endpoint or "AWS",
        region=location.region,
        style=location.style,
        vendor=location.dialect.name,
        strong_url=f"{location.url}{'&' if '?' in location.url else '?'}consistency=strong" if waits else "",
        waits_seconds=waits,
        milliseconds={name: round(_median(times) * 1000, 1) for name, times in trial.times.items()},
        delete=delete,
        put_lag=put_lag,
        delete_lag=delete_lag,
        versions=versions,
        object_lock=lock,
        default_lock=default_lock,
        left=tuple(left),
        **found,
    )


@dataclass(slots=True)
class _Trial:
    """Objects of one probe, all below a name of their own that no listing of a repository shows."""

    client: S3Client
    clock: Clock
    sleep: Callable[[float], None]
    times: dict[str, list[float]] = field(default_factory=lambda: {"put": [], "get": [], "list": []})
    _folder: str = ""
    _there: set[str] = field(default_factory=set)
    _locked_until: datetime | None = None

    def __post_init__(self) -> None:
        self._folder = f"{self.client.location.prefix}tmp/probe-{secrets.token_hex(8)}/"

    def put(self, name: str, **more: object) -> None:
        """An object with its own name for content."""
        body = name.encode()
        key = self._folder + name
        digest = base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()
        self._there.add(key)
        arguments = {"Key": key, "Body": body, "ContentMD5": digest, **more}
        self._timed("put", lambda: self.client.call("put_object", arguments, what=f"write to {self._url}"))

    def ranges(self) -> str:
        answer = self._get("first", Range="bytes=1-3")
        return YES if answer == b"irs" else NO

    def create_only(self) -> str:
        try:
            arguments = {"Key": self._folder + "first", "Body": b"second", "IfNoneMatch": "*"}
            self.client.call("put_object", arguments, what=f"write to {self._url}")
        except StoreError as error:
            said = answer_code(error.__cause__)
            if said in CHANGED_MEANWHILE:
                return YES if self._get("first") == b"first" else NO
            return "refused" if said and not error.transient else UNKNOWN
        return NO

    def refuses(self, name: str, checksum: Mapping[str, object]) -> str:
        """Whether an upload with that wrong checksum is refused."""
        key = self._folder + name
        self._there.add(key)
        try:
            self.client.call("put_object", {"Key": key, "Body": b"x", **checksum}, what=f"write to {self._url}")
        except StoreError as error:
            return YES if answer_code(error.__cause__) else UNKNOWN
        return NO

    def versions(self) -> str:
        try:
            answer = self.client.call("get_bucket_versioning", {}, what="ask whether the bucket keeps versions")
        except StoreError as error:
            return DENIED if error.is_denial else UNKNOWN
        return str(answer.get("Status", "off")).lower()

    def lock(self) -> tuple[str, str]:
        """Whether objects can be locked and the lock holds, and what the bucket does by itself."""
        try:
            answer = self.client.call("get_object_lock_configuration", {}, what="ask for the locks of the bucket")
        except ObjectNotFound:
            return "off", ""
        except StoreError as error:
            said = answer_code(error.__cause__)
            none = said in ("ObjectLockConfigurationNotFoundError", "NotImplemented", "MethodNotAllowed")
            return (DENIED if error.is_denial else "off" if none else UNKNOWN), ""
        settings = answer.get("ObjectLockConfiguration", {})
        if settings.get("ObjectLockEnabled") != "Enabled":
            return "off", ""
        rule = settings.get("Rule", {}).get("DefaultRetention", {})
        default = f"{rule.get('Mode')} {rule.get('Days') or rule.get('Years')} {'days' if 'Days' in rule else 'years'}"
        return self._enforced(), default if rule else ""

    def lags(self) -> tuple[Lag, Lag | None, str]:
        """How listings keep up with puts and with deletes, and whether the keys may delete."""
        names = [f"lag-{number:02d}" for number in range(ROUNDS)]
        waits = []
        for name in names:
            self.put(name)
            waits.append(self._until_listed(name, there=True))
        put_lag = _lag(waits)
        waits = []
        for name in names:
            try:
                key = self._folder + name
                self.client.call("delete_object", {"Key": key}, what=f"delete from {self._url}")
            except StoreError as error:
                return put_lag, None, DENIED if error.is_denial else UNKNOWN
            waits.append(self._until_listed(name, there=False))
        return put_lag, _lag(waits), YES

    def clean(self) -> list[str]:
        """Take everything away, in all its versions; what could not be."""
        if self._locked_until is not None:
            self.sleep(max(0.0, (self._locked_until - self._now()).total_seconds()) + 1)
        versions = S3Versions(self.client, self.clock)
        left = []
        for key in sorted(self._there):
            try:
                versions.delete(key, what=f"delete from {self._url}")
            except DedupError:
                left.append(key)
        return left

    def _enforced(self) -> str:
        until = self._now() + timedelta(seconds=LOCK_SECONDS)
        key = self._folder + "locked"
        try:
            self.put("locked", ObjectLockMode="COMPLIANCE", ObjectLockRetainUntilDate=until)
            self._locked_until = until
            version = self.client.call("head_object", {"Key": key}, what=f"look at {self._url}", key=key)["VersionId"]
            self.client.call("delete_object", {"Key": key, "VersionId": version}, what=f"delete from {self._url}")
        except StoreError as error:
            return "enforced" if error.is_denial and self._locked_until is not None else UNKNOWN
        return "not enforced"

    def _until_listed(self, name: str, *, there: bool) -> float:
        """Seconds until a listing shows it, or shows it no more; 0 when the first one did."""
        began = self.clock.monotonic()
        wait = 0.05
        key = self._folder + name
        asked = {"Prefix": self._folder, "MaxKeys": 1000}
        while True:
            answer = self._timed("list", lambda: self.client.call("list_objects_v2", asked, what=f"list {self._url}"))
            shown = any(row["Key"] == key for row in answer.get("Contents", ()))
            spent = self.clock.monotonic() - began
            if shown is there:
                return 0.0 if wait == 0.05 else spent
            if spent > MAX_LAG_SECONDS:
                return spent
            self.sleep(wait)
            wait = min(2 * wait, 2.0)

    def _get(self, name: str, **more: object) -> bytes:
        key = self._folder + name

        def read() -> bytes:
            what = f"read from {self._url}"
            answer = self.client.call("get_object", {"Key": key, **more}, what=what, key=key)
            return self.client.read(answer["Body"], 1000, what=what)

        return bytes(self._timed("get", read))

    def _timed(self, kind: str, work: Callable[[], Any]) -> Any:
        began = self.clock.monotonic()
        answer = work()
        self.times[kind].append(self.clock.monotonic() - began)
        return answer

    def _now(self) -> datetime:
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=self.clock.now_ns() // 1000)

    @property
    def _url(self) -> str:
        return self.client.location.url


def _lag(waits: list[float]) -> Lag:
    return Lag(rounds=len(waits), late=sum(wait > 0 for wait in waits), longest_seconds=round(max(waits), 3))


def _median(times: list[float]) -> float:
    return sorted(times)[len(times) // 2] if times else 0.0
