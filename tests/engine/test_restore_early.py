"""Pieces that came early take no more memory than they may, counted by what they keep alive."""

from __future__ import annotations

from dedupstore.engine.restore_early import EarlyPieces


def test_views_of_one_block_count_as_that_block_once() -> None:
    early = EarlyPieces(1000)
    block = memoryview(b"a" * 800)

    first = early.hold([block[:400], block[400:500]])
    second = early.hold([block[300:800]])

    assert first is not None and second is not None
    assert early.used == 800
    assert first.parts == (block[:400], block[400:500])
    early.release(first)
    assert early.used == 800
    early.release(second)
    assert early.used == 0


def test_nothing_is_held_beyond_the_limit() -> None:
    early = EarlyPieces(1000)
    held = early.hold([memoryview(b"a" * 800)])
    other = memoryview(b"b" * 201)

    assert held is not None
    assert early.hold([other]) is None
    assert early.used == 800
    early.release(held)
    assert early.hold([other]) is not None


def test_a_small_part_of_a_block_is_copied() -> None:
    early = EarlyPieces(1000)
    block = memoryview(b"0123456789" * 200)

    held = early.hold([block[:10], block[30:35]])

    assert held is not None
    assert held.parts == (b"012345678901234",)
    assert held.parts[0].obj is not block.obj
    assert early.used == 15
    assert early.hold([block[:990]]) is None
    early.release(held)
    assert early.used == 0


def test_a_small_part_of_a_block_that_is_held_anyway_is_not_copied() -> None:
    early = EarlyPieces(1000)
    block = memoryview(b"a" * 900)

    whole, part = early.hold([block]), early.hold([block[:5]])

    assert whole is not None and part is not None
    assert part.parts[0].obj is block.obj
    early.release(whole)
    assert early.used == 900
    early.release(part)
    assert early.used == 0
