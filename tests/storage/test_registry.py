from pathlib import Path

import pytest

from dedupstore.errors import StoreMissing, UsageError
from dedupstore.storage.registry import create_store, known_schemes, open_store
from dedupstore.storage.retry import RetryingStore
from dedupstore.storage.s3 import S3Store

SECRET = "tops3cret"


def test_a_path_a_home_path_and_a_file_url_name_the_same_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    create_store("~/my backup").put("FORMAT", [b"1"])

    for url in (f"{tmp_path}/my backup", "my backup", "./my backup", f"file://{tmp_path}/my%20backup",
                f"FILE://localhost{tmp_path}/my%20backup"):  # fmt: skip
        assert open_store(url).get("FORMAT") == b"1"
        assert open_store(url).url == f"{tmp_path}/my backup"


def test_opening_creates_nothing(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "missing"))

    with pytest.raises(StoreMissing):
        store.put("FORMAT", [b"1"])

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("url", "endpoint"),
    [
        ("s3://bucket/prefix", ""),
        ("s3://bucket?endpoint=https://s3.example.org:9000", "https://s3.example.org:9000"),
        ("oss://bucket/prefix?region=cn-hangzhou", "https://s3.oss-cn-hangzhou.aliyuncs.com"),
        ("cos://bucket-1250000000?region=ap-guangzhou", "https://cos.ap-guangzhou.myqcloud.com"),
        ("minio://host:9000/bucket/prefix", "https://host:9000"),
        ("MINIO+HTTP://127.0.0.1:9000/bucket", "http://127.0.0.1:9000"),
    ],
)
def test_an_s3_url_opens_a_store_and_sends_nothing(url: str, endpoint: str) -> None:
    store = open_store(url)

    assert store.url == url
    assert isinstance(store, RetryingStore)
    assert isinstance(store.inner, S3Store)
    assert store.inner.location.endpoint == endpoint
    assert store.inner.requests() == {}


def test_an_unknown_scheme_lists_the_known_ones() -> None:
    with pytest.raises(UsageError, match="gopher://") as caught:
        open_store("gopher://host/path")

    assert all(f"{scheme}://" in caught.value.why for scheme in known_schemes())


@pytest.mark.parametrize(
    "url",
    [
        f"s3://KEY:{SECRET}@bucket/prefix",
        f"s3://{SECRET}@bucket",
        f"s3://KEY:{SECRET}/with/slash@bucket/prefix",
        f"s3://KEY:{SECRET}?with?mark@bucket/prefix",
        f"s3://bucket/prefix?endpoint=https://KEY:{SECRET}@host",
        f"s3://bucket/prefix?endpoint=https%3A%2F%2FKEY%3A{SECRET}%40host",
        f"file://user:{SECRET}@localhost/srv/backup",
        f"gopher://user:{SECRET}@host/path",
        f"s3:KEY:{SECRET}@bucket",
        f"user:{SECRET}@host:/path",
    ],
)
def test_credentials_in_a_url_are_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        open_store(url)

    error = caught.value
    assert (error.code, error.exit_code) == ("config.secret_in_url", 2)
    assert SECRET not in f"{error.message} {error.why} {error.hints} {error!r}"


NO_STORES = ["", "a\0b", "file://host/srv", "file://", "file:///srv?x=1", "file:///a%00b", "file:/srv", "s3:bucket"]


@pytest.mark.parametrize("url", [*NO_STORES, "~no-such-user/x"])
def test_what_names_no_store_is_a_usage_error(url: str) -> None:
    with pytest.raises(UsageError):
        open_store(url)


def test_an_odd_directory_name_can_be_written_with_a_dot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    assert create_store("./s3:a@b").url == f"{tmp_path}/s3:a@b"
    assert open_store("user@host").url == f"{tmp_path}/user@host"
