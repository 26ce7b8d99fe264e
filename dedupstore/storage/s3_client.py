"""The one place that talks to boto3: makes a client for a location, counts its requests, translates its errors.

boto3 tries nothing again here: that is `retry.py`'s, so that a request is counted once and a limit in time holds.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import boto3
import botocore.session
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    EndpointConnectionError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    NoRegionError,
    PartialCredentialsError,
    ProfileNotFound,
    ProxyConnectionError,
    ReadTimeoutError,
    ResponseStreamingError,
    SSLError,
)
from botocore.exceptions import (
    ConnectionError as BotoConnectionError,
)
from botocore.loaders import create_loader

from dedupstore.errors import DedupError, ObjectNotFound, StoreError, StoreFull, StoreMissing, UsageError
from dedupstore.storage.s3_body import Body
from dedupstore.storage.s3_location import S3Location

CONNECTIONS = 16
CONNECT_SECONDS = 10
READ_SECONDS = 60
"""So long a server may say nothing at all; an answer may take as long as it likes."""

DEFAULT_REGION = "us-east-1"
"""What servers without regions expect in a signature."""

# What the vendors' own tools read, besides the AWS chain that boto3 goes through by itself.
_CREDENTIALS = {
    "oss": ("OSS_ACCESS_KEY_ID", "OSS_ACCESS_KEY_SECRET", "OSS_SESSION_TOKEN"),
    "cos": ("TENCENTCLOUD_SECRET_ID", "TENCENTCLOUD_SECRET_KEY", "TENCENTCLOUD_SESSION_TOKEN"),
}

_KINDS = {
    "PutObject": "put",
    "GetObject": "get",
    "HeadObject": "head",
    "ListObjectsV2": "list",
    "ListObjectVersions": "list",
    "DeleteObject": "delete",
}
_TRANSIENT = frozenset(
    {
        "SlowDown", "Throttling", "ThrottlingException", "RequestLimitExceeded", "BandwidthLimitExceeded",
        "InternalError", "ServiceUnavailable", "RequestTimeout", "OperationAborted", "ConditionalRequestConflict",
        "IncompleteBody", "BadDigest", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch", "Busy",
    }
)  # fmt: skip
_BAD_KEYS = frozenset(
    {"InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "ExpiredToken", "InvalidSecurity", "NotSignedUp"}
)
_FULL = frozenset({"QuotaExceeded", "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded", "InsufficientStorage"})
_SKEWED = frozenset({"RequestTimeTooSkewed", "RequestExpired"})
_OTHER_REGION = frozenset({"PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"})
CHANGED_MEANWHILE = frozenset({"PreconditionFailed", "ObjectAlreadyExists", "FileAlreadyExists"})
NOT_UNDERSTOOD = frozenset({"NotImplemented", "InvalidArgument", "InvalidRequest", "MethodNotAllowed", "501", "405"})


_loader = create_loader()
"""Holds the description of the S3 API once it is read: a second client takes 20 ms instead of 240 ms."""


class Requests:
    """How many requests were sent, by kind; each try counts, because each costs money. Safe from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()

    def count(self, operation: str) -> None:
        """One more of the operation of that name, as the S3 API calls it."""
        with self._lock:
            self._counts[_KINDS.get(operation, "other")] += 1

    def so_far(self) -> dict[str, int]:
        with self._lock:
            return dict(self._counts)


