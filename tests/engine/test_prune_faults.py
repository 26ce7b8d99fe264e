"""Prune killed, disturbed and raced at every single operation of its store: no snapshot loses a byte."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from dedupstore.engine.prune_plan import DAY_NS, PruneOptions, Reason
from dedupstore.errors import DedupError
from dedupstore.model.snapshot import Snapshot
from dedupstore.repo.repository import InitOptions
from dedupstore.storage.memory import MemoryStore
from dedupstore.types import SnapshotId
from tests.support.faults import Fault, FaultPlan, FaultyStore, Step
from tests.support.pruning import assert_sound, forget, plan, plans, prune
from tests.support.repositories import (
    SMALL,
    files_below,
    new_repository,
    open_repository,
    random_bytes,
    take,
    text_bytes,
)

Files = dict[bytes, bytes]
OPTIONS: InitOptions = replace(SMALL, pack_bytes=48 << 10, delta_block_bytes=4 << 10)
WAITING = PruneOptions(grace_ns=DAY_NS, undo_window_ns=0)


@dataclass
class Scene:
    """A store with snapshots, some of them forgotten: a prune deletes, moves blocks as they are, and packs anew."""

    objects: dict[str, bytes]
    kept: dict[SnapshotId, Files]
    tree: Path

    def store(self) -> MemoryStore:
        store = MemoryStore()
        store.objects = dict(self.objects)
        return store


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """Which chunks share a pack is not the same in every run; one in which something has to move is taken."""
    for number in range(50):
        made = make_scene(tmp_path_factory.mktemp(f"scene{number}") / "tree")
        with open_repository(made.store()) as repository:
            planned = plan(repository)
            if planned.count(Reason.DEAD) > 1 and planned.count(Reason.SPARSE) > 0:
                return made
    raise AssertionError("no such scene in many tries")


def make_scene(tree: Path) -> Scene:
    tree.mkdir()
    store = MemoryStore()
    kept: dict[SnapshotId, Files] = {}
    with new_repository(store, options=OPTIONS) as repository:
        for day in range(4):
            change(tree, day)
            snapshot = take(repository, tree).snapshot
            assert snapshot is not None
            if day == 2:
                kept[snapshot.id] = files_below(tree)
            else:
                forget(repository, snapshot)
    return Scene(dict(store.objects), kept, tree)


def change(tree: Path, day: int) -> None:
    """A text of which some rows change each day, and noise that stays, goes or comes."""
    text = bytearray(text_bytes(1, 1500))
    for round_ in range(1, day + 1):
        text[2000 * round_ : 2000 * round_ + 40] = b"%040d" % round_
    (tree / "text").write_bytes(text)
    (tree / "steady").write_bytes(random_bytes("steady", 9_000))
    for number in range(4):
        (tree / f"noise{number}").write_bytes(random_bytes(f"{number} {day // (number + 1)}", 7_000))


def everywhere(act: Callable[[int], bool]) -> int:
    """Call with 0, 1, 2, … until it says that there is nothing there any more; how often it did."""
    return next(at for at in itertools.count() if not act(at))


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


@pytest.mark.parametrize(
    ("fault", "times"),
    [
        pytest.param(Fault.FAIL_BEFORE, None, id="dead from then on"),
        pytest.param(Fault.FAIL_AFTER, None, id="mute from then on", marks=pytest.mark.slow),
        pytest.param(Fault.FAIL_BEFORE, 1, id="not done once", marks=pytest.mark.slow),
        pytest.param(Fault.FAIL_AFTER, 1, id="done, and an error once", marks=pytest.mark.slow),
        pytest.param(Fault.NOT_FOUND, 1, id="gone once", marks=pytest.mark.slow),
        pytest.param(Fault.FLIPPED, 1, id="a flipped bit once", marks=pytest.mark.slow),
        pytest.param(Fault.TRUNCATED, 1, id="half an object once", marks=pytest.mark.slow),
        pytest.param(Fault.EMPTY_LISTING, 1, id="an empty listing once", marks=pytest.mark.slow),
        pytest.param(Fault.WITHOUT_LAST_PAGE, 1, id="a cut listing once", marks=pytest.mark.slow),
        pytest.param(Fault.FULL, 1, id="no room once", marks=pytest.mark.slow),
        pytest.param(Fault.READ_ONLY, 1, id="denied once", marks=pytest.mark.slow),
    ],
)
def test_a_fault_at_any_operation_loses_nothing_and_the_next_prune_goes_on(
    scene: Scene, fault: Fault, times: int | None
) -> None:
    def strike(at: int) -> bool:
        store = scene.store()
        faulty = FaultyStore(store)
        with open_repository(faulty) as repository:
            faulty.plan = FaultPlan(fault=fault, at=at, times=times)
            with suppress(DedupError):
                prune(repository)
        assert_finishes(store, scene.kept)
        return bool(faulty.fired)

    assert everywhere(strike) > 4


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


@pytest.mark.parametrize("content", ["forgotten", pytest.param("new", marks=pytest.mark.slow)])
def test_a_snapshot_between_any_two_steps_of_a_prune_is_kept(scene: Scene, tmp_path: Path, content: str) -> None:
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

    assert everywhere(interrupt) > 40


@pytest.mark.parametrize("age", ["same plan", pytest.param("two plans", marks=pytest.mark.slow)])
def test_a_second_pruner_between_any_two_steps_of_the_first(scene: Scene, age: str) -> None:
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

    assert everywhere(interrupt) > 40


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
