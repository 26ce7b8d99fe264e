"""Runs into several repositories, and into several places of one: each by itself, and none for another's failure."""

from __future__ import annotations

from pathlib import Path

import pytest

from dedupstore.errors import Refused
from dedupstore.service import carried
from tests.support.configuration import write
from tests.support.dedup import Dedup, Run, write_tree
from tests.support.run_sources import command, configure, files, rows


@pytest.fixture
def trees(tmp_path: Path) -> Path:
    write_tree(tmp_path / "srv", {"site/index.html": "<h1>hello</h1>", "site/x.tmp": "x", "etc/conf": "a = 1\n"})
    return tmp_path / "srv"


def test_a_source_goes_to_several_repositories(dedup: Dedup, trees: Path, tmp_path: Path) -> None:
    configure(tmp_path, files("site", trees / "site", 'repos = ["main", "second"]'))
    dedup.ok("init", "-r", "repo:second", "--insecure-test-kdf", "--chunk-size", "4KiB")

    run = dedup.ok("snapshot", "--json")

    assert [(result["repo"], result["status"]) for result in run.summary["results"]] == [
        ("main", "ok"),
        ("second", "ok"),
    ]
    (first,), (second,) = rows(dedup), rows(dedup, "-r", "repo:second")
    assert (first["source"], first["time"]) == (second["source"], second["time"])
    assert first["id"] != second["id"]
    assert len(dedup.ok("snapshot", "-r", "repo:main", "--json").summary["snapshot"]["id"]) == 26
    assert len(rows(dedup, "-r", "repo:second")) == 1
    dedup.ok("check", "--read-data", "-r", "repo:second")


def test_a_repository_that_is_away_fails_alone(dedup: Dedup, trees: Path, tmp_path: Path) -> None:
    configure(tmp_path, files("site", trees / "site", 'repos = ["second", "main"]') + files("conf", trees / "etc"))

    run = dedup("snapshot", "--json")

    assert run.exit_code == 10
    assert [(result["source"], result["repo"], result["status"]) for result in run.summary["results"]] == [
        ("site", "second", "failed"), ("site", "main", "ok"), ("conf", None, "ok"),
    ]  # fmt: skip
    assert run.summary["results"][0]["error"]["code"] == "repo.not_found"
    assert len(rows(dedup)) == 2


def test_missing_repositories_are_created_when_that_is_wanted(dedup: Dedup, trees: Path, tmp_path: Path) -> None:
    configure(tmp_path, files("site", trees / "site", 'repos = ["second", "main"]'))

    run = dedup.ok("snapshot", "--init", "--json")

    assert [event["url"] for event in run.events if event["event"] == "created"] == [str(tmp_path / "second")]
    assert len(list(tmp_path.glob("dedup-recovery-*.txt"))) == 2


def test_a_repository_whose_passphrase_is_away_fails_alone(dedup: Dedup, trees: Path, tmp_path: Path) -> None:
    configure(tmp_path, files("site", trees / "site", 'repos = ["second", "main", "main"]'))
    dedup.ok("init", "-r", "repo:second", "--insecure-test-kdf", "--chunk-size", "4KiB")
    config = tmp_path / "etc" / "config.toml"
    text = config.read_text().replace("[repos.second]", f'[repos.second]\npassphrase = "file:{tmp_path}/stick/pass"')
    write(config, text)

    run = dedup("snapshot", "--json")

    assert [(result["repo"], result["status"]) for result in run.summary["results"]] == [
        ("second", "failed"),
        ("main", "ok"),
    ]
    assert run.summary["results"][0]["error"]["code"] == "secret.unreadable" and run.exit_code == 2
    assert len(rows(dedup)) == 1
    dedup.ok("check", "--read-data")


def test_two_places_of_one_repository_are_fed_by_one_reading(dedup: Dedup, trees: Path, tmp_path: Path) -> None:
    configure(tmp_path, "")
    dedup.ok("mirror", "--to", tmp_path / "second", "--init")
    both = 'repos = ["main", "second"]'
    configure(
        tmp_path,
        command("noted", f"echo read >> {tmp_path}/read; seq 20000", both) + files("site", trees / "site", both),
    )

    run = dedup.ok("snapshot", "--json")

    assert (tmp_path / "read").read_text() == "read\n"
    results = run.summary["results"]
    assert [(row["source"], row["repo"], row["status"]) for row in results] == [
        ("noted", "main", "ok"), ("noted", "second", "ok"), ("site", "main", "ok"), ("site", "second", "ok"),
    ]  # fmt: skip
    here, there = rows(dedup), rows(dedup, "-r", "repo:second")
    assert [row["id"] for row in here] == [row["id"] for row in there] and len(here) == 2
    kept = [{path.name for path in (tmp_path / name / "packs").rglob("*")} for name in ("repository", "second")]
    assert kept[0] == kept[1]
    dedup.ok("check", "--read-data")
    dedup.ok("check", "--read-data", "-r", "repo:second")


def piped(dedup: Dedup, tmp_path: Path, *arguments: str) -> Run:
    (tmp_path / "input").write_text("from a pipe")
    with (tmp_path / "input").open() as stream:
        return dedup("snapshot", "pipe", "--json", *arguments, stdin=stream)


