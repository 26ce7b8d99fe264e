"""Reading at a rate: how long it takes in all, from however many threads, and that it can be stopped."""

from __future__ import annotations

import threading

import pytest

from dedupstore.cancel import CancelToken
from dedupstore.clock import FrozenClock
from dedupstore.errors import Interrupted
from dedupstore.service.pace import reading_pace


def test_so_many_bytes_take_so_long() -> None:
    clock = FrozenClock(10**18)
    pace = reading_pace(1000, clock, CancelToken(), clock.advance)

    for _ in range(10):
        pace(500)

    assert clock.now_ns() - 10**18 == pytest.approx(5e9, rel=0.01)


def test_a_pause_is_not_saved_up() -> None:
    clock = FrozenClock(10**18)
    pace = reading_pace(1000, clock, CancelToken(), clock.advance)
    pace(1000)
    clock.advance(3600)
    before = clock.now_ns()

    pace(2000)

    assert clock.now_ns() - before == pytest.approx(2e9, rel=0.01)


def test_several_threads_share_one_rate() -> None:
    clock, lock = FrozenClock(10**18), threading.Lock()

    def sleep(seconds: float) -> None:
        with lock:
            clock.advance(seconds / 8)

    pace = reading_pace(1000, clock, CancelToken(), sleep)
    threads = [threading.Thread(target=lambda: [pace(100) for _ in range(10)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert clock.now_ns() - 10**18 >= 4e9 * 0.99


def test_a_long_wait_ends_when_the_run_is_stopped() -> None:
    clock, cancel = FrozenClock(10**18), CancelToken()

    def sleep(seconds: float) -> None:
        clock.advance(seconds)
        if clock.now_ns() > 10**18 + 10**9:
            cancel.cancel()

    with pytest.raises(Interrupted):
        reading_pace(10, clock, cancel, sleep)(10_000_000)

    assert clock.now_ns() < 10**18 + 2 * 10**9
