"""Questions on a real terminal: typed answers, a passphrase that is not echoed, Ctrl-C while waiting."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.support.terminal import Terminal

ROOT = Path(__file__).resolve().parents[2]


def terminal_of(*arguments: str) -> Terminal:
    """A command of tests/support/commands.py on a terminal."""
    code = f"from tests.support.commands import run; raise SystemExit(run(*{arguments!r}))"
    return Terminal([sys.executable, "-c", code], cwd=ROOT)


@pytest.mark.parametrize(("answer", "agreed"), [("y\n", True), ("n\n", False), ("\n", False)])
def test_a_question_about_a_plan_is_answered(answer: str, agreed: bool) -> None:
    with terminal_of("asks") as terminal:
        terminal.wait_for("Delete it? [y/N]:")
        terminal.type(answer)

        assert terminal.end() == 0
        assert f"agreed: {agreed}" in terminal.screen


def test_a_typed_passphrase_is_not_echoed() -> None:
    with terminal_of("secret") as terminal:
        terminal.wait_for("Passphrase:")
        terminal.type("hunter2\n")

        assert terminal.end() == 0
        assert "7 bytes" in terminal.screen
        assert "hunter2" not in terminal.screen


def test_control_c_while_a_question_waits_ends_at_once() -> None:
    for command, question in (("asks", "Delete it?"), ("secret", "Passphrase:")):
        with terminal_of(command) as terminal:
            terminal.wait_for(question)
            terminal.type("\x03")

            assert terminal.end() == 130
            assert "code: interrupted (exit 130)" in terminal.screen


def test_the_end_of_input_is_no_answer() -> None:
    with terminal_of("asks") as terminal:
        terminal.wait_for("Delete it?")
        terminal.type("\x04")

        assert terminal.end() == 2
        assert "no answer was given" in terminal.screen
