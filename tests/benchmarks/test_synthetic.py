"""The synthetic repository is a real one, and what a prune or a check of it needs does not grow with its chunks."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable

import pytest

from benchmarks import synthetic
from benchmarks.synthetic import CHUNKS_PER_FILE, FILES_PER_DIRECTORY, fill
from dedupstore.cancel import CancelToken
from dedupstore.engine import check_session, liveness, sound_walk
from dedupstore.engine.check import check_repository
from dedupstore.engine.check_options import CheckOptions
from dedupstore.events import NullListener
from dedupstore.repo.reader import ChunkReader
from dedupstore.repo.repository import Repository
from dedupstore.storage.memory import MemoryStore
from tests.support.pruning import NOW, assert_sound, forget, plan, prune
from tests.support.repositories import new_repository, open_repository, stored_files

FEW, MANY = 10_000, 50_000
BYTES_PER_CHUNK = 8
"""A bit each for what is marked, for packs and blocks a share of their own; an id in a Python set takes a hundred."""


def test_it_holds_what_it_says_and_can_be_pruned() -> None:
    chunks = 3 * FILES_PER_DIRECTORY * CHUNKS_PER_FILE
    with new_repository(MemoryStore()) as repository:
        whole, thinned = fill(repository, chunks)
        files = stored_files(repository, whole)
        kept = stored_files(repository, thinned)
        assert len(files) == 300
        assert len(kept) == 250
        assert kept.items() < files.items()

        forget(repository, whole)
        report = prune(repository)

        assert report.bytes_moved > 0
        assert repository.index.counts().chunks >= chunks
        assert_sound(repository, {thinned.id: kept})


def walk_structure(repository: Repository) -> None:
    report = check_repository(repository, CheckOptions(), listener=NullListener(), cancel=CancelToken())
    assert report.exit_code == 0


def mark_everything(repository: Repository) -> None:
    assert plan(repository, NOW).packs > 0


@pytest.mark.slow
@pytest.mark.parametrize("work", [mark_everything, walk_structure])
def test_memory_does_not_grow_with_the_chunks(
    work: Callable[[Repository], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    # What is remembered up to a fixed size is no growth; here it would fill up at one size and not at the other.
    monkeypatch.setattr(liveness, "_REMEMBERED", 1000)
    monkeypatch.setattr(sound_walk, "MAX_REMEMBERED", 1000)
    monkeypatch.setattr(synthetic, "PACKS_PER_SEGMENT", 8)
    monkeypatch.setattr(check_session, "AHEAD_CACHE_BYTES", 1 << 16)
    monkeypatch.setitem(ChunkReader.__init__.__kwdefaults__ or {}, "cache_bytes", 1 << 16)

    few, many = (peak_bytes(chunks, work) for chunks in (FEW, MANY))

    assert (many - few) / (MANY - FEW) < BYTES_PER_CHUNK


def peak_bytes(chunks: int, work: Callable[[Repository], None]) -> int:
    """The most that Python held beside what it held before, over a repository of so many chunks that is known already."""
    store = MemoryStore()
    with new_repository(store) as repository:
        fill(repository, chunks)
    with open_repository(store) as repository:
        work(repository)
        gc.collect()
        tracemalloc.start()
        try:
            work(repository)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
