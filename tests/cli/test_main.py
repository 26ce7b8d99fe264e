"""Every ending of a command becomes the right text on the right stream and the right exit code."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.commands import run
from tests.support.dedup import PATIENCE_SECONDS

ROOT = Path(__file__).resolve().parents[2]


def settings_of(output: str) -> dict[str, str]:
    return dict(word.split("=", 1) for word in output.split())


@pytest.mark.parametrize(
    "arguments",
    [
        [
            "-r",
            "/a",
            "-c",
            "/c",
            "--json",
            "-q",
            "-vv",
            "-y",
            "--utc",
            "--no-input",
            "--no-color",
            "--progress",
            "log",
            "settings",
        ],
        [
            "settings",
            "-r",
            "/a",
            "-c",
            "/c",
            "--json",
            "-q",
            "-vv",
            "-y",
            "--utc",
            "--no-input",
            "--no-color",
            "--progress",
            "log",
        ],
        [
            "-r",
            "/b",
            "--config=/c",
            "--json",
            "-q",
            "settings",
            "-vv",
            "-r",
            "/a",
            "-y",
            "--utc",
            "--no-input",
            "--no-color",
            "--progress=log",
        ],
    ],
)
def test_global_options_stand_before_or_after_the_command(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*arguments) == 0

    assert settings_of(capsys.readouterr().out) == {
        "repo": "/a", "config": "/c", "json": "True", "progress": "log", "quiet": "True", "verbose": "2", "no_color": "True",
        "no_input": "True", "yes": "True", "utc": "True", "depth": "0",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "repo"),
    [
        (["settings"], "/environment"),
        (["-r", "/before", "settings"], "/before"),
        (["settings", "-r", "/after"], "/after"),
        (["-r", "/before", "settings", "-r", "/after"], "/after"),
    ],
)
def test_a_flag_wins_over_the_environment(
    arguments: list[str], repo: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEDUP_REPO", "/environment")
    monkeypatch.setenv("DEDUP_SETTINGS_REPO", "/never")
    monkeypatch.setenv("DEDUP_SETTINGS_DEPTH", "7")

    assert run(*arguments) == 0

    found = settings_of(capsys.readouterr().out)
    assert (found["repo"], found["depth"]) == (repo, "7")


def test_an_error_tells_what_why_try_and_code_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("refuses") == 10

    streams = capsys.readouterr()
    assert streams.out == ""
    assert streams.err == (
        "error: no repository at /mnt/\\x1b[31mbackup\n"
        "  why: the directory is empty\n"
        "  try: mount it\n"
        "       dedup init -r /mnt/backup\n"
        "  code: repo.not_found (exit 10)\n"
    )


def test_an_error_is_one_json_event_on_stdout_with_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("refuses", "--json") == 10

    streams = capsys.readouterr()
    event = json.loads(streams.out)
    assert event.pop("ts")
    assert event == {
        "v": 1, "event": "error", "code": "repo.not_found", "exit_code": 10,
        "message": "no repository at /mnt/\\x1b[31mbackup", "why": "the directory is empty",
        "try": ["mount it", "dedup init -r /mnt/backup"],
    }  # fmt: skip
    assert streams.err == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["setings"], "no such command 'setings'"),
        (["settings", "--dept", "1"], "no such option '--dept'"),
        (["settings", "--depth", "deep"], "'deep' is not a valid integer"),
        (["settings", "surplus"], "unexpected extra argument"),
        (["nested", "dep"], "no such command 'dep'"),
    ],
)
def test_a_wrong_call_says_what_was_meant_in_both_languages(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*arguments) == 2
    text = capsys.readouterr()
    assert run(*arguments, "--json") == 2
    machine = capsys.readouterr()

    assert message in text.err
    assert text.out == ""
    event = json.loads(machine.out)
    assert (event["event"], event["code"], event["exit_code"]) == ("error", "usage", 2)
    assert message in event["message"]
    if "such" in message:
        assert any("did you mean" in hint for hint in event["try"])


def test_a_word_after_the_double_dash_is_no_option(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("setings", "--", "--json") == 2

    assert capsys.readouterr().out == ""


def test_the_value_a_command_returns_is_the_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("warns") == 3

    assert capsys.readouterr() == ("data\n", "told to the person\n")


def test_quiet_hides_notes_and_no_data(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("warns", "-q") == 3

    assert capsys.readouterr() == ("data\n", "")


def test_no_argument_shows_the_help_and_is_a_wrong_call(capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 2

    assert capsys.readouterr().err.startswith("Examples:")


def test_a_stream_starts_with_start_and_ends_with_summary(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("streams", "--json") == 3

    streams = capsys.readouterr()
    events = [json.loads(line) for line in streams.out.splitlines()]
    assert [event["event"] for event in events] == ["start", "progress", "warning", "summary"]
    assert {event["v"] for event in events} == {1}
    assert len({event["run"] for event in events}) == 1
    assert re.fullmatch(r"r_[0-9a-y]{26}", events[0]["run"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+08:00", events[0]["ts"])
    assert events[2]["path_b64"] == "YS//LnR4dA=="
    assert events[2]["path"] == "a/\ufffd.txt"
    assert (events[3]["status"], events[3]["exit_code"], events[3]["files"]) == ("warnings", 3, {"new": 3})
    assert streams.err == "warning: a/\\xff.txt: permission denied\n"


def test_a_stream_that_fails_ends_with_error_and_summary(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("streams", "--fail", "--json") == 10

    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [event["event"] for event in events][-2:] == ["error", "summary"]
    assert (events[-1]["status"], events[-1]["exit_code"]) == ("failed", 10)


def test_progress_can_be_left_out_of_a_stream(capsys: pytest.CaptureFixture[str]) -> None:
    for flag in ("-q", "--progress=none"):
        run("streams", "--json", flag)
        assert '"progress"' not in capsys.readouterr().out


def test_an_unexpected_error_leaves_a_private_report_without_secrets(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEDUP_PASSPHRASE", "hunter2hunter2")

    assert run("bug", "--", "/home/private/path") == 1

    text = capsys.readouterr().err
    reports = list((tmp_path / "state" / "reports").iterdir())
    assert len(reports) == 1
    assert str(reports[0]) in text
    assert "Traceback" not in text
    assert "code: internal (exit 1)" in text
    assert reports[0].stat().st_mode & 0o777 == 0o600
    content = reports[0].read_text()
    assert "Traceback" in content
    assert "ValueError: *** at https://***@host/?token=*** ***" in content
    for secret in ("hunter2", "sesame", "abc ", "0123456789abcdef0123", "/home/private"):
        assert secret not in content + text


def test_a_report_that_cannot_be_written_is_no_second_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("DEDUP_STATE_DIR", str(tmp_path / "file" / "state"))

    assert run("bug") == 1

    assert "run it again with -vv" in capsys.readouterr().err


def test_the_traceback_is_shown_when_asked_for_twice(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("refuses", "-v") == 10
    assert "Traceback" not in capsys.readouterr().err

    assert run("refuses", "-vv") == 10
    assert "Traceback" in capsys.readouterr().err


def test_nobody_to_ask_is_an_error_with_the_line_to_add(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("asks", "--no-input") == 2
    assert "add --yes" in capsys.readouterr().err

    assert run("asks", "--yes") == 0
    assert capsys.readouterr().out == "agreed: True\n"


def test_a_passphrase_comes_from_the_environment_or_the_error_names_the_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("secret", "--no-input") == 2
    assert "try: export DEDUP_PASSPHRASE_FILE=/etc/dedup/passphrase" in capsys.readouterr().err

    monkeypatch.setenv("DEDUP_PASSPHRASE", "12345")
    assert run("secret") == 0
    assert capsys.readouterr().out == "5 bytes\n"


def test_the_repository_comes_from_a_flag_a_variable_or_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("nested", "deep") == 2
    assert "code: usage.no_repository" in capsys.readouterr().err

    (tmp_path / "repo").write_text("/from/file\n")
    monkeypatch.setenv("DEDUP_REPO_FILE", str(tmp_path / "repo"))
    assert run("nested", "deep") == 0
    assert run("nested", "deep", "-r", "/c") == 0
    assert run("nested", "-r", "/b", "deep") == 0
    assert run("-r", "/a", "nested", "deep") == 0
    assert capsys.readouterr().out.split() == ["/from/file", "/c", "/b", "/a"]


def test_selectors_are_shared(capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        run(
            "selects",
            "--at",
            "-90m",
            "--snapshot",
            "latest",
            "--source",
            "s",
            "--host",
            "h",
            "--tag",
            "a",
            "--tag",
            "b",
            "--dry-run",
        )
        == 0
    )

    assert capsys.readouterr().out == "-90m latest s h ('a', 'b') True\n"


def test_a_name_that_is_not_utf_8_passes_through_a_pipe() -> None:
    code = (
        "from tests.support.commands import *\nfrom dedupstore.cli.output import prepare_streams, Output\n"
        "import sys\nfrom dedupstore.cli.options import Settings\nfrom dedupstore.clock import SystemClock\nprepare_streams()\n"
        "out = Output(Settings(), SystemClock(), {}, stdout=sys.stdout, stderr=sys.stderr)\nout.line(out.name(b'a\\xff\\x1b'))\n"
    )
    environment = os.environ | {"PYTHONIOENCODING": "utf-8"}

    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        env=environment,
        timeout=PATIENCE_SECONDS,
        check=True,
    )

    assert done.stdout == b"a\xff\x1b\n"
