from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path

import pytest

from dedupstore.cancel import CancelToken
from dedupstore.errors import Interrupted, SourceFailed, UsageError
from dedupstore.sources.base import Stream
from dedupstore.sources.command import CommandStream, StdinStream

ENVIRONMENT = {"PATH": os.environ["PATH"]}


def shell(script: str, cancel: CancelToken | None = None, **environment: str) -> CommandStream:
    return CommandStream(["sh", "-c", script], ENVIRONMENT | environment, cancel)


def drain(stream: Stream) -> bytes:
    view = memoryview(bytearray(1 << 16))
    content = bytearray()
    while count := stream.readinto(view):
        content += view[:count]
    return bytes(content)


def is_running(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] != b"Z"
    except FileNotFoundError:
        return False


def wait_until_gone(pid: int) -> bool:
    deadline = time.monotonic() + 5
    while is_running(pid) and time.monotonic() < deadline:
        os.sched_yield()
    return not is_running(pid)


def test_the_output_of_a_command_that_succeeds_is_read_to_its_end() -> None:
    with shell("printf abc; printf 'warning\\n' >&2; printf def") as stream:
        assert drain(stream) == b"abcdef"
        assert stream.readinto(memoryview(bytearray(1))) == 0


@pytest.mark.parametrize("script", ["sleep 600", "exec >&-; sleep 600", "while :; do echo x; done"])
def test_a_command_that_takes_longer_than_it_may_has_failed(script: str) -> None:
    with CommandStream(["sh", "-c", script], ENVIRONMENT, timeout_seconds=0.3) as stream:
        with pytest.raises(SourceFailed) as raised:
            drain(stream)

    assert raised.value.code == "source.command_timeout"
    assert "still running after 0.3 s" in raised.value.message


def test_a_limit_that_is_kept_changes_nothing() -> None:
    with CommandStream(["sh", "-c", "printf abc"], ENVIRONMENT, timeout_seconds=600) as stream:
        assert drain(stream) == b"abc"


def test_much_output_comes_through_whole() -> None:
    with CommandStream([sys.executable, "-c", "import sys; sys.stdout.write('x' * 20_000_000)"], ENVIRONMENT) as stream:
        assert len(drain(stream)) == 20_000_000


def test_a_command_that_prints_while_it_is_fed_does_not_stop() -> None:
    token = CancelToken()
    timer = threading.Timer(20, token.cancel)
    timer.start()
    with CommandStream(
        ["sh", "-c", "cat; echo end >&2; exit 3"], dict(os.environ), token, stdin=b"", talk=True
    ) as stream:
        for _ in range(8):
            stream.feed(bytes(1 << 20))
        stream.end_input()
        with pytest.raises(SourceFailed, match="exit status 3") as failed:
            drain(stream)
    timer.cancel()
    assert "end" in str(failed.value.why)


def test_a_command_that_fails_half_way_cannot_be_read_to_its_end() -> None:
    with shell("printf half; echo 'disk full \x1b[31m' >&2; exit 7") as stream:
        view = memoryview(bytearray(100))
        assert stream.readinto(view) == 4

        with pytest.raises(SourceFailed) as caught:
            drain(stream)

    assert caught.value.message == "sh ended with exit status 7"
    assert caught.value.why == "disk full \\x1b[31m"
    assert caught.value.exit_code == 6


def test_a_command_that_is_killed_cannot_be_read_to_its_end() -> None:
    with shell("printf half; kill -9 $$") as stream, pytest.raises(SourceFailed) as caught:
        drain(stream)

    assert caught.value.message == "sh was killed by SIGKILL"
    assert caught.value.why == "it wrote nothing to standard error"


def test_a_command_that_fails_after_closing_its_output_cannot_be_read_to_its_end() -> None:
    with shell("printf all; exec >&-; exit 3") as stream, pytest.raises(SourceFailed):
        drain(stream)


def test_a_flood_on_standard_error_neither_blocks_nor_fills_memory() -> None:
    script = "import sys; [sys.stderr.write(f'line {n} ' + 'x' * 200 + chr(10)) for n in range(100_000)]; sys.exit(1)"
    with CommandStream([sys.executable, "-c", script], ENVIRONMENT) as stream, pytest.raises(SourceFailed) as caught:
        drain(stream)

    lines = caught.value.why.split("\n")
    assert len(lines) == 10
    assert lines[-1].startswith("line 99999 ")
    assert len(caught.value.why) < 10_000


def test_one_endless_line_of_complaint_is_cut() -> None:
    script = "import sys; sys.stderr.write('x' * 1_000_000); sys.exit(1)"
    with CommandStream([sys.executable, "-c", script], ENVIRONMENT) as stream, pytest.raises(SourceFailed) as caught:
        drain(stream)

    assert 0 < len(caught.value.why) <= 500


def test_the_arguments_may_hold_a_password_and_are_not_repeated() -> None:
    with shell("exit 1 # --password=hunter2") as stream, pytest.raises(SourceFailed) as caught:
        drain(stream)

    assert "hunter2" not in f"{caught.value.message} {caught.value.why} {caught.value.hints}"


def test_a_command_sees_its_environment_without_our_passphrases() -> None:
    secrets = {
        "DEDUP_PASSPHRASE": "a",
        "DEDUP_PASSPHRASE_FILE": "b",
        "DEDUP_PASSPHRASE_COMMAND": "c",
        "DEDUP_PASSPHRASE_FD": "3",
        "DEDUP_NEW_PASSPHRASE": "d",
    }
    with shell("env", **secrets, PGHOST="db") as stream:
        seen = drain(stream)

    assert b"PASSPHRASE" not in seen
    assert b"PGHOST=db" in seen


