"""What the servers that speak S3 do differently, as far as it is known before one is asked. `dedup repo probe` asks.

Nothing here is needed for safety: a wrong row costs a failed request or a wait, never data. See docs/storage.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Style = Literal["path", "virtual", "auto"]
Checksum = Literal["crc32", "md5"]

UNKNOWN_LISTING_DELAY_SECONDS = 120.0
"""So long an unknown server may go on listing what was, for all we know."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """One kind of server. Defaults are those that every server understands."""

    name: str
    style: Style = "path"
    """Where the bucket is named: in the path, or in the host's name."""
    checksum: Checksum = "md5"
    """How an upload is protected: a CRC in a header of its own, or Content-MD5, which is older than all of them."""
    create_only: bool = False
    """Whether `If-None-Match: *` on a PUT is worth sending: it keeps the first of two objects of one name."""
    listing_delay_seconds: float = 0.0
    """How long a listing may lag behind; 0: what was put is listed at once."""


AWS = Dialect(name="aws", style="auto", checksum="crc32", create_only=True)
OSS = Dialect(name="oss", style="virtual")
COS = Dialect(name="cos", style="virtual")
MINIO = Dialect(name="minio", create_only=True)
CEPH = Dialect(name="ceph", create_only=True)
R2 = Dialect(name="r2", create_only=True)
UNKNOWN = Dialect(name="unknown", create_only=True, listing_delay_seconds=UNKNOWN_LISTING_DELAY_SECONDS)

DIALECTS = {dialect.name: dialect for dialect in (AWS, OSS, COS, MINIO, CEPH, R2, UNKNOWN)}

_HOSTS = (
    (".amazonaws.com", AWS),
    (".amazonaws.com.cn", AWS),
    (".aliyuncs.com", OSS),
    (".myqcloud.com", COS),
    (".r2.cloudflarestorage.com", R2),
)


def dialect_of(host: str) -> Dialect:
    """The dialect of an endpoint by the name of its host; `UNKNOWN` for one that could be anything."""
    for ending, dialect in _HOSTS:
        if host.endswith(ending):
            return dialect
    return UNKNOWN
