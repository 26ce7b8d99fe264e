"""The collector of reference cycles is slowed down for a command, and left as it was found."""

from __future__ import annotations

import gc
import subprocess
import sys
from pathlib import Path

import click
import pytest

from dedupstore.cli.collector import NEW_OBJECTS
from dedupstore.cli.main import main
from tests.support.dedup import PATIENCE_SECONDS

ROOT = Path(__file__).resolve().parents[2]


@click.command()
def tells() -> None:
    """Print after how many new objects the collector runs."""
    click.echo(gc.get_threshold()[0])


@click.command()
def breaks() -> None:
    """End in an error."""
    raise click.UsageError("no")


def group(command: click.Command) -> click.Group:
    return click.Group("dedup", commands=[command])


def test_a_command_runs_with_a_slower_collector(capsys: pytest.CaptureFixture[str]) -> None:
    before = gc.get_threshold()

    assert main(["tells"], root=group(tells)) == 0

    assert int(capsys.readouterr().out) == NEW_OBJECTS > before[0]
    assert gc.get_threshold() == before
    assert gc.isenabled()


def test_an_error_leaves_the_collector_as_it_was(capsys: pytest.CaptureFixture[str]) -> None:
    before = gc.get_threshold()

    assert main(["breaks"], root=group(breaks)) == 2

    assert gc.get_threshold() == before


def test_nothing_is_collected_when_the_interpreter_ends() -> None:
    # What is registered first runs last: it sees what the command line's own function has done.
    code = (
        "import atexit, gc\n"
        "atexit.register(lambda: print('frozen:', gc.get_freeze_count() > 0))\n"
        "from dedupstore.cli.main import main\n"
        "main(['--version'])\n"
        "print('frozen:', gc.get_freeze_count() > 0)\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=True
    )

    assert done.stdout.splitlines()[1:] == ["frozen: False", "frozen: True"]
