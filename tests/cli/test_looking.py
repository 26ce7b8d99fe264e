"""The commands that look inside: what they print for people and for programs."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.dedup import COMMAND, SENTINELS, Dedup, write_tree


@pytest.fixture
def two(dedup: Dedup, site: Path) -> Dedup:
    """A repository with two snapshots of `site` and one of another source."""
    dedup.snapshot(site, "--source", "site", "--time", "2026-01-01 12:00", "--tag", "v1")
    write_tree(site, {"index.html": "<h1>hello, all</h1>\n", "new.txt": "new"})
    (site / "uploads" / "a.txt").chmod(0o600)
    (site / "cache" / "tmp").unlink()
    dedup.snapshot(site, "--source", "site", "--time", "2026-01-02 12:00")
    dedup.ok("snapshot", "--command", "dump.sql", "--host", "db1", "--time", "2026-01-03 12:00", "--", "echo", "x")
    return dedup


def sources(dedup: Dedup, *arguments: str) -> list[str]:
    return [row["source"] for row in dedup.ok("snapshots", "--json", *arguments).document["snapshots"]]


def test_snapshots_are_listed_oldest_first_and_by_filter(two: Dedup) -> None:
    assert sources(two) == ["site", "site", "dump.sql"]
    assert sources(two, "--source", "site", "--limit", "1") == ["site"]
    assert sources(two, "--host", "db1") == ["dump.sql"]
    assert sources(two, "--tag", "v1") == ["site"]
    assert sources(two, "--before", "2026-01-02") == ["site", "site"]
    assert sources(two, "--after", "2026-01-02 00:00", "--before", "2026-01-02") == ["site"]
    assert sources(two, "--limit", "0") == []
    table = two.ok("snapshots").out.splitlines()
    assert table[0].split() == ["ID", "TIME", "SOURCE", "HOST", "FILES", "SIZE", "ADDED", "REMARKS"]
    assert len(table) == 4
    assert "2026-01-01 12:00" in table[1]
    assert "2026-01-01 04:00 UTC" in two.ok("snapshots", "--utc").out


def test_an_empty_repository_says_what_to_do(dedup: Dedup) -> None:
    run = dedup.ok("snapshots")

    assert run.out == ""
    assert "dedup snapshot" in run.err


def test_a_directory_is_listed_short_long_and_whole(two: Dedup) -> None:
    assert two.ok("ls", "latest~1:site").out.splitlines() == [
        "site/cache/", "site/index.html", "site/new.txt", "site/uploads/",
    ]  # fmt: skip
    long = two.ok("ls", "latest~1:/site/uploads/", "-l").out.splitlines()
    assert long[0].startswith("-rw------- ")
    assert long[0].endswith("site/uploads/a.txt")
    assert "site/cache/tmp" in two.ok("ls", "@tag:v1", "-R").out.splitlines()
    entries = two.ok("ls", "--source", "site", "--at", "2026-01-01 12:00", ":site/index.html", "--json").document
    assert [entry["size"] for entry in entries["entries"]] == [15]
    assert two("ls", "latest:nowhere").code == "snapshot.path_not_found"


def test_a_file_is_printed_byte_by_byte(two: Dedup, site: Path) -> None:
    assert two.ok("cat", "@tag:v1:site/uploads/b.bin").raw == bytes(range(256)) * 100
    document = two.ok("cat", "@tag:v1:site/index.html", "--json").document
    assert document["content_b64"] == "PGgxPmhlbGxvPC9oMT4K"
    assert two("cat", "@tag:v1:site/uploads").exit_code == 2
    assert two("cat", "latest").exit_code == 2
    assert two("cat", "latest:nothing").exit_code == 5


def test_differences_are_named_and_counted(two: Dedup) -> None:
    run = two.ok("diff", "@tag:v1", "latest", "--source", "site")

    lines = run.out.splitlines()
    assert "- site/cache/tmp  16 B" in lines
    assert "M site/index.html  15 B -> 20 B" in lines
    assert "+ site/new.txt  3 B" in lines
    assert "m site/uploads/a.txt" in lines
    document = two.ok("diff", "@tag:v1", "latest", "--source", "site", "--json").document
    kinds = {change["path"]: change["kind"] for change in document["changes"]}
    assert kinds["site/index.html"] == "changed"
    assert document["counts"]["added"] == 1
    only = two.ok("diff", "@tag:v1", "latest", "site/uploads", "--source", "site", "--name-only").out.splitlines()
    assert only == ["site/uploads/a.txt"]
    assert "1 added, 1 removed, 1 changed" in two.ok("diff", "@tag:v1", "latest", "--source", "site", "--stat").out
    assert "nothing changed" in two.ok("diff", "latest", "latest").out


def test_sizes_and_the_repository_are_told(two: Dedup) -> None:
    numbers = two.ok("stats", "--json").document
    assert numbers["bytes"]["logical"] > numbers["bytes"]["unique"] > 0
    assert numbers["packs"] > 0
    assert "SOURCE" in two.ok("stats", "--source", "site").out

    info = two.ok("repo", "info", "--json").document
    assert info["snapshots"] == 3
    assert info["url"] == str(two.repository)
    assert info["chunk_average"] == 4096
    assert "key epoch 1" in two.ok("repo", "info").out


def test_a_good_repository_passes_every_check(two: Dedup) -> None:
    assert "everything that was looked at is intact" in two.ok("check").out
    two.ok("check", "--quick")
    two.ok("check", "--snapshot", "latest~1")
    full = two.ok("check", "--read-data", "--restore=site", "--max-time", "1h", "--json").summary
    assert full["counts"]["restored_snapshots"] >= 1
    assert full["coverage"]["bytes_recent"] == full["coverage"]["bytes_total"]
    assert "read     " in two.ok("check", "--read-data=50%").out
    for arguments in (["--read-data=0%"], ["--read-data=much"], ["--quick", "--read-data"], ["--max-time", "soon"]):
        assert two("check", *arguments).exit_code == 2, arguments


def test_a_lost_index_is_found_and_mended(two: Dedup) -> None:
    for segment in two.repository.glob("index/*"):
        if segment.name not in SENTINELS:
            segment.unlink()

    assert "would be indexed again" in two.ok("repair", "index", "--dry-run").out
    done = two.ok("repair", "index", "--json").summary
    assert done["packs_indexed"] > 0
    assert two.ok("repair", "index", "--json").summary["packs_indexed"] == 0
    two.ok("check", "--read-data")


QUERIES: list[list[str]] = [
    ["snapshots"], ["ls"], ["stats"], ["find", "*"], ["history", "site"], ["repo", "info"], ["key", "list"], ["key", "kit"], ["diff", "latest", "latest"],
    ["version"],
]  # fmt: skip


@pytest.mark.parametrize("arguments", QUERIES, ids=" ".join)
def test_a_query_is_one_json_document(two: Dedup, arguments: list[str]) -> None:
    run = two.ok(*arguments, "--json")

    assert run.document["v"] == 1


@pytest.mark.parametrize(
    "arguments",
    [*QUERIES, ["snapshot", "x"], ["restore"], ["check"], ["repair", "index"], ["key", "remove", "abcd", "-y"]],
    ids=" ".join,
)
def test_a_failure_is_json_too(dedup: Dedup, arguments: list[str]) -> None:
    run = dedup(*arguments, "--json", "-r", "/nowhere/at/all", "--nonsense")
    assert run.exit_code == 2
    (error,) = map(json.loads, run.out.splitlines())
    assert error["event"] == "error"

    if arguments != ["version"]:
        run = dedup(*arguments, "--json", "-r", "/nowhere/at/all")
        lines: list[dict[str, Any]] = [json.loads(line) for line in run.out.splitlines()]
        (error,) = [line for line in lines if line["event"] == "error"]
        assert run.exit_code == error["exit_code"] == 10
        assert error["code"] == "repo.not_found"


def test_a_reader_that_goes_away_ends_a_query_quietly(dedup: Dedup, tmp_path: Path) -> None:
    write_tree(tmp_path / "many", {f"{number:05d}-{'x' * 60}": "" for number in range(3000)})
    dedup.snapshot(tmp_path / "many")

    with subprocess.Popen(
        [*COMMAND, "ls", "latest:many"], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env=dedup.process_environment(), cwd=dedup.home,
    ) as process:  # fmt: skip
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline().startswith(b"many/00000")
        process.stdout.close()
        assert process.stderr.read() == b""

    assert process.returncode == 141


def test_what_grew_is_told_by_day_by_snapshot_and_by_path(two: Dedup) -> None:
    days = two.ok("stats", "--by-day", "--json").document["days"]
    assert [day["day"] for day in days] == ["2026-01-01", "2026-01-02", "2026-01-03"]
    assert days[2]["size"] > days[1]["size"]
    assert len(two.ok("stats", "--by-day", "--source", "site").out.splitlines()) == 3

    snapshots = two.ok("stats", "--by-snapshot", "--json").document["snapshots"]
    assert [snapshot["source"] for snapshot in snapshots] == ["site", "site", "dump.sql"]
    # The first is what the second was stored against, so it frees nothing; nobody shares the dump.
    assert snapshots[0]["freed"] < snapshots[0]["bytes"]["stored"]
    assert snapshots[2]["freed"] > 0
    assert len(two.ok("stats", "--by-snapshot", "--source", "site").out.splitlines()) == 3

    grown = two.ok("stats", "--by-path", "--source", "site", "--json").document
    assert {row["path"]: (row["bytes"], row["files"]) for row in grown["directories"]} == {
        "": (5 + 3 - 16, 0), "site": (5 + 3 - 16, 0), "site/cache": (-16, -1),
    }  # fmt: skip
    table = two.ok("stats", "--by-path", "--from", "latest~1", "--source", "site", "--limit", "1").out.splitlines()
    assert table[1].split() == ["GROWN", "FILES", "CHANGED", "DIRECTORY"]
    assert "-16 B" in table[-1]
    assert two("stats", "--by-path", "--source", "dump.sql").exit_code == 5
    assert two("stats", "--by-path", "--by-day").exit_code == 2
    assert two("stats", "--from", "latest").exit_code == 2


def test_stats_names_the_snapshot_that_cannot_be_measured(dedup: Dedup, site: Path) -> None:
    dedup.snapshot(site, "--source", "good")
    packs = set(dedup.repository.glob("packs/*/*.m*"))
    (site / "more").write_text("more")
    bad = dedup.snapshot(site, "--source", "bad")
    for pack in set(dedup.repository.glob("packs/*/*.m*")) - packs:
        pack.unlink()

    run = dedup("stats")

    assert run.exit_code == 4
    assert f"snapshot {bad[:4]}-{bad[4:6]} is damaged" in run.err
    dedup.ok("stats", "--source", "good")
