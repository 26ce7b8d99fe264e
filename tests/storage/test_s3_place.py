"""URLs of the S3 family: what each stands for, and what is refused."""

import pytest

from dedupstore.errors import UsageError
from dedupstore.storage.s3_place import parse_place


@pytest.mark.parametrize(
    ("url", "endpoint", "bucket", "prefix", "virtual", "trailers"),
    [
        ("s3://acme/prod", "", "acme", "prod/", True, True),
        ("s3://acme", "", "acme", "", True, True),
        ("s3://acme/a/b/?endpoint=https://s3.example.org&style=path", "https://s3.example.org", "acme", "a/b/", False, False),
        ("s3://acme?endpoint=http://127.0.0.1:9000/&checksums=trailer", "http://127.0.0.1:9000", "acme", "", False, True),
        ("oss://acme/x?region=cn-hangzhou", "https://oss-cn-hangzhou.aliyuncs.com", "acme", "x/", True, False),
        ("oss://acme/x?region=cn-hangzhou&internal=1", "https://oss-cn-hangzhou-internal.aliyuncs.com", "acme", "x/", True, False),
        ("cos://acme-1250000000/x?region=ap-guangzhou", "https://cos.ap-guangzhou.myqcloud.com", "acme-1250000000", "x/", True, False),
        ("minio://host:9000/acme/x/y", "https://host:9000", "acme", "x/y/", False, False),
        ("minio+http://127.0.0.1:9000/acme", "http://127.0.0.1:9000", "acme", "", False, False),
        ("MINIO://host/acme", "https://host", "acme", "", False, False),
    ],
)  # fmt: skip
def test_a_url_says_where_and_how(
    url: str, endpoint: str, bucket: str, prefix: str, virtual: bool, trailers: bool
) -> None:
    place = parse_place(url)

    assert (place.endpoint, place.bucket, place.prefix) == (endpoint, bucket, prefix)
    assert (place.dialect.virtual, place.dialect.trailers) == (virtual, trailers)
    assert place.described()["bucket"] == bucket


def test_region_class_profile_and_encryption_are_taken_over() -> None:
    place = parse_place("s3://acme/x?region=eu-central-1&class=STANDARD_IA&profile=ops&sse=AES256&create-only=0")

    assert (place.region, place.storage_class, place.profile, place.encryption) == (
        "eu-central-1", "STANDARD_IA", "ops", "AES256",
    )  # fmt: skip
    assert not place.dialect.create_only


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("s3://", "bucket name"),
        ("s3:///prefix", "bucket name"),
        ("s3://Acme", "bucket name"),
        ("s3://a", "bucket name"),
        ("s3://acme/../other", "no prefix"),
        ("s3://acme/a b", "no prefix"),
        ("s3://acme/x?regoin=eu", "regoin="),
        ("s3://acme/x?region=a&region=b", "twice"),
        ("s3://acme/x?style=other", "style"),
        ("s3://acme/x?class=glacier", "storage class"),
        ("s3://acme/x?class=DEEP_ARCHIVE", "hours"),
        ("s3://acme/x?endpoint=host:9000", "no address"),
        ("s3://acme/x?endpoint=https://host/path", "no address"),
        ("s3://acme/x#y", "#"),
        ("oss://acme/x", "no region"),
        ("cos://acme-1/x", "no region"),
        ("minio://host:9000", "no server or no bucket"),
        ("minio:///bucket", "no server or no bucket"),
        ("minio://host/bucket?endpoint=https://x", "endpoint="),
    ],
)
def test_what_is_no_place_is_refused_with_how_it_should_look(url: str, why: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_place(url)

    assert caught.value.exit_code == 2
    assert why in caught.value.why
    assert caught.value.hints
