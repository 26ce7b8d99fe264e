"""Decoded blocks: kept within a bound, and decoded by one thread for all that need them at the same time."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from dedupstore.errors import CorruptObject
from dedupstore.repo.decoded import Decoded, DecodedBlocks

PLACE = (1, 2)


class _Decoding:
    """The first who decodes waits a moment for another one to do so; the first `failing` fail."""

    def __init__(self, *, failing: int = 0) -> None:
        self.begun = 0
        self._failing = failing
        self._changed = threading.Condition()

    def __call__(self) -> Decoded:
        with self._changed:
            self.begun += 1
            number = self.begun
            self._changed.notify_all()
            self._changed.wait_for(lambda: self.begun > number, timeout=0.3 if number == 1 else 0)
        if number <= self._failing:
            raise CorruptObject("a block that does not open")
        return Decoded(b"block", [5])


def test_threads_that_need_one_block_decode_it_once() -> None:
    blocks, decoding = DecodedBlocks(100), _Decoding()

    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda _: blocks.get(PLACE, decoding), range(4)))

    assert decoding.begun == 1
    assert found == [Decoded(b"block", [5])] * 4


def test_who_waited_for_a_block_that_failed_tries_for_himself() -> None:
    blocks, decoding = DecodedBlocks(100), _Decoding(failing=1)

    with ThreadPoolExecutor(2) as threads:
        asked = [threads.submit(blocks.get, PLACE, decoding) for _ in range(2)]

    failures = [future.exception() for future in asked]
    assert sum(isinstance(failure, CorruptObject) for failure in failures) == 1
    assert failures.count(None) == 1
    assert decoding.begun == 2


def test_what_was_used_last_is_kept_within_the_bound() -> None:
    blocks = DecodedBlocks(10)
    for number in range(3):
        blocks.get((0, number), lambda: Decoded(b"12345", [5]))
        blocks.get((0, 0), lambda: pytest.fail("it is used all the time"))

    kept = [(0, number) in blocks for number in range(3)]

    assert kept == [True, False, True]


def test_a_block_that_is_longer_than_the_bound_is_kept_until_the_next() -> None:
    blocks = DecodedBlocks(1)

    blocks.get(PLACE, lambda: Decoded(b"12345", [5]))
    assert PLACE in blocks
    blocks.get((3, 4), lambda: Decoded(b"67890", [5]))

    assert PLACE not in blocks


def test_what_is_forgotten_is_decoded_again() -> None:
    blocks = DecodedBlocks(100)
    blocks.get(PLACE, lambda: Decoded(b"damaged", [7]))

    blocks.forget(PLACE)
    blocks.forget(PLACE)

    assert blocks.get(PLACE, lambda: Decoded(b"whole", [5])).raw == b"whole"
