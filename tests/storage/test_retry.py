from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from dedupstore.clock import FrozenClock
from dedupstore.errors import ObjectNotFound, StoreError, StoreGone
from dedupstore.storage.base import ObjectInfo
from dedupstore.storage.memory import MemoryStore
from dedupstore.storage.retry import Patience, RetryingStore
from dedupstore.types import Data, Span
from tests.storage.contract import StoreContract


class Unsteady(MemoryStore):
    """Fails as it was told to, one failure for each operation, before it does anything; a listing after two rows."""

    def __init__(self, *failures: StoreError) -> None:
        super().__init__()
        self.failures = list(failures)
        self.asked = 0

    def put(self, key: str, parts: Sequence[Data]) -> None:
        self._fail()
        super().put(key, parts)

    def get(self, key: str, span: Span | None = None) -> bytes:
        self._fail()
        return super().get(key, span)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        for number, row in enumerate(super().list(prefix)):
            if number == 2:
                self._fail()
            yield row

    def _fail(self) -> None:
        self.asked += 1
        if self.failures:
            raise self.failures.pop(0)


def busy() -> StoreError:
    return StoreError("cannot do it", why="the server says SlowDown", transient=True)


def unreachable() -> StoreError:
    return StoreError("cannot do it", why="no connection", code="store.unreachable", transient=True)


class Naps:
    """Sleeping that moves the clock and takes no time."""

    def __init__(self) -> None:
        self.clock = FrozenClock(0)
        self.lengths: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.lengths.append(seconds)
        self.clock.advance(seconds)

    def store(self, inner: MemoryStore, patience: Patience | None = None, jitter: float = 1.0) -> RetryingStore:
        return RetryingStore(inner, patience=patience, clock=self.clock, sleep=self.sleep, jitter=lambda: jitter)


class TestRetryingStore(StoreContract):
    @pytest.fixture
    def store(self) -> RetryingStore:
        return RetryingStore(MemoryStore())


def test_what_fails_for_a_while_is_tried_again_after_growing_waits() -> None:
    naps = Naps()
    store = naps.store(Unsteady(*[busy() for _ in range(5)]))

    store.put("roots/a", [b"x"])

    assert store.get("roots/a") == b"x"
    assert naps.lengths == [0.5, 1.0, 2.0, 4.0, 8.0]


def test_waits_are_drawn_from_the_upper_half_of_the_longest() -> None:
    naps = Naps()

    naps.store(Unsteady(busy(), busy()), jitter=0.0).put("roots/a", [b"x"])

    assert naps.lengths == [0.25, 0.5]


def test_it_gives_up_after_so_many_tries_and_says_how_many() -> None:
    naps, inner = Naps(), Unsteady(*[busy() for _ in range(20)])

    with pytest.raises(StoreError) as caught:
        naps.store(inner, Patience(tries=3)).put("roots/a", [b"x"])

    assert inner.asked == 3
    assert "tried 3 times" in caught.value.why
    assert caught.value.exit_code == 7


def test_it_gives_up_when_the_time_is_over() -> None:
    naps, inner = Naps(), Unsteady(*[busy() for _ in range(200)])

    with pytest.raises(StoreError):
        naps.store(inner, Patience(tries=100, total_seconds=60)).put("roots/a", [b"x"])

    assert sum(naps.lengths) <= 60


def test_a_store_that_never_answered_is_given_up_sooner_than_one_that_did() -> None:
    naps = Naps()
    never, once = Unsteady(*[unreachable() for _ in range(20)]), Unsteady()
    store = naps.store(once)
    store.put("roots/a", [b"x"])
    once.failures = [unreachable() for _ in range(20)]

    for tried in (naps.store(never), store):
        with pytest.raises(StoreError):
            tried.put("roots/b", [b"x"])

    assert never.asked == 4
    assert once.asked == 1 + 10


def test_what_is_wrong_for_good_is_not_tried_again() -> None:
    naps = Naps()
    inner = Unsteady(StoreError("cannot do it", why="denied", code="store.denied"))
    store = naps.store(inner)

    with pytest.raises(StoreError) as caught:
        store.put("roots/a", [b"x"])
    with pytest.raises(ObjectNotFound):
        store.get("roots/a")

    assert (naps.lengths, caught.value.why) == ([], "denied")


def test_a_listing_that_breaks_off_goes_on_without_repeating_or_losing_a_row() -> None:
    inner = Unsteady()
    for name in "abcdef":
        inner.objects[f"packs/{name}"] = b"1"
    inner.failures = [busy(), busy()]

    rows = list(Naps().store(inner).list("packs/"))

    assert [row.key for row in rows] == [f"packs/{name}" for name in "abcdef"]
    assert not inner.failures


class Mute(Unsteady):
    """Does not answer for anything else either."""

    def head(self, key: str) -> int:
        raise unreachable()


@pytest.mark.parametrize(("kind", "gone"), [(Unsteady, False), (Mute, True)])
def test_a_store_that_answers_for_other_objects_is_told_from_one_that_answers_for_none(
    kind: type[Unsteady], gone: bool
) -> None:
    store = Naps().store(kind(*[busy() for _ in range(20)]), Patience(tries=3))

    with pytest.raises(StoreError) as caught:
        store.get("packs/aa")

    assert isinstance(caught.value, StoreGone) is gone
    assert (caught.value.code, caught.value.exit_code, caught.value.transient) == ("store.failed", 7, True)
    assert "SlowDown (tried 3 times" in caught.value.why
