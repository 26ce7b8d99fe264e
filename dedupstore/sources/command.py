"""Streams that come from a process: the output of a command, or standard input."""

from __future__ import annotations

import errno
import fcntl
import os
import select
import signal
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Self

from dedupstore.cancel import CancelToken
from dedupstore.errors import SourceFailed, UsageError
from dedupstore.sources.environment import child_environment
from dedupstore.units import format_duration, printable

_POLL_MS = 200
"""How long a cancelled run may go unnoticed while a stream is silent."""

_TERMINATE_SECONDS = 5.0
_STDERR_KEPT = 16 << 10
_STDERR_LINES = 10
_PIPE_BYTES = 1 << 20
_WORTH_READING = 1 << 18
_GATHER_SECONDS = 0.002
_EXCHANGE_BYTES = 1 << 18
_READ_BYTES = 1 << 16


class CommandStream:
    """The standard output of a command; its end can only be read when the command succeeded.

    The command gets no standard input, no terminal, a process group of its own, and no passphrase of ours. Leaving
    the context before the end kills the whole group. One thread reads; another drains standard error meanwhile.
    A command that is still running `timeout_seconds` after its start has failed.
    """

    def __init__(
        self,
        argv: Sequence[str],
        env: Mapping[str, str],
        cancel: CancelToken | None = None,
        *,
        timeout_seconds: float | None = None,
        fds: Sequence[int] = (),
        stdin: bytes | None = None,
        talk: bool = False,
    ) -> None:
        """`fds` are inherited. `stdin` is what it reads there, `talk`: before what is sent to it."""
        if not argv:
            raise UsageError("no command to run", hints=["dedup snapshot --command NAME -- pg_dump blog"])
        self._argv = list(argv)
        self._env = child_environment(env)
        self._cancel = cancel or CancelToken()
        self._name = printable(os.fsencode(os.path.basename(self._argv[0]) or self._argv[0]))
        self._ended = False
        self._deadline = _Deadline(self._name, timeout_seconds)
        self._fds = tuple(fds)
        self._input = stdin
        self._talk = talk

    def __enter__(self) -> Self:
        try:
            self._process = subprocess.Popen(
                self._argv,
                bufsize=0,
                stdin=subprocess.DEVNULL if self._input is None else subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=self._env,
                pass_fds=self._fds,
                # A new session, not only a new group: without a terminal nothing can stop to ask for a password.
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            why = os.strerror(error.errno or 0).lower() if isinstance(error, OSError) else str(error)
            raise SourceFailed(
                f"{self._name} could not be started", why=why, code="source.command_not_started"
            ) from error
        self._deadline.start()
        assert self._process.stdout is not None and self._process.stderr is not None
        self._stdout = self._process.stdout.fileno()
        self._wide = _widen(self._stdout)
        self._complaints = _Tail(self._process.stderr.fileno())
        if self._input is not None:
            self.send(self._input)
            if not self._talk:
                self.end_input()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        process = self._process
        if process.returncode is None and self._talk and error is None:
            # The end of what it is told is a polite way to end it.
            self.end_input()
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=_TERMINATE_SECONDS)
        if process.returncode is None:
            self._kill()
        assert process.stdout is not None and process.stderr is not None
        if process.stdin is not None:
            process.stdin.close()
        process.stdout.close()
        self._complaints.close()
        process.stderr.close()

    def send(self, data: bytes | memoryview) -> None:
        """Write to its standard input. One that does not read it any more says why at its end."""
        self._give(data, drop_output=False)

    def feed(self, data: bytes | memoryview) -> None:
        """As `send`. What it prints meanwhile is dropped: a pipe that nobody reads would stop it, and us."""
        self._give(data, drop_output=True)

    def _give(self, data: bytes | memoryview, *, drop_output: bool) -> None:
        assert self._process.stdin is not None
        poll = select.poll()
        fd = self._process.stdin.fileno()
        poll.register(fd, select.POLLOUT)
        if drop_output:
            poll.register(self._stdout, select.POLLIN)
            dropped = memoryview(bytearray(_READ_BYTES))
        os.set_blocking(fd, False)
        rest = memoryview(data)
        while rest:
            self._cancel.check()
            ready = {number for number, _ in poll.poll(_POLL_MS)}
            if self._stdout in ready and not os.readv(self._stdout, [dropped]):
                poll.unregister(self._stdout)
            if fd in ready:
                try:
                    rest = rest[os.write(fd, rest) :]
                except BlockingIOError:
                    continue
                except BrokenPipeError:
                    return

    def exchange(self, pieces: Iterable[bytes | memoryview]) -> Iterator[memoryview]:
        """What it prints while it is told `pieces`; each is valid until the next. One that stops reading says why at its end."""
        assert self._process.stdin is not None
        given, told = iter(pieces), self._process.stdin.fileno()
        os.set_blocking(told, False)
        view = memoryview(bytearray(_EXCHANGE_BYTES))
        rest: memoryview | None = memoryview(b"")
        poll = select.poll()
        poll.register(self._stdout, select.POLLIN)
        poll.register(told, select.POLLOUT)
        while True:
            self._cancel.check()
            ready = {fd for fd, _ in poll.poll(_POLL_MS)}
            if self._stdout in ready:
                count = self.readinto(view)
                if not count:
                    return
                yield view[:count]
            if rest is not None and told in ready:
                rest = _told(told, rest or memoryview(next(given, b"")))
                if rest is None:
                    poll.unregister(told)
                    self.end_input()

    def end_input(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()

    def readinto(self, view: memoryview, /) -> int:
        """See Stream. Raises SourceFailed at the end of a command that failed, Interrupted when cancelled."""
        if self._ended:
            return 0
        count = _read_when_ready(self._stdout, view, self._cancel, self._name, self._deadline, wide=self._wide)
        if count == 0 and len(view):
            self._settle()
            self._ended = True
        return count

    def wait(self) -> None:
        """Wait until the command has ended, whatever it prints. What it started and left running goes on.

        A program in the background keeps the output open: its end cannot be waited for. Raises as `readinto` does.
        """
        unread = memoryview(bytearray(_READ_BYTES))
        poll = select.poll()
        poll.register(self._stdout, select.POLLIN)
        while self._process.poll() is None:
            self._cancel.check()
            self._deadline.check()
            if poll.poll(_POLL_MS // 10) and not os.readv(self._stdout, [unread]):
                break
        self._settle()
        self._ended = True

    def _settle(self) -> None:
        """Wait for the command, whose output has ended, and judge it."""
        while True:
            try:
                status = self._process.wait(timeout=_POLL_MS / 1000)
                break
            except subprocess.TimeoutExpired:
                self._cancel.check()
                self._deadline.check()
        if status == 0:
            return
        how = f"ended with exit status {status}" if status > 0 else f"was killed by {_signal_name(-status)}"
        raise SourceFailed(
            f"{self._name} {how}",
            why=self._complaints.last_lines() or "it wrote nothing to standard error",
            hints=["run the command by hand; nothing of its output was kept as a snapshot"],
            code="source.command_failed",
        )

    def _kill(self) -> None:
        process = self._process
        # The leader is not waited for yet, so the number of its group cannot have become someone else's.
        _signal_group(process.pid, signal.SIGTERM)
        try:
            process.wait(timeout=_TERMINATE_SECONDS)
        except subprocess.TimeoutExpired:
            pass
        finally:
            _signal_group(process.pid, signal.SIGKILL)
            process.wait()


class _Deadline:
    """When a command has to be done; without a limit never."""

    def __init__(self, name: str, seconds: float | None) -> None:
        self._name = name
        self._seconds = seconds
        self._end = float("inf")

    def start(self) -> None:
        if self._seconds is not None:
            self._end = time.monotonic() + self._seconds

    def check(self) -> None:
        if time.monotonic() > self._end:
            raise SourceFailed(
                f"{self._name} was still running after {format_duration(self._seconds or 0)}",
                why="that is the time limit it was given",
                hints=["raise the limit, or see by hand why it takes so long"],
                code="source.command_timeout",
            )


class StdinStream:
    """Whatever another process writes into our standard input. Whether it succeeded nobody can know.

    But one that writes nothing at all has most often failed: unless `may_be_empty`, that is SourceFailed.
    """

    def __init__(self, fd: int = 0, cancel: CancelToken | None = None, *, may_be_empty: bool = False) -> None:
        self._fd = fd
        self._empty = not may_be_empty
        self._cancel = cancel or CancelToken()
        self._wide = _widen(fd)

    def readinto(self, view: memoryview, /) -> int:
        count = _read_when_ready(self._fd, view, self._cancel, "standard input", wide=self._wide)
        if count:
            self._empty = False
        elif self._empty and len(view):
            raise SourceFailed(
                "nothing was piped in",
                why="standard input ended without a byte: the command before the pipe has probably failed",
                hints=[
                    "--allow-empty, if nothing is what it should be",
                    "let dedup run the command, and see its exit status: dedup snapshot --command NAME -- COMMAND",
                ],
                code="source.empty",
            )
        return count


class _Tail:
    """Drains a descriptor in a thread and keeps only its last bytes."""

    def __init__(self, fd: int) -> None:
        self._fd = os.dup(fd)
        self._kept = b""
        self._cut = False
        # A daemon: a grandchild that outlives everything must not keep us from ending.
        self._thread = threading.Thread(target=self._drain, name="stderr", daemon=True)
        self._thread.start()

    def _drain(self) -> None:
        try:
            while piece := os.read(self._fd, 1 << 16):
                kept = self._kept + piece
                self._cut = self._cut or len(kept) > _STDERR_KEPT
                self._kept = kept[-_STDERR_KEPT:]
        except OSError:
            pass
        finally:
            os.close(self._fd)

    def last_lines(self) -> str:
        """The end of what was written, one safe line each. Waits a moment for the rest."""
        self._thread.join(timeout=1.0)
        lines = self._kept.replace(b"\r", b"\n").split(b"\n")
        if self._cut:
            del lines[0]
        texts = [printable(line)[:500] for line in lines if line.strip()]
        return "\n".join(texts[-_STDERR_LINES:])

    def close(self) -> None:
        self._thread.join(timeout=1.0)


def _read_when_ready(
    fd: int, view: memoryview, cancel: CancelToken, name: str, deadline: _Deadline | None = None, *, wide: bool
) -> int:
    """What is there, once something is. Of a `wide` pipe with little in it a little later: each reading costs us and the writer
    more than it moves.
    """
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    try:
        while not (ready := poll.poll(_POLL_MS)):
            cancel.check()
            if deadline is not None:
                deadline.check()
        cancel.check()
        if deadline is not None:
            deadline.check()
        if wide and ready[0][1] == select.POLLIN and _waiting(fd) < min(view.nbytes, _WORTH_READING):
            # Who writes goes on meanwhile: there is room for a few milliseconds of a fast command.
            time.sleep(_GATHER_SECONDS)
        return os.readv(fd, [view])
    except OSError as error:
        raise SourceFailed(f"{name} cannot be read", why=os.strerror(error.errno or 0).lower()) from error


def _waiting(fd: int) -> int:
    """How many bytes a pipe holds."""
    return int.from_bytes(fcntl.ioctl(fd, termios.FIONREAD, bytes(4)), sys.byteorder)


def _told(fd: int, data: memoryview) -> memoryview | None:
    """What is left of it after one write; None when there was nothing, or when nobody reads it any more."""
    if not data:
        return None
    try:
        return data[os.write(fd, data) :]
    except BlockingIOError:
        return data
    except BrokenPipeError:
        return None


def _widen(fd: int) -> bool:
    """A pipe of 1 MiB, so that a fast command is not woken for every 64 KiB; whether it is one. Only where allowed."""
    request = getattr(fcntl, "F_SETPIPE_SZ", None)
    if request is not None:
        with suppress(OSError):
            return fcntl.fcntl(fd, request, _PIPE_BYTES) >= _PIPE_BYTES
    return False


def _signal_group(group: int, number: signal.Signals) -> None:
    try:
        os.killpg(group, number)
    except OSError as error:
        if error.errno not in (errno.ESRCH, errno.EPERM):
            raise


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
