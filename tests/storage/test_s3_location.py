from __future__ import annotations

import pytest

from dedupstore.errors import UsageError
from dedupstore.storage.s3_location import check_storage_class, parse_location


def test_presets_fill_in_what_a_vendor_needs() -> None:
    oss = parse_location("oss://bucket/a/b/?region=cn-hangzhou&internal=1")
    cos = parse_location("cos://bucket-1250000000?region=ap-guangzhou")
    minio = parse_location("minio+http://127.0.0.1:9000/bucket/x")
    aws = parse_location("s3://bucket/x?region=eu-central-1&class=GLACIER_IR&profile=ops&sse=aws:kms")

    assert (oss.endpoint, oss.style, oss.prefix) == (
        "https://s3.oss-cn-hangzhou-internal.aliyuncs.com",
        "virtual",
        "a/b/",
    )
    assert (oss.dialect.checksum, oss.dialect.create_only) == ("md5", False)
    assert (cos.style, cos.prefix, cos.dialect.name) == ("virtual", "", "cos")
    assert (minio.style, minio.bucket, minio.dialect.create_only) == ("path", "bucket", True)
    assert (aws.endpoint, aws.dialect.checksum, aws.region) == ("", "crc32", "eu-central-1")
    assert (aws.storage_class, aws.profile, aws.encryption) == ("GLACIER_IR", "ops", "aws:kms")


@pytest.mark.parametrize(
    ("url", "delay"),
    [
        ("s3://bucket", 0.0),
        ("s3://bucket?endpoint=https://s3.eu-central-1.amazonaws.com", 0.0),
        ("s3://bucket?endpoint=https://s3.example.org", 120.0),
        ("s3://bucket?endpoint=https://amazonaws.com.example.org", 120.0),
        ("s3://bucket?endpoint=https://s3.example.org&consistency=strong", 0.0),
        ("s3://bucket?endpoint=https://s3.example.org&vendor=ceph", 0.0),
        ("minio://host/bucket?consistency=eventual", 120.0),
    ],
)
def test_listings_of_a_server_that_nobody_knows_may_lag(url: str, delay: float) -> None:
    assert parse_location(url).listing_delay_seconds == delay


@pytest.mark.parametrize(
    "url",
    [
        "s3://",
        "s3:///prefix",
        "s3://b",
        "s3://-bucket",
        "s3://bucket/../x",
        "s3://bucket/a//b",
        "s3://bucket/a%00b",
        f"s3://bucket/{'x' * 401}",
        "s3://bucket#part",
        "s3://bucket?colour=red",
        "s3://bucket?region=eu&region=us",
        "s3://bucket?region=EU Central",
        "s3://bucket?class=cold",
        "s3://bucket?class=DEEP_ARCHIVE",
        "s3://bucket?style=diagonal",
        "s3://bucket?sse=rot13",
        "s3://bucket?vendor=acme",
        "s3://bucket?consistency=maybe",
        "s3://bucket?endpoint=ftp://host",
        "s3://bucket?endpoint=https://host/path",
        "s3://bucket?endpoint=https://host:99x",
        "s3://bucket?endpoint=host",
        "s3://bucket?internal=1",
        "oss://bucket",
        "cos://bucket-125",
        "oss://bucket?region=cn-hangzhou&internal=yes",
        "minio://bucket",
        "minio:///bucket",
        "minio://host:99999/bucket",
        "minio://ho st/bucket",
    ],
)
def test_what_names_no_bucket_or_no_setting_is_a_usage_error(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_location(url)

    assert caught.value.why
    assert caught.value.hints


def test_a_slip_of_the_pen_is_answered_with_the_right_word() -> None:
    with pytest.raises(UsageError) as caught:
        parse_location("s3://bucket?regoin=eu-central-1")

    assert caught.value.hints == ("did you mean region?",)


def test_one_place_has_one_name_whatever_else_its_url_says() -> None:
    assert parse_location("s3://bucket/a?class=STANDARD_IA").place == parse_location("s3://bucket/a/").place
    assert parse_location("s3://bucket/a").place != parse_location("s3://bucket/a?endpoint=https://h").place


def test_a_storage_class_that_comes_from_elsewhere_is_looked_at_as_well() -> None:
    check_storage_class("s3://bucket", "STANDARD_IA")

    for name in ("cold storage", "DEEP_ARCHIVE"):
        with pytest.raises(UsageError):
            check_storage_class("s3://bucket", name)
