"""A program with a pseudo-terminal as its keyboard and screen."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import subprocess
import termios
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

DEADLINE_SECONDS = 600


class Terminal:
    """Type, and wait for what appears. The program is killed when the context is left."""

    def __init__(self, command: Sequence[str], *, cwd: Path, env: Mapping[str, str] | None = None) -> None:
        self._master, slave = pty.openpty()
        self._process = subprocess.Popen(
            list(command),
            cwd=cwd,
            env=None if env is None else dict(env),
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(slave)
        self.screen = ""

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._master)

    def wait_for(self, text: str) -> None:
        """Read until the text was shown, beginning after what an earlier call waited for."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while text not in self.screen[self._seen :]:
            assert select.select([self._master], [], [], max(0, deadline - time.monotonic()))[0], self.screen
            block = self._read()
            assert block, f"it ended:\n{self.screen}"
            self.screen += block
        self._seen = self.screen.index(text, self._seen) + len(text)

    _seen = 0

    def type(self, text: str) -> None:
        """Type when the program waits for it: a signal just before its `read` would be noticed only after it."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not self._sleeping():
            assert time.monotonic() < deadline, self.screen
        os.write(self._master, text.encode())

    def end(self) -> int:
        """Everything to the end; the exit code."""
        while block := self._read():
            self.screen += block
        return self._process.wait(DEADLINE_SECONDS)

    def _sleeping(self) -> bool:
        try:
            return Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(") ")[2][0] in "SZ"
        except FileNotFoundError:  # no Linux: hope
            return True

    def _read(self) -> str:
        try:
            return os.read(self._master, 4096).decode("utf-8", "replace")
        except OSError:  # Linux says EIO once the last writer is gone
            return ""
