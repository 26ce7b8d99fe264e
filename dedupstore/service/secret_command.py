"""A secret that a program prints: `DEDUP_PASSPHRASE_COMMAND`, `command:`, `keyring:`.

Apart from secrets.py because what starts programs takes longer to load than reading a file or a variable.
"""

from __future__ import annotations

import os
import selectors
import shlex
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

from dedupstore.errors import UsageError


def output(
    command: str, environ: Mapping[str, str], origin: str, *, timeout_seconds: float, at_most_bytes: int
) -> bytes:
    """What the command prints. It is not given to a shell, reads nothing, and its messages go to our stderr.

    `environ` is all it gets of the environment; `origin` is where the command is written, for the messages.
    Raises UsageError `secret.command_failed`, `secret.too_long`.
    """
    try:
        arguments = shlex.split(command)
        if not arguments:
            raise ValueError("the command is empty")
        process = subprocess.Popen(
            arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=environ, process_group=0
        )
    except (ValueError, OSError) as exc:
        hints = (
            ["pipx install keyring, so that it is found: keyring get dedup NAME"]
            if origin.startswith("keyring:")
            else []
        )
        raise UsageError(
            f"cannot run the command of {origin}", why=str(exc), hints=hints, code="secret.command_failed"
        ) from exc
    with process:
        try:
            with _foreground(process.pid):
                return _read_bounded(process, timeout_seconds, at_most_bytes, origin)
        finally:
            # Nothing is left behind, neither it nor what it started; a group that has ended does not mind.
            with suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL)


@contextmanager
def _foreground(group: int) -> Iterator[None]:
    """Let the terminal, if we have one, belong to that group meanwhile: sudo, or a pinentry, asks there, and not on standard input."""
    try:
        terminal = os.open("/dev/tty", os.O_RDWR | os.O_CLOEXEC | os.O_NOCTTY)
    except OSError:
        yield
        return
    # Who is not in the foreground is stopped for giving the terminal away, unless this signal is blocked.
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})
    try:
        ours = os.getpgrp()
        given = os.tcgetpgrp(terminal) == ours
        if given:
            with suppress(OSError):
                os.tcsetpgrp(terminal, group)
                # It may have been stopped for reading before the terminal was its own.
                os.killpg(group, signal.SIGCONT)
        try:
            yield
        finally:
            if given:
                with suppress(OSError):
                    os.tcsetpgrp(terminal, ours)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        os.close(terminal)


def _read_bounded(process: subprocess.Popen[bytes], timeout_seconds: float, at_most_bytes: int, origin: str) -> bytes:
    assert process.stdout is not None
    deadline = time.monotonic() + timeout_seconds
    collected = bytearray()
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while selector.select(max(0.0, deadline - time.monotonic())):
            block = os.read(process.stdout.fileno(), 1 << 16)
            collected += block
            if len(collected) > at_most_bytes:
                raise UsageError(f"the command of {origin} prints too much for a secret", code="secret.too_long")
            if not block:
                return _checked_exit(process, deadline - time.monotonic(), bytes(collected), timeout_seconds, origin)
    raise _hangs(origin, timeout_seconds)


def _checked_exit(
    process: subprocess.Popen[bytes], left_seconds: float, collected: bytes, timeout_seconds: float, origin: str
) -> bytes:
    try:
        code = process.wait(max(0.1, left_seconds))
    except subprocess.TimeoutExpired as exc:
        raise _hangs(origin, timeout_seconds) from exc
    if code:
        ending = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        raise UsageError(f"the command of {origin} {ending}", code="secret.command_failed")
    return collected


def _hangs(origin: str, timeout_seconds: float) -> UsageError:
    return UsageError(
        f"the command of {origin} did not finish within {timeout_seconds:g} s",
        why="it may be waiting for input; it is given none",
        code="secret.command_failed",
    )
