"""Bad days of networks and servers: what a command does when a request fails in each way, on its way and back."""

from __future__ import annotations

import itertools
import os
import resource
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from _pytest.mark import ParameterSet

from dedupstore.storage import s3_client
from tests.support.certificates import self_signed
from tests.support.dedup import Dedup, read_tree
from tests.support.s3_proxy import Fault, Proxy, Request, before
from tests.support.s3_servers import S3Server, use, without_long_waits

PRUNE = ("prune", "--grace", "0", "--undo-window", "0", "--yes")
PASSING = (Fault.SILENCE, Fault.RESET, Fault.LOST_ANSWER, Fault.SLOW_DOWN, Fault.CUT, Fault.DRIP)
"""What may be over with the next try."""


@pytest.fixture
def proxy(moto_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """Before a server in memory; clients lose patience soon."""
    use(moto_server, monkeypatch)
    # Less than an answer takes that drips: it is silence that is not borne, not slowness.
    monkeypatch.setattr(s3_client, "READ_SECONDS", 0.15)
    without_long_waits(monkeypatch)
    with before(moto_server) as running:
        yield running


@pytest.fixture
def remote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moto_server: S3Server, proxy: Proxy) -> Dedup:
    """The command with an empty repository in a bucket of its own, behind the proxy."""
    made = Dedup(tmp_path, monkeypatch)
    made.setenv("DEDUP_REPO", proxy.server.url(moto_server.bucket(), "backup"))
    return made.init()


def every(count: int, fault: Fault, *verbs: str) -> Callable[[Request], Fault | None]:
    """Strikes each `count`-th request; with `verbs` only among those."""
    met = itertools.count(1)

    def choose(request: Request) -> Fault | None:
        if verbs and request.verb not in verbs:
            return None
        return fault if next(met) % count == 0 else None

    return choose


def scenario(remote: Dedup, site: Path) -> None:
    """Everything that reads and writes, one after the other; all of it has to succeed."""
    first = remote.snapshot(site)
    (site / "uploads/b.bin").write_bytes(os.urandom(50_000))
    remote.snapshot(site)
    expected = read_tree(site)
    # What this machine keeps would spare it requests.
    shutil.rmtree(remote.home / "cache")
    remote.ok("restore", "--to", "back")
    remote.ok("check", "--read-data")
    remote.ok("forget", "--snapshot", first, "--yes")
    remote.ok(*PRUNE)
    assert read_tree(remote.home / "back/site") == expected


def turns(*faults: Fault) -> Callable[[Request], Fault | None]:
    """Strikes each fifth request, each time in another way."""
    met, chosen = itertools.count(1), itertools.cycle(faults)
    return lambda request: None if next(met) % 5 else next(chosen)


def slow(choose: Callable[[Request], Fault | None], name: str) -> ParameterSet:
    return pytest.param(choose, marks=pytest.mark.slow, id=name)


@pytest.mark.parametrize(
    "choose",
    [
        pytest.param(turns(*PASSING), id="one of each in turn"),
        slow(every(4, Fault.RESET), "reset"),
        slow(every(4, Fault.LOST_ANSWER), "lost answer"),
        slow(every(3, Fault.SLOW_DOWN), "slow down"),
        slow(every(3, Fault.CUT, "GET"), "cut"),
        slow(every(5, Fault.DRIP, "GET"), "drip"),
        slow(every(30, Fault.SILENCE), "silence"),
    ],
)
def test_what_passes_is_survived_and_leaves_the_repository_sound(
    remote: Dedup, site: Path, proxy: Proxy, choose: Callable[[Request], Fault | None]
) -> None:
    proxy.choose = choose
    scenario(remote, site)
    struck = proxy.faults
    proxy.choose = lambda request: None

    assert struck > 5
    remote.ok("check", "--read-data")
    shutil.rmtree(remote.home / "cache")
    shutil.rmtree(remote.home / "back")
    remote.ok("restore", "--to", "back")
    assert read_tree(remote.home / "back/site") == read_tree(site)


