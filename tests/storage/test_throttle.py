from __future__ import annotations

import pytest

from dedupstore.clock import FrozenClock
from dedupstore.storage.memory import MemoryStore
from dedupstore.storage.throttle import Pace, ThrottledStore
from tests.storage.contract import StoreContract

MB = 1_000_000


class Slept:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.clock = FrozenClock(0)

    def pace(self, *rates: tuple[float, float | None]) -> Pace:
        """`rates`: from which second on, and bytes a second."""

        def rate_at(now_ns: int) -> float | None:
            return [rate for since, rate in rates if since * 1e9 <= now_ns][-1]

        return Pace(rate_at, clock=self.clock, sleep=self.clock.advance)

    @property
    def seconds(self) -> float:
        return self.clock.monotonic()


class TestThrottledStore(StoreContract):
    @pytest.fixture
    def store(self) -> ThrottledStore:
        return ThrottledStore(MemoryStore(), upload=None, download=None)


def test_a_limit_is_kept_over_many_objects_and_each_direction_has_its_own() -> None:
    slept = Slept()
    store = ThrottledStore(MemoryStore(), upload=slept.pace((0, MB)), download=slept.pace((0, 2 * MB)))

    for number in range(10):
        store.put(f"packs/{number}", [bytes(MB // 2), bytes(MB // 2)])
    sent_after = slept.seconds
    for number in range(10):
        store.get(f"packs/{number}")

    assert sent_after == pytest.approx(10, abs=0.2)
    assert slept.seconds - sent_after == pytest.approx(5, abs=0.3)


def test_the_limit_of_the_next_hour_holds_within_a_second() -> None:
    slept = Slept()
    pace = slept.pace((0, MB), (10, 4 * MB), (20, None))

    pace.take(30 * MB)
    after_slow_and_quick = slept.seconds
    pace.take(1000 * MB)

    assert after_slow_and_quick == pytest.approx(15, abs=1)
    assert slept.seconds == pytest.approx(20, abs=1.1)


def test_what_was_not_used_for_long_gives_no_right_to_a_flood() -> None:
    slept = Slept()
    pace = slept.pace((0, MB))

    slept.clock.advance(3600)
    pace.take(10 * MB)

    assert slept.seconds - 3600 == pytest.approx(10, abs=0.2)
