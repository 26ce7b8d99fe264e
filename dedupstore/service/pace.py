"""Reading sources no faster than a rate: all sources of a run together, so that others can use disk and network."""

from __future__ import annotations

import threading
from collections.abc import Callable

from dedupstore.cancel import CancelToken
from dedupstore.clock import Clock
from dedupstore.engine.tally import Pace as Pace

NAP_SECONDS = 0.2
"""How long a signal may go unnoticed."""


def reading_pace(rate: int, clock: Clock, cancel: CancelToken, sleep: Callable[[float], object]) -> Pace:
    """To be told how many bytes were read; returns when `rate` bytes a second allow more. Safe from many threads.

    What was not used is not saved up: after a pause reading goes on at the rate, not in a burst. Raises Interrupted.
    """
    lock = threading.Lock()
    due = clock.monotonic()

    def spend(count: int) -> None:
        nonlocal due
        with lock:
            mine = due = max(due, clock.monotonic()) + count / rate
        while (left := mine - clock.monotonic()) > 0:
            cancel.check()
            sleep(min(left, NAP_SECONDS))

    return spend
