"""Signals in the middle of a snapshot: the exit code tells, nothing half-made is shown, the next run goes on."""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from dedupstore.cli.signals import Signals
from tests.support.dedup import COMMAND, PATIENCE_SECONDS, Dedup

take = Signals.take_token

SIZE = 40 << 20
"""Five buffers full. Three may be in flight, read and not stored yet, if storing is slow: the first two are surely kept."""


def open_for_writing(pipe: Path, reader: subprocess.Popen[bytes]) -> int:
    """Succeeds once somebody waits at the other end; a reader that ends before must not be waited for."""
    while True:
        try:
            return os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            if error.errno != errno.ENXIO or reader.poll() is not None:
                raise
        time.sleep(0.01)


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_snapshot_is_no_snapshot_and_the_next_run_goes_on(
    dedup: Dedup, tmp_path: Path, number: signal.Signals, exit_code: int
) -> None:
    # The pipe at the end of the tree makes the run wait there for as long as the test wants.
    (tmp_path / "data").write_bytes(random.Random(1).randbytes(SIZE))
    feed, wait = tmp_path / "feed", "cat data; exec cat feed"
    os.mkfifo(feed)
    with subprocess.Popen(
        [*COMMAND, "snapshot", "--json", "--command", "dump", "--", "sh", "-c", wait],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=dedup.process_environment(), cwd=tmp_path,
    ) as process:  # fmt: skip
        # Opening succeeds once the command has read all of `data` and waits for more.
        with open(open_for_writing(feed, process), "wb"):
            process.send_signal(number)
            out, err = process.communicate(timeout=PATIENCE_SECONDS)

    assert process.returncode == exit_code, err
    events = [json.loads(line) for line in out.splitlines()]
    assert events[-1]["event"] == "summary"
    assert events[-1]["status"] == "interrupted"
    assert events[-1]["exit_code"] == exit_code
    assert dedup.ok("snapshots", "--json").document["snapshots"] == []
    again = dedup.ok("snapshot", "--json", "--command", "dump", "--", "cat", "data").summary
    assert again["bytes"]["read"] == SIZE
    assert again["bytes"]["stored"] < SIZE * 3 / 4
    assert dedup.ok("cat", "latest:dump").raw == (tmp_path / "data").read_bytes()
    dedup.ok("check", "--read-data")


def test_the_real_command_runs_as_a_process(dedup: Dedup, site: Path) -> None:
    def process(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*COMMAND, *arguments], env=dedup.process_environment(), cwd=dedup.home, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False,
        )  # fmt: skip

    assert process("snapshot", "site").returncode == 0
    assert process("restore", "--to", "r").returncode == 0
    assert (dedup.home / "r" / "site" / "index.html").exists()
    assert process("snapshots", "-r", "nowhere").returncode == 10
    assert process("snapshots", "--nonsense").returncode == 2


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (("restore", "--to", "r"), "run it again: what is right already is kept"),
        (("restore",), "go on with: dedup restore --to restored-"),
        (("check", "--read-data"), "run it again"),
        (("dump", "latest", "--output", "x.tar"), "run it again"),
        (("snapshot", "site", "--force"), "run it again: what was stored is used"),
    ],
)
def test_who_stops_a_command_is_told_what_the_next_run_makes_of_it(
    dedup: Dedup, site: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], hint: str
) -> None:
    dedup.snapshot(site)
    monkeypatch.setattr(
        Signals, "take_token", lambda signals, hint="run it again": (signals.token.cancel(), take(signals, hint))[1]
    )

    run = dedup(*arguments)

    assert run.exit_code == 130
    (line,) = [line for line in run.err.splitlines() if line.startswith("  try: ")]
    assert line.startswith(f"  try: {hint}") and (hint.endswith("-") or line == f"  try: {hint}")
