"""`dedup find` and `dedup history`, as a person and as a program see them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.dedup import SENTINELS, Dedup, write_tree


@pytest.fixture
def three(dedup: Dedup, site: Path) -> Dedup:
    """Three snapshots of `site`: index.html changes, then its mode; a file comes and goes."""
    for path in site.rglob("*"):
        os.utime(path, ns=(0, 1_700_000_000 * 10**9))
    dedup.snapshot(site, "--source", "site", "--time", "2026-01-01 12:00", "--tag", "v1")
    write_tree(site, {"index.html": "<h1>hello, all</h1>\n", "new.txt": "new"})
    dedup.snapshot(site, "--source", "site", "--time", "2026-01-02 12:00")
    (site / "index.html").chmod(0o600)
    (site / "new.txt").unlink()
    dedup.snapshot(site, "--source", "site", "--time", "2026-01-03 12:00")
    return dedup


def found(dedup: Dedup, *arguments: str) -> list[str]:
    return [str(row["path"]) for row in dedup.ok("find", "--json", *arguments).document["paths"]]


def test_every_command_selects_and_shows_by_the_tags_of_today(three: Dedup) -> None:
    first, _, last = [str(row["id"]) for row in three.ok("snapshots", "--json").document["snapshots"]]
    for each in (first, last):
        three.ok("tag", each, "--remove", "v1", "--add", "today")

    def ids(*arguments: str) -> list[str]:
        return [row["id"] for row in three.ok(*arguments, "--json").document["snapshots"]]

    for command in (("snapshots",), ("stats", "--by-snapshot")):
        assert ids(*command, "--tag", "today") == [first, last]
        assert ids(*command, "--tag", "v1") == []
    assert found(three, "index.html", "--tag", "today") == ["site/index.html"]
    assert found(three, "index.html", "--tag", "v1") == []
    assert three.ok("ls", "@tag:today", "--json").document["snapshot"]["id"] == last
    assert three("ls", "@tag:v1").exit_code == 5
    grown = three.ok("stats", "--by-path", "--tag", "today", "--json").document
    assert [grown[end]["id"] for end in ("before", "after")] == [first, last]
    assert three("stats", "--by-path", "--tag", "v1").exit_code == 5


def test_paths_are_found_in_all_snapshots_or_in_one(three: Dedup) -> None:
    assert found(three, "*.txt") == ["site/uploads/a.txt", "site/new.txt"]
    assert found(three, "*.txt", "--snapshot", "latest") == ["site/uploads/a.txt"]
    assert found(three, "*.txt", "--at", "2026-01-02 13:00") == ["site/uploads/a.txt", "site/new.txt"]
    assert found(three, "*.txt", "--tag", "v1") == ["site/uploads/a.txt"]
    assert found(three, "*.txt", "--source", "other") == []
    assert found(three, "new.txt", "--limit", "1") == ["site/new.txt"]
    assert found(three, "NEW", "--regex", "-i") == ["site/new.txt"]


def test_what_is_found_can_be_narrowed_by_kind_size_and_time(three: Dedup) -> None:
    assert found(three, "**", "--type", "d") == ["site", "site/cache", "site/uploads"]
    assert found(three, "*", "--larger", "1k", "--type", "f") == ["site/uploads/b.bin"]
    assert found(three, "*", "--smaller", "3", "--type", "f") == ["site/new.txt"]
    assert "site/index.html" in found(three, "*", "--newer", "2026-01-01", "--type", "f")
    assert "site/uploads/a.txt" not in found(three, "*", "--newer", "2026-01-01", "--type", "f")
    # The version of index.html that is so old is in the first snapshot only.
    [old] = three.ok("find", "index.html", "--older", "2024-01-01", "--json").document["paths"]
    assert old["snapshots"] == 1
    assert old["versions"] == 1


def test_a_person_sees_size_time_snapshots_and_path(three: Dedup) -> None:
    run = three.ok("find", "a.txt")

    assert run.out.split()[:2] == ["14", "B"]
    assert run.out.endswith("  site/uploads/a.txt\n")
    assert ".." in run.out
    assert three.ok("find", "nothing").err == "nothing found in 3 snapshots\n"
    more = three.ok("find", "*", "--limit", "2")
    assert len(more.out.splitlines()) == 2
    assert "there are more" in more.err
    assert three("find", "(", "--regex").exit_code == 2
    assert three("find", "x", "--at", "now", "--snapshot", "latest").exit_code == 2


def test_the_history_of_a_path_names_versions_and_changes(three: Dedup) -> None:
    document = three.ok("history", "site/index.html", "--json").document

    assert [version["changes"] for version in document["versions"]] == [[], ["content", "time"], ["mode"]]
    assert [version["size"] for version in document["versions"]] == [15, 20, 20]
    assert [version["snapshots"] for version in document["versions"]] == [1, 1, 1]
    assert document["versions"][0]["first"]["time"].startswith("2026-01-01T12:00")
    table = three.ok("history", "/site//index.html").out.splitlines()
    assert table[0].split()[:2] == ["FIRST", "SEEN"]
    assert len(table) == 4
    [gone] = three.ok("history", "site/new.txt", "--json").document["versions"]
    assert gone["first"] == gone["last"]
    missing = three("history", "index.html")
    assert missing.code == "snapshot.path_not_found"
    assert "dedup find index.html" in missing.err


def test_odd_names_are_found_and_exact_in_a_pipe(dedup: Dedup, tmp_path: Path) -> None:
    folder = tmp_path / "odd"
    folder.mkdir()
    for name in (b"bad \xff", b"esc \x1b[31m", b"new\nline", b"rtl \xe2\x80\xae"):
        Path(os.fsdecode(bytes(folder) + b"/" + name)).write_text("x")
    dedup.snapshot(folder)

    run = dedup.ok("find", "bad *")
    assert run.raw.endswith(b"odd/bad \xff\n")
    assert len(found(dedup, "*", "--type", "f")) == 4
    [row] = dedup.ok("find", "bad *", "--json").document["paths"]
    assert row["path_b64"]
    assert len(dedup.ok("history", b"odd/bad \xff".decode("utf-8", "surrogateescape")).out.splitlines()) == 2


def test_a_damaged_snapshot_is_told_and_the_others_are_searched(three: Dedup, tmp_path: Path) -> None:
    write_tree(tmp_path / "more", {"a.txt": "x"})
    before = {path for path in three.repository.glob("packs/*/*") if path.name not in SENTINELS}
    three.snapshot(tmp_path / "more")
    for path in three.repository.glob("packs/*/*.m*"):
        if path not in before:
            path.unlink()

    run = three("find", "a.txt")

    assert run.exit_code == 4
    assert "is not searched" in run.err
    assert run.out.endswith("site/uploads/a.txt\n")
