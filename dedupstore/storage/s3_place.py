"""What a URL of the S3 family says: which bucket, where, and in which dialect.

`oss:`, `cos:`, `minio:` and `minio+http:` are presets over the one protocol. What the dialects differ in is a table;
a URL's query can overrule each of its columns, for servers that are of none of these kinds.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote, urlsplit

from dedupstore.errors import UsageError
from dedupstore.storage.names import check_key


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """How one family of servers wants to be spoken to."""

    name: str
    virtual: bool
    """Whether the bucket is part of the host name (`bucket.host/key`), not of the path (`host/bucket/key`)."""

    trailers: bool
    """Whether CRC trailers are understood. Servers that do not understand them answer 400, or store them as content."""

    create_only: bool
    """Whether `If-None-Match: *` keeps a put from replacing. Only a courtesy: nothing here depends on it."""

    key_variables: tuple[tuple[str, str], ...] = ()
    """Environment variables of access key and secret that are looked at before the usual places."""


AWS = Dialect(name="aws", virtual=True, trailers=True, create_only=True)
OTHER = Dialect(name="s3", virtual=False, trailers=False, create_only=True)
MINIO = Dialect(name="minio", virtual=False, trailers=False, create_only=True)
OSS = Dialect(
    name="oss", virtual=True, trailers=False, create_only=False,
    key_variables=(("OSS_ACCESS_KEY_ID", "OSS_ACCESS_KEY_SECRET"), ("OSS_ACCESS_KEY_ID", "OSS_SECRET")),
)  # fmt: skip
COS = Dialect(
    name="cos", virtual=True, trailers=False, create_only=False,
    key_variables=(("TENCENTCLOUD_SECRET_ID", "TENCENTCLOUD_SECRET_KEY"),),
)  # fmt: skip

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_WORD = re.compile(r"[A-Za-z0-9._-]{1,64}")
_CLASS = re.compile(r"[A-Z][A-Z0-9_]{1,40}")
_COMMON = frozenset({"endpoint", "region", "style", "class", "profile", "sse", "checksums", "create-only"})
_KNOWN = {
    "s3": _COMMON,
    "oss": _COMMON | {"internal"},
    "cos": _COMMON,
    "minio": _COMMON - {"endpoint"},
    "minio+http": _COMMON - {"endpoint"},
}
_COLD = frozenset({"GLACIER", "DEEP_ARCHIVE"})
"""Classes from which an object cannot be read before somebody has asked for it hours ago."""


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Place:
    """Where a repository lies. `prefix` is empty or ends in a slash; `endpoint` empty: AWS's own."""

    url: str
    bucket: str
    prefix: str
    endpoint: str
    region: str
    dialect: Dialect
    storage_class: str = ""
    profile: str = ""
    encryption: str = ""
    """What the server is asked to encrypt with (AES256, aws:kms); what it sees is encrypted already."""

    def described(self) -> dict[str, str]:
        """What the URL stands for, in words a person can check; no secrets."""
        return {
            "bucket": self.bucket,
            "prefix": self.prefix,
            "endpoint": self.endpoint or "AWS",
            "region": self.region or "as the environment says",
            "addressing": "virtual" if self.dialect.virtual else "path",
            "checksums": "CRC trailer" if self.dialect.trailers else "Content-MD5",
            "create_only_put": "asked for" if self.dialect.create_only else "not asked for",
            "storage_class": self.storage_class or "the bucket's own",
            "profile": self.profile or "none",
        }


def parse_place(url: str) -> S3Place:
    """The place that `url` names. Raises UsageError with what is wrong and how it should look."""
    parts = urlsplit(url)
    scheme = parts.scheme.lower()
    query = _query(url, parts.query, _KNOWN[scheme])
    if parts.fragment:
        raise _wrong(url, "it has a #", "write # as %23")
    if scheme.startswith("minio"):
        bucket, _, prefix = parts.path.lstrip("/").partition("/")
        if not parts.netloc or not bucket:
            raise _wrong(url, "it names no server or no bucket", f"{scheme}://host:9000/bucket/prefix")
        endpoint, dialect = f"{'http' if scheme.endswith('+http') else 'https'}://{parts.netloc}", MINIO
    else:
        bucket, prefix = parts.netloc, parts.path
        endpoint, dialect = _endpoint(url, scheme, query)
    if _BUCKET.fullmatch(bucket) is None:
        raise _wrong(url, f"{bucket!r} is no bucket name", "3 to 63 small letters, digits, dots and hyphens")
    return S3Place(
        url=_shown(url, parts.query),
        bucket=bucket,
        prefix=_prefix(url, prefix),
        endpoint=endpoint,
        region=_word(url, query, "region"),
        dialect=_overruled(url, dialect, query),
        storage_class=_storage_class(url, query),
        profile=_word(url, query, "profile"),
        encryption=_choice(url, query, "sse", ("AES256", "aws:kms")),
    )


