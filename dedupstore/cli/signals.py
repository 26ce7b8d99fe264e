"""Signals: the first asks politely, the second ends at once; SIGUSR1 shows where the work is.

Until a command takes the token there is nothing to finish politely, and a signal stops it right away.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from types import FrameType

from dedupstore.cancel import AGAIN, CancelToken

STOPS = {signal.SIGINT: 130, signal.SIGTERM: 143}
_STATUS = tuple(getattr(signal, name) for name in ("SIGUSR1", "SIGINFO") if hasattr(signal, name))


class Signals:
    """The process's signal handling, while `installed()`."""

    def __init__(self, *, hard_exit: Callable[[int], object] = os._exit) -> None:
        self.token = CancelToken()
        self.exit_code: int | None = None
        """130 or 143 once a signal came."""
        self.status: Callable[[], str] | None = None
        """Gives one line for SIGUSR1; set while something is running."""
        self._polite = False
        self._hard_exit = hard_exit

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        """Handle the signals here; put back what was there before. Main thread only."""
        previous = {number: signal.signal(number, self._on_stop) for number in STOPS}
        previous |= {number: signal.signal(number, self._on_status) for number in _STATUS}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def take_token(self, hint: str = AGAIN) -> CancelToken:
        """The token of this process. From now on the first signal only sets it; `hint` is what to do then."""
        self._polite = True
        self.token.hint = hint
        return self.token

    @contextlib.contextmanager
    def impatient(self) -> Iterator[None]:
        """While waiting for a person, who cannot be asked to check a token."""
        before, self._polite = self._polite, False
        try:
            yield
        finally:
            self._polite = before

    def _on_stop(self, number: int, frame: FrameType | None) -> None:
        code = STOPS[signal.Signals(number)]
        if self.exit_code is not None:
            self._hard_exit(code)
        self.exit_code = code
        self.token.cancel(exit_code=code)
        if not self._polite:
            raise KeyboardInterrupt
        _tell("\nstopping after the current step; once more to stop at once\n")

    def _on_status(self, number: int, frame: FrameType | None) -> None:
        if self.status is not None:
            _tell(f"{self.status()}\n")


def _tell(text: str) -> None:
    # The buffered stream may be in the middle of a write; a handler must not enter it a second time.
    with contextlib.suppress(OSError):
        os.write(2, text.encode("utf-8", "backslashreplace"))
