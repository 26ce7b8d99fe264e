"""Stopping long work politely: one token, asked between steps."""

from __future__ import annotations

import threading

from dedupstore.errors import Interrupted

AGAIN = "run it again"
STORED = f"{AGAIN}: what was stored is used"
KEPT = f"{AGAIN}: what is right already is kept"


class CancelToken:
    """Set once from a signal handler or another thread; long loops call `check()`."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self.exit_code = 130
        self.hint = AGAIN
        """What to do after it, for the person who stopped it: what a next run makes of this one differs."""

    def cancel(self, *, exit_code: int = 130) -> None:
        self.exit_code = exit_code
        self._event.set()

    @property
    def cancelled(self) -> bool:
        return self._event.is_set()

    def check(self) -> None:
        """Raise `Interrupted` when the work was asked to stop."""
        if self._event.is_set():
            error = Interrupted("stopped", why="asked to stop", hints=[self.hint])
            error.exit_code = self.exit_code
            raise error