class S3Client:
    """A connection pool to the server of one location. `call` is the only way to it."""

    def __init__(self, location: S3Location, environ: Mapping[str, str] | None = None) -> None:
        self.location = location
        self.requests = Requests()
        self.on_sending: Callable[[Any], None] = lambda request: None
        """Called with each request as it is sent, by whichever thread sends it."""
        # Its warnings name hosts and headers; errors come back as exceptions anyway.
        logging.getLogger("botocore").addHandler(logging.NullHandler())
        try:
            self._client = _client(location, os.environ if environ is None else environ)
        except (BotoCoreError, ValueError) as error:
            raise _setup_error(location, error) from error
        self._client.meta.events.register("before-send.s3.*", self._sending)

    def call(self, operation: str, arguments: Mapping[str, object], *, what: str, key: str = "") -> dict[str, Any]:
        """One request about the bucket. `what` completes "cannot …"; `key`: what is missing when it answers 404.

        Raises ObjectNotFound, StoreMissing, StoreFull, StoreError; `answer_code` of the error is the server's own word.
        """
        try:
            answer: dict[str, Any] = getattr(self._client, operation)(Bucket=self.location.bucket, **arguments)
            return answer
        except (BotoCoreError, ClientError) as error:
            raise translated(error, self.location, what=what, key=key, locking="ObjectLockMode" in arguments) from error

    def read(self, body: Any, length: int, *, what: str) -> bytes:
        """At most `length` bytes of an answer's body, and an error when the server sends fewer than it announced."""
        try:
            with body:
                data: bytes = body.read(length)
            return data
        except (BotoCoreError, OSError) as error:
            raise translated(error, self.location, what=what) from error

    def pieces(self, body: Any, size: int, *, what: str) -> Iterator[bytes]:
        """An answer's body, `size` bytes at a time, as it comes in."""
        try:
            with body:
                while piece := body.read(size):
                    yield piece
        except (BotoCoreError, OSError) as error:
            raise translated(error, self.location, what=what) from error

    def _sending(self, request: Any, event_name: str = "", **_: object) -> None:
        self.requests.count(event_name.rpartition(".")[2])
        # botocore says it for every file; some servers take a second to answer, and it is not signed.
        request.headers.pop("Expect", None)
        self.on_sending(request)
        if isinstance(request.body, Body):
            request.body = request.body.outgoing


def _client(location: S3Location, environ: Mapping[str, str]) -> Any:
    inner = botocore.session.Session()
    inner.register_component("data_loader", _loader)
    session = boto3.session.Session(botocore_session=inner, profile_name=location.profile or None)
    # AWS has an endpoint for each region, and the user's configuration may say which; others take any region.
    region = location.region or session.region_name or DEFAULT_REGION
    names = _CREDENTIALS.get(location.scheme, ("", "", ""))
    given: dict[str, str | None] = {}
    if environ.get(names[0]) and environ.get(names[1]) and not location.profile:
        given = {
            "aws_access_key_id": environ[names[0]],
            "aws_secret_access_key": environ[names[1]],
            "aws_session_token": environ.get(names[2]) or None,
        }
    config = Config(
        signature_version="s3v4",
        connect_timeout=CONNECT_SECONDS,
        read_timeout=READ_SECONDS,
        max_pool_connections=CONNECTIONS,
        retries={"total_max_attempts": 1},
        # Set in any case: later versions of boto3 add trailers to uploads that many servers refuse.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        s3={"addressing_style": location.style},
    )
    return session.client("s3", region_name=region, endpoint_url=location.endpoint or None, config=config, **given)  # type: ignore[call-overload]  # given: options of one call, by name


def answer_code(error: BaseException | None) -> str:
    """What the server called it; empty when no server answered."""
    if isinstance(error, ClientError):
        return str(error.response.get("Error", {}).get("Code", ""))
    return ""


def translated(
    error: Exception, location: S3Location, *, what: str, key: str = "", locking: bool = False
) -> DedupError:
    """The error for one of boto3's. `what` completes "cannot …"; `locking`: a lock was asked for, too."""
    message = f"cannot {what}"
    if isinstance(error, ClientError):
        return _answered(error, location, message, key, locking=locking)
    if isinstance(error, SSLError):
        why = "the certificate of the server is not one this machine trusts"
        hints = ["name the file of the authority that signed it: export AWS_CA_BUNDLE=/etc/ssl/own.pem"]
        return StoreError(message, why=f"{why} ({_short(error)})", hints=hints, code="store.tls")
    if isinstance(error, (NoCredentialsError, PartialCredentialsError)):
        return _no_credentials(location)
    if isinstance(error, (EndpointConnectionError, ProxyConnectionError)):
        why = f"there is no connection to {_host(location)}"
        return StoreError(message, why=why, hints=_reachable(location), code="store.unreachable", transient=True)
    if isinstance(error, (ReadTimeoutError, TimeoutError)):
        return StoreError(message, why=f"{_host(location)} said nothing for {READ_SECONDS} s", transient=True)
    if isinstance(error, (IncompleteReadError, ResponseStreamingError)):
        return StoreError(message, why="the answer broke off", transient=True)
    broken = isinstance(error, (CredentialRetrievalError, BotoConnectionError, HTTPClientError, OSError))
    return StoreError(message, why=_short(error), transient=broken)


