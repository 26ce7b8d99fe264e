"""A store whose listings show what was two minutes ago: snapshot and prune wait where it matters, and lose nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from dedupstore.clock import FrozenClock
from dedupstore.repo.repository import Repository
from dedupstore.storage.base import ObjectInfo
from dedupstore.storage.memory import MemoryStore
from dedupstore.types import Data
from tests.support.pruning import assert_sound, forget, prune
from tests.support.repositories import files_below, make_tree, mutate_tree, new_repository, take

DELAY = 120.0
HOUR = 3600.0


class LaggingStore(MemoryStore):
    """Gets and heads see at once what was put and deleted; listings see it `DELAY` later."""

    listing_delay_seconds = DELAY

    def __init__(self, clock: FrozenClock) -> None:
        super().__init__()
        self._clock = clock
        self._changes: list[tuple[int, str, int | None]] = []

    def put(self, key: str, parts: Sequence[Data]) -> None:
        new = key not in self.objects
        super().put(key, parts)
        if new:
            self._changes.append((self._clock.now_ns(), key, len(self.objects[key])))

    def delete(self, key: str) -> None:
        super().delete(key)
        self._changes.append((self._clock.now_ns(), key, None))

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        until = self._clock.now_ns() - int(DELAY * 1e9)
        shown: dict[str, int | None] = {key: size for when, key, size in self._changes if when <= until}
        rows = [ObjectInfo(key, size) for key, size in shown.items() if size is not None and key.startswith(prefix)]
        return iter(sorted(rows, key=lambda row: row.key))


def made(clock: FrozenClock, naps: list[float]) -> Repository:
    repository = new_repository(LaggingStore(clock), clock=clock)

    def sleep(seconds: float) -> None:
        naps.append(seconds)
        clock.advance(seconds)

    repository.sleep = sleep
    clock.advance(HOUR)
    return repository


def test_a_snapshot_waits_once_before_its_last_look(tmp_path: Path) -> None:
    clock, naps = FrozenClock(1_700_000_000 * 10**9), list[float]()
    with made(clock, naps) as repository:
        tree = make_tree(tmp_path / "tree")

        snapshot = take(repository, tree).snapshot

        assert naps == [DELAY]
        assert snapshot is not None
        clock.advance(HOUR)
        assert_sound(repository, {snapshot.id: files_below(tree)})


def test_a_prune_without_grace_waits_and_keeps_what_is_needed(tmp_path: Path) -> None:
    clock, naps = FrozenClock(1_700_000_000 * 10**9), list[float]()
    with made(clock, naps) as repository:
        tree = make_tree(tmp_path / "tree")
        first = take(repository, tree).snapshot
        other = make_tree(tmp_path / "other", seed=9)
        clock.advance(HOUR)
        second = take(repository, other).snapshot
        clock.advance(HOUR)
        forget(repository, first)
        clock.advance(HOUR)
        naps.clear()

        report = prune(repository)

        assert report.packs_deleted
        assert naps and set(naps) == {DELAY}
        clock.advance(HOUR)
        assert second is not None
        assert_sound(repository, {second.id: files_below(other)})


def test_a_store_that_lists_at_once_is_never_waited_for(tmp_path: Path) -> None:
    naps: list[float] = []
    with new_repository(MemoryStore()) as repository:
        repository.sleep = naps.append
        tree = make_tree(tmp_path / "tree")
        first = take(repository, tree).snapshot
        mutate_tree(tree, 1)
        second = take(repository, tree).snapshot
        forget(repository, first)

        prune(repository)

        assert naps == []
        assert second is not None
        assert_sound(repository, {second.id: files_below(tree)})
