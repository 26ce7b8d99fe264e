"""Delta blocks that wait for bases are examined once each, with the right bytes or with none, and memory stays bounded."""

from __future__ import annotations

import random
import threading
import tracemalloc
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import cast

import pytest

from dedupstore.codec.block import BlockSealer, Codec
from dedupstore.engine import passing_bases
from dedupstore.engine.check_session import Session
from dedupstore.engine.checks import data
from dedupstore.engine.pack_exam import Examiner, PackExam
from dedupstore.engine.passing_bases import MAX_HELD_BYTES, MAX_WAITING_BYTES, PassingBases
from dedupstore.repo.directory import BlockRecord
from dedupstore.repo.index import PackRow
from dedupstore.repo.keyring import KeyRing
from dedupstore.threads import RightOfWay
from dedupstore.types import ChunkId, Kind, PackId

A, B, C = (ChunkId(bytes([number]) * 32) for number in range(3))


class Examined:
    """Blocks that were examined, and with what."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, bytes | None]] = []

    def block(self, name: str) -> Callable[[bytes | None], None]:
        return lambda bases: self.calls.append((name, bases))


@pytest.fixture
def passing() -> PassingBases:
    return PassingBases()


@pytest.fixture
def examined() -> Examined:
    return Examined()


def test_a_block_gets_its_bases_in_its_own_order_once_all_came_by(passing: PassingBases, examined: Examined) -> None:
    assert passing.wait("pack", Kind.DATA, [B, A, B], 10, examined.block("one"))

    passing.pass_by(Kind.DATA, [A, C], [b"a", b"c"])
    assert examined.calls == []
    passing.pass_by(Kind.DATA, [A, B], [b"a", b"b"])
    assert examined.calls == [("one", b"bab")]

    passing.pass_by(Kind.DATA, [A, B], [b"a", b"b"])
    passing.conclude("pack")
    assert examined.calls == [("one", b"bab")]


def test_one_base_serves_every_block_that_waits(passing: PassingBases, examined: Examined) -> None:
    for name in ("one", "two"):
        assert passing.wait(name, Kind.DATA, [A], 10, examined.block(name))

    passing.pass_by(Kind.DATA, [A], [b"a"])

    assert examined.calls == [("one", b"a"), ("two", b"a")]


def test_a_chunk_of_another_kind_is_no_base(passing: PassingBases, examined: Examined) -> None:
    assert passing.wait("pack", Kind.DATA, [A], 10, examined.block("one"))

    passing.pass_by(Kind.MANIFEST, [A], [b"a"])
    assert examined.calls == []

    passing.conclude("pack")
    assert examined.calls == [("one", None)]


def test_what_did_not_get_all_is_concluded_for_its_owner_alone(passing: PassingBases, examined: Examined) -> None:
    assert passing.wait("pack", Kind.DATA, [A, B], 10, examined.block("one"))
    assert passing.wait("other", Kind.DATA, [A, B], 10, examined.block("two"))
    passing.pass_by(Kind.DATA, [A], [b"a"])

    passing.conclude("pack")
    assert examined.calls == [("one", None)]

    passing.pass_by(Kind.DATA, [B], [b"b"])
    assert examined.calls == [("one", None), ("two", b"ab")]


def test_no_more_wait_than_there_is_room_for(passing: PassingBases, examined: Examined) -> None:
    assert passing.wait("pack", Kind.DATA, [A], MAX_WAITING_BYTES, examined.block("one"))
    assert not passing.wait("pack", Kind.DATA, [A], 1, examined.block("two"))

    passing.pass_by(Kind.DATA, [A], [b"a"])

    assert passing.wait("pack", Kind.DATA, [A], MAX_WAITING_BYTES, examined.block("two"))
    passing.conclude("pack")
    assert examined.calls == [("one", b"a"), ("two", None)]


def test_blocks_of_a_few_bytes_that_wait_take_no_more_memory_than_they_may(
    passing: PassingBases, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Patches: of each one its row, its ids and those of its bases weigh more than what was stored."""
    monkeypatch.setattr(passing_bases, "MAX_WAITING_BYTES", 1 << 20)
    examiner = Examiner(cast(KeyRing, None), lambda kind, bases: b"", RightOfWay(), passing)
    exam = PackExam(cast(PackRow, SimpleNamespace(kind=Kind.DATA)))
    tracemalloc.start()
    try:
        for number in range(2_000):
            ids = [ChunkId(random.randbytes(32)) for _ in range(24)]
            block = BlockRecord(64, 160, 8 << 16, Codec.PATCH, ids[:8], [1 << 16] * 8, ids[8:])
            if not examiner._wait(exam, cast(BlockSealer, None), number, block, bytes(160)):
                break
        taken = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()

    assert 100 < exam.waiting < 1_000
    assert taken < 5 << 18


