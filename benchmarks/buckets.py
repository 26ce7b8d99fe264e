"""Repositories in a bucket of a real server that is 20 ms away."""

from __future__ import annotations

import itertools
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.data import Bench, DataSet
from benchmarks.subject import Further, Subject
from benchmarks.tools import Bucket, Place
from tests.support.ceph import ceph
from tests.support.s3_servers import S3Server

ROUND_TRIP_MILLISECONDS = 20


class InBucket(Subject):
    """Files, and repositories that all tools reach through one and the same detour."""

    def __init__(self, bench: Bench, data: DataSet, server: S3Server, endpoint: str, log: Path) -> None:
        super().__init__(bench, data)
        self._server = server
        self._endpoint = endpoint
        self._log = log
        self._numbers = itertools.count()

    def place(self, root: Path) -> Place:
        bucket = Bucket(
            endpoint=self._endpoint,
            name=self._server.bucket(),
            prefix=f"{root.name}-{next(self._numbers)}",
            access=self._server.access,
            secret=self._server.secret,
        )
        place = Place(root=root, bucket=bucket)
        place.clear()
        return place

    def remove(self, place: Place) -> None:
        assert place.bucket is not None
        client = self._server.client()
        for key, _ in self._objects(place.bucket):
            client.delete_object(Bucket=place.bucket.name, Key=key)
        super().remove(place)

    def stored_bytes(self, place: Place) -> int:
        assert place.bucket is not None
        return sum(length for _, length in self._objects(place.bucket))

    def _objects(self, bucket: Bucket) -> Iterator[tuple[str, int]]:
        """Keys and lengths, asked for without the detour."""
        for page in self._server.client().get_paginator("list_objects_v2").paginate(Bucket=bucket.name):
            for found in page.get("Contents", ()):
                yield found["Key"], found["Size"]

    @contextmanager
    def watch(self) -> Iterator[Further]:
        further = Further()
        before = self._requests()
        yield further
        further.requests = self._requests() - before

    def _requests(self) -> int:
        return self._log.read_bytes().count(b"\n")


@contextmanager
def in_bucket(bench: Bench, data: DataSet) -> Iterator[Subject]:
    """Ceph's gateway, and the detour to it. `requests` in its folder tells what was asked of it."""
    folder = bench.work / "run" / "ceph"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with ceph(folder) as server, _distance(server, folder / "requests") as endpoint:
        yield InBucket(bench, data, server, endpoint, folder / "requests")


@contextmanager
def _distance(server: S3Server, log: Path) -> Iterator[str]:
    log.touch()
    program = str(Path(__file__).with_name("distance.py"))
    port = str(urlsplit(server.endpoint).port)
    argv = (sys.executable, "-I", program, port, str(ROUND_TRIP_MILLISECONDS), str(log))
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
        finally:
            process.kill()
