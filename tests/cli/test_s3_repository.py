"""Every command on a repository in a bucket: a server in memory, on the loopback device."""

from __future__ import annotations

import random
import shutil
import time
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from dedupstore.errors import Refused
from dedupstore.service.places import require_apart
from tests.support.dedup import PASSPHRASE, Dedup, read_tree
from tests.support.s3_servers import S3Server, free_port, use, without_long_waits


@pytest.fixture
def remote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moto_server: S3Server) -> Dedup:
    """The command with an empty repository in a bucket of its own."""
    use(moto_server, monkeypatch)
    made = Dedup(tmp_path, monkeypatch)
    made.setenv("DEDUP_REPO", moto_server.url(moto_server.bucket(), "backup"))
    return made.init()


def test_every_command_works_on_a_bucket(remote: Dedup, site: Path) -> None:
    before = read_tree(site)
    first = remote.snapshot(site)
    (site / "uploads/a.txt").write_text("second version\n")
    second = remote.snapshot(site)
    remote.ok("restore", "--snapshot", first, "--to", "back")
    remote.ok("forget", "--snapshot", first, "--yes")
    remote.ok("prune", "--grace", "0", "--undo-window", "0", "--yes")

    assert read_tree(remote.home / "back/site") == before
    assert remote.ok("cat", f"{second}:site/uploads/a.txt").out == "second version\n"
    for command in (["snapshots"], ["ls", second], ["find", "*.txt"], ["history", "site/uploads/a.txt"], ["stats"],
                    ["repo", "info"], ["key", "list"], ["repair", "index"]):  # fmt: skip
        assert remote.ok(*command).out
    remote.ok("check", "--read-data")


def test_another_machine_finds_everything_in_the_bucket(remote: Dedup, site: Path) -> None:
    remote.snapshot(site)
    shutil.rmtree(remote.home / "cache")

    remote.ok("restore", "--to", "back")

    assert read_tree(remote.home / "back/site") == read_tree(site)
    remote.ok("check")


