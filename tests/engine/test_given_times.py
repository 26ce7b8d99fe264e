"""A snapshot may be given any time. What its files were read at is said by the clock alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from dedupstore.clock import FrozenClock
from dedupstore.engine.snapshot import SnapshotResult
from dedupstore.storage.memory import MemoryStore
from tests.support.checking import assert_clean
from tests.support.repositories import assert_restores, files_below, new_repository, open_repository, random_bytes, take

SECOND_NS = 10**9
YEAR_NS = 365 * 24 * 3600 * SECOND_NS

GIVEN = [
    pytest.param(None, id="no time"),
    pytest.param(-YEAR_NS, id="a year ago"),
    pytest.param(3 * SECOND_NS, id="soon"),
    pytest.param(YEAR_NS, id="in a year"),
]


def second_of_two(tmp_path: Path, read_after_ns: int, given_ns: int | None) -> SnapshotResult:
    """Of a tree with one file of 5000 bytes, first read so long after it was written, by machines without a memory."""
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "file").write_bytes(random_bytes("file", 5000))
    store, clock = MemoryStore(), FrozenClock((tree / "file").stat().st_ctime_ns + read_after_ns)
    with new_repository(store, clock=clock) as repository:
        take(repository, tree, time_ns=None if given_ns is None else clock.now_ns() + given_ns)
    clock.advance(3600)
    with open_repository(store, clock=clock) as repository:
        result = take(repository, tree)
        assert_restores(repository, result.snapshot, files_below(tree))
        assert_clean(repository)
    return result


@pytest.mark.parametrize("given_ns", GIVEN)
def test_a_file_written_just_before_it_was_read_is_read_again(tmp_path: Path, given_ns: int | None) -> None:
    """It may have been written once more within the same tick: its times would not show that."""
    result = second_of_two(tmp_path, SECOND_NS, given_ns)

    assert result.parent is not None
    assert result.statistics.bytes_read == 5000


@pytest.mark.parametrize("given_ns", GIVEN)
def test_a_file_written_long_before_it_was_read_is_not_read_again(tmp_path: Path, given_ns: int | None) -> None:
    result = second_of_two(tmp_path, 60 * SECOND_NS, given_ns)

    assert result.parent is not None
    assert result.statistics.bytes_read == 0
