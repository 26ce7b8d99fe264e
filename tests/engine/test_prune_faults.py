"""Prune killed, disturbed and raced at every single operation of its store: no snapshot loses a byte."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from dedupstore.engine.prune_plan import DAY_NS, PruneOptions
from dedupstore.errors import DedupError
from dedupstore.model.snapshot import Snapshot
from dedupstore.storage.memory import MemoryStore
from dedupstore.types import SnapshotId
from tests.support.faults import FaultyStore, Step
from tests.support.pruning import assert_sound, forget, plans, prune
from tests.support.repositories import (
    files_below,
    open_repository,
    take,
)
from tests.support.scenes import Scene, change, make_scene

Files = dict[bytes, bytes]
WAITING = PruneOptions(grace_ns=DAY_NS, undo_window_ns=0)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return make_scene(tmp_path_factory.mktemp("prune"))


def everywhere(act: Callable[[int], bool], every: int = 1) -> int:
    """Call with 0, 1, 2, …, or each so many-th of these, until it says that there is nothing there any more; where."""
    return next(at for at in itertools.count(step=every) if not act(at))


ALL = pytest.mark.slow


def assert_finishes(store: MemoryStore, kept: dict[SnapshotId, Files]) -> None:
    """Nothing was lost, and the next prune ends what was begun."""
    with open_repository(store) as repository:
        assert_sound(repository, kept)
        prune(repository)
        prune(repository)
        assert_sound(repository, kept)
        assert prune(repository).packs_condemned == 0
        assert plans(store) == []


def test_the_scene_has_everything_that_can_happen(scene: Scene) -> None:
    store = scene.store()

    with open_repository(store) as repository:
        report = prune(repository)

        assert report.packs_deleted > 2
        assert report.bytes_moved > 0
        assert report.plans_done == 2
        assert_sound(repository, scene.kept)


def between(at: int, act: Callable[[], None]) -> tuple[Callable[[Step], None], list[int]]:
    """A hook that acts before operation number `at` and not again; the list says whether it did."""
    acted: list[int] = []

    def hook(step: Step) -> None:
        if step.number == at and not step.done:
            acted.append(at)
            act()

    return hook, acted


def hooked(store: MemoryStore) -> tuple[FaultyStore, Callable[[Callable[[Step], None]], None]]:
    """A store that passes everything on, and what sets its hook and starts to count."""
    faulty = FaultyStore(store)

    def start(hook: Callable[[Step], None]) -> None:
        faulty.operations = 0
        faulty._hook = hook

    return faulty, start


@pytest.mark.parametrize(
    ("content", "every"),
    [("forgotten", 3), pytest.param("forgotten", 1, marks=ALL), pytest.param("new", 1, marks=ALL)],
)
def test_a_snapshot_between_any_two_steps_of_a_prune_is_kept(
    scene: Scene, tmp_path: Path, content: str, every: int
) -> None:
    """It uses what is about to go: its content is what the forgotten snapshots held, or much like it."""
    tree = tmp_path / "tree"
    tree.mkdir()
    change(tree, 1)
    if content == "new":
        change(tree, 5)
    files = files_below(tree)

    def interrupt(at: int) -> bool:
        store = scene.store()
        kept = dict(scene.kept)
        faulty, start = hooked(store)

        def snapshot() -> None:
            with open_repository(store) as other:
                taken = take(other, tree).snapshot
                assert taken is not None
                kept[taken.id] = files

        with open_repository(faulty) as repository:
            hook, acted = between(at, snapshot)
            start(hook)
            prune(repository)
        assert_finishes(store, kept)
        return bool(acted)

    assert everywhere(interrupt, every) > 40


@pytest.mark.parametrize(
    ("age", "every"),
    [("same plan", 3), pytest.param("same plan", 1, marks=ALL), pytest.param("two plans", 1, marks=ALL)],
)
def test_a_second_pruner_between_any_two_steps_of_the_first(scene: Scene, age: str, every: int) -> None:
    """Both carry out the same plan, or each has made one of its own before either carries out any."""

    def interrupt(at: int) -> bool:
        store = scene.store()
        faulty, start = hooked(store)
        if age == "two plans":
            with open_repository(store) as third:
                prune(third, WAITING)

        def race() -> None:
            with open_repository(store) as other:
                prune(other)

        with open_repository(faulty) as repository:
            hook, acted = between(at, race)
            start(hook)
            prune(repository)
        assert_finishes(store, scene.kept)
        return bool(acted)

    assert everywhere(interrupt, every) > 40


@pytest.mark.parametrize("parent", ["kept", "forgotten meanwhile"])
def test_a_prune_between_any_two_steps_of_a_snapshot_takes_nothing_from_it(
    scene: Scene, tmp_path: Path, parent: str
) -> None:
    """With no grace and no time to undo, so that nothing but the protocol protects the snapshot."""
    tree = tmp_path / "tree"
    tree.mkdir()
    change(tree, 1)
    files = files_below(tree)

    def interrupt(at: int) -> bool:
        store = scene.store()
        faulty, start = hooked(store)
        kept = dict(scene.kept)

        def race() -> None:
            with open_repository(store) as other:
                if parent == "forgotten meanwhile":
                    for snapshot in other.catalog.snapshots().snapshots:
                        forget(other, snapshot)
                    kept.clear()
                prune(other)

        with open_repository(faulty) as repository:
            hook, acted = between(at, race)
            start(hook)
            taken: Snapshot | None = None
            with suppress(DedupError):
                taken = take(repository, tree).snapshot
        if taken is None:
            # It may fail, but not pretend: what is not committed is no snapshot.
            assert acted
            with open_repository(store) as repository:
                listing = repository.catalog.snapshots()
                assert {snapshot.id for snapshot in listing.snapshots} == kept.keys()
        else:
            with open_repository(store) as repository:
                if repository.catalog.has_commit(taken.id):
                    kept[taken.id] = files
        assert_finishes(store, kept)
        return bool(acted)

    assert everywhere(interrupt) > 15