def _endpoint(url: str, scheme: str, query: dict[str, str]) -> tuple[str, Dialect]:
    given = query.get("endpoint", "")
    if given:
        parsed = urlsplit(given)
        if parsed.scheme not in ("http", "https") or not parsed.netloc or parsed.path.strip("/") or parsed.query:
            raise _wrong(url, f"the endpoint {given!r} is no address", "endpoint=https://host:port")
        given = f"{parsed.scheme}://{parsed.netloc}"
    region = query.get("region", "")
    if scheme == "s3":
        return given, OTHER if given else AWS
    if not given and not region:
        example = (
            "oss://bucket/prefix?region=cn-hangzhou" if scheme == "oss" else "cos://bucket-125/x?region=ap-beijing"
        )
        raise _wrong(url, "it names no region", example)
    if scheme == "oss":
        inside = "-internal" if _choice(url, query, "internal", ("0", "1")) == "1" else ""
        return given or f"https://oss-{_word(url, query, 'region')}{inside}.aliyuncs.com", OSS
    return given or f"https://cos.{_word(url, query, 'region')}.myqcloud.com", COS


def _query(url: str, text: str, known: frozenset[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in parse_qsl(text, keep_blank_values=True):
        if name not in known:
            raise _wrong(url, f"{name}= is not known here", "known are " + ", ".join(sorted(known)))
        if name in found:
            raise _wrong(url, f"{name}= is there twice", "name it once")
        found[name] = value
    return found


def _prefix(url: str, text: str) -> str:
    decoded = unquote(text.strip("/"))
    if not decoded:
        return ""
    try:
        check_key(decoded)
    except Exception as error:
        raise _wrong(url, f"{decoded!r} is no prefix", "letters, digits and . _ - between slashes") from error
    return f"{decoded}/"


def _overruled(url: str, dialect: Dialect, query: dict[str, str]) -> Dialect:
    style = _choice(url, query, "style", ("path", "virtual"))
    checksums = _choice(url, query, "checksums", ("md5", "trailer"))
    create_only = _choice(url, query, "create-only", ("0", "1"))
    return Dialect(
        name=dialect.name,
        virtual=dialect.virtual if not style else style == "virtual",
        trailers=dialect.trailers if not checksums else checksums == "trailer",
        create_only=dialect.create_only if not create_only else create_only == "1",
        key_variables=dialect.key_variables,
    )


def _storage_class(url: str, query: dict[str, str]) -> str:
    name = query.get("class", "")
    if name and _CLASS.fullmatch(name) is None:
        raise _wrong(url, f"{name!r} is no storage class", "class=STANDARD_IA")
    if name in _COLD:
        why = f"nothing can be read back from {name} without hours of waiting, and every snapshot reads"
        raise _wrong(url, why, "class=GLACIER_IR")
    return name


def _word(url: str, query: dict[str, str], name: str) -> str:
    value = query.get(name, "")
    if value and _WORD.fullmatch(value) is None:
        raise _wrong(url, f"{name}={value!r} is no {name}", f"{name}=NAME")
    return value


def _choice(url: str, query: dict[str, str], name: str, choices: tuple[str, ...]) -> str:
    value = query.get(name, "")
    if value and value not in choices:
        raise _wrong(url, f"{name}={value!r} is not one of {', '.join(choices)}", f"{name}={choices[0]}")
    return value


def _shown(url: str, query: str) -> str:
    head = url.partition("?")[0].rstrip("/")
    scheme, _, rest = head.partition("://")
    return f"{scheme.lower()}://{rest}" + (f"?{query}" if query else "")


def _wrong(url: str, why: str, hint: str) -> UsageError:
    return UsageError(f"not a repository URL: {url}", why=why, hints=[hint], code="config.bad_url")
