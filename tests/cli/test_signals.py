"""A command that is told to stop, or whose reader leaves, ends as it should, at once or after its step."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.commands import run
from tests.support.dedup import PATIENCE_SECONDS

ROOT = Path(__file__).resolve().parents[2]


def process(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False
    )


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_command_without_a_token_at_once(
    number: signal.Signals, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    before = signal.getsignal(number)

    assert run("stops", str(int(number))) == code

    assert f"code: interrupted (exit {code})" in capsys.readouterr().err
    assert signal.getsignal(number) is before


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_first_signal_lets_the_step_finish(
    number: signal.Signals, code: int, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run("polite", str(int(number))) == code

    streams = capfd.readouterr()
    assert streams.out == "the step was finished\n"
    assert "stopping after the current step" in streams.err
    assert "store  5 B" in streams.err  # SIGUSR1
    assert f"(exit {code})" in streams.err


def test_an_interrupted_stream_says_so(capfd: pytest.CaptureFixture[str]) -> None:
    assert run("polite", "2", "--json") == 130

    events = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert [event["event"] for event in events][-2:] == ["error", "summary"]
    assert events[-1]["status"] == "interrupted"


def test_the_second_signal_ends_the_process_at_once() -> None:
    code = (
        "import os\nfrom dedupstore.cli.signals import Signals\nsignals = Signals()\n"
        "with signals.installed():\n    signals.take_token()\n    os.kill(os.getpid(), 2)\n    os.kill(os.getpid(), 15)\n    print('reached')\n"
    )

    ended = process(code)

    assert (ended.returncode, ended.stdout) == (143, "")


def piped(arguments: tuple[str, ...], reader: str) -> tuple[str, str]:
    """Standard output and error of `dedup … | reader; echo its exit code`."""
    code = f"from tests.support.commands import run; raise SystemExit(run(*{arguments!r}))"
    line = f"{shlex.join([sys.executable, '-c', code])} | {reader}; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", line], cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=True
    )
    return done.stdout, done.stderr


def test_a_reader_that_leaves_ends_a_query_quietly() -> None:
    assert piped(("floods",), "head -n 2") == ("line 0\nline 1\n141\n", "")


def test_a_reader_that_leaves_does_not_stop_long_work() -> None:
    streams = piped(("floods", "--stream", "--json"), "head -n 1 >/dev/null")

    assert streams == ("0\n", "the work went on to its end\n")
