"""Objects in a bucket of AWS S3, or of any server that speaks its protocol.

One request an object: packs have 32 MiB, so nothing is uploaded in parts, and nothing of an interrupted put is left
behind. What a server acknowledged is durable and visible; `barrier` has nothing to wait for. Retries with growing,
random pauses are boto3's own ("standard" mode): they cover what never reached the server, answers 429 and 5xx, and
servers that ask to slow down. An answer whose body breaks off is asked for again here.
"""

from __future__ import annotations

import hashlib
import os
import threading
from base64 import b64encode
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from dedupstore.errors import DedupError, ObjectNotFound, StoreError, StoreMissing
from dedupstore.storage.base import ObjectInfo
from dedupstore.storage.names import check_key, check_prefix, is_name
from dedupstore.storage.s3_errors import ABSENT, FAILURES, NO_BUCKET, code_of, store_error
from dedupstore.storage.s3_place import S3Place, parse_place
from dedupstore.types import Data, Span
from dedupstore.units import GIB

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

ATTEMPTS = 8
"""How often a request is made at most; the pauses between them grow to 20 s."""

LARGEST_WHOLE_GET_BYTES = GIB
"""No object of ours is larger; a planted one must not take all memory."""

_CONNECTIONS = 16
_CONNECT_SECONDS = 10
_READ_SECONDS = 60
_BODIES = 3
"""How often the body of one answer is asked for when it breaks off."""

_ALREADY_THERE = frozenset({"PreconditionFailed", "412", "FileAlreadyExists"})
_BEING_WRITTEN = frozenset({"ConditionalRequestConflict", "409"})
_CANNOT = frozenset({"NotImplemented", "501", "InvalidArgument", "InvalidRequest"})


