"""Objects of a local store piece by piece: never whole in memory, and under their names only when all was right."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from dedupstore.errors import CorruptObject, ObjectNotFound, StoreError
from dedupstore.storage.base import PieceStore
from dedupstore.storage.local import LARGEST_WHOLE_GET_BYTES, PIECE_BYTES, LocalStore
from dedupstore.storage.system import System
from dedupstore.storage.throttle import ThrottledStore
from dedupstore.types import Data
from tests.support.faults import FaultySystem

CONTENT = bytes(range(256)) * (PIECE_BYTES // 100)
"""Two pieces and a half."""


@pytest.fixture
def root(tmp_path: Path) -> str:
    path = str(tmp_path / "store")
    os.makedirs(f"{path}/tmp")
    return path


def names(root: str) -> list[str]:
    return [row.key for row in LocalStore(root).list("")] + os.listdir(f"{root}/tmp")


@pytest.mark.parametrize("length", [0, 1, PIECE_BYTES, PIECE_BYTES + 1, len(CONTENT)])
def test_an_object_goes_from_store_to_store_in_pieces(root: str, length: int) -> None:
    LocalStore(root).put("roots/a", [CONTENT[:length]])
    sizes: list[int] = []

    def read() -> Iterator[Data]:
        for piece in LocalStore(root).get_pieces("roots/a"):
            sizes.append(len(piece))
            yield piece

    LocalStore(root).put_pieces("roots/b", read)

    assert LocalStore(root).get("roots/b") == CONTENT[:length]
    assert sum(sizes) == length and all(size <= PIECE_BYTES for size in sizes)
    assert names(root) == ["roots/a", "roots/b"]


def test_short_reads_and_short_writes_are_made_up_for(root: str) -> None:
    class Short(System):
        def pread_into(self, descriptor: int, buffer: memoryview, offset: int) -> int:
            return super().pread_into(descriptor, buffer[:1000], offset)

    content = CONTENT[:5001]
    LocalStore(root).put("roots/a", [content])
    source = LocalStore(root, system=Short())

    LocalStore(root, system=FaultySystem(most_written=700)).put_pieces("roots/b", lambda: source.get_pieces("roots/a"))

    assert LocalStore(root).get("roots/b") == content


def test_what_the_pieces_raise_passes_through_and_leaves_nothing(root: str) -> None:
    def read() -> Iterator[Data]:
        yield CONTENT
        raise CorruptObject("disproved at the last moment")

    with pytest.raises(CorruptObject, match="at the last moment"):
        LocalStore(root).put_pieces("roots/a", read)

    assert names(root) == []


def test_when_a_sync_fails_the_pieces_are_read_again_for_another_file(root: str) -> None:
    asked: list[int] = []

    def read() -> Iterator[Data]:
        asked.append(len(asked))
        yield CONTENT[:5000]

    system = FaultySystem({("fdatasync", 0): errno.EIO})

    LocalStore(root, system=system).put_pieces("roots/a", read)

    assert LocalStore(root).get("roots/a") == CONTENT[:5000]
    assert asked == [0, 1] and system.calls["fdatasync"] == 2
    assert names(root) == ["roots/a"]


def test_pieces_of_nothing_of_too_much_and_of_a_bad_sector_are_errors(root: str) -> None:
    store = LocalStore(root)
    with pytest.raises(ObjectNotFound):
        next(store.get_pieces("roots/a"))
    with open(f"{root}/FORMAT", "wb") as file:
        file.truncate(LARGEST_WHOLE_GET_BYTES + 1)
    with pytest.raises(StoreError, match="cannot read FORMAT"):
        next(store.get_pieces("FORMAT"))
    store.put("roots/a", [CONTENT])

    with pytest.raises(StoreError) as caught:
        list(LocalStore(root, system=FaultySystem({("pread", 1): errno.EIO})).get_pieces("roots/a"))

    assert caught.value.code == "store.unreadable"


def test_a_file_that_shrinks_between_two_pieces_is_an_error(root: str) -> None:
    LocalStore(root).put("roots/a", [CONTENT])
    pieces = LocalStore(root).get_pieces("roots/a")
    next(pieces)

    os.truncate(f"{root}/roots/a", PIECE_BYTES)

    with pytest.raises(StoreError) as caught:
        list(pieces)
    assert caught.value.code == "store.short_object"


def test_a_limited_store_is_not_copied_past_its_limit(root: str) -> None:
    assert isinstance(LocalStore(root), PieceStore)
    assert not isinstance(ThrottledStore(LocalStore(root), upload=None, download=None), PieceStore)