def test_who_would_hold_too_much_gives_up_and_is_concluded(
    passing: PassingBases, examined: Examined, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert MAX_HELD_BYTES >= 2 << 20, "what one block needs must fit"
    monkeypatch.setattr(passing_bases, "MAX_HELD_BYTES", 5)
    assert passing.wait("pack", Kind.DATA, [A, C], 1, examined.block("one"))
    assert passing.wait("pack", Kind.DATA, [B, C], 1, examined.block("two"))

    passing.pass_by(Kind.DATA, [A, B], [b"aaaa", b"bb"])
    passing.pass_by(Kind.DATA, [C], [b"c"])
    assert examined.calls == [("one", b"aaaac")]

    passing.conclude("pack")
    assert examined.calls == [("one", b"aaaac"), ("two", None)]
    assert passing.wait("pack", Kind.DATA, [A, B], 1, examined.block("three"))
    passing.pass_by(Kind.DATA, [A, B], [b"aa", b"bbb"])
    assert examined.calls[2:] == [("three", b"aabbb")]


def test_every_block_is_examined_exactly_once_whoever_brings_its_bases(passing: PassingBases) -> None:
    lock, seen = threading.Lock(), list[tuple[int, bytes | None]]()
    chunks = [ChunkId(number.to_bytes(32, "big")) for number in range(200)]

    def block(number: int) -> Callable[[bytes | None], None]:
        def examine(bases: bytes | None) -> None:
            with lock:
                seen.append((number, bases))

        return examine

    for number in range(190):
        assert passing.wait(number % 5, Kind.DATA, chunks[number : number + 10], 1, block(number))

    def bring(share: int) -> None:
        for number in range(share, 195, 4):
            passing.pass_by(Kind.DATA, [chunks[number]], [b"%04d" % number])

    threads = [threading.Thread(target=bring, args=(share,)) for share in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for owner in range(5):
        passing.conclude(owner)

    expected = [
        (number, b"".join(b"%04d" % base for base in range(number, number + 10)) if number <= 185 else None)
        for number in range(190)
    ]
    assert sorted(seen, key=lambda call: call[0]) == expected


def test_a_pack_is_not_judged_while_another_thread_still_examines_a_block_of_it(passing: PassingBases) -> None:
    """The last packs are concluded at the same time, and one that is read again brings bases that others wait for."""
    begun, go_on = threading.Event(), threading.Event()
    exam = PackExam(PackRow(0, PackId(bytes(16)), 1, Kind.DATA, 1, 0, b""), waiting=1)

    def examine(bases: bytes | None) -> None:
        begun.set()
        assert go_on.wait(30)
        exam.waiting -= 1

    assert passing.wait(exam, Kind.DATA, [A], 1, examine)
    bringing = threading.Thread(target=passing.pass_by, args=(Kind.DATA, [A], [b"a"]))
    bringing.start()
    assert begun.wait(30)
    # A sound pack is concluded without either.
    conclude = partial(data._conclude, cast(Session, None), cast(Examiner, SimpleNamespace(passing=passing)))

    assert not conclude(exam).final

    go_on.set()
    bringing.join()
    assert conclude(exam).final