@pytest.mark.slow
@pytest.mark.parametrize("fault", [Fault.RESET, Fault.SLOW_DOWN, Fault.SILENCE, Fault.CUT])
def test_what_does_not_pass_is_an_error_after_so_many_tries_and_nothing_is_spoiled(
    remote: Dedup, site: Path, proxy: Proxy, fault: Fault
) -> None:
    remote.snapshot(site)
    kept = read_tree(site)
    (site / "uploads/a.txt").write_text("never stored\n")

    def gone(request: Request) -> Fault | None:
        """From the first request for a pack on nothing is answered; or, of what breaks off, no pack."""
        nonlocal over
        asked = "/packs/" in request.path and "prefix" not in request.path
        over = over or (asked and fault is not Fault.CUT)
        return fault if over or (asked and request.verb == "GET") else None

    over = False
    runs = []
    for command in (["restore", "--to", "back"], ["check", "--read-data"], ["snapshot", site]):
        shutil.rmtree(remote.home / "cache")
        over, proxy.choose = False, gone
        runs.append(remote(*command))
        proxy.choose = lambda request: None

    # A server that answers for everything but one object has lost that; one that does not answer has said nothing.
    assert [run.exit_code for run in runs] == ([7, 4, 7] if fault is Fault.CUT else [7, 7, 7])
    assert "tried 6 times" in runs[0].err
    assert len(remote.ok("snapshots", "--json").document["snapshots"]) == 1
    remote.ok("restore", "--to", "again")
    assert read_tree(remote.home / "again/site") == kept
    remote.ok("snapshot", site)
    remote.ok("check", "--read-data")


@pytest.mark.slow
def test_wrong_bytes_are_never_restored_and_not_taken_for_damage_when_a_second_look_is_good(
    remote: Dedup, site: Path, proxy: Proxy
) -> None:
    remote.snapshot(site)
    shutil.rmtree(remote.home / "cache")

    def flip(request: Request) -> Fault | None:
        return Fault.FLIPPED if request.verb == "GET" and "/packs/" in request.path else None

    proxy.choose = flip
    spoiled = remote("restore", "--to", "back")
    damaged = remote("check", "--read-data")
    met: set[str] = set()

    def flip_once(request: Request) -> Fault | None:
        if request.path in met or flip(request) is None:
            return None
        met.add(request.path)
        return Fault.FLIPPED

    proxy.choose = flip_once
    once = remote("check", "--read-data")
    proxy.choose = lambda request: None

    assert spoiled.exit_code == damaged.exit_code == 4
    good = read_tree(site)
    restored = read_tree(remote.home / "back") if (remote.home / "back").exists() else {}
    assert all(content == good[name.removeprefix("site/")] for name, content in restored.items())
    assert met and once.exit_code in (0, 3)
    remote.ok("check", "--read-data")


@pytest.mark.parametrize(
    "fault", [Fault.ENDLESS, *(pytest.param(fault, marks=pytest.mark.slow) for fault in (Fault.PAGE, Fault.NO_RANGE))]
)
def test_answers_that_make_no_sense_are_told_as_trouble_with_the_server_and_not_believed(
    remote: Dedup, site: Path, proxy: Proxy, fault: Fault
) -> None:
    remote.snapshot(site)
    shutil.rmtree(remote.home / "cache")
    usage = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    proxy.choose = lambda request: fault if request.verb == "GET" else None
    listed, restored = remote("snapshots"), remote("restore", "--to", "back")
    proxy.choose = lambda request: None

    # A page is what the server says the object is: that it is none of ours shows at once.
    expected = 4 if fault is Fault.PAGE else 7
    assert (restored.exit_code, restored.code.split(".")[0]) == (expected, "repo" if expected == 4 else "store")
    if fault is not Fault.NO_RANGE:
        assert (listed.exit_code, listed.code) == (expected, restored.code)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - usage < 64 << 10, "memory stays flat"
    remote.ok("check", "--read-data")


