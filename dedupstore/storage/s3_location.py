"""From an S3 URL to where exactly the objects are and how its server is spoken to. Reads no environment, opens nothing.

```
s3://bucket/prefix?endpoint=…&region=…&style=path|virtual|auto&class=…&profile=…&sse=…&vendor=…&consistency=…
                                &at-store-time=2026-11-27T10:00:00Z
oss://bucket/prefix?region=cn-hangzhou[&internal=1]
cos://bucket-1250000000/prefix?region=ap-guangzhou
minio://host:9000/bucket/prefix        minio+http://127.0.0.1:9000/bucket/prefix
```
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import cast
from urllib.parse import parse_qsl, unquote, urlsplit

from dedupstore.errors import UsageError
from dedupstore.storage.s3_dialects import AWS, COS, DIALECTS, MINIO, OSS, UNKNOWN, Dialect, Style, dialect_of

SCHEMES = ("s3", "oss", "cos", "minio", "minio+http")

_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,62}")
_REGION = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")
_CLASS = re.compile(r"[A-Z][A-Z0-9_]{0,39}")
_AUTHORITY = re.compile(r"(?P<host>[A-Za-z0-9.-]+|\[[0-9a-fA-F:]+\])(:(?P<port>[0-9]{1,5}))?")
_COLD = frozenset({"GLACIER", "DEEP_ARCHIVE", "ARCHIVE", "ColdArchive", "DeepColdArchive"})
"""Classes from which an object cannot be read before somebody has asked for it hours ago."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_STYLES = ("path", "virtual", "auto")
_ENCRYPTIONS = ("AES256", "aws:kms")
_EVERYWHERE = frozenset({"region", "class", "profile", "sse", "style", "vendor", "consistency", "at-store-time"})
_KEYS: Mapping[str, frozenset[str]] = {
    "s3": _EVERYWHERE | {"endpoint"},
    "oss": _EVERYWHERE | {"internal"},
    "cos": _EVERYWHERE,
    "minio": _EVERYWHERE,
    "minio+http": _EVERYWHERE,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Location:
    """Everything but the credentials. Empty texts: whatever the server or the AWS configuration says."""

    url: str
    """As the user wrote it."""
    scheme: str
    bucket: str
    prefix: str
    """Before every key; empty, or ends in a slash."""
    endpoint: str = ""
    region: str = ""
    style: Style
    dialect: Dialect
    storage_class: str = ""
    profile: str = ""
    encryption: str = ""
    listing_delay_seconds: float = 0.0
    past_ns: int | None = None
    """Not as it is: as it was then, in nanoseconds since the epoch."""

    @property
    def place(self) -> str:
        """The same text for every URL of the same objects."""
        return f"{self.endpoint or 'aws'}/{self.bucket}/{self.prefix}".rstrip("/")

    @property
    def expansion(self) -> str:
        """The URL of `s3:` with everything said that decides where it leads and how the server is spoken to."""
        said = {
            "endpoint": self.endpoint,
            "region": self.region,
            "style": self.style,
            "vendor": self.dialect.name,
            "consistency": "eventual" if self.listing_delay_seconds else "strong",
        }
        query = "&".join(f"{name}={value}" for name, value in said.items() if value)
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/") + f"?{query}"


def parse_location(url: str) -> S3Location:
    """Raises UsageError for what is no URL of an S3 repository."""
    scheme, _, rest = url.partition("://")
    scheme = scheme.lower()
    if "#" in rest:
        raise _wrong(url, "it has a fragment", "write # as %23")
    path, _, query = rest.partition("?")
    settings = _settings(url, scheme, query)
    host = ""
    if scheme.startswith("minio"):
        host, _, path = path.partition("/")
        _check_authority(url, host)
    bucket, _, prefix = path.partition("/")
    bucket, prefix = unquote(bucket), unquote(prefix).strip("/")
    if _BUCKET.fullmatch(bucket) is None:
        wanted = (
            f"{scheme}://HOST:PORT/BUCKET/PREFIX" if host or scheme.startswith("minio") else f"{scheme}://BUCKET/PREFIX"
        )
        raise _wrong(url, f"{bucket!r} is not the name of a bucket" if bucket else "it names no bucket", wanted)
    if prefix:
        _check_prefix(url, prefix)
    dialect, endpoint = _server(url, scheme, host, settings)
    return S3Location(
        url=url,
        scheme=scheme,
        bucket=bucket,
        prefix=f"{prefix}/" if prefix else "",
        endpoint=endpoint,
        region=settings.get("region", ""),
        style=cast(Style, settings.get("style", dialect.style)),
        dialect=dialect,
        storage_class=settings.get("class", ""),
        profile=settings.get("profile", ""),
        encryption=settings.get("sse", ""),
        listing_delay_seconds=_delay(settings, dialect),
        past_ns=_past(url, settings.get("at-store-time")),
    )


def _check_cold(url: str, name: str) -> None:
    if name in _COLD:
        why = f"nothing can be read back from {name} without hours of waiting, and every snapshot reads"
        raise _wrong(url, why, "class=GLACIER_IR is read at once")


def check_storage_class(url: str, name: str) -> None:
    """Raise UsageError for what is no storage class, or one that cannot be read from at once."""
    if _CLASS.fullmatch(name) is None:
        raise UsageError(f"not a storage class: {name!r}", hints=["write it as the server does: STANDARD_IA"])
    _check_cold(url, name)


def _settings(url: str, scheme: str, query: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in _KEYS[scheme]:
            close = difflib.get_close_matches(name, _KEYS[scheme], 1)
            known = ", ".join(sorted(_KEYS[scheme]))
            raise _wrong(
                url, f"{name!r} means nothing there", f"did you mean {close[0]}?" if close else f"known: {known}"
            )
        if name in found:
            raise _wrong(url, f"{name} is given twice", "give it once")
        found[name] = value
    _check_choice(url, found, "style", _STYLES)
    _check_choice(url, found, "sse", _ENCRYPTIONS)
    _check_choice(url, found, "vendor", tuple(DIALECTS))
    _check_choice(url, found, "consistency", ("strong", "eventual"))
    _check_choice(url, found, "internal", ("0", "1"))
    for name, pattern, example in (("region", _REGION, "eu-central-1"), ("class", _CLASS, "STANDARD_IA")):
        if name in found and pattern.fullmatch(found[name]) is None:
            raise _wrong(url, f"{name}={found[name]} is no {name}", f"for example {name}={example}")
    _check_cold(url, found.get("class", ""))
    return found


def _server(url: str, scheme: str, host: str, settings: Mapping[str, str]) -> tuple[Dialect, str]:
    """The dialect, and the endpoint; that is empty for AWS, which has one for each region."""
    region = settings.get("region", "")
    if scheme in ("oss", "cos") and not region:
        raise _wrong(url, "it names no region", f"add ?region={'cn-hangzhou' if scheme == 'oss' else 'ap-guangzhou'}")
    if scheme == "oss":
        inside = "-internal" if settings.get("internal") == "1" else ""
        dialect, endpoint = OSS, f"https://s3.oss-{region}{inside}.aliyuncs.com"
    elif scheme == "cos":
        dialect, endpoint = COS, f"https://cos.{region}.myqcloud.com"
    elif scheme.startswith("minio"):
        dialect, endpoint = MINIO, f"{'http' if scheme.endswith('http') else 'https'}://{host}"
    else:
        endpoint = settings.get("endpoint", "").rstrip("/")
        dialect = _at_endpoint(url, endpoint) if endpoint else AWS
    return DIALECTS.get(settings.get("vendor", ""), dialect), endpoint


def _at_endpoint(url: str, endpoint: str) -> Dialect:
    try:
        parts = urlsplit(endpoint)
        host = parts.hostname or ""
    except ValueError:
        raise _wrong(url, "endpoint is no URL", "endpoint=https://s3.example.org") from None
    if parts.scheme not in ("http", "https") or parts.path or parts.query or _AUTHORITY.fullmatch(parts.netloc) is None:
        raise _wrong(url, "endpoint must be http(s)://HOST or http(s)://HOST:PORT", "endpoint=https://s3.example.org")
    return dialect_of(host)


def _delay(settings: Mapping[str, str], dialect: Dialect) -> float:
    consistency = settings.get("consistency")
    if consistency is None:
        return dialect.listing_delay_seconds
    return 0.0 if consistency == "strong" else UNKNOWN.listing_delay_seconds


def _past(url: str, text: str | None) -> int | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise _wrong(url, f"{text!r} is no time in UTC", "for example at-store-time=2026-11-27T10:00:00Z")
    return (moment - _EPOCH) // timedelta(microseconds=1) * 1000


def _check_authority(url: str, host: str) -> None:
    match = _AUTHORITY.fullmatch(host)
    if match is None or int(match["port"] or 1) > 65535:
        raise _wrong(url, "it names no host", "write minio://HOST:PORT/BUCKET/PREFIX")


def _check_prefix(url: str, prefix: str) -> None:
    for part in prefix.split("/"):
        if not part or part in (".", "..") or any(ord(letter) < 32 or ord(letter) == 127 for letter in part):
            raise _wrong(url, f"{prefix!r} cannot stand before the names of objects", "use letters, digits, - _ and /")
    if len(prefix.encode()) > 400:
        raise _wrong(url, "the prefix is longer than 400 bytes", "use a shorter one")


def _check_choice(url: str, found: Mapping[str, str], name: str, choices: tuple[str, ...]) -> None:
    if name in found and found[name] not in choices:
        raise _wrong(url, f"{name}={found[name]} means nothing", f"choose one of {', '.join(choices)}")


def _wrong(url: str, why: str, hint: str) -> UsageError:
    return UsageError(f"not a repository URL: {url}", why=why, hints=[hint], code="config.bad_url")
