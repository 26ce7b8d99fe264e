"""What commands send to a bucket: each request costs money and a round trip."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from dedupstore.clock import SystemClock
from dedupstore.repo.repository import Repository
from dedupstore.repo.slots import Secret
from dedupstore.storage.base import requests_of
from dedupstore.storage.registry import open_store
from dedupstore.storage.s3 import client_for
from dedupstore.storage.s3_location import parse_location
from dedupstore.types import SnapshotId
from tests.support.dedup import PASSPHRASE, Dedup, Run, read_tree
from tests.support.repositories import random_bytes
from tests.support.s3_servers import S3Server, use

SNAPSHOT, LIST, RESTORE, RESTORE_MANY = 19, 9, 12, 42
"""Requests for a snapshot of unchanged files, for the list of snapshots, for one small file: whatever there is already.
And at most for 4 000 files of 16 KB that do not compress; asking for each block alone takes 56, and this some 35."""


@pytest.fixture
def url(moto_server: S3Server) -> str:
    return moto_server.url(moto_server.bucket(), "backup")


@pytest.fixture
def remote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moto_server: S3Server, url: str) -> Dedup:
    """The command with an empty repository in a bucket of its own."""
    use(moto_server, monkeypatch)
    made = Dedup(tmp_path, monkeypatch)
    made.setenv("DEDUP_REPO", url)
    return made.init()


class Counter:
    """The command; how many requests each call has sent."""

    def __init__(self, remote: Dedup, url: str) -> None:
        self._remote = remote
        self._store = open_store(url)

    def __call__(self, *arguments: str | Path) -> int:
        before = self._total()
        self.last: Run = self._remote.ok(*arguments)
        return self._total() - before

    def _total(self) -> int:
        return sum(requests_of(self._store).values())


def by_another_machine(url: str, count: int) -> None:
    """So many more snapshots of the same files."""
    secret = Secret.passphrase(PASSPHRASE)
    with Repository.open(open_store(url), secret, clock=SystemClock(), cache_path=None, allow_weak=True) as repository:
        catalog = repository.catalog
        (*_, newest) = catalog.snapshots().snapshots
        for number in range(count):
            other = replace(newest, id=SnapshotId(number.to_bytes(16)), host="other")
            catalog.put_commit(other.id, catalog.put_root(other), newest.end_ns)


def test_commands_cost_the_same_whatever_number_of_snapshots_there_are(remote: Dedup, site: Path, url: str) -> None:
    sent = Counter(remote, url)
    remote.snapshot(site)
    with_one = sent("snapshot", site), sent("snapshots"), sent("restore", "--to", "a", "site/index.html")
    by_another_machine(url, 30)

    learning = sent("snapshots")
    with_thirty = sent("snapshot", site), sent("snapshots"), sent("restore", "--to", "b", "site/index.html")

    assert with_one == with_thirty == (SNAPSHOT, LIST, RESTORE)
    assert learning == LIST + 60
    assert read_tree(remote.home / "b") == {"site/index.html": read_tree(site)["index.html"]}
    remote.ok("check")


def test_a_snapshot_says_how_many_requests_it_took(remote: Dedup, site: Path, url: str) -> None:
    sent = Counter(remote, url)
    remote.snapshot(site)

    total = sent("snapshot", "--json", site)
    told = sent.last.summary["requests"]
    shown = remote.ok("snapshot", "-v", site)

    assert told.pop("total") == sum(told.values()) == total == SNAPSHOT
    assert told["put"] == 2
    assert f"requests {SNAPSHOT}: " in shown.err
    sources = "".join(f'[sources.{name}]\ntype = "files"\npaths = ["{site}"]\n' for name in ("a", "b"))
    (remote.home / "c.toml").write_text(f"version = 1\n{sources}")
    run = sent("snapshot", "-c", "c.toml", "--json")
    assert sent.last.summary["requests"]["total"] == run > SNAPSHOT
    assert remote.ok("snapshot", "--init", "-r", "local", "--json", site).summary["requests"] is None
    remote.ok("check")


def test_an_increment_of_a_dump_reads_no_pack_of_contents(remote: Dedup, url: str) -> None:
    lines = [b"%06d a row of the table, as it was dumped\n" % number for number in range(20_000)]
    dump = remote.home / "dump.sql"
    dump.write_bytes(b"".join(lines))
    first = remote.ok("snapshot", "--json", dump).summary["bytes"]["stored"]
    # The one of this process, which the command uses as well.
    client = client_for(parse_location(url))

    def of_contents(at: int) -> list[str]:
        """What is asked about packs of contents for a snapshot of the dump with other rows there."""
        asked: list[str] = []
        lines[at : at + 10] = [b"another row of %d\n" % at] * 7
        dump.write_bytes(b"".join(lines))
        client.on_sending = lambda request: asked.append(f"{request.method} {request.url}")
        assert remote.ok("snapshot", "--json", dump).summary["bytes"]["stored"] < first
        client.on_sending = lambda request: None
        return [line.partition(" ")[0] for line in asked if re.search(r"/packs/../[0-9a-f]{64}\.d", line)]

    with_cache = of_contents(10_000)
    for path in (remote.home / "cache").glob("*-packs/*"):
        path.unlink()

    assert with_cache == ["PUT"]
    assert set(of_contents(5_000)) == {"GET", "PUT"}
    remote.ok("check", "--read-data")


@pytest.mark.slow
def test_thousands_of_small_files_come_back_by_few_requests(remote: Dedup, url: str) -> None:
    tree = remote.home / "tree"
    for number in range(4000):
        path = tree / f"{number % 40:02d}" / f"{number:04d}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(random_bytes(str(number), 16_000))
    sent = Counter(remote, url)
    remote.snapshot(tree)
    shutil.rmtree(remote.home / "cache")

    requests = sent("restore", "--to", "back")

    assert requests <= RESTORE_MANY
    assert read_tree(remote.home / "back/tree") == read_tree(tree)
    remote.ok("check")