class S3Store:
    """An object store in a bucket. Opening it makes no request: what is wrong shows at the first use."""

    def __init__(self, place: S3Place, *, attempts: int = ATTEMPTS) -> None:
        self.place = place
        self.requests: Counter[str] = Counter()
        """Requests on the wire by the protocol's name for them, retries included: they cost money and time."""
        self._attempts = attempts
        self._lock = threading.Lock()
        self._client: S3Client | None = None
        self._create_only = place.dialect.create_only
        self._bucket_seen = False

    @classmethod
    def open(cls, location: str) -> S3Store:
        return cls(parse_place(location))

    @classmethod
    def create(cls, location: str) -> S3Store:
        """The place for a new repository; its bucket is made if there is none of that name."""
        store = cls(parse_place(location))
        store._make_bucket()
        return store

    @property
    def url(self) -> str:
        return self.place.url

    @property
    def client(self) -> S3Client:
        """boto3's client, made when first used: it takes a tenth of a second and looks for credentials."""
        with self._lock:
            if self._client is None:
                self._client = self._connect()
            return self._client

    def put(self, key: str, parts: Sequence[Data]) -> None:
        name = self._name(key)
        body = b"".join(parts)
        arguments: dict[str, Any] = {"Bucket": self.place.bucket, "Key": name, "Body": body}
        if not self.place.dialect.trailers:
            md5 = hashlib.md5(body, usedforsecurity=False)
            arguments["ContentMD5"] = b64encode(md5.digest()).decode("ascii")
        if self.place.storage_class and key.startswith("packs/") and not key.startswith("packs/-"):
            # Small objects cost more in the cheaper classes than in the usual one.
            arguments["StorageClass"] = self.place.storage_class
        if self.place.encryption:
            arguments["ServerSideEncryption"] = self.place.encryption
        with self._errors(f"write {key} to {self.url}"):
            self._put(key, arguments, len(body))

    def _put(self, key: str, arguments: dict[str, Any], size: int) -> None:
        if self._create_only:
            try:
                self.client.put_object(**arguments, IfNoneMatch="*")
            except ClientError as error:
                code = code_of(error)
                if code in _ALREADY_THERE or code in _BEING_WRITTEN:
                    self._require_same(key, size)
                    return
                if code not in _CANNOT:
                    raise
                self._create_only = False
            else:
                return
        self.client.put_object(**arguments)

    def _require_same(self, key: str, size: int) -> None:
        """The object is there already, put by an attempt whose answer was lost or by another client: the same one?"""
        found = self.head(key)
        if found != size:
            raise StoreError(
                f"cannot write {key} to {self.url}",
                why=f"something else has this name already: {found} bytes instead of {size}",
                code="store.conflict",
            )

    def get(self, key: str, span: Span | None = None) -> bytes:
        name = self._name(key)
        if span is not None and (span.start < 0 or span.length < 0):
            raise self._too_short(key, span, 0)
        if span is not None and span.length == 0:
            size = self.head(key)
            if span.start > size:
                raise self._too_short(key, span, size)
            return b""
        with self._errors(f"read {key} from {self.url}"):
            for left in reversed(range(_BODIES)):
                try:
                    data = self._body(key, name, span)
                except ClientError as error:
                    if code_of(error) in ("InvalidRange", "416") and span is not None:
                        raise self._too_short(key, span, None) from error
                    raise
                except FAILURES:
                    if not left:
                        raise
                else:
                    break
        if span is not None and len(data) != span.length:
            raise self._too_short(key, span, span.start + len(data))
        return data

    def _body(self, key: str, name: str, span: Span | None) -> bytes:
        arguments: dict[str, Any] = {"Bucket": self.place.bucket, "Key": name}
        if span is not None:
            arguments["Range"] = f"bytes={span.start}-{span.end - 1}"
        answer = self.client.get_object(**arguments)
        with answer["Body"] as stream:
            length = answer["ContentLength"]
            if length > LARGEST_WHOLE_GET_BYTES:
                raise StoreError(
                    f"cannot read {key} from {self.url}", why=f"it has {length} bytes, more than any object of ours"
                )
            data: bytes = stream.read()
        if span is not None and answer["ResponseMetadata"]["HTTPStatusCode"] == 200:
            # A server, or a proxy, that does not know of ranges has sent all of it.
            data = data[span.start : span.end]
        return data

    def head(self, key: str) -> int:
        name = self._name(key)
        with self._errors(f"look up {key} in {self.url}"):
            try:
                size: int = self.client.head_object(Bucket=self.place.bucket, Key=name)["ContentLength"]
            except ClientError as error:
                if code_of(error) in ABSENT:
                    # The answer to HEAD has no body that could tell a missing object from a missing bucket.
                    self._require_bucket()
                raise
            return size

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        check_prefix(prefix)
        start = len(self.place.prefix)
        last = ""
        with self._errors(f"list {prefix or 'everything'} in {self.url}"):
            pages = self.client.get_paginator("list_objects_v2")
            for page in pages.paginate(Bucket=self.place.bucket, Prefix=self.place.prefix + prefix):
                self._bucket_seen = True
                for row in page.get("Contents", ()):
                    key = row["Key"][start:]
                    if not all(map(is_name, key.split("/"))):
                        continue
                    if key <= last:
                        raise StoreError(
                            f"cannot list {prefix or 'everything'} in {self.url}",
                            why="the server's answer is not in order",
                            code="store.incomplete_listing",
                        )
                    last = key
                    yield ObjectInfo(key, row["Size"], int(row["LastModified"].timestamp() * 1_000_000_000))

    def delete(self, key: str) -> None:
        name = self._name(key)
        with self._errors(f"delete {key} from {self.url}"):
            try:
                self.client.delete_object(Bucket=self.place.bucket, Key=name)
            except ClientError as error:
                if code_of(error) not in ABSENT:
                    raise

    def barrier(self) -> None:
        """Nothing: what the server acknowledged is durable and visible. `repo probe` shows whether it keeps to that."""

    def close(self) -> None:
        with self._lock:
            if self._client is not None:
                self._client.close()
                self._client = None

    def _name(self, key: str) -> str:
        check_key(key)
        return self.place.prefix + key

    def _connect(self) -> S3Client:
        place = self.place
        with self._errors(f"open {self.url}"):
            session = boto3.Session(profile_name=place.profile or None, region_name=place.region or None)
            access, secret = _keys_of(place)
            region = place.region or session.region_name or ("us-east-1" if place.endpoint else None)
            when: Literal["when_supported", "when_required"]
            when = "when_supported" if place.dialect.trailers else "when_required"
            config = Config(
                retries={"mode": "standard", "total_max_attempts": self._attempts},
                connect_timeout=_CONNECT_SECONDS,
                read_timeout=_READ_SECONDS,
                max_pool_connections=_CONNECTIONS,
                signature_version="s3v4",
                s3={"addressing_style": "virtual" if place.dialect.virtual else "path"},
                request_checksum_calculation=when,
                response_checksum_validation=when,
            )
            client: S3Client = session.client(
                "s3",
                endpoint_url=place.endpoint or None,
                region_name=region,
                aws_access_key_id=access,
                aws_secret_access_key=secret,
                config=config,
            )
            client.meta.events.register("before-send.s3", self._sent)
            return client

    def _sent(self, request: Any, event_name: str, **_: Any) -> None:
        with self._lock:
            self.requests[event_name.rpartition(".")[2]] += 1

    def _make_bucket(self) -> None:
        with self._errors(f"make the bucket {self.place.bucket} for {self.url}"):
            try:
                self.client.head_bucket(Bucket=self.place.bucket)
            except ClientError as error:
                if code_of(error) not in ABSENT and code_of(error) not in NO_BUCKET:
                    raise
                region = self.client.meta.region_name
                if self.place.endpoint or region == "us-east-1":
                    self.client.create_bucket(Bucket=self.place.bucket)
                else:
                    self.client.create_bucket(
                        Bucket=self.place.bucket,
                        CreateBucketConfiguration={"LocationConstraint": region},  # type: ignore[typeddict-item]
                    )

    def _require_bucket(self) -> None:
        if self._bucket_seen:
            return
        try:
            self.client.head_bucket(Bucket=self.place.bucket)
        except ClientError as error:
            if code_of(error) in ABSENT or code_of(error) in NO_BUCKET:
                raise StoreMissing(
                    f"cannot open {self.url}",
                    why=f"there is no bucket {self.place.bucket}",
                    hints=["check the name and the endpoint"],
                ) from error
            if code_of(error) not in ("403", "AccessDenied"):
                raise
            # Keys that may not ask for the bucket: that an object was looked for in it must do.
        self._bucket_seen = True

    @contextmanager
    def _errors(self, what: str) -> Iterator[None]:
        try:
            yield
        except DedupError:
            raise
        except FAILURES as error:
            found = store_error(error, what=what, place=self.place)
            if isinstance(found, ObjectNotFound):
                raise ObjectNotFound(f"{what}: it is not there".removeprefix("cannot ")) from error
            raise found from error

    def _too_short(self, key: str, span: Span, size: int | None) -> StoreError:
        has = "has fewer" if size is None else f"has {size}"
        return StoreError(
            f"cannot read {key} from {self.url}",
            why=f"bytes {span.start} to {span.end} were asked for, but it {has}",
            code="store.short_object",
        )


def _keys_of(place: S3Place) -> tuple[str | None, str | None]:
    """The access key and its secret where the dialect has variables of its own for them; else boto3 finds them."""
    if not place.profile:
        for name, secret in place.dialect.key_variables:
            if os.environ.get(name) and os.environ.get(secret):
                return os.environ[name], os.environ[secret]
    return None, None
