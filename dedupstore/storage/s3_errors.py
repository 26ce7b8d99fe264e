"""What boto3 raises, as the errors of this program: which of them are worth another try, and what a person can do."""

from __future__ import annotations

from botocore import exceptions

from dedupstore.errors import DedupError, ObjectNotFound, StoreError, StoreFull, StoreMissing, UsageError
from dedupstore.storage.s3_place import S3Place

FAILURES = (exceptions.BotoCoreError, exceptions.ClientError, exceptions.HTTPClientError, OSError)
"""All that a call of boto3 raises where the call was right."""

ABSENT = frozenset({"NoSuchKey", "404", "NotFound"})
NO_BUCKET = frozenset({"NoSuchBucket"})
_WRONG_KEYS = frozenset(
    {"InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "ExpiredToken", "InvalidClientTokenId"}
)
_DENIED = frozenset({"AccessDenied", "403", "Forbidden", "AllAccessDisabled", "ObjectLocked", "MethodNotAllowed"})
_FULL = frozenset({"QuotaExceeded", "EntityTooLarge", "InsufficientStorage", "XMinioStorageFull"})
_BUSY = frozenset(
    {
        "SlowDown",
        "Throttling",
        "RequestLimitExceeded",
        "ServiceUnavailable",
        "503",
        "InternalError",
        "500",
        "502",
        "504",
    }
)
_OTHER_REGION = frozenset(
    {"PermanentRedirect", "AuthorizationHeaderMalformed", "301", "IllegalLocationConstraintException"}
)


def code_of(error: BaseException) -> str:
    """The server's own word for what is wrong; empty where no server answered."""
    if isinstance(error, exceptions.ClientError):
        return str(error.response.get("Error", {}).get("Code", ""))
    return ""


def store_error(error: BaseException, *, what: str, place: S3Place) -> DedupError:
    """The error to raise for what boto3 raised. `what` completes "cannot …"."""
    if isinstance(error, exceptions.ClientError):
        return _answered(error, f"cannot {what}", place)
    message = f"cannot {what}"
    if isinstance(error, (exceptions.NoCredentialsError, exceptions.PartialCredentialsError)):
        variables = [f"{name} and {secret}" for name, secret in place.dialect.key_variables[:1]]
        return UsageError(
            f"no credentials for {place.url}",
            why="neither the environment nor the profile has an access key",
            hints=[f"set {', or '.join([*variables, 'AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY'])}"],
            code="config.no_credentials",
        )
    if isinstance(error, exceptions.ProfileNotFound):
        hints = ["see ~/.aws/config, or take profile= out of the URL"]
        return UsageError(f"no profile {place.profile!r} on this machine", hints=hints, code="config.no_credentials")
    if isinstance(error, exceptions.NoRegionError):
        return UsageError(
            f"{place.url} names no region", hints=["add ?region=NAME, or set AWS_REGION"], code="config.bad_url"
        )
    if isinstance(error, exceptions.SSLError):
        hints = ["is the clock right?  a certificate of your own: export AWS_CA_BUNDLE=/path/ca.pem"]
        return StoreError(message, why=f"the server's certificate is not trusted ({_one_line(error)})", hints=hints)
    where = place.endpoint or "AWS"
    if isinstance(error, (exceptions.ConnectTimeoutError, exceptions.EndpointConnectionError)):
        why = f"{where} cannot be reached"
    elif isinstance(error, exceptions.ReadTimeoutError):
        why = f"{where} did not answer in time"
    else:
        why = _one_line(error)
    return StoreError(message, why=why, hints=["nothing is lost: run it again"], transient=True)


def _answered(error: exceptions.ClientError, message: str, place: S3Place) -> StoreError:
    code = code_of(error)
    detail = str(error.response.get("Error", {}).get("Message", "")).strip()
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    why = f"the server says {code}" + (f": {detail}" if detail and detail != code else "")
    if code in NO_BUCKET:
        return StoreMissing(
            message, why=f"there is no bucket {place.bucket}", hints=["check the name and the endpoint"]
        )
    if code in ABSENT:
        return ObjectNotFound(message, why=why)
    if code in _WRONG_KEYS:
        hints = ["check the access key, its secret, and which profile is used"]
        return StoreError(message, why=why, hints=hints, code="store.credentials")
    if code == "RequestTimeTooSkewed":
        hints = ["set this machine's clock: timedatectl set-ntp true"]
        return StoreError(
            message, why="this machine's clock and the server's differ too much", hints=hints, code="store.clock"
        )
    if code in _DENIED:
        hints = ["the access key lacks the right, or the objects are locked"]
        return StoreError(message, why=why, hints=hints, code="store.denied")
    if code in _OTHER_REGION:
        hints = ["add ?region=NAME to the URL, as the bucket's page says"]
        return StoreError(message, why=why, hints=hints, code="store.wrong_region")
    if code in _FULL or status == 507:
        return StoreFull(message, why=why, hints=[f"free space: dedup prune -r '{place.url}'"])
    transient = code in _BUSY or status >= 500 or status == 429
    return StoreError(
        message, why=why, hints=["nothing is lost: run it again"] if transient else (), transient=transient
    )


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]