def test_a_command_reads_nothing_and_has_no_terminal() -> None:
    with shell("cat; (: </dev/tty) 2>/dev/null && echo terminal; ps -o pgid= -p $$ | tr -d ' \\n'") as stream:
        group = drain(stream)

    assert int(group) != os.getpgrp()


@pytest.mark.parametrize("argv", [["/no/such/program"], ["/"], ["a\0b"]])
def test_a_command_that_cannot_be_started_fails_the_source(argv: list[str]) -> None:
    with pytest.raises(SourceFailed, match="could not be started") as caught, CommandStream(argv, ENVIRONMENT):
        pass

    assert caught.value.exit_code == 6


def test_no_command_is_a_mistake_in_the_call() -> None:
    with pytest.raises(UsageError):
        CommandStream([], ENVIRONMENT)


def test_leaving_early_kills_the_command_and_its_children() -> None:
    with shell("sleep 1000 & echo $!; echo $$; wait") as stream:
        view = memoryview(bytearray(100))
        said = b""
        while said.count(b"\n") < 2:
            said += view[: stream.readinto(view)]

    child, leader = map(int, said.split())
    assert wait_until_gone(child)
    assert wait_until_gone(leader)


def test_at_its_time_limit_all_that_a_command_started_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    script = f"(trap '' TERM; echo; exec sleep 600) & echo $! > {path}; wait"

    with CommandStream(["sh", "-c", script], ENVIRONMENT, timeout_seconds=0.5) as stream:
        with pytest.raises(SourceFailed, match="still running"):
            stream.wait()

    assert wait_until_gone(int(path.read_text()))


def test_a_command_that_ignores_the_polite_signal_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dedupstore.sources.command._TERMINATE_SECONDS", 0.05)
    with shell("trap '' TERM; echo $$; while :; do sleep 1000; done") as stream:
        view = memoryview(bytearray(100))
        leader = int(bytes(view[: stream.readinto(view)]))

    assert wait_until_gone(leader)


def test_a_silent_command_is_stopped_by_cancelling() -> None:
    cancel = CancelToken()
    timer = threading.Timer(0.05, cancel.cancel, kwargs={"exit_code": 143})
    timer.start()

    with pytest.raises(Interrupted) as caught, shell("sleep 1000", cancel) as stream:
        drain(stream)

    assert caught.value.exit_code == 143


def test_a_command_that_closed_its_output_but_does_not_end_is_stopped_by_cancelling() -> None:
    cancel = CancelToken()
    threading.Timer(0.05, cancel.cancel).start()

    with pytest.raises(Interrupted), shell("exec >&-; exec sleep 1000", cancel) as stream:
        drain(stream)


def test_no_descriptor_stays_open() -> None:
    before = sorted(os.listdir("/proc/self/fd"))

    for script in ("echo x", "exit 1", "sleep 1000"):
        with shell(script) as stream:
            if script == "echo x":
                drain(stream)

    assert sorted(os.listdir("/proc/self/fd")) == before


def test_standard_input_is_read_to_its_end() -> None:
    reader, writer = os.pipe()
    os.write(writer, b"a dump")
    os.close(writer)

    assert drain(StdinStream(reader)) == b"a dump"
    os.close(reader)


def test_a_file_as_standard_input_is_read_to_its_end(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"x" * 200_000)
    with open(tmp_path / "f", "rb") as file:
        assert drain(StdinStream(file.fileno())) == b"x" * 200_000


def test_silent_standard_input_is_left_by_cancelling() -> None:
    reader, writer = os.pipe()
    cancel = CancelToken()
    threading.Timer(0.05, cancel.cancel).start()

    with pytest.raises(Interrupted):
        drain(StdinStream(reader, cancel))

    os.close(reader)
    os.close(writer)


def test_closed_standard_input_fails_the_source() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    os.close(writer)

    with pytest.raises(SourceFailed, match="standard input cannot be read"):
        drain(StdinStream(reader))


def test_of_a_fast_writer_more_is_waited_for_than_the_first_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    naps: list[float] = []

    def nap(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 1:
            os.write(writer, b" and what follows")

    monkeypatch.setattr(time, "sleep", nap)
    stream = StdinStream(reader)
    os.write(writer, b"a little")
    view = memoryview(bytearray(1 << 20))

    assert bytes(view[: stream.readinto(view)]) == b"a little and what follows"
    os.write(writer, b"x" * (600 << 10))
    assert stream.readinto(view) == 600 << 10
    os.write(writer, b"the end")
    os.close(writer)
    assert bytes(view[: stream.readinto(view)]) == b"the end"
    assert stream.readinto(view) == 0
    assert len(naps) == 1, "neither for what is much, nor for what nobody adds to"
    os.close(reader)


def test_a_narrow_pipe_is_emptied_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """While we wait who writes would have to wait as well."""
    monkeypatch.setattr("dedupstore.sources.command._widen", lambda fd: False)
    monkeypatch.setattr(time, "sleep", None)
    reader, writer = os.pipe()
    os.write(writer, b"a little")

    view = memoryview(bytearray(100))
    assert StdinStream(reader).readinto(view) == 8
    os.close(reader)
    os.close(writer)
