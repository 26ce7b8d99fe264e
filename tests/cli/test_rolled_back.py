"""A storage that shows an older state, leaves snapshots out or is another one: noticed, and never acted upon."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from tests.support.dedup import Dedup, read_tree

REMOVING = (("forget", "--keep-last", "1", "--yes"), ("prune", "--grace", "0"))


@pytest.fixture
def history(dedup: Dedup, site: Path) -> Dedup:
    """Two snapshots; what the storage was after the first is beside it."""
    dedup.snapshot(site)
    shutil.copytree(dedup.repository, dedup.home / "yesterday")
    (site / "index.html").write_text("<h1>today</h1>\n")
    dedup.snapshot(site)
    return dedup


def put_back(dedup: Dedup, name: str = "yesterday") -> None:
    """The storage becomes what it was, by no command of ours."""
    shutil.rmtree(dedup.repository)
    shutil.copytree(dedup.home / name, dedup.repository)


def stored(dedup: Dedup) -> dict[str, bytes]:
    return read_tree(dedup.repository)


def on_another_machine(dedup: Dedup, *arguments: str) -> None:
    """The same user, with a cache and a state of their own."""
    for name in ("CACHE", "STATE"):
        dedup.setenv(f"DEDUP_{name}_DIR", str(dedup.home / f"other {name}"))
    dedup.ok(*arguments)
    for name in ("CACHE", "STATE"):
        dedup.setenv(f"DEDUP_{name}_DIR", str(dedup.home / name.lower()))


def test_an_older_state_is_noticed_by_every_command_that_lists(history: Dedup, site: Path) -> None:
    put_back(history)

    listed = history("snapshots")
    checked = history("check")
    taken = history("snapshot", str(site))

    assert listed.exit_code == 4 and "older state" in listed.err and "dedup repo trust" in listed.err
    assert (checked.exit_code, checked.code) == (4, "repo.rolled_back") and "repair index" not in checked.err
    assert f"dedup repo trust -r {history.repository}" in checked.err
    assert "repo.rolled_back" in history("check", "--json").out
    assert taken.exit_code == 3 and "1 snapshot" in taken.err
    assert history("restore", "--to", "restored").exit_code == 0
    assert (history.home / "restored/site/index.html").read_text() == "<h1>today</h1>\n"


@pytest.mark.parametrize("command", REMOVING, ids=lambda command: command[0])
def test_nothing_is_removed_by_an_older_state(history: Dedup, command: tuple[str, ...]) -> None:
    put_back(history)
    before = stored(history)

    run = history(*command)

    assert (run.exit_code, run.code) == (8, "repo.rolled_back")
    assert stored(history) == before


@pytest.mark.parametrize("command", REMOVING, ids=lambda command: command[0])
def test_nothing_is_removed_while_one_snapshot_is_withheld(history: Dedup, command: tuple[str, ...]) -> None:
    newest = max(history.repository.glob("commits/[0-9a-y]*"), key=lambda path: path.stat().st_mtime_ns)
    newest.unlink()
    before = stored(history)

    assert history(*command).code == "repo.rolled_back"
    assert stored(history) == before
    assert history("snapshots", "--json").exit_code == 4


def test_a_root_that_is_withheld_stops_a_prune(history: Dedup) -> None:
    for name in ("commits", "roots"):
        newest = max(history.repository.glob(f"{name}/[0-9a-y]*"), key=lambda path: path.stat().st_mtime_ns)
        newest.unlink()

    assert history("prune", "--grace", "0", "--dry-run").code == "repo.rolled_back"


def test_a_forged_forget_marker_explains_nothing(history: Dedup) -> None:
    newest = max(history.repository.glob("commits/[0-9a-y]*"), key=lambda path: path.stat().st_mtime_ns)
    root = history.repository / "roots" / newest.name
    newest.rename(history.repository / "forgotten" / newest.name)

    assert history("prune", "--grace", "0").code == "repo.rolled_back"
    shutil.copy(root, history.repository / "forgotten" / newest.name)
    assert history("prune", "--grace", "0").code == "repo.rolled_back"


def test_what_another_machine_forgot_is_not_withheld(history: Dedup, site: Path) -> None:
    on_another_machine(history, "forget", "--keep-last", "1", "--yes")

    run = history.ok("snapshots")

    assert "older" not in run.err
    history.ok("prune", "--grace", "0")
    history.ok("check", "--read-data")


def test_what_another_machine_forgot_and_pruned_is_not_withheld(history: Dedup, site: Path) -> None:
    on_another_machine(history, "forget", "--keep-last", "1", "--yes")
    on_another_machine(history, "prune", "--grace", "0", "--undo-window", "0")
    assert list(history.repository.glob("forgotten/[0-9a-y]*")) == []

    for command in (("snapshots",), ("check", "--read-data"), ("prune", "--grace", "0"), ("snapshot", str(site))):
        assert "older" not in history.ok(*command).err


def test_a_state_in_which_forgotten_snapshots_are_back_is_noticed(history: Dedup) -> None:
    shutil.copytree(history.repository, history.home / "before")
    history.ok("forget", "--keep-last", "1", "--yes")
    history.ok("snapshots")
    put_back(history, "before")

    run = history("prune", "--grace", "0")

    assert run.code == "repo.rolled_back" and "there again" in run.err


def test_a_repository_that_was_put_back_on_purpose_is_trusted_once_and_watched_again(
    history: Dedup, site: Path
) -> None:
    put_back(history)
    assert history("repo", "trust").code == "usage.no_input"

    document = history.ok("repo", "trust", "--yes", "--json").document

    assert (document["snapshots"], len(document["missing"]), document["returned"]) == (1, 1, [])
    assert "older" not in history.ok("snapshots").err
    history.ok("prune", "--grace", "0")
    history.snapshot(site)
    put_back(history)
    assert history("prune").code == "repo.rolled_back"
    assert "missing  1 snapshot" in history.ok("repo", "trust", "--yes").out
    history.ok("check", "--read-data")


def test_older_keys_are_not_used(dedup: Dedup, site: Path) -> None:
    dedup.snapshot(site)
    shutil.copytree(dedup.repository, dedup.home / "yesterday")
    dedup.ok("key", "rotate", "--yes", "--insecure-test-kdf")
    put_back(dedup)
    before = stored(dedup)

    for command in (("snapshots",), ("snapshot", str(site)), ("prune",), ("key", "list")):
        run = dedup(*command)
        assert (run.exit_code, run.code) == (8, "repo.rolled_back")
    assert stored(dedup) == before
    dedup.ok("repo", "trust", "--yes")
    dedup.ok("check", "--read-data")


def test_another_repository_at_the_same_place_stops_before_a_passphrase_is_asked_for(dedup: Dedup, site: Path) -> None:
    dedup.snapshot(site)
    dedup.ok("init", "-r", dedup.home / "other", "--insecure-test-kdf")
    shutil.rmtree(dedup.repository)
    (dedup.home / "other").rename(dedup.repository)
    passphrase = dedup.environment()["DEDUP_PASSPHRASE"]
    dedup.setenv("DEDUP_PASSPHRASE", "wrong-wrong-wrong")

    run = dedup("snapshot", str(site))

    assert (run.exit_code, run.code) == (8, "repo.replaced")
    dedup.setenv("DEDUP_PASSPHRASE", passphrase)
    assert dedup("prune").code == "repo.replaced"
    dedup.ok("repo", "trust", "--yes")
    dedup.snapshot(site)
    dedup.ok("check", "--read-data")


def test_a_repository_made_anew_at_the_same_place_needs_no_trust(dedup: Dedup, site: Path) -> None:
    dedup.snapshot(site)
    shutil.rmtree(dedup.repository)

    dedup.ok("init", "--insecure-test-kdf")

    dedup.snapshot(site)
    dedup.ok("check", "--read-data")


def test_a_mirror_that_is_behind_is_a_place_of_its_own(history: Dedup) -> None:
    (history.home / "yesterday").rename(history.home / "mirror")

    first = history.ok("snapshots", "-r", history.home / "mirror", "--json")
    assert len(first.document["snapshots"]) == 1
    assert "first look" in first.err
    assert "first look" not in history.ok("snapshots", "-r", history.home / "mirror").err
    assert len(history.ok("snapshots", "--json").document["snapshots"]) == 2


def test_without_its_memory_a_machine_believes_what_it_sees(history: Dedup) -> None:
    put_back(history)
    (history.home / "state/seen.json").unlink()

    assert history.ok("prune", "--grace", "0").exit_code == 0


@pytest.mark.parametrize(
    "content",
    ["{", "[" * 100_000, '{"v":1,"places":[{"repository":"R","url":"U","epoch":Infinity}]}', "a directory", "a pipe"],
    ids=["cut short", "deep", "infinite", "a directory", "a pipe"],
)
def test_a_damaged_memory_is_said_and_stops_nothing(history: Dedup, site: Path, content: str) -> None:
    path = history.home / "state/seen.json"
    known = json.loads(path.read_text())["places"][0]
    path.unlink()
    if content == "a directory":
        path.mkdir()
    elif content == "a pipe":
        os.mkfifo(path)
    else:
        path.write_text(content.replace("R", known["repository"]).replace("U", known["url"]))

    run = history.ok("snapshots")

    assert "not known what this machine has seen" in run.err
    history.snapshot(site)


def test_the_memory_is_private_and_names_nothing_but_ids(history: Dedup) -> None:
    path = history.home / "state/seen.json"

    document = json.loads(path.read_text())

    assert path.stat().st_mode & 0o077 == 0
    (place,) = document["places"]
    assert sorted(place) == ["config", "epoch", "gone", "repository", "snapshots", "url"]
    assert sorted(place["snapshots"]) == sorted(
        path.name for path in history.repository.glob("commits/*") if path.name not in ("-begin", "zz-end")
    )
