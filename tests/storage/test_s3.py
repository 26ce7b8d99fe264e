"""The store of S3 URLs against servers of two kinds: one that knows conditions, one that takes no notice of them."""

from __future__ import annotations

import tracemalloc
from typing import Any

import pytest

from dedupstore.errors import ObjectNotFound, StoreError, StoreMissing
from dedupstore.storage.base import ObjectStore
from dedupstore.storage.options import StoreOptions
from dedupstore.storage.registry import open_store
from dedupstore.storage.retry import Patience, RetryingStore
from dedupstore.storage.s3 import S3Store
from dedupstore.storage.s3_client import S3Client
from dedupstore.storage.s3_location import parse_location
from dedupstore.storage.throttle import Pace
from dedupstore.types import Span
from tests.storage.contract import StoreContract
from tests.support.s3_servers import S3Server, use

BRIEF = Patience(first_wait_seconds=0.01, longest_wait_seconds=0.1)


def open_s3(url: str) -> S3Store:
    """A store with a client of its own: tests count what it sends."""
    return S3Store(S3Client(parse_location(url)))


class TestOnMoto(StoreContract):
    """Below a prefix, beside other things: nothing of them may be seen."""

    @pytest.fixture
    def store(self, moto_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
        use(moto_server, monkeypatch)
        bucket = moto_server.bucket()
        for key in ("backup", "backup/", "backup/prod-2/roots/a", "backup/prod/", "FORMAT"):
            moto_server.client().put_object(Bucket=bucket, Key=key, Body=b"of somebody else")
        return open_s3(moto_server.url(bucket, "backup/prod"))


class TestOnRclone(StoreContract):
    @pytest.fixture
    def store(self, rclone_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
        use(rclone_server, monkeypatch)
        # It answers 500 to two puts of one name at once.
        return RetryingStore(open_s3(rclone_server.url(rclone_server.bucket())), patience=BRIEF)


@pytest.fixture
def bucket(moto_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    use(moto_server, monkeypatch)
    return moto_server.bucket()


def test_a_listing_goes_on_over_all_pages(moto_server: S3Server, bucket: str) -> None:
    store = S3Store(S3Client(parse_location(moto_server.url(bucket))), rows_per_page=3)
    for number in range(8):
        store.put(f"index/{number:04x}", [b""])

    rows = list(store.list("index/"))

    assert [row.key for row in rows] == [f"index/{number:04x}" for number in range(8)]
    assert store.requests() == {"put": 8, "list": 3}


def test_a_second_object_of_the_same_name_is_refused_where_the_server_can(moto_server: S3Server, bucket: str) -> None:
    store = open_s3(moto_server.url(bucket))
    store.put("roots/a", [b"first"])

    with pytest.raises(StoreError) as caught:
        store.put("roots/a", [b"another"])

    assert caught.value.code == "store.conflict"
    assert store.get("roots/a") == b"first"


def test_a_missing_bucket_is_no_missing_object(moto_server: S3Server, bucket: str) -> None:
    store = open_s3(moto_server.url("nobody-made-this"))

    for work in (
        lambda: store.put("FORMAT", [b"x"]),
        lambda: store.get("FORMAT"),
        lambda: store.get("FORMAT", Span(0, 0)),
        lambda: store.head("FORMAT"),
        lambda: list(store.list("")),
    ):
        with pytest.raises(StoreMissing) as caught:
            work()
        assert caught.value.exit_code == 10


def test_class_and_encryption_reach_the_server(moto_server: S3Server, bucket: str) -> None:
    data, manifests, record = f"packs/00/{'0' * 64}.d1", f"packs/11/{'1' * 64}.m1", "roots/a"
    by_url = open_s3(moto_server.url(bucket, **{"class": "STANDARD_IA"}, sse="AES256"))
    by_option = open_store(moto_server.url(bucket, "b"), StoreOptions(storage_class="ONEZONE_IA"))

    def reached(prefix: str, key: str) -> tuple[str | None, str | None]:
        found = moto_server.client().head_object(Bucket=bucket, Key=prefix + key)
        return found.get("StorageClass"), found.get("ServerSideEncryption")

    for key in (data, manifests, record):
        by_url.put(key, [b"x"])
        by_option.put(key, [b"x"])

    assert reached("", data) == ("STANDARD_IA", "AES256")
    assert reached("b/", data)[0] == "ONEZONE_IA"
    # What is read all the time stays where reading costs nothing more.
    assert {reached(prefix, key)[0] for prefix in ("", "b/") for key in (manifests, record)} == {None}


def test_every_upload_names_its_checksum_and_has_no_trailer(
    moto_server: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for vendor, header in (("aws", b"x-amz-checksum-crc32"), ("oss", b"Content-MD5"), ("ceph", b"Content-MD5")):
        sent: list[dict[str, object]] = []
        client = S3Client(
            parse_location(moto_server.url(bucket, style="path").replace("vendor=aws", f"vendor={vendor}"))
        )
        client.on_sending = lambda request, sent=sent: sent.append(dict(request.headers))  # type: ignore[misc]

        S3Store(client).put(f"packs/{vendor}", [b"some", b"bytes"])

        (headers,) = sent
        assert {name.lower() for name in headers} >= {header.decode().lower(), "content-length"}
        assert not any(name.lower() in ("x-amz-trailer", "content-encoding") for name in headers)


@pytest.mark.parametrize("vendor", ["aws", "ceph"])
def test_the_parts_of_a_pack_are_sent_without_being_joined(moto_server: S3Server, bucket: str, vendor: str) -> None:
    store = open_s3(moto_server.url(bucket).replace("vendor=aws", f"vendor={vendor}"))
    parts = [bytes([number]) * (1 << 20) for number in range(16)]
    store.put("packs/warm", [b"once"])

    tracemalloc.start()
    try:
        store.put("packs/big", [parts[0], b"", memoryview(bytearray(b"between")), *parts[1:]])
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert most < 2 << 20
    assert store.get("packs/big") == b"".join([parts[0], b"between", *parts[1:]])
    assert store.requests()["put"] == 2


def test_no_upload_waits_for_word_from_the_server_and_one_that_is_sent_again_is_whole(
    moto_server: S3Server, bucket: str
) -> None:
    sent: list[set[str]] = []
    client = S3Client(parse_location(moto_server.url(bucket)))
    client.on_sending = lambda request: sent.append({name.lower() for name in request.headers})
    slow = S3Store(client, StoreOptions(upload=Pace(lambda now_ns: 1e9)))
    again = iter([0])
    # As for a bucket in another region: botocore sends the request once more by itself.
    client._client.meta.events.register("needs-retry.s3", lambda **_: next(again, None))

    slow.put("packs/a", [b"some", b"bytes"])
    S3Store(client).put("packs/b", [b"some", b"bytes"])

    assert slow.get("packs/a") == slow.get("packs/b") == b"somebytes"
    assert sum("if-none-match" in names for names in sent) == 3
    assert not any("expect" in names for names in sent)


class TestOnCeph(StoreContract):
    """A real server."""

    @pytest.fixture
    def store(self, ceph: S3Server) -> ObjectStore:
        return open_s3(ceph.url(ceph.bucket(), "backup"))


@pytest.fixture
def ceph(ceph_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    use(ceph_server, monkeypatch)
    return ceph_server


def test_a_second_object_of_the_same_name_is_refused_by_ceph(ceph: S3Server) -> None:
    store = open_s3(ceph.url(ceph.bucket()))
    store.put("roots/a", [b"first"])

    with pytest.raises(StoreError) as caught:
        store.put("roots/a", [b"another"])

    assert caught.value.code == "store.conflict"
    assert store.get("roots/a") == b"first"


def test_an_object_of_a_pack_s_size_goes_there_and_back_in_one_request(ceph: S3Server) -> None:
    store = open_s3(ceph.url(ceph.bucket()))
    data = bytes(range(256)) * (1 << 17)

    store.put("packs/00/big", [data[: 1 << 20], data[1 << 20 :]])

    assert store.get("packs/00/big") == data
    assert store.get("packs/00/big", Span(1 << 24, 1000)) == data[1 << 24 : (1 << 24) + 1000]
    assert store.requests() == {"put": 1, "get": 2}


def test_a_wrong_secret_is_said_to_be_one_and_not_repeated(ceph: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "an0ther")

    with pytest.raises(StoreError) as caught:
        open_s3(ceph.url(ceph.bucket())).get("FORMAT")

    assert (caught.value.code, caught.value.exit_code) == ("store.credentials", 7)
    assert "an0ther" not in f"{caught.value.message} {caught.value.why} {caught.value.hints}"


def test_bytes_that_change_on_the_way_are_refused_and_may_be_sent_again(ceph: S3Server) -> None:
    client = S3Client(parse_location(ceph.url(ceph.bucket())))
    store = S3Store(client)

    def flip(request: Any) -> None:
        if request.method == "PUT":
            request.body = b"other bytes"

    client.on_sending = flip
    with pytest.raises(StoreError) as caught:
        store.put("roots/a", [b"right bytes"])

    assert caught.value.transient
    with pytest.raises(ObjectNotFound):
        store.head("roots/a")


def test_keys_that_may_not_delete_are_told_from_other_trouble(ceph: S3Server) -> None:
    bucket = ceph.bucket()
    store = open_s3(ceph.url(bucket))
    store.put("packs/00/a", [b"x"])
    ceph.deny(bucket, "s3:DeleteObject")

    with pytest.raises(StoreError) as caught:
        store.delete("packs/00/a")

    assert (caught.value.code, caught.value.is_denial) == ("store.denied", True)
    assert store.get("packs/00/a") == b"x"
