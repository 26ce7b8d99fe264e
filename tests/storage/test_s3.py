"""The S3 store against moto, which is quick, and against Ceph's gateway, which is what servers are like."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dedupstore.errors import ObjectNotFound, StoreError, StoreMissing, UsageError
from dedupstore.storage.base import ObjectInfo
from dedupstore.storage.registry import create_store, open_store
from dedupstore.storage.s3 import S3Store
from dedupstore.storage.s3_place import parse_place
from dedupstore.types import Span
from tests.storage.contract import StoreContract
from tests.support.ports import free_port
from tests.support.s3_servers import Server


@pytest.fixture(params=["moto_server", "ceph_server"])
def server(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Server:
    found: Server = request.getfixturevalue(request.param)
    for name, value in found.environ.items():
        monkeypatch.setenv(name, value)
    return found


@pytest.fixture
def store(server: Server) -> Iterator[S3Store]:
    store = S3Store.open(server.url(server.bucket()))
    yield store
    store.close()


class TestS3Store(StoreContract):
    """The contract, on both servers."""


def test_an_object_lies_under_the_prefix_and_nothing_else_is_listed(server: Server, store: S3Store) -> None:
    client, bucket = server.client(), store.place.bucket
    client.put_object(Bucket=bucket, Key="repository-of-another/x", Body=b"1")
    client.put_object(Bucket=bucket, Key="repo/.hidden", Body=b"1")

    store.put("roots/a", [b"mine"])

    assert client.get_object(Bucket=bucket, Key="repo/roots/a")["Body"].read() == b"mine"
    assert list(store.list("")) == [ObjectInfo("roots/a", 4)]


def test_a_listing_of_more_than_a_page_is_complete(store: S3Store) -> None:
    store.client.meta.events.register(
        "provide-client-params.s3.ListObjectsV2", lambda params, **_: {**params, "MaxKeys": 7}
    )
    keys = [f"packs/{number:03d}" for number in range(30)]
    for key in keys:
        store.put(key, [key.encode()])
    before = store.requests["ListObjectsV2"]

    assert [row.key for row in store.list("packs/")] == keys
    assert store.requests["ListObjectsV2"] - before == 5


def test_a_listing_says_when_an_object_was_written(store: S3Store) -> None:
    store.put("roots/a", [b"x"])

    (row,) = store.list("")

    assert row.modified_ns > 1_700_000_000_000_000_000


def test_another_object_under_the_same_name_is_never_replaced_silently(store: S3Store) -> None:
    store.put("roots/a", [b"first"])

    with pytest.raises(StoreError, match="roots/a") as caught:
        store.put("roots/a", [b"another"])

    assert caught.value.code == "store.conflict"
    assert store.get("roots/a") == b"first"


def test_a_bucket_that_is_not_there_is_no_proof_that_an_object_is_not(server: Server) -> None:
    for ask in (
        lambda store: store.get("FORMAT"),
        lambda store: store.head("FORMAT"),
        lambda store: list(store.list("")),
        lambda store: store.put("FORMAT", [b"x"]),
        lambda store: store.get("FORMAT", Span(0, 1)),
    ):
        store = S3Store.open(server.url("no-such-bucket-here"))
        with pytest.raises(StoreMissing) as caught:
            ask(store)
        assert caught.value.exit_code == 10
        assert "no-such-bucket-here" in caught.value.why
        store.close()


def test_creating_makes_the_bucket_and_creating_again_does_no_harm(server: Server) -> None:
    url = server.url(f"made-{free_port()}")
    first = create_store(url)
    first.put("FORMAT", [b"1"])
    first.close()

    second = create_store(url)

    assert second.get("FORMAT") == b"1"
    second.close()


def test_a_whole_object_of_a_pack_s_size_goes_there_and_back(store: S3Store) -> None:
    data = bytes(range(256)) * (1 << 17)

    store.put("packs/00/big", [data[: 1 << 20], data[1 << 20 :]])

    assert store.get("packs/00/big") == data
    assert store.get("packs/00/big", Span(1 << 24, 1000)) == data[1 << 24 : (1 << 24) + 1000]
    assert store.requests["PutObject"] == 1


def test_a_server_that_does_not_know_the_condition_is_asked_without_it(server: Server, store: S3Store) -> None:
    seen: list[bool] = []

    def refuse(params: dict[str, object], **_: object) -> None:
        seen.append("IfNoneMatch" in params)

    store.client.meta.events.register("provide-client-params.s3.PutObject", refuse)
    store.put("roots/a", [b"x"])
    assert seen == [True]

    other = S3Store.open(server.url(store.place.bucket, query="create-only=0"))
    other.client.meta.events.register("provide-client-params.s3.PutObject", refuse)
    other.put("roots/b", [b"x"])
    assert seen == [True, False]
    other.close()


class TestCeph:
    """What moto lets pass."""

    @pytest.fixture
    def server(self, ceph_server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
        for name, value in ceph_server.environ.items():
            monkeypatch.setenv(name, value)
        return ceph_server

    def test_a_wrong_secret_is_said_to_be_one(self, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
        store = S3Store.open(server.url(server.bucket()))

        with pytest.raises(StoreError) as caught:
            store.get("FORMAT")

        assert (caught.value.code, caught.value.exit_code) == ("store.credentials", 7)
        assert "another" not in f"{caught.value.message} {caught.value.why} {caught.value.hints}"

    def test_bytes_that_change_on_the_way_are_refused_and_nothing_is_stored(self, server: Server) -> None:
        store = S3Store.open(
            server.url(server.bucket()),
        )

        def flip(request: object, **_: object) -> None:
            request.data = b"other bytes"  # type: ignore[attr-defined]

        store.client.meta.events.register("before-sign.s3.PutObject", flip)

        with pytest.raises(StoreError, match="roots/a"):
            store.put("roots/a", [b"right bytes"])

        with pytest.raises(ObjectNotFound):
            store.head("roots/a")

    def test_keys_that_may_not_delete_are_told_from_other_trouble(self, server: Server) -> None:
        bucket = server.bucket()
        store = S3Store.open(server.url(bucket))
        store.put("packs/00/a", [b"x"])
        server.client().put_bucket_policy(Bucket=bucket, Policy=_no_deletes(bucket))

        with pytest.raises(StoreError) as caught:
            store.delete("packs/00/a")

        assert caught.value.code == "store.denied"
        assert caught.value.is_denial
        assert store.get("packs/00/a") == b"x"


def _no_deletes(bucket: str) -> str:
    return (
        '{"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Principal": "*", "Action": ["s3:DeleteObject"],'
        f' "Resource": ["arn:aws:s3:::{bucket}/*"]}}]}}'
    )


def test_a_server_that_is_not_there_is_named_and_may_be_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    port = free_port()
    store = S3Store(parse_place(f"minio+http://127.0.0.1:{port}/bucket"), attempts=1)

    with pytest.raises(StoreError) as caught:
        store.get("FORMAT")

    assert caught.value.transient
    assert caught.value.exit_code == 7
    assert f"127.0.0.1:{port}" in caught.value.why


def test_no_credentials_anywhere_is_told_with_what_to_set(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    store = open_store("oss://bucket/x?region=cn-hangzhou")

    with pytest.raises(UsageError, match="no credentials") as caught:
        store.get("FORMAT")

    assert "OSS_ACCESS_KEY_ID" in caught.value.hints[0]


def test_a_profile_that_is_not_there_is_named() -> None:
    with pytest.raises(UsageError, match="no-such-profile"):
        open_store("s3://bucket/x?profile=no-such-profile").get("FORMAT")
