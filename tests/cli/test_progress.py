"""Progress is shown as the place wants it, at the pace the place wants, on a frozen clock."""

from __future__ import annotations

import io
import json
import socket
import tempfile
from pathlib import Path

import pytest

from dedupstore.cli.progress import describe, showing, views
from dedupstore.cli.session import Session
from dedupstore.cli.signals import Signals
from dedupstore.clock import FrozenClock
from dedupstore.events import Finding, Progress

NOW = 1_795_273_801_204_000_000


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def session(
    *, terminal: bool = False, environ: dict[str, str] | None = None, **settings: object
) -> tuple[Session, FrozenClock]:
    clock = FrozenClock(NOW)
    stream = Terminal if terminal else io.StringIO
    made = Session(
        clock=clock,
        environ=environ or {},
        signals=Signals(),
        stdin=io.StringIO(),
        stdout=io.StringIO(),
        stderr=stream(),
    )
    for name, value in settings.items():
        setattr(made.settings, name, value)
    return made, clock


def told(made: Session) -> list[str]:
    stream = made.out._stderr
    assert isinstance(stream, io.StringIO)
    return stream.getvalue().splitlines()


def events(made: Session) -> list[dict[str, object]]:
    stream = made.out._stdout
    assert isinstance(stream, io.StringIO)
    return [json.loads(line) for line in stream.getvalue().splitlines()]


@pytest.mark.parametrize(
    ("terminal", "environ", "settings", "expected"),
    [
        (True, {}, {}, ["Bar"]),
        (False, {}, {}, ["Log"]),
        (True, {"TERM": "dumb"}, {}, ["Log"]),
        (True, {}, {"progress": "log"}, ["Log"]),
        (False, {}, {"progress": "bar"}, ["Log"]),
        (True, {}, {"progress": "none"}, ["Nothing"]),
        (True, {}, {"quiet": True}, ["Nothing"]),
        (False, {}, {"json": True}, ["Nothing", "Events"]),
        (True, {}, {"json": True, "progress": "bar"}, ["Bar", "Events"]),
        (False, {}, {"json": True, "quiet": True}, ["Nothing"]),
        (False, {}, {"json": True, "progress": "none"}, ["Nothing"]),
        (False, {"NOTIFY_SOCKET": "/run/x"}, {}, ["Log", "Systemd"]),
        (False, {"NOTIFY_SOCKET": "nonsense"}, {}, ["Log"]),
    ],
)
def test_the_place_decides_how(
    terminal: bool, environ: dict[str, str], settings: dict[str, object], expected: list[str]
) -> None:
    made = views(session(terminal=terminal, environ=environ, **settings)[0])

    assert [type(view).__name__ for view in made] == expected
    for view in made:
        view.close()


def test_a_log_gets_a_line_per_tenth_or_per_minute_whichever_is_rarer() -> None:
    slow, slow_clock = session()
    fast, fast_clock = session()

    for made, clock, step in ((slow, slow_clock, 12.0), (fast, fast_clock, 0.5)):
        with showing(made) as listener:
            for done in range(101):
                listener.progress(Progress(phase="store", bytes_done=done, bytes_total=100))
                clock.advance(step)

    # 1 % in 12 s: a tenth takes two minutes, so tenths are rarer. 1 % in 0.5 s: minutes are rarer.
    assert [line.split("  ")[0] for line in told(slow)] == [f"store {percent} %" for percent in range(0, 101, 10)]
    assert [line.split("  ")[0] for line in told(fast)] == ["store 0 %"]


def test_a_stream_of_unknown_length_gets_a_line_per_minute_without_percent() -> None:
    made, clock = session()

    with showing(made) as listener:
        for _ in range(301):
            listener.progress(Progress(phase="dump", bytes_done=1000))
            clock.advance(1)

    assert len(told(made)) == 6
    assert not any("%" in line for line in told(made))


def test_every_phase_gets_its_line() -> None:
    made, _ = session()

    with showing(made) as listener:
        listener.progress(Progress(phase="plan"))
        listener.progress(Progress(phase="write"))

    assert told(made) == ["plan", "write"]


def test_errors_come_again_at_the_end_of_a_log_grouped() -> None:
    made, _ = session()

    with showing(made) as listener:
        for number in range(25):
            listener.finding(Finding(code="file.unreadable", message="permission denied", path=b"f%d" % number))
        listener.finding(Finding(code="file.vanished", message="vanished", path=b"\x1b"))
        listener.finding(Finding(code="note", message="by the way", severity="note"))

    lines = told(made)
    assert lines[:25] == [f"warning: f{number}: permission denied" for number in range(25)]
    assert lines[25:27] == ["warning: \\x1b: vanished", "note: by the way"]
    assert lines[27:] == [
        "warning: permission denied (25)", *[f"  f{number}" for number in range(20)], "  and 5 more",
        "warning: vanished (1)", "  \\x1b",
    ]  # fmt: skip


