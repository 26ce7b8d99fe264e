"""One node of Ceph in memory with its S3 gateway: what real servers are like. It starts once for all tests that need it."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.missing import missing
from tests.support.s3_servers import S3Server, await_answer, free_port

ACCESS, SECRET = "AKTEST", "SKTEST"
CEPH = {"ceph-mon": "ceph-mon", "ceph-osd": "ceph-osd", "ceph": "ceph-common", "radosgw": "radosgw"}
"""What a gateway needs: command and Debian's package."""


@pytest.fixture(scope="session")
def ceph_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    lacking = [package for command, package in CEPH.items() if shutil.which(command) is None]
    if lacking:
        missing("Ceph", f"apt install {' '.join(lacking)}")
    with ceph(tmp_path_factory.mktemp("ceph")) as server:
        yield server


@contextmanager
def ceph(folder: Path) -> Iterator[S3Server]:
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

    def start(self) -> S3Server:
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
        server = S3Server(f"http://127.0.0.1:{gateway}", "ceph", ACCESS, SECRET)
        await_answer(server.endpoint, folder / "radosgw.out", self._processes[-1])
        return server

    def _serve_disk(self) -> None:
        """The object server; one that asks a monitor in its first second may be told "wrong fsid", and ends."""
        disk = self._serve("ceph-osd", "-f", "-i", "0")
        end = time.monotonic() + 60
        # The monitor itself may have no answer yet on a busy machine.
        while b'"num_up_osds":1' not in self._run("ceph", "osd", "stat", "-f", "json", check=False).stdout:
            if time.monotonic() > end:
                raise subprocess.TimeoutExpired("ceph-osd", 60)
            if disk.poll() is not None:
                disk = self._serve("ceph-osd", "-f", "-i", "0")
            time.sleep(0.3)

    def stop(self) -> None:
        for process in reversed(self._processes):
            process.kill()
            process.wait()

    def _run(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(words, env=self._environ, check=check, timeout=60, capture_output=True)

    def _serve(self, *words: str) -> subprocess.Popen[bytes]:
        with (self._folder / f"{words[0]}.out").open("ab") as output:
            self._processes.append(subprocess.Popen(words, env=self._environ, stdout=output, stderr=subprocess.STDOUT))
        return self._processes[-1]


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
