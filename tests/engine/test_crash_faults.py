"""A fault at every single store operation: the command fails cleanly, running it again is all that is ever needed."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from dedupstore.cancel import CancelToken
from dedupstore.engine.check import check_repository
from dedupstore.engine.check_options import CheckOptions, DataShare
from dedupstore.engine.snapshot import SnapshotResult
from dedupstore.errors import CacheError, RepositoryError, StoreError
from dedupstore.events import NullListener
from dedupstore.repo.repository import Repository
from dedupstore.repo.segment import PackFacts
from dedupstore.storage.memory import MemoryStore
from dedupstore.types import SegmentId
from tests.support.faults import Fault, FaultPlan, FaultyStore, Step, every_fault
from tests.support.repositories import (
    assert_restores,
    files_below,
    make_tree,
    mutate_tree,
    new_repository,
    open_repository,
    take,
)


@dataclass(slots=True)
class Scene:
    """A store with one snapshot of a tree that has changed since."""

    objects: dict[str, bytes]
    tree: Path
    before: dict[bytes, bytes]
    after: dict[bytes, bytes]

    def store(self) -> MemoryStore:
        store = MemoryStore()
        store.objects = dict(self.objects)
        return store


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    tree = make_tree(tmp_path_factory.mktemp("faults") / "tree")
    store = MemoryStore()
    with new_repository(store) as repository:
        take(repository, tree)
    before = files_below(tree)
    mutate_tree(tree, 1)
    return Scene(dict(store.objects), tree, before, files_below(tree))


def attempt(store: FaultyStore, tree: Path) -> tuple[SnapshotResult | None, RepositoryError | None]:
    """A snapshot over a store that may fail: its result or the error. Any other kind of error is not caught."""
    try:
        with open_repository(store) as repository:
            return take(repository, tree), None
    except RepositoryError as error:
        return None, error


def assert_sound(store: MemoryStore, expected: Iterable[dict[bytes, bytes]], cache: Path | None = None) -> None:
    """Every committed snapshot restores to one of the expected states; the deepest check finds no damage."""
    states = list(expected)
    with open_repository(store, cache) as repository:
        listing = repository.catalog.snapshots()
        assert not listing.damaged
        for snapshot in listing.snapshots:
            state = states[0] if snapshot is listing.snapshots[0] else states[-1]
            assert_restores(repository, snapshot, state)
        options = CheckOptions(read_data=DataShare())
        report = check_repository(repository, options, listener=NullListener(), cancel=CancelToken())
        assert report.exit_code == 0, report.findings


def test_a_repository_that_fills_up_at_any_put_fails_the_snapshot_and_loses_nothing(scene: Scene) -> None:
    """From the k-th put on nothing fits any more, until somebody makes room."""

    def run(plan: FaultPlan) -> FaultyStore:
        store = scene.store()
        faulty = FaultyStore(store, plan)
        _, error = attempt(faulty, scene.tree)
        assert bool(faulty.fired) is (error is not None)
        assert error is None or error.code == "store.full"
        assert_sound(store, [scene.before, scene.after])
        with open_repository(store) as repository:
            assert_restores(repository, take(repository, scene.tree).snapshot, scene.after)
        return faulty

    assert every_fault(Fault.FULL, run, times=None) > 4


def test_a_read_only_repository_refuses_a_snapshot_and_is_still_readable(scene: Scene) -> None:
    store = scene.store()
    faulty = FaultyStore(store, FaultPlan(fault=Fault.READ_ONLY, at=0, times=None))
    with open_repository(faulty) as repository:
        with pytest.raises(StoreError) as raised:
            take(repository, scene.tree)

        assert raised.value.code == "store.read_only"
        assert_restores(repository, repository.catalog.snapshots().snapshots[0], scene.before)
    assert store.objects == scene.objects


@pytest.mark.parametrize("fault", [Fault.WITHOUT_LAST_PAGE, Fault.EMPTY_LISTING])
def test_a_listing_cut_short_never_looks_like_an_empty_repository(scene: Scene, fault: Fault) -> None:
    def run(plan: FaultPlan) -> FaultyStore:
        store = scene.store()
        faulty = FaultyStore(store, plan)
        _, error = attempt(faulty, scene.tree)
        assert bool(faulty.fired) is (error is not None)
        assert error is None or error.code == "store.incomplete_listing"
        assert_sound(store, [scene.before, scene.after])
        return faulty

    assert every_fault(fault, run) > 5


@pytest.mark.parametrize("fault", [Fault.FLIPPED, Fault.TRUNCATED, Fault.NOT_FOUND, Fault.WRONG_RANGE])
def test_a_wrong_answer_to_any_read_never_makes_a_wrong_snapshot(scene: Scene, fault: Fault) -> None:
    """The snapshot fails, or stores again what it could not read; what is committed is right."""

    def run(plan: FaultPlan) -> FaultyStore:
        store = scene.store()
        faulty = FaultyStore(store, plan)
        _, error = attempt(faulty, scene.tree)
        assert faulty.fired or error is None
        assert_sound(store, [scene.before, scene.after])
        return faulty

    assert every_fault(fault, run, verb="get") > 5


def test_the_cache_may_be_lost_before_any_operation(scene: Scene, tmp_path: Path) -> None:
    """Deleted under the running program, then by a program that starts without it."""
    total = 1
    at = 0
    while at < total:
        store, cache = scene.store(), tmp_path / f"cache{at}"

        def lose(step: Step, at: int = at, cache: Path = cache) -> None:
            if step.number == at and not step.done:
                shutil.rmtree(cache, ignore_errors=True)

        faulty = FaultyStore(store, hook=lose)
        with open_repository(faulty, cache) as repository:
            assert_restores(repository, take(repository, scene.tree).snapshot, scene.after)
        total = faulty.operations
        assert_sound(store, [scene.before, scene.after], cache)
        at += 3


def test_a_cache_older_than_the_store_catches_up(scene: Scene, tmp_path: Path) -> None:
    store, cache, old = scene.store(), tmp_path / "cache", tmp_path / "old"
    with open_repository(store, cache) as repository:
        repository.look()
    shutil.copytree(cache, old)
    with open_repository(store, cache) as repository:
        take(repository, scene.tree)

    with open_repository(store, old) as repository:
        result = take(repository, scene.tree)

        assert result.statistics.chunks_new == 0
        assert_restores(repository, result.snapshot, scene.after)


def test_a_cache_newer_than_the_store_is_not_believed(scene: Scene, tmp_path: Path) -> None:
    """The store was put back to an earlier state: what the cache says is there must be stored again."""
    store, cache = scene.store(), tmp_path / "cache"
    with open_repository(store, cache) as repository:
        take(repository, scene.tree)
    store.objects = dict(scene.objects)

    with open_repository(store, cache) as repository:
        result = take(repository, scene.tree)

        assert result.statistics.chunks_new > 0
        assert_restores(repository, result.snapshot, scene.after)
    assert_sound(store, [scene.before, scene.after])


def test_an_unusable_cache_is_a_note_and_no_failure(scene: Scene, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    store = scene.store()
    notes = []
    with open_repository(store, tmp_path / "file" / "cache") as repository:
        repository.on_note = notes.append

        assert_restores(repository, take(repository, scene.tree).snapshot, scene.after)

    assert [finding.code for finding in notes] == ["cache.temporary"]


class _FullIndex:
    """An index whose disk is full from the k-th segment on."""

    def __init__(self, repository: Repository, at: int) -> None:
        self._inner = repository.index
        self._left = at

    def apply(self, segment: SegmentId, facts: list[PackFacts]) -> None:
        self._left -= 1
        if self._left < 0:
            raise CacheError("the cache is full", why="injected")
        self._inner.apply(segment, facts)

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)


@pytest.mark.parametrize("at", [0, 1, 2])
def test_a_cache_that_fills_up_costs_time_and_no_snapshot(scene: Scene, tmp_path: Path, at: int) -> None:
    store = scene.store()
    with open_repository(store, tmp_path / "cache") as repository:
        repository._index = _FullIndex(repository, at)  # type: ignore[assignment]  # a stand-in

        assert_restores(repository, take(repository, scene.tree).snapshot, scene.after)

    assert_sound(store, [scene.before, scene.after])


def test_bases_that_cannot_be_read_any_more_cost_room_and_no_snapshot(scene: Scene) -> None:
    """Every base in turn, as if a prune had moved it after the look."""

    def run(plan: FaultPlan) -> FaultyStore:
        store = scene.store()
        faulty = FaultyStore(store)
        with open_repository(faulty) as repository:
            repository.look()
            faulty.plan = replace(plan, below="packs/")
            taken = take(repository, scene.tree).snapshot
            faulty.plan = None
            assert_restores(repository, taken, scene.after)
        assert_sound(store, [scene.before, scene.after])
        return faulty

    assert every_fault(Fault.NOT_FOUND, run, verb="get") > 3