PIPE = '[sources.pipe]\ntype = "stdin"\nfilename = "pipe.bin"\nrepos = ["main", "second"]\n'


def test_what_is_piped_in_goes_to_two_places_of_one_repository(dedup: Dedup, tmp_path: Path) -> None:
    configure(tmp_path, PIPE)
    dedup.ok("mirror", "--to", tmp_path / "second", "--init")

    dry = piped(dedup, tmp_path, "--dry-run")
    run = piped(dedup, tmp_path)

    assert (dry.exit_code, run.exit_code) == (0, 0)
    (here,), (there,) = rows(dedup), rows(dedup, "-r", "repo:second")
    assert here["id"] == there["id"]
    assert dedup.ok("cat", "-r", "repo:second", "latest:pipe.bin").out == "from a pipe"
    dedup.ok("check", "--read-data", "-r", "repo:second")


def test_what_is_piped_in_is_refused_for_two_repositories(dedup: Dedup, tmp_path: Path) -> None:
    configure(tmp_path, PIPE)
    dedup.ok("init", "--insecure-test-kdf", "-r", tmp_path / "second")

    run = piped(dedup, tmp_path)

    assert run.exit_code == 2 and "keys of their own" in run.out
    assert rows(dedup) == rows(dedup, "-r", "repo:second") == []


def test_what_is_piped_in_is_never_read_twice(dedup: Dedup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configure(tmp_path, PIPE)
    dedup.ok("mirror", "--to", tmp_path / "second", "--init")

    def refused(*arguments: object) -> None:
        raise Refused("the mirror has gone its own way", code="mirror.diverged")

    with monkeypatch.context() as patch:
        patch.setattr(carried, "carry", refused)
        diverged = piped(dedup, tmp_path)
    (tmp_path / "repository").rename(tmp_path / "away")
    away = piped(dedup, tmp_path)
    (tmp_path / "away").rename(tmp_path / "repository")

    assert [(row["repo"], row["status"]) for row in diverged.summary["results"]] == [
        ("main", "ok"),
        ("second", "failed"),
    ]
    # The first was not even begun, so the second reads it.
    assert [(row["repo"], row["status"]) for row in away.summary["results"]] == [("main", "failed"), ("second", "ok")]
    assert len(rows(dedup)) == len(rows(dedup, "-r", "repo:second")) == 1
    for name in ("main", "second"):
        assert dedup.ok("cat", "-r", f"repo:{name}", "latest:pipe.bin").out == "from a pipe"
        dedup.ok("check", "--read-data", "-r", f"repo:{name}")


def test_a_second_place_that_was_away_is_brought_up_the_next_time(dedup: Dedup, trees: Path, tmp_path: Path) -> None:
    configure(tmp_path, files("site", trees / "site", 'repos = ["main", "second"]'))
    dedup.ok("mirror", "--to", tmp_path / "second", "--init")
    (tmp_path / "second").rename(tmp_path / "away")
    assert dedup("snapshot").exit_code == 10
    (tmp_path / "away").rename(tmp_path / "second")

    dedup.ok("snapshot")

    assert len(rows(dedup)) == 2
    assert [row["id"] for row in rows(dedup)] == [row["id"] for row in rows(dedup, "-r", "repo:second")]
    dedup.ok("check", "--read-data", "-r", "repo:second")


def test_what_cannot_be_brought_to_the_second_place_is_told_as_failed(
    dedup: Dedup, trees: Path, tmp_path: Path
) -> None:
    configure(tmp_path, files("site", trees / "site", 'repos = ["main", "second"]'))
    dedup.ok("snapshot", "-r", "repo:main")
    dedup.ok("mirror", "--to", tmp_path / "second", "--init")
    (trees / "site" / "more").write_text("more")
    dedup.ok("snapshot", "-r", "repo:main")
    copied = {path.name for path in (tmp_path / "second" / "packs").rglob("*")}
    lacking = next(path for path in (tmp_path / "repository" / "packs").rglob("*") if path.name not in copied)
    lacking.chmod(0o600)
    lacking.write_bytes(b"x" * lacking.stat().st_size)

    run = dedup("snapshot", "--force", "--json")

    assert [(row["repo"], row["status"]) for row in run.summary["results"]] == [("main", "ok"), ("second", "failed")]
    assert run.exit_code != 0 and len(rows(dedup, "-r", "repo:second")) == 1
    dedup.ok("check", "--read-data", "-r", "repo:second")


def test_a_place_that_went_its_own_way_is_read_for_again(
    dedup: Dedup, trees: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(tmp_path, files("site", trees / "site", 'repos = ["main", "second"]'))
    dedup.ok("mirror", "--to", tmp_path / "second", "--init")

    def refused(*arguments: object) -> None:
        raise Refused("the mirror has gone its own way", code="mirror.diverged")

    monkeypatch.setattr(carried, "carry", refused)

    run = dedup.ok("snapshot")

    assert "gone its own way: read again" in run.err
    (first,), (second,) = rows(dedup), rows(dedup, "-r", "repo:second")
    assert first["id"] != second["id"]
    dedup.ok("check", "--read-data", "-r", "repo:second")
