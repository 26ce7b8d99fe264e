"""The first minutes: no repository yet, a passphrase to choose, one to mistype, a kit to keep."""

from __future__ import annotations

import re
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from dedupstore.clock import SystemClock
from dedupstore.repo.config import put_config
from dedupstore.repo.repository import Repository
from dedupstore.repo.slots import Secret
from dedupstore.storage.registry import open_store
from tests.support.dedup import COMMAND, PASSPHRASE, Dedup
from tests.support.terminal import Terminal


@pytest.fixture
def newcomer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, site: Path) -> Dedup:
    """Someone without a repository."""
    return Dedup(tmp_path, monkeypatch)


def on_terminal(dedup: Dedup, *arguments: str, passphrase: str = "") -> Terminal:
    environment = dedup.process_environment()
    del environment["DEDUP_PASSPHRASE"]
    if passphrase:
        environment["DEDUP_PASSPHRASE"] = passphrase
    return Terminal([*COMMAND, *arguments], cwd=dedup.home, env=environment | {"TERM": "xterm"})


def test_the_first_snapshot_offers_to_create_the_repository(newcomer: Dedup) -> None:
    with on_terminal(newcomer, "snapshot", "site") as terminal:
        terminal.wait_for("No repository at ")
        terminal.wait_for("Create an encrypted one here? [Y/n]")
        terminal.type("\n")
        terminal.wait_for("New passphrase (empty = generate one)")
        terminal.type(f"{PASSPHRASE}\n")
        terminal.wait_for("The same again")
        terminal.type(f"{PASSPHRASE}x\n")
        terminal.wait_for("the two differ")
        terminal.wait_for("New passphrase")
        terminal.type(f"{PASSPHRASE}\n")
        terminal.wait_for("The same again")
        terminal.type(f"{PASSPHRASE}\n")

        assert terminal.end() == 0, terminal.screen

    assert PASSPHRASE not in terminal.screen
    configuration = newcomer.home / ".config" / "dedup" / "config.toml"
    assert configuration.read_text() == f'default_repo = "main"\n\n[repos.main]\nurl = "{newcomer.repository}"\n'
    assert stat.S_IMODE(configuration.stat().st_mode) == 0o600
    assert f"default  repository written to {configuration}" in terminal.screen
    newcomer.setenv("DEDUP_REPO", None)
    for said in ("created  repository", "saved    recovery kit to ./dedup-recovery-", "next: dedup restore"):
        assert said in terminal.screen
    (kit,) = newcomer.home.glob("dedup-recovery-*.txt")
    assert stat.S_IMODE(kit.stat().st_mode) == 0o600
    assert len(newcomer.ok("snapshots", "--json").document["snapshots"]) == 1


def test_a_generated_passphrase_opens_the_repository(newcomer: Dedup) -> None:
    with on_terminal(newcomer, "init") as terminal:
        terminal.wait_for("New passphrase (empty = generate one)")
        terminal.type("\n")
        assert terminal.end() == 0, terminal.screen

    match = re.search(r"passphrase  (\S+)", terminal.screen)
    assert match is not None
    newcomer.setenv("DEDUP_PASSPHRASE", match[1])
    newcomer.ok("snapshots")


def test_who_says_no_gets_no_repository(newcomer: Dedup) -> None:
    with on_terminal(newcomer, "snapshot", "site") as terminal:
        terminal.wait_for("[Y/n]")
        terminal.type("n\n")

        assert terminal.end() == 10

    assert not newcomer.repository.exists()


def test_a_mistyped_passphrase_may_be_typed_again(dedup: Dedup) -> None:
    with on_terminal(dedup, "snapshots") as terminal:
        for typed in ("wrong", "wrong again", PASSPHRASE):
            terminal.wait_for("Passphrase")
            terminal.type(f"{typed}\n")
        assert terminal.end() == 0, terminal.screen

    with on_terminal(dedup, "snapshots") as terminal:
        for _ in range(3):
            terminal.wait_for("Passphrase")
            terminal.type("wrong\n")
        assert terminal.end() == 12
        assert "repo.wrong_passphrase" in terminal.screen


