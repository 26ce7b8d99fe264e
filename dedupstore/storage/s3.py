"""Objects in a bucket of any server that speaks S3.

One request puts one object: no parts that could be left over, and a checksum of all of it that the server verifies.
An answer to a put means that the object is durable and can be read; `barrier` has nothing more to do.
"""

from __future__ import annotations

import base64
import hashlib
import re
import threading
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dedupstore.clock import Clock, SystemClock
from dedupstore.errors import StoreError
from dedupstore.storage.base import ObjectInfo
from dedupstore.storage.names import TEMPORARY, check_key, check_prefix, is_name
from dedupstore.storage.options import NO_OPTIONS, StoreOptions
from dedupstore.storage.s3_body import Body
from dedupstore.storage.s3_client import CHANGED_MEANWHILE, NOT_UNDERSTOOD, S3Client, answer_code
from dedupstore.storage.s3_location import S3Location
from dedupstore.storage.s3_versions import ReadableVersions
from dedupstore.storage.throttle import PIECE_BYTES
from dedupstore.types import Data, Span
from dedupstore.units import GIB

LARGEST_WHOLE_GET_BYTES = GIB
"""No object of ours is larger; a server that answers with more must not take all memory."""

_NEVER_LOCKED = ("gc/", "forgotten/")
_SENTINELS = ("/-begin", "/zz-end")
"""What forget and prune write, and delete when it is done: a lock would be in their way. Not so the ends of the listings."""

_DATA_PACK = re.compile(r"packs/.*\.d[0-9]+")
"""Packs of file contents. Those of manifests are read by every snapshot and restore."""

_clients: dict[S3Location, S3Client] = {}
_clients_lock = threading.Lock()


def client_for(location: S3Location) -> S3Client:
    """The process's one client for a location: making one takes longer than a request, and it keeps connections."""
    with _clients_lock:
        client = _clients.get(location)
        if client is None:
            client = _clients[location] = S3Client(location)
        return client