def test_a_json_stream_gets_at_most_one_progress_event_a_second() -> None:
    made, clock = session(json=True)
    made.out.begin("snapshot")

    with showing(made) as listener:
        for done in range(101):
            listener.progress(Progress(phase="store", bytes_done=done * 1000, bytes_total=200_000, current=b"a/\xff"))
            clock.advance(0.1)

    found = [event for event in events(made) if event["event"] == "progress"]
    assert len(found) == 11
    assert found[10] | {"ts": "", "run": ""} == {
        "v": 1, "event": "progress", "ts": "", "run": "", "phase": "store", "files": {"done": 0, "total": None},
        "bytes": {"done": 100_000, "total": 200_000, "stored": 0}, "rate": 10_000, "eta_s": 10.0, "errors": 0,
        "current": "a/\ufffd", "current_b64": "YS//",
    }  # fmt: skip


def test_systemd_is_told_a_status() -> None:
    # Not below `tmp_path`: the path of a socket may have 107 bytes at most.
    with (
        tempfile.TemporaryDirectory(prefix="notify-", dir="/tmp") as folder,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver,
    ):
        address = f"{folder}/socket"
        receiver.bind(address)
        made, _ = session(environ={"NOTIFY_SOCKET": address}, quiet=True)

        with showing(made) as listener:
            listener.progress(Progress(phase="store", bytes_done=61, bytes_total=100))

        assert receiver.recv(4096) == b"STATUS=store 61 %  61 B of 100 B"


def test_a_missing_systemd_socket_costs_nothing(tmp_path: Path) -> None:
    made, _ = session(environ={"NOTIFY_SOCKET": str(tmp_path / "missing")}, quiet=True)

    with showing(made) as listener:
        listener.progress(Progress(phase="store"))

    assert told(made) == []


def test_the_status_for_a_signal_is_of_now() -> None:
    made, clock = session(quiet=True)

    with showing(made) as listener:
        for done in range(51):
            listener.progress(
                Progress(phase="store", files_done=done, files_total=100, bytes_done=done * 10**6, bytes_total=10**8)
            )
            clock.advance(1)
        assert made.signals.status is not None
        line = made.signals.status()

    assert line == "store 50 %  50 of 100 files  50.0 MB of 100.0 MB  980.4 kB/s  51.0 s left"
    assert made.signals.status is None


def test_the_rate_belongs_to_the_phase() -> None:
    made, clock = session(json=True)
    made.out.begin("restore")

    with showing(made) as listener:
        listener.progress(Progress(phase="plan", bytes_done=0))
        clock.advance(100)
        listener.progress(Progress(phase="write", bytes_done=0))
        clock.advance(1)
        listener.progress(Progress(phase="write", bytes_done=5000))

    assert events(made)[-1]["rate"] == 5000


def test_a_bar_shows_findings_above_itself_and_leaves_nothing_behind(capsys: pytest.CaptureFixture[str]) -> None:
    made, clock = session(terminal=True, environ={"TERM": "xterm", "NO_COLOR": "1"})

    with showing(made) as listener:
        listener.progress(Progress(phase="store", bytes_done=5, current=b"x" * 100))
        clock.advance(1)
        listener.finding(Finding(code="file.vanished", message="vanished", path=b"a"))
        listener.progress(Progress(phase="store", bytes_done=50, bytes_total=100, files_done=3, errors=1))

    assert told(made) == ["warning: a: vanished"]
    assert capsys.readouterr().out == ""


def test_nothing_known_is_said_as_such() -> None:
    assert describe(Progress(), 0.0) == "starting"


def test_one_of_a_thing_is_told_as_one() -> None:
    assert describe(Progress(phase="store", files_done=1, errors=1), 0) == "store  1 file  1 error"
    assert describe(Progress(phase="store", files_done=0, files_total=1), 0) == "store 0 %  0 of 1 file"
    assert describe(Progress(phase="store", files_done=1, files_total=2, errors=2), 0) == (
        "store 50 %  1 of 2 files  2 errors"
    )


def test_damage_of_the_top_directory_is_no_empty_line() -> None:
    made, _ = session()

    with showing(made) as listener:
        listener.finding(Finding(code="x", message="not restored", severity="error", path=b""))

    assert told(made) == ["error: not restored", "error: not restored (1)"]