def test_a_page_in_the_place_of_a_listing_is_no_empty_repository(remote: Dedup, site: Path, proxy: Proxy) -> None:
    remote.snapshot(site)

    proxy.choose = lambda request: Fault.PAGE if "list-type" in request.path else None
    runs = [remote("snapshots"), remote("snapshot", site), remote(*PRUNE)]
    proxy.choose = lambda request: None

    for run in runs:
        assert (run.exit_code, run.code) == (7, "store.incomplete_listing")
    remote.ok("check", "--read-data")


def test_clocks_that_differ_have_an_error_of_their_own(remote: Dedup, proxy: Proxy) -> None:
    proxy.choose = lambda request: Fault.SKEWED
    asked = len(proxy.requests)
    run = remote("snapshots")
    tries = len(proxy.requests) - asked
    proxy.choose = lambda request: None

    assert (run.exit_code, run.code) == (7, "store.clock")
    assert "clock" in run.err and "timedatectl" in run.err
    assert tries <= 2, "it is not tried again: it does not pass"
    remote.ok("check")


def test_a_certificate_of_ones_own_is_refused_until_its_authority_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moto_server: S3Server, site: Path
) -> None:
    use(moto_server, monkeypatch)
    without_long_waits(monkeypatch)
    remote = Dedup(tmp_path, monkeypatch)
    files = self_signed(tmp_path)
    with before(moto_server, tls=files) as secure:
        url = secure.server.url(moto_server.bucket(), "backup")
        remote.setenv("DEDUP_REPO", url)
        refused = remote("init", "--insecure-test-kdf")
        asked = len(secure.requests)
        remote.setenv("AWS_CA_BUNDLE", str(files[0]))
        # Another URL of the same place: this process has made a client for the first already.
        remote.setenv("DEDUP_REPO", f"{url}&region=eu-1")
        remote.init()
        remote.ok("snapshot", site)
        remote.ok("check")
        remote.setenv("AWS_CA_BUNDLE", None)
        folder = tmp_path / "aws"
        folder.write_text(f"[default]\nca_bundle = {files[0]}\n")
        remote.setenv("AWS_CONFIG_FILE", str(folder))
        remote.setenv("DEDUP_REPO", f"{url}&region=eu-2")
        remote.ok("check")

    assert (refused.exit_code, refused.code) == (7, "store.tls")
    assert "export AWS_CA_BUNDLE=" in refused.err
    assert asked == 0, "nothing was said to a server that is not trusted"


@pytest.mark.slow
def test_proxies_of_the_environment_are_heeded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moto_server: S3Server, site: Path
) -> None:
    use(moto_server, monkeypatch)
    remote = Dedup(tmp_path, monkeypatch)
    files = self_signed(tmp_path)
    for name in ("http_proxy", "https_proxy", "no_proxy", "NO_PROXY", "all_proxy", "ALL_PROXY"):
        remote.setenv(name, None)
    with before(moto_server) as proxy, before(moto_server, tls=files) as secure:
        remote.setenv("HTTP_PROXY", proxy.server.endpoint)
        remote.setenv("DEDUP_REPO", moto_server.url(moto_server.bucket(), "through-a-proxy"))
        remote.init()
        remote.ok("snapshot", site)
        plain = len(proxy.requests)
        remote.ok("check")

        remote.setenv("HTTPS_PROXY", proxy.server.endpoint)
        remote.setenv("AWS_CA_BUNDLE", str(files[0]))
        remote.setenv("DEDUP_REPO", secure.server.url(moto_server.bucket(), "through-a-tunnel"))
        remote.init()
        remote.ok("check")

        before_that = len(proxy.requests), proxy.tunnels
        remote.setenv("NO_PROXY", "127.0.0.1")
        remote.setenv("DEDUP_REPO", f"{secure.server.url(moto_server.bucket(), 'past-it')}&region=eu-1")
        remote.init()
        remote.ok("check")
        after_that = len(proxy.requests), proxy.tunnels

    assert plain > 20
    assert proxy.tunnels > 0 and secure.requests
    assert after_that == before_that