class S3Store:
    """An object store in a bucket. Opening it sends nothing: a missing bucket shows at the first use."""

    remote = True

    def __init__(self, client: S3Client, options: StoreOptions = NO_OPTIONS, *,
        rows_per_page: int = 1000, clock: Clock | None = None,
    ) -> None:  # fmt: skip
        self._client = client
        self._options = options
        self._rows_per_page = rows_per_page
        self._clock = clock or SystemClock()
        self._versions = ReadableVersions(client, self._clock, self._read)
        self._location = client.location
        self._prefix = client.location.prefix
        self._create_only = client.location.dialect.create_only
        self._storage_class = options.storage_class or client.location.storage_class

    @property
    def url(self) -> str:
        return self._location.url

    @property
    def location(self) -> S3Location:
        return self._location

    @property
    def place(self) -> str:
        return self._location.place

    @property
    def expansion(self) -> str:
        return self._location.expansion

    @property
    def listing_delay_seconds(self) -> float:
        return self._location.listing_delay_seconds

    def requests(self) -> Mapping[str, int]:
        """Requests sent by this process to this place so far, by kind; each try counts."""
        return self._client.requests.so_far()

    @property
    def versions(self) -> ReadableVersions:
        return self._versions

    def put(self, key: str, parts: Sequence[Data]) -> None:
        check_key(key)
        body = Body(parts, self._options.upload)
        arguments: dict[str, object] = {"Key": self._prefix + key, "Body": body, **self._checksum(body.parts)}
        if self._storage_class and _DATA_PACK.fullmatch(key):
            # What every command reads costs more in the cheaper classes than in the usual one, and so do small objects.
            arguments["StorageClass"] = self._storage_class
        if self._location.encryption:
            arguments["ServerSideEncryption"] = self._location.encryption
        if self._options.object_lock_ns and (not key.startswith(_NEVER_LOCKED) or key.endswith(_SENTINELS)):
            arguments.update(self._versions.lock_for(self._options.object_lock_ns))
        what = f"write {key} to {self.url}"
        if self._create_only:
            try:
                self._client.call("put_object", {**arguments, "IfNoneMatch": "*"}, what=what)
                return
            except StoreError as error:
                said = answer_code(error.__cause__)
                if said in CHANGED_MEANWHILE:
                    self._require_same(key, len(body))
                    return
                if said not in NOT_UNDERSTOOD:
                    raise
        self._client.call("put_object", arguments, what=what)
        # A server that takes the same object without the condition does not know it: not asked again.
        self._create_only = False

    def get(self, key: str, span: Span | None = None) -> bytes:
        return self._read(key, span)

    def _read(self, key: str, span: Span | None, version: str = "") -> bytes:
        check_key(key)
        named = {"Key": self._prefix + key, **({"VersionId": version} if version else {})}
        if span is None:
            return self._whole(key, named)
        if span.start < 0 or span.length < 0:
            raise self._too_short(key, span, None)
        if not span.length:
            # There is no way to ask for no bytes, and past the end it is an error.
            size = self.head(key)
            if span.end > size:
                raise self._too_short(key, span, size)
            return b""
        what = f"read {key} from {self.url}"
        asked = f"bytes={span.start}-{span.end - 1}"
        answer = self._client.call("get_object", {**named, "Range": asked}, what=what, key=key)
        if not str(answer.get("ContentRange", "")).startswith(f"bytes {span.start}-"):
            answer["Body"].close()
            raise StoreError(f"cannot {what}", why="the server does not give ranges of an object", transient=True)
        return self._body(answer, key, span)

    def head(self, key: str) -> int:
        check_key(key)
        what = f"look up {key} in {self.url}"
        # Not by HEAD: its answer has no body, so it does not say whether the object or the whole bucket is missing.
        asked = {"Key": self._prefix + key, "Range": "bytes=0-0"}
        try:
            answer = self._client.call("get_object", asked, what=what, key=key)
        except StoreError as error:
            if error.code != "store.short_object":
                raise
            # An empty object has no first byte.
            answer = self._client.call("head_object", {"Key": self._prefix + key}, what=what, key=key)
            return _length(answer, what)
        length = _length(answer, what)
        # Read, so that the connection can be used again.
        self._client.read(answer["Body"], 1, what=what)
        size = str(answer.get("ContentRange", "")).rpartition("/")[2]
        return int(size) if size.isdecimal() else length

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        check_prefix(prefix)
        return self._pages(prefix)

    def delete(self, key: str) -> None:
        """Where the bucket keeps versions, all of them go: what is deleted is to take no more room."""
        check_key(key)
        self._versions.delete(self._prefix + key, what=f"delete {key} from {self.url}")

    def barrier(self) -> None:
        """Every put has been answered when it returns, and an answer means durable and visible."""

    def close(self) -> None:
        """The client stays for the next store of this process."""

    def _pages(self, prefix: str) -> Iterator[ObjectInfo]:
        more: dict[str, object] = {}
        last = ""
        while True:
            answer = self._client.call(
                "list_objects_v2",
                {"Prefix": self._prefix + prefix, "MaxKeys": self._rows_per_page, **more},
                what=f"list {prefix or 'everything'} in {self.url}",
            )
            for row in answer.get("Contents", ()):
                name = str(row["Key"])[len(self._prefix) :]
                # Names that no object of ours has, such as the empty one that consoles make for a folder.
                if not _is_ours(name):
                    continue
                if name <= last:
                    raise StoreError(f"cannot list {self.url}", why=f"the server repeats {name!r}", transient=True)
                last = name
                yield ObjectInfo(name, int(row["Size"]), _nanoseconds(row.get("LastModified")))
            token = answer.get("NextContinuationToken")
            if not answer.get("IsTruncated"):
                return
            if not token or more.get("ContinuationToken") == token:
                raise StoreError(f"cannot list {self.url}", why="the server does not say how to go on", transient=True)
            more = {"ContinuationToken": token}

    def _whole(self, key: str, named: Mapping[str, object]) -> bytes:
        what = f"read {key} from {self.url}"
        answer = self._client.call("get_object", named, what=what, key=key)
        size = _length(answer, what)
        if size > LARGEST_WHOLE_GET_BYTES:
            answer["Body"].close()
            raise StoreError(f"cannot {what}", why=f"{size} bytes is larger than any object")
        return self._body(answer, key, Span(0, size))

    def _body(self, answer: Mapping[str, Any], key: str, span: Span) -> bytes:
        what = f"read {key} from {self.url}"
        length = _length(answer, what)
        if length != span.length:
            answer["Body"].close()
            raise self._too_short(key, span, span.start + length)
        data = self._received(answer["Body"], length, what)
        if len(data) != length:
            raise StoreError(f"cannot {what}", why="the answer broke off", transient=True)
        return data

    def _received(self, body: Any, length: int, what: str) -> bytes:
        pace = self._options.download
        if pace is None:
            return self._client.read(body, length, what=what)
        # What is not read yet waits in the server: its sending is slowed by ours.
        pieces = self._client.pieces(body, PIECE_BYTES, what=what)
        received = bytearray()
        for piece in pieces:
            pace.take(len(piece))
            received += piece
        return bytes(received)

    def _checksum(self, parts: Sequence[Data]) -> dict[str, object]:
        """What the server compares before it takes the object; computed here, so that it covers the whole way."""
        if self._location.dialect.checksum == "crc32":
            # The name of the algorithm is said as well: some servers look for it before they lock an object.
            crc = 0
            for part in parts:
                crc = zlib.crc32(part, crc)
            return {"ChecksumAlgorithm": "CRC32", "ChecksumCRC32": base64.b64encode(crc.to_bytes(4, "big")).decode()}
        md5 = hashlib.md5(usedforsecurity=False)
        for part in parts:
            md5.update(part)
        return {"ContentMD5": base64.b64encode(md5.digest()).decode()}

    def _require_same(self, key: str, size: int) -> None:
        there = self.head(key)
        if there != size:
            raise StoreError(
                f"cannot write {key} to {self.url}",
                why=f"something else has this name already: {there} bytes instead of {size}",
                hints=[f"look for damage: dedup check -r '{self.url}'"],
                code="store.conflict",
            )

    def _too_short(self, key: str, span: Span, size: int | None) -> StoreError:
        has = "" if size is None else f", but it has {size}"
        return StoreError(
            f"cannot read {key} from {self.url}",
            why=f"bytes {span.start} to {span.end} were asked for{has}",
            code="store.short_object",
        )


def _length(answer: Mapping[str, Any], what: str) -> int:
    """How long the server says an answer's body is; a StoreError where it does not say."""
    if "ContentLength" not in answer:
        if "Body" in answer:
            answer["Body"].close()
        raise StoreError(f"cannot {what}", why="the server does not say how long the object is", transient=True)
    return int(answer["ContentLength"])


def _is_ours(name: str) -> bool:
    parts = name.split("/")
    return parts[0] != TEMPORARY and all(is_name(part) for part in parts)


def _nanoseconds(when: Any) -> int:
    return int(when.timestamp()) * 10**9 if when is not None else 0
