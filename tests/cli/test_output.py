"""Tables, names and times look as they should, on a terminal and in a pipe."""

from __future__ import annotations

import io
import json

import pytest

from dedupstore.cli.errors import render, safe
from dedupstore.cli.options import Settings
from dedupstore.cli.output import Output, path_fields
from dedupstore.clock import FrozenClock
from dedupstore.errors import DedupError
from dedupstore.events import Finding

NOW = 1_795_273_801_204_000_000  # 2026-11-21T23:10:01.204+08:00


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def output(
    *, terminal: bool = False, environ: dict[str, str] | None = None, **settings: object
) -> tuple[Output, io.StringIO, io.StringIO]:
    chosen = Settings()
    for name, value in settings.items():
        setattr(chosen, name, value)
    stdout, stderr = (Terminal(), Terminal()) if terminal else (io.StringIO(), io.StringIO())
    return Output(chosen, FrozenClock(NOW), environ or {}, stdout=stdout, stderr=stderr), stdout, stderr


def test_a_table_is_aligned_also_where_letters_are_wide() -> None:
    out, stdout, _ = output()

    out.table(
        ("NAME", "SIZE", "WHEN"), [("a", "1 B", "x"), ("中文", "12.0 MB", ""), ("e\u0301", "0 B", "y")], right=("SIZE",)
    )

    assert stdout.getvalue() == (
        "NAME     SIZE  WHEN\n"
        "a         1 B  x\n"
        "中文  12.0 MB\n"
        "e\u0301         0 B  y\n"
    )  # fmt: skip


def test_an_empty_table_shows_its_headings() -> None:
    out, stdout, _ = output()

    out.table(("ID", "TIME"), [])

    assert stdout.getvalue() == "ID  TIME\n"


def test_with_json_only_json_reaches_stdout() -> None:
    out, stdout, stderr = output(json=True)

    out.line("for people")
    out.table(("A",), [("b",)])
    out.note("aside")
    out.document({"items": ["ü", 1]})

    assert stdout.getvalue() == '{"v":1,"items":["\\u00fc",1]}\n'
    assert stderr.getvalue() == "aside\n"


def test_without_json_no_json_reaches_stdout() -> None:
    out, stdout, _ = output()

    out.begin("snapshot")
    out.event("progress", done=1)
    out.document({"items": []})
    out.finish()

    assert stdout.getvalue() == ""


def test_a_summary_comes_once_and_only_in_a_stream() -> None:
    out, stdout, _ = output(json=True)
    out.finish()
    assert stdout.getvalue() == ""

    out.begin("snapshot", source="site")
    out.finish("ok", files={"new": 1})
    out.finish("failed", exit_code=1)

    events = [json.loads(line) for line in stdout.getvalue().splitlines()]
    assert [event["event"] for event in events] == ["start", "summary"]
    assert events[0] | {"run": ""} == {
        "v": 1, "event": "start", "ts": "2026-11-21T23:10:01.204+08:00", "run": "", "op": "snapshot", "source": "site",
    }  # fmt: skip
    assert events[1]["duration_s"] == 0.0


def test_run_ids_sort_by_time() -> None:
    early, late = (
        Output(Settings(), FrozenClock(now), {}, stdout=io.StringIO(), stderr=io.StringIO())
        for now in (NOW, NOW + 10**7)
    )

    assert early.begin("check") < late.begin("check")


def test_names_are_escaped_on_a_terminal_and_exact_in_a_pipe() -> None:
    name = b"a\x1b]52;\xff\n"

    assert output(terminal=True)[0].name(name) == "a\\x1b]52;\\xff\\x0a"
    assert output()[0].name(name).encode("utf-8", "surrogateescape") == name


def test_messages_with_control_characters_are_escaped() -> None:
    out, _, stderr = output()

    out.findings([Finding(code="file.vanished", message="gone\x1b[2J", path=b"x\ry")])

    assert stderr.getvalue() == "warning: x\\x0dy: gone\\x1b[2J\n"
    assert safe("ü\x07\udcff") == "ü\\x07\\xff"
    assert "\x1b" not in render(DedupError("a\x1b", why="b\x1b", hints=["c\x1b"]))


@pytest.mark.parametrize("lone", ["\ud800", "a\udfff", "\udc7f ü"])
def test_no_text_is_too_broken_to_be_shown(lone: str) -> None:
    assert safe(lone).isprintable()


def test_colours_only_on_a_terminal_that_wants_them() -> None:
    assert output(terminal=True)[0].styled
    assert not output()[0].styled
    assert not output(terminal=True, no_color=True)[0].styled
    assert not output(terminal=True, environ={"NO_COLOR": "1"})[0].styled
    assert not output(terminal=True, environ={"TERM": "dumb"})[0].styled


def test_times_are_local_or_utc() -> None:
    local, utc = output()[0], output(utc=True)[0]

    assert local.timestamp(NOW) == "2026-11-21T23:10:01.204+08:00"
    assert utc.timestamp(NOW) == "2026-11-21T15:10:01.204+00:00"
    assert (local.minute(NOW), utc.minute(NOW)) == ("2026-11-21 23:10", "2026-11-21 15:10 UTC")
    assert (local.second(NOW), utc.second(NOW)) == ("2026-11-21 23:10:01", "2026-11-21 15:10:01Z")
    assert utc.timestamp(-1_000_000_000) == "1969-12-31T23:59:59.000+00:00"


def test_paths_that_are_not_utf_8_come_with_their_bytes() -> None:
    assert path_fields("ü".encode()) == {"path": "ü"}
    assert path_fields(b"\xff") == {"path": "\ufffd", "path_b64": "/w=="}
