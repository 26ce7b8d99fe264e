"""Windows bound what is planned ahead, and grow."""

from __future__ import annotations

from dedupstore.engine.restore_plan import MAX_WINDOW_BYTES, MAX_WINDOW_FILES, Use, Window
from dedupstore.engine.target import Folder
from dedupstore.model.entry import FILE, Entry
from dedupstore.types import ChunkId
from tests.support.restoring import Location


def a_use(length: int) -> Use:
    entry = Entry(name=b"f", kind=FILE, mode=0, size=length, mtime=0)
    return Use(0, ChunkId(bytes(32)), Folder(None, b""), entry, None, 0, length)


def test_a_window_is_full_by_the_bytes_it_restores_and_the_next_takes_twice_as_many() -> None:
    window = Window(8, 1000)

    window.add(Location(1, 1, 0, 999), a_use(999))
    assert not window.full
    window.add(Location(1, 1, 0, 1), a_use(1))
    assert window.full

    following = window.next()
    following.add(Location(1, 1, 0, 1999), a_use(1999))
    assert not following.full
    following.add(Location(1, 1, 0, 1), a_use(1))
    assert following.full
    assert list(following.blocks) == [(1, 1)]


def test_windows_stop_growing() -> None:
    window = Window(1, 1)

    for _ in range(64):
        window = window.next()

    assert (window.max_files, window.max_bytes) == (MAX_WINDOW_FILES, MAX_WINDOW_BYTES)
