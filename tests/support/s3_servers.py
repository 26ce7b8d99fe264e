"""Servers that speak S3, on loopback: moto in this process, and Ceph's gateway as real ones are."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from moto.server import ThreadedMotoServer

from tests.support.ports import free_port

ACCESS, SECRET = "AKTEST", "SKTEST"
CEPH = {"ceph-mon": "ceph-mon", "ceph-osd": "ceph-osd", "ceph": "ceph-common", "radosgw": "radosgw"}
"""What a gateway needs: command and Debian's package."""


@dataclass(frozen=True, slots=True)
class Server:
    """A running server, and the environment that opens it."""

    host: str
    """`127.0.0.1:PORT`."""

    @property
    def environ(self) -> dict[str, str]:
        return {"AWS_ACCESS_KEY_ID": ACCESS, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_EC2_METADATA_DISABLED": "true"}

    def url(self, bucket: str, prefix: str = "repo", query: str = "") -> str:
        return f"minio+http://{self.host}/{bucket}/{prefix}" + (f"?{query}" if query else "")

    def client(self, access: str = ACCESS, secret: str = SECRET):  # type: ignore[no-untyped-def]
        """A client of boto3 beside the store's own: to look, and to do damage."""
        config = Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"})
        return boto3.client(
            "s3", endpoint_url=f"http://{self.host}", region_name="us-east-1", config=config,
            aws_access_key_id=access, aws_secret_access_key=secret,
        )  # fmt: skip

    def bucket(self) -> str:
        """A new bucket with a name of its own."""
        name = f"test-{uuid.uuid4().hex[:20]}"
        self.client().create_bucket(Bucket=name)
        return name


@contextmanager
def moto() -> Iterator[Server]:
    """moto: quick and forgiving; it accepts wrong keys and wrong checksums."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        _, port = server.get_host_and_port()
        yield Server(f"127.0.0.1:{port}")
    finally:
        server.stop()


def require_ceph() -> None:
    """Fail in CI, skip elsewhere, where Ceph is not installed."""
    missing = [package for command, package in CEPH.items() if shutil.which(command) is None]
    if not missing:
        return
    message = f"no S3 gateway to test against: apt install {' '.join(missing)}"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


@contextmanager
def ceph(folder: Path) -> Iterator[Server]:
    """One node of Ceph in memory with its S3 gateway: a monitor, a store, no authentication between them."""
    node = _Node(folder)
    try:
        yield node.start()
    finally:
        node.stop()


class _Node:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._environ = {**os.environ, "CEPH_CONF": str(folder / "ceph.conf")}
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self) -> Server:
        folder, monitor, gateway, identity = self._folder, free_port(), free_port(), str(uuid.uuid4())
        for name in ("mon", "osd", "rgw"):
            (folder / name).mkdir(parents=True)
        (folder / "ceph.conf").write_text(_ceph_settings(folder, identity, monitor, gateway))
        table, disk = str(folder / "monmap"), str(uuid.uuid4())
        run, serve = self._run, self._serve
        run("monmaptool", "--create", "--clobber", "--addv", "a", f"v1:127.0.0.1:{monitor}", "--fsid", identity, table)
        run("ceph-mon", "--mkfs", "-i", "a", "--monmap", table)
        serve("ceph-mon", "-f", "-i", "a")
        run("ceph", "osd", "new", disk)
        run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", disk)
        self._serve_disk()
        run(
            "radosgw-admin", "-n", "client.rgw", "user", "create", "--uid=test", "--display-name=test",
            f"--access-key={ACCESS}", f"--secret-key={SECRET}",
        )  # fmt: skip
        serve("radosgw", "-f", "-n", "client.rgw")
        server = Server(f"127.0.0.1:{gateway}")
        _wait_for(server.client().list_buckets)
        return server

    def _serve_disk(self) -> None:
        """The object server; one that asks a monitor in its first second may be told "wrong fsid", and ends."""
        disk = self._serve("ceph-osd", "-f", "-i", "0")
        end = time.monotonic() + 60
        while b'"num_up_osds":1' not in self._run("ceph", "osd", "stat", "-f", "json").stdout:
            if time.monotonic() > end:
                raise subprocess.TimeoutExpired("ceph-osd", 60)
            if disk.poll() is not None:
                disk = self._serve("ceph-osd", "-f", "-i", "0")
            time.sleep(0.3)

    def stop(self) -> None:
        for process in reversed(self._processes):
            process.kill()
            process.wait()

    def _run(self, *words: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(words, env=self._environ, check=True, timeout=60, capture_output=True)

    def _serve(self, *words: str) -> subprocess.Popen[bytes]:
        with (self._folder / f"{words[0]}.out").open("ab") as output:
            self._processes.append(subprocess.Popen(words, env=self._environ, stdout=output, stderr=subprocess.STDOUT))
        return self._processes[-1]


def _wait_for(ask: Callable[[], object], seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with suppress(BotoCoreError, ClientError):
            ask()
            return
        time.sleep(0.2)
    ask()


def _ceph_settings(folder: Path, identity: str, monitor: int, gateway: int) -> str:
    return f"""[global]
fsid = {identity}
mon host = v1:127.0.0.1:{monitor}
mon initial members = a
auth cluster required = none
auth service required = none
auth client required = none
ms bind msgr2 = false
run dir = {folder}
admin socket = {folder}/$name.$pid.asok
log file = {folder}/$name.log
osd objectstore = memstore
memstore device bytes = 2147483648
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pgp num = 1
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
mon warn on pool no redundancy = false
mon max pg per osd = 1000
[mon.a]
mon data = {folder}/mon
mon addr = 127.0.0.1:{monitor}
mon cluster log file = {folder}/cluster.log
[osd.0]
osd data = {folder}/osd
public addr = 127.0.0.1
cluster addr = 127.0.0.1
[client.rgw]
rgw frontends = beast endpoint=127.0.0.1:{gateway}
rgw data = {folder}/rgw
keyring = /dev/null
"""
