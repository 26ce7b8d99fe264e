"""`dedup snapshot` of configured sources: one run, one time, every source told."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from dedupstore.clock import FrozenClock
from tests.support.dedup import COMMAND, PATIENCE_SECONDS, Dedup, Run, write_tree
from tests.support.run_sources import command, configure, files, rows

WHEN = "2025-11-20 03:00"


@pytest.fixture
def trees(tmp_path: Path) -> Path:
    write_tree(tmp_path / "srv", {"site/index.html": "<h1>hello</h1>", "site/x.tmp": "x", "etc/conf": "a = 1\n"})
    return tmp_path / "srv"


def test_all_sources_are_one_run_with_one_time(dedup: Dedup, trees: Path, tmp_path: Path) -> None:
    configure(
        tmp_path,
        files("site", trees / "site", 'exclude = ["*.tmp"]\ntags = ["web"]\nnote = "nightly"')
        + files("conf", trees / "etc")
        + command("numbers", "echo 42"),
    )

    run = dedup.ok("snapshot", "--json")

    results = run.summary["results"]
    assert [result["source"] for result in results] == ["site", "conf", "numbers"]
    assert len({result["snapshot"]["time"] for result in results}) == 1
    assert [result["snapshot"]["kind"] for result in results] == ["files", "files", "command"]
    assert [event["source"] for event in run.events if event["event"] == "result"] == ["site", "conf", "numbers"]
    found = {row["source"]: row for row in rows(dedup)}
    assert found["site"]["tags"] == ["web"] and found["site"]["note"] == "nightly"
    assert dedup.ok("ls", found["site"]["id"], "--recursive").out.splitlines() == ["site/", "site/index.html"]
    assert dedup.ok("cat", f"{found['numbers']['id']}:numbers.out").out == "42\n"
    dedup.ok("check", "--read-data")


def test_some_sources_are_named_and_options_hold_for_all(dedup: Dedup, trees: Path, tmp_path: Path) -> None:
    configure(tmp_path, files("site", trees / "site") + files("conf", trees / "etc"), 'host = "web1"')

    run = dedup.ok("snapshot", "conf", "--tag", "by-hand", "--note", "why", "--time", WHEN, "--json")

    snapshot = run.summary["snapshot"]
    assert (snapshot["source"], snapshot["tags"], snapshot["note"]) == ("conf", ["by-hand"], "why")
    assert snapshot["time"].startswith("2025-11-20T03:00:00")
    assert snapshot["host"] == "web1"
    assert '  source   "conf"\n' in dedup.ok("snapshot", "conf").out
    assert rows(dedup)[-1]["parent"] == snapshot["id"]


def test_a_source_that_fails_does_not_stop_the_others(dedup: Dedup, trees: Path, tmp_path: Path) -> None:
    configure(
        tmp_path,
        command("broken", "echo half; echo no space >&2; exit 4")
        + files("gone", tmp_path / "missing")
        + files("site", trees / "site"),
    )

    run = dedup("snapshot")
    document = dedup("snapshot", "--json").summary

    assert run.exit_code == 6
    assert '  failed   "broken": no snapshot\n' in run.out
    assert "code: source.command_failed" in run.err and "no space" in run.err and "code: source.no_root" in run.err
    assert "1 of 3 snapshots taken, 2 failed (exit code 6)" in run.out
    assert [result["status"] for result in document["results"]] == ["failed", "failed", "ok"]
    assert document["results"][0]["error"]["code"] == "source.command_failed"
    assert {row["source"] for row in rows(dedup)} == {"site"}
    dedup.ok("check", "--read-data")


def test_one_source_that_fails_ends_as_one_that_was_named_by_path(dedup: Dedup, tmp_path: Path) -> None:
    configure(tmp_path, command("broken", "exit 4"))

    run = dedup("snapshot")

    assert (run.exit_code, run.code) == (6, "source.command_failed")


def test_a_command_has_its_time_limit(dedup: Dedup, tmp_path: Path) -> None:
    configure(tmp_path, command("slow", "sleep 600", 'timeout = "1s"'))

    assert dedup("snapshot").code == "source.command_timeout"
    assert rows(dedup) == []


def test_the_worst_exit_code_counts(dedup: Dedup, trees: Path, tmp_path: Path) -> None:
    configure(
        tmp_path,
        files("site", trees / "site", 'after = ["sh", "-c", "exit 1"]') + files("conf", trees / "etc"),
    )

    run = dedup("snapshot", "--json")

    assert run.exit_code == 3
    assert run.summary["status"] == "warnings"
    assert [result["exit_code"] for result in run.summary["results"]] == [3, 0]
    assert run.summary["results"][0]["hook"]["code"] == "hook.after_failed"
    assert len(rows(dedup)) == 2


def test_what_is_piped_in_is_taken_by_name_only(dedup: Dedup, trees: Path, tmp_path: Path) -> None:
    configure(tmp_path, '[sources.pipe]\ntype = "stdin"\nfilename = "pipe.bin"\n' + files("site", trees / "site"))
    piped = tmp_path / "input"
    piped.write_bytes(b"from a pipe")

    with piped.open() as stream:
        snapshot = dedup("snapshot", "pipe", "--json", stdin=stream).summary["snapshot"]

    assert dedup.ok("cat", f"{snapshot['id']}:pipe.bin").out == "from a pipe"
    assert "results" not in dedup.ok("snapshot", "--json").summary
    assert [row["source"] for row in rows(dedup)] == ["pipe", "site"]
    assert dedup("snapshot", "pipe", "site").code == "usage"


def test_a_word_is_a_source_and_a_path_has_a_slash(dedup: Dedup, trees: Path, tmp_path: Path) -> None:
    configure(tmp_path, files("site", trees / "etc"))
    write_tree(tmp_path / "site", {"here": "x"})

    dedup.ok("snapshot", "site")
    dedup.ok("snapshot", "./site")
    run = dedup("snapshot", "site", "srv")

    assert [row["source"] for row in rows(dedup)] == ["site", str(tmp_path / "site")]
    assert run.exit_code == 2 and "write ./NAME for a path" in run.err
    assert dedup("snapshot", "site", "--exclude", "x").exit_code == 2


def test_several_sources_at_a_time_give_what_one_after_another_gives(dedup: Dedup, tmp_path: Path) -> None:
    names = [f"s{number}" for number in range(5)]
    for name in names:
        write_tree(
            tmp_path / "srv" / name, {f"{name}-{n}": os.urandom(30_000) for n in range(20)} | {"same": b"x" * 50_000}
        )
    configure(
        tmp_path,
        "".join(files(name, tmp_path / "srv" / name) for name in names) + command("broken", "exit 4"),
        "max_concurrent = 3",
    )

    run = dedup("snapshot", "--json")

    assert run.exit_code == 6
    assert [(result["source"], result["status"]) for result in run.summary["results"]] == [
        *((name, "ok") for name in names), ("broken", "failed"),
    ]  # fmt: skip
    assert {result["files"]["total"] for result in run.summary["results"][:-1]} == {21}
    for row in rows(dedup):
        dedup.ok("restore", "--snapshot", row["id"], "--to", tmp_path / "out" / row["source"])
        left, right = tmp_path / "out" / row["source"] / row["source"], tmp_path / "srv" / row["source"]
        assert {path.name: path.read_bytes() for path in left.iterdir()} == {
            path.name: path.read_bytes() for path in right.iterdir()
        }
    dedup.ok("check", "--read-data")


def test_the_configuration_is_kept_with_each_snapshot_without_what_concerns_the_machine(
    dedup: Dedup, trees: Path, tmp_path: Path
) -> None:
    configure(
        tmp_path,
        files("site", trees / "site")
        + '[retention.default]\nkeep_daily = 7\n[notify.x]\nwebhook = "https://h/token"\n',
    )
    dedup.ok("snapshot")

    kept = dedup.ok("config", "show", "--snapshot", "latest").out

    assert "[sources.site]" in kept and "keep_daily = 7" in kept and f'url = "{tmp_path}/repository"' in kept
    assert "notify" not in kept and "token" not in kept
    dedup.ok("snapshot", trees / "etc")
    assert dedup("config", "show", "--snapshot", "latest").code == "snapshot.no_config"


def slowed(dedup: Dedup, *arguments: str | os.PathLike[str]) -> tuple[float, list[float]]:
    """How long a call naps in all."""
    naps: list[float] = []
    with pytest.MonkeyPatch.context() as patch:
        clock = FrozenClock(1_700_000_000 * 10**9)
        patch.setattr("dedupstore.cli.main.SystemClock", lambda: clock)

        def nap(seconds: float) -> None:
            naps.append(seconds)
            clock.advance(seconds)

        patch.setattr("dedupstore.cli.gentle.time.sleep", nap)
        dedup.ok(*arguments)
    return sum(naps), naps


def test_reading_keeps_to_the_rate_that_is_asked_for(dedup: Dedup, tmp_path: Path) -> None:
    write_tree(tmp_path / "srv", {"a": os.urandom(3_000_000), "b": os.urandom(1_000_000)})
    configure(
        tmp_path, files("one", tmp_path / "srv" / "a") + files("two", tmp_path / "srv" / "b"), 'limit_rate = "2MB/s"'
    )

    assert slowed(dedup, "snapshot", tmp_path / "srv", "--limit-rate", "1MB/s")[0] == pytest.approx(4, rel=0.05)
    assert slowed(dedup, "snapshot")[0] == pytest.approx(2, rel=0.05)
    assert slowed(dedup, "snapshot", "--force", "--limit-rate", "8MB/s")[0] == pytest.approx(0.5, rel=0.05)
    assert dedup("snapshot", tmp_path / "srv", "--limit-rate", "slow").exit_code == 2


def test_a_snapshot_lets_others_go_first(dedup: Dedup, tmp_path: Path) -> None:
    tell = f"ps -o ni= -p $$ > {tmp_path}/nice; ionice > {tmp_path}/ionice"
    configure(tmp_path, command("told", tell), 'nice = 15\nionice = "idle"')

    for arguments, nice, ionice in (
        ([], "15", "idle"),
        (["--nice", "17", "--ionice", "best-effort"], "17", "best-effort"),
    ):
        done = subprocess.run(
            [*COMMAND, "snapshot", *arguments], cwd=tmp_path, env=dedup.process_environment(), stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "nice").read_text().split() == [nice]
        assert (tmp_path / "ionice").read_text().startswith(ionice)


def piped(dedup: Dedup, tmp_path: Path, *arguments: str) -> Run:
    (tmp_path / "input").write_text("from a pipe")
    with (tmp_path / "input").open() as stream:
        return dedup("snapshot", "pipe", "--json", *arguments, stdin=stream)


def test_nothing_piped_into_a_source_makes_no_snapshot_unless_it_is_meant(dedup: Dedup, tmp_path: Path) -> None:
    configure(tmp_path, '[sources.pipe]\ntype = "stdin"\nfilename = "pipe.bin"\n')

    with open(os.devnull, encoding="utf-8") as nothing:
        assert dedup("snapshot", "pipe", stdin=nothing).code == "source.empty"
        assert dedup("snapshot", "pipe", "--allow-empty", stdin=nothing).exit_code == 0

    assert dedup.ok("cat", "latest:pipe.bin").raw == b""