def test_a_missing_bucket_a_second_init_and_a_dead_server_are_told_apart(
    remote: Dedup, site: Path, moto_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_long_waits(monkeypatch)
    missing = remote("snapshots", "-r", moto_server.url("nobody-made-this"))
    empty = remote("snapshots", "-r", moto_server.url(moto_server.bucket()))
    again = remote("init", "--insecure-test-kdf")
    dead = remote("snapshots", "-r", f"minio+http://127.0.0.1:{free_port()}/bucket/x")

    assert (missing.exit_code, missing.code) == (10, "repo.not_found")
    assert "there is no bucket nobody-made-this" in missing.err
    assert (empty.exit_code, empty.code) == (10, "repo.not_found")
    assert (again.exit_code, again.code) == (8, "repo.exists")
    assert (dead.exit_code, dead.code) == (7, "store.unreachable")
    assert "tried 4 times" in dead.err
    remote.ok("check")


def test_a_storage_class_is_for_file_contents_in_buckets(remote: Dedup, site: Path, moto_server: S3Server) -> None:
    bucket = moto_server.bucket()
    url = moto_server.url(bucket, "backup")
    settings = f'[repos.main]\nurl = "{url}"\nstorage_class = "STANDARD_IA"\nbase_cache = "0"\n'
    (remote.home / "c.toml").write_text(f"version = 1\n{settings}")
    remote.ok("init", "--insecure-test-kdf", "-r", url)
    remote.snapshot("-r", "repo:main", "-c", "c.toml", site)
    assert list((remote.home / "cache").glob("*-packs/*")) == []
    (site / "new").write_bytes(bytes(range(256)))
    remote.snapshot("-r", url, "--storage-class", "ONEZONE_IA", site)

    refused = remote("snapshot", "-r", "local", "--init", "--storage-class", "STANDARD_IA", site)

    classes: dict[str, set[str]] = {"d": set(), "m": set(), "": set()}
    for row in moto_server.client().list_objects_v2(Bucket=bucket)["Contents"]:
        name = row["Key"].rpartition(".")[2] if "/packs/" in row["Key"] and "." in row["Key"] else ""
        classes[name[:1]].add(row["StorageClass"])
    assert classes == {"d": {"STANDARD_IA", "ONEZONE_IA"}, "m": {"STANDARD"}, "": {"STANDARD"}}
    assert (refused.exit_code, refused.code) == (2, "config.invalid_value")
    remote.ok("check", "-r", url, "--read-data")


@pytest.mark.parametrize("way", ["option", "configuration"])
def test_the_storage_class_of_a_copy_and_a_mirror_is_that_of_the_target(
    remote: Dedup, site: Path, moto_server: S3Server, way: str
) -> None:
    copies, mirrors = (moto_server.bucket() for _ in range(2))
    urls = [moto_server.url(bucket, "backup") for bucket in (copies, mirrors)]
    wanted = 'storage_class = "STANDARD_IA"\n' if way == "configuration" else ""
    named = "".join(f'[repos.r{at}]\nurl = "{url}"\n{wanted}' for at, url in enumerate(urls))
    (remote.home / "c.toml").write_text(f"version = 1\n{named}")
    option = () if wanted else ("--storage-class", "STANDARD_IA")
    remote.ok("init", "--insecure-test-kdf", "-r", urls[0])
    # A directory has no classes: what is said is not said of the source.
    remote.ok("init", "--insecure-test-kdf", "-r", "local")
    remote.snapshot("-r", "local", site)
    remote.setenv("DEDUP_TO_PASSPHRASE", PASSPHRASE)

    remote.ok("copy", "-r", "local", "--to", "repo:r0", "-c", "c.toml", *option)
    remote.ok("mirror", "-r", "local", "--to", "repo:r1", "--init", "-c", "c.toml", *option)

    for bucket, url in zip((copies, mirrors), urls, strict=True):
        rows = moto_server.client().list_objects_v2(Bucket=bucket)["Contents"]
        of_data = {row["Key"] for row in rows if row["StorageClass"] == "STANDARD_IA"}
        assert of_data == {row["Key"] for row in rows if "/packs/" in row["Key"] and ".d" in row["Key"]} != set()
        remote.ok("check", "-r", url, "--read-data")
    refused = remote("mirror", "-r", urls[0], "--to", "other", "--init", "--storage-class", "STANDARD_IA")
    assert (refused.exit_code, refused.code) == (2, "config.invalid_value")


def test_credentials_in_the_url_are_refused(remote: Dedup) -> None:
    run = remote("snapshots", "-r", "s3://AKIA:hunter2@bucket/x")

    assert (run.exit_code, run.code) == (2, "config.secret_in_url")
    assert "hunter2" not in run.err


def test_one_place_is_known_as_one_under_another_url() -> None:
    url = "s3://bucket/backup?endpoint=http://127.0.0.1:1"

    for other in (f"{url}&class=STANDARD_IA", url.replace("/backup?", "/backup/b?")):
        with pytest.raises(Refused) as caught:
            require_apart(url, other)
        assert caught.value.code == "copy.same_place"
    require_apart(url, url.replace(":1", ":2"))


def test_without_keys_it_says_where_they_are_looked_for(remote: Dedup, moto_server: S3Server) -> None:
    remote.setenv("AWS_ACCESS_KEY_ID", None)
    remote.setenv("AWS_SECRET_ACCESS_KEY", None)

    run = remote("snapshots", "-r", moto_server.url("bucket", "never-opened-before"))

    assert (run.exit_code, run.code) == (2, "config.no_credentials")
    assert "AWS_ACCESS_KEY_ID" in run.err


def test_bandwidth_has_the_limit_of_the_hour(remote: Dedup, site: Path, moto_server: S3Server) -> None:
    """The first window that fits: one that holds now, after one that does not."""
    here = datetime.now(ZoneInfo("Asia/Shanghai"))
    now, later = (
        f"{(here + timedelta(hours=hours)):%H}:00-{(here + timedelta(hours=hours + 2)):%H}:00" for hours in (-1, 4)
    )
    windows = f'[{{ at = "{later}", rate = "1kB/s" }}, {{ at = "{now}", rate = "100kB/s" }}]'
    (remote.home / "etc").mkdir()
    (remote.home / "etc/config.toml").write_text(
        f'version = 1\n[repos.main]\nurl = "{moto_server.url(moto_server.bucket(), "paced")}"\n'
        f'limit_upload = "1kB/s"\nlimit_upload_windows = {windows}\n'
        f'limit_download = "1kB/s"\nlimit_download_windows = {windows}\n'
    )
    remote.setenv("DEDUP_REPO", "repo:main")
    remote.init()
    content = random.Random(1).randbytes(120_000)
    (site / "uploads/b.bin").write_bytes(content)

    began = time.monotonic()
    remote.snapshot(site)
    stored = time.monotonic()
    shutil.rmtree(remote.home / "cache")
    remote.ok("restore", "--to", "back")
    restored = time.monotonic()

    assert 1.1 < stored - began < 60
    assert 1.1 < restored - stored < 60
    assert (remote.home / "back/site/uploads/b.bin").read_bytes() == content
    remote.ok("check")