def test_nobody_is_asked_for_a_passphrase_where_there_is_no_repository(newcomer: Dedup) -> None:
    with on_terminal(newcomer, "snapshots") as terminal:
        assert terminal.end() == 10

    assert "Passphrase" not in terminal.screen


def test_a_plan_that_replaces_something_is_asked_about(dedup: Dedup, site: Path) -> None:
    dedup.snapshot(site)
    for answer, content in (("n", "newer"), ("y", "<h1>hello</h1>\n")):
        (site / "index.html").write_text("newer")
        with on_terminal(dedup, "restore", "--in-place", passphrase=PASSPHRASE) as terminal:
            terminal.wait_for("1 replaced")
            terminal.wait_for("Change where it came from like this? [y/N]")
            terminal.type(f"{answer}\n")
            assert terminal.end() == (0 if answer == "y" else 8), terminal.screen

        assert (site / "index.html").read_text() == content


def test_a_script_says_init(newcomer: Dedup) -> None:
    asked = newcomer("snapshot", "site")
    assert (asked.exit_code, asked.code) == (10, "repo.not_found")
    assert "dedup snapshot --init" in asked.err

    newcomer.setenv("DEDUP_PASSPHRASE", None)
    assert newcomer("snapshot", "site", "--init").code == "usage.no_passphrase"
    assert not newcomer.repository.exists()

    newcomer.setenv("DEDUP_PASSPHRASE", PASSPHRASE)
    assert not (newcomer.home / ".config").exists()
    run = newcomer.ok("snapshot", "site", "--init", "--json")
    assert [event["event"] for event in run.events if event["event"] == "created"] == ["created"]
    newcomer.ok("snapshot", "site", "--init")
    assert not (newcomer.home / ".config").exists()
    assert len(newcomer.ok("snapshots", "--json").document["snapshots"]) == 2


def test_a_repository_is_only_made_in_an_empty_place(dedup: Dedup, site: Path) -> None:
    assert dedup("init").exit_code != 0
    run = dedup("snapshot", site, "--init", "-r", site)
    assert run.exit_code == 8, run.err
    assert (site / "index.html").exists()


def test_a_kit_is_never_written_over_a_file(newcomer: Dedup, monkeypatch: pytest.MonkeyPatch) -> None:
    newcomer.init()
    (kit,) = newcomer.home.glob("dedup-recovery-*.txt")
    before = kit.read_text()

    newcomer.ok("init", "-r", newcomer.home / "second", "--insecure-test-kdf")

    assert kit.read_text() == before
    assert len(list(newcomer.home.glob("dedup-recovery-*.txt"))) == 2


@pytest.mark.parametrize("arguments", [["--chunk-size", "5000"], ["--chunk-size", "big"], ["--kdf", "none"]])
def test_parameters_that_make_no_sense_make_no_repository(newcomer: Dedup, arguments: list[str]) -> None:
    assert newcomer("init", *arguments).exit_code == 2
    assert not newcomer.repository.exists()


@pytest.mark.parametrize("size", ["513MiB", "4GiB"])
def test_a_pack_size_that_no_pack_can_have_is_refused_before_anything_is_made(dedup: Dedup, size: str) -> None:
    dedup.setenv("DEDUP_REPO", str(dedup.home / "other"))

    run = dedup("init", "--insecure-test-kdf", "--pack-size", size)

    assert (run.exit_code, run.code) == (2, "usage")
    assert not (dedup.home / "other").exists()


def test_a_repository_whose_config_lacks_its_chunker_is_read_and_described(dedup: Dedup, site: Path) -> None:
    dedup.snapshot(site)
    with Repository.open(
        open_store(str(dedup.repository)), Secret.passphrase(PASSPHRASE), clock=SystemClock(), cache_path=None,
        allow_weak=True,
    ) as repository:  # fmt: skip
        bent = replace(repository.config, chunker={}, pack_bytes=1 << 63)
        put_config(repository.store, repository.keyring, bent, number=2)

    dedup.ok("repo", "info")
    dedup.ok("restore", "--to", "restored")

    assert dedup("snapshot", site).exit_code in (2, 4)