def _answered(error: ClientError, location: S3Location, message: str, key: str, *, locking: bool) -> StoreError:
    answer = error.response
    code = answer_code(error)
    status = int(answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    said = str(answer.get("Error", {}).get("Message", "")).strip()
    why = f"the server says {code}" + (f": {said[:200]}" if said and said != "Unknown" else "")
    if code == "NoSuchBucket":
        return missing_bucket(location)
    if key and (code in ("NoSuchKey", "NotFound", "404") or status == 404):
        return ObjectNotFound(f"there is no {key} in {location.url}")
    if code == "InvalidRange" or status == 416:
        return StoreError(message, why="the object ends before what was asked for", code="store.short_object")
    if code in _BAD_KEYS:
        hints = ["check the key id and the secret", f"which are used: {_sources(location)}"]
        return StoreError(message, why=why, hints=hints, code="store.credentials")
    if code in _SKEWED:
        return StoreError(
            message, why="the clocks of this machine and of the server differ too much",
            hints=["set the clock of this machine: timedatectl set-ntp true"], code="store.clock",
        )  # fmt: skip
    if code == "InvalidRequest" and locking:
        hints = [
            "make a bucket with it: aws s3api create-bucket --object-lock-enabled-for-bucket",
            "or leave object_lock out of [repos.NAME]",
        ]
        return StoreError("objects cannot be locked there", why=why, hints=hints, code="locks.none")
    if code in _OTHER_REGION or status == 301:
        hints = [f"add the region to the URL: {location.scheme}://{location.bucket}?region=…"]
        return StoreError(message, why=why, hints=hints, code="store.wrong_region")
    if code in _FULL or status == 507:
        return StoreFull(message, why=why, hints=[f"free space: dedup prune -r '{location.url}'"])
    if code == "InvalidObjectState":
        hints = ["have the server bring it back from its archive first"]
        return StoreError(message, why=why, hints=hints, code="store.cold")
    if status == 403 or code == "AccessDenied":
        hints = ["see which actions the policy allows: put, get and list are needed; delete only to prune"]
        return StoreError(message, why=why, hints=hints, code="store.denied")
    return StoreError(message, why=why, transient=code in _TRANSIENT or status in (408, 429) or status >= 500)


def missing_bucket(location: S3Location) -> StoreMissing:
    return StoreMissing(
        f"no repository at {location.url}",
        why=f"there is no bucket {location.bucket} at {_host(location)}",
        hints=["check the name, the region and whose keys are used", f"or make the bucket, and then: dedup init -r '{location.url}'"],
    )  # fmt: skip


def _setup_error(location: S3Location, error: Exception) -> UsageError:
    if isinstance(error, ProfileNotFound):
        what = f"no profile {location.profile!r} on this machine"
        return UsageError(what, hints=["see ~/.aws/config"], code="config.no_credentials")
    if isinstance(error, NoRegionError):
        return UsageError(
            "no region is known for the bucket", hints=["add ?region=… to the URL"], code="config.bad_url"
        )
    return UsageError(f"cannot use {location.url}", why=_short(error))


def _no_credentials(location: S3Location) -> UsageError:
    return UsageError(
        f"no credentials for {location.url}",
        why="neither the environment nor a profile has an access key",
        hints=[f"give them in one of these: {_sources(location)}"],
        code="config.no_credentials",
    )


def _sources(location: S3Location) -> str:
    named = _CREDENTIALS.get(location.scheme)
    own = f"{named[0]} and {named[1]}, " if named else ""
    return (
        f"{own}AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, ~/.aws/credentials (?profile=NAME), the role of the machine"
    )


def _reachable(location: S3Location) -> list[str]:
    return [f"is it up, and is the URL right? curl -sI {location.endpoint or 'https://s3.amazonaws.com'}"]


def _host(location: S3Location) -> str:
    return urlsplit(location.endpoint).netloc if location.endpoint else "AWS"


def _short(error: Exception) -> str:
    # A signature or a token stands in some of these texts, always behind a question mark.
    return str(error).split("?", 1)[0][:200]
