"""Hooks around the sources of a run: when they run, what they are told, what they do not see."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.support.dedup import COMMAND, PATIENCE_SECONDS, Dedup, write_tree
from tests.support.run_sources import command, configure, files, hooks, rows, told


@pytest.fixture
def trees(tmp_path: Path) -> Path:
    write_tree(tmp_path / "srv", {"site/index.html": "<h1>hello</h1>", "site/x.tmp": "x", "etc/conf": "a = 1\n"})
    return tmp_path / "srv"


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
