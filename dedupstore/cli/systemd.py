"""What `systemctl status` shows of a run. Loaded only where systemd listens: sockets take a while to load."""

from __future__ import annotations

import contextlib
import socket

from dedupstore.cli.progress import describe
from dedupstore.events import Finding, Progress

SYSTEMD_SECONDS = 1.0


class Systemd:
    """`systemctl status` shows where we are: datagrams to the socket of NOTIFY_SOCKET."""

    interval = SYSTEMD_SECONDS
    every_phase = True

    def __init__(self, address: str) -> None:
        # A leading @ is an abstract socket, which the kernel wants as a NUL byte.
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)

    def show(self, progress: Progress, rate: float) -> None:
        self._send(f"STATUS={describe(progress, rate)}")

    def finding(self, finding: Finding) -> None:
        pass

    def close(self) -> None:
        self._socket.close()

    def _send(self, text: str) -> None:
        # A full or missing socket costs a status line, never a backup.
        with contextlib.suppress(OSError):
            self._socket.sendto(text.encode("utf-8", "backslashreplace"), self._address)
