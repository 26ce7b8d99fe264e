"""`dedup snapshot` of configured sources: one run, one time, every source told, hooks around each."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from dedupstore.clock import FrozenClock
from dedupstore.errors import Refused
from dedupstore.service import carried
from tests.support.configuration import write
from tests.support.dedup import COMMAND, PATIENCE_SECONDS, Dedup, Run, write_tree

WHEN = "2025-11-20 03:00"


@pytest.fixture
def trees(tmp_path: Path) -> Path:
    write_tree(tmp_path / "srv", {"site/index.html": "<h1>hello</h1>", "site/x.tmp": "x", "etc/conf": "a = 1\n"})
    return tmp_path / "srv"


def configure(tmp_path: Path, sources: str, head: str = "") -> None:
    write(
        tmp_path / "etc" / "config.toml",
        f'{head}\n[repos.main]\nurl = "{tmp_path}/repository"\n[repos.second]\nurl = "{tmp_path}/second"\n{sources}',
    )


def files(name: str, path: Path, more: str = "") -> str:
    return f'[sources.{name}]\ntype = "files"\npaths = ["{path}"]\n{more}\n'


def command(name: str, script: str, more: str = "") -> str:
    return f'[sources.{name}]\ntype = "command"\ncommand = ["sh", "-c", "{script}"]\nfilename = "{name}.out"\n{more}\n'


def rows(dedup: Dedup, *arguments: str) -> list[dict]:  # type: ignore[type-arg]
    return dedup.ok("snapshots", "--json", *arguments).document["snapshots"]


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


def hooks(log: Path, before: str = "", after: str = "") -> str:
    tell = f"env | grep -E '^(DEDUP|AWS)_' | sort >> {log}; echo >> {log}"
    return (
        f'before = ["sh", "-c", "{tell}; {before or "true"}"]\n'
        f'after = ["sh", "-c", "{tell}; {after or "true"}"]\nhook_timeout = "2s"'
    )


def told(log: Path) -> list[dict[str, str]]:
    """What each hook was told, in the order they ran."""
    return [dict(line.split("=", 1) for line in block.splitlines()) for block in log.read_text().split("\n\n") if block]


def test_hooks_run_around_a_source_and_are_told_what_happened(dedup: Dedup, trees: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    dedup.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    dedup.setenv("AWS_PROFILE", "ops")
    configure(tmp_path, files("site", trees / "site", f'{hooks(log)}\npass_environment = ["AWS_PROFILE"]'))

    snapshot = dedup.ok("snapshot", "--json").summary["snapshot"]

    before, after = told(log)
    assert before["DEDUP_HOOK"] == "before" and before["DEDUP_HOOK_SOURCE"] == "site"
    assert after["DEDUP_HOOK"] == "after" and after["DEDUP_HOOK_STATUS"] == "ok"
    assert after["DEDUP_HOOK_SNAPSHOTS"] == snapshot["id"] and after["DEDUP_HOOK_EXIT_CODE"] == "0"
    assert after["DEDUP_HOOK_RUN"] == before["DEDUP_HOOK_RUN"]
    assert not any(name.startswith("DEDUP_PASSPHRASE") for facts in (before, after) for name in facts)
    assert [name for facts in (before, after) for name in facts if name.startswith("AWS_")] == ["AWS_PROFILE"] * 2


@pytest.mark.parametrize("failing", ["echo busy >&2; exit 9", "sleep 600"])
def test_without_its_hook_before_there_is_no_snapshot_and_the_one_after_still_runs(
    dedup: Dedup, trees: Path, tmp_path: Path, failing: str
) -> None:
    log = tmp_path / "log"
    configure(tmp_path, files("site", trees / "site", hooks(log, before=failing)))

    run = dedup("snapshot")

    assert (run.exit_code, run.code) == (6, "hook.before_failed")
    assert [facts["DEDUP_HOOK"] for facts in told(log)] == ["before", "after"]
    assert told(log)[1]["DEDUP_HOOK_STATUS"] == "failed" and told(log)[1]["DEDUP_HOOK_CODE"] == "hook.before_failed"
    assert rows(dedup) == []


def test_the_hook_after_runs_when_the_source_fails(dedup: Dedup, tmp_path: Path) -> None:
    log = tmp_path / "log"
    configure(tmp_path, command("broken", "exit 4", hooks(log)))

    assert dedup("snapshot").code == "source.command_failed"

    assert told(log)[1]["DEDUP_HOOK_CODE"] == "source.command_failed"
    assert told(log)[1]["DEDUP_HOOK_SNAPSHOTS"] == ""


def test_the_hook_after_runs_when_a_signal_stops_the_run(dedup: Dedup, trees: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    configure(
        tmp_path,
        command("first", "kill -TERM $(cat pid); sleep 600", hooks(log)) + files("never", trees / "site", hooks(log)),
    )
    script = f"echo $$ > pid; exec {' '.join(COMMAND)} snapshot --json"

    done = subprocess.run(
        ["sh", "-c", script], cwd=tmp_path, env=dedup.process_environment(), stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False,
    )  # fmt: skip

    assert done.returncode == 143, done.stderr
    assert '"status":"interrupted"' in done.stdout.splitlines()[-1]
    assert [(facts["DEDUP_HOOK"], facts["DEDUP_HOOK_SOURCE"]) for facts in told(log)] == [
        ("before", "first"), ("after", "first"),
    ]  # fmt: skip
    assert told(log)[1]["DEDUP_HOOK_STATUS"] == "interrupted"


def test_a_dry_run_runs_no_hook_and_stores_nothing(dedup: Dedup, trees: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    configure(tmp_path, files("site", trees / "site", hooks(log)))

    assert "would store" in dedup.ok("snapshot", "--dry-run").out

    assert not log.exists()
    assert rows(dedup) == []


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


def test_neither_commands_nor_hooks_see_a_secret_variable(dedup: Dedup, tmp_path: Path) -> None:
    log = tmp_path / "log"
    configure(
        tmp_path,
        command("seen", "env", f'before = ["sh", "-c", "env > {log}"]')
        + '[repos.other]\nurl = "/other"\npassphrase = "env:OTHER_SECRET"\n',
    )
    for name in ("OTHER_SECRET", "DEDUP_NEW_PASSPHRASE", "DEDUP_TO_PASSPHRASE"):
        dedup.setenv(name, "hunter2hunter2")
    dedup.setenv("ORDINARY", "is there")

    snapshot = dedup.snapshot()

    for text in (log.read_text(), dedup.ok("cat", f"{snapshot}:seen.out").out):
        assert "ORDINARY=is there" in text
        assert "hunter2" not in text and "PASSPHRASE" not in text


def test_the_hook_after_runs_even_when_dedup_itself_breaks(dedup: Dedup, trees: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    configure(tmp_path, files("site", trees / "site", hooks(log)))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dedupstore.service.snapshot._plan", lambda request, opened: 1 // 0)
        assert dedup("snapshot").code == "internal"

    assert [facts["DEDUP_HOOK"] for facts in told(log)] == ["before", "after"]
    assert told(log)[1]["DEDUP_HOOK_STATUS"] == "failed" and told(log)[1]["DEDUP_HOOK_EXIT_CODE"] == "1"


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


def test_what_a_hook_starts_in_the_background_is_neither_waited_for_nor_ended(
    dedup: Dedup, trees: Path, tmp_path: Path
) -> None:
    start = f'after = ["sh", "-c", "sleep 300 & echo $! > {tmp_path}/pid"]\nhook_timeout = "20s"'
    configure(tmp_path, files("site", trees / "site", start))

    run = dedup.ok("snapshot")

    service = int((tmp_path / "pid").read_text())
    os.kill(service, signal.SIGTERM)
    assert "hook" not in run.err
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
