"""Power cuts during every command: every state its disk may be left in, unsynced data dropped, torn and reordered."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dedupstore.storage.local import LocalStore
from tests.support.actions import ACTIONS, Action
from tests.support.crash import CrashSimulator, CrashState, RecordingSystem, durability_faults, read_tree
from tests.support.mending import MENDING
from tests.support.scenes import Scene, make_scene


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return make_scene(tmp_path_factory.mktemp("power"), frozenset({1, 2}))


def states(scene: Scene, action: Action, folder: Path, *, random_subsets: int, moments: int) -> Iterator[CrashState]:
    """Carry it out on a recorded disk; what a power cut at any of so many moments may leave. `done`: after the last."""
    root = str(folder / "store")
    LocalStore.create(root).close()
    fill = LocalStore(root)
    for key, data in action.before(scene).items():
        fill.put(key, [data])
    fill.barrier()
    before, recorder = read_tree(root), RecordingSystem()
    action.act(scene, LocalStore(root, system=recorder))
    recorder.acknowledge("done")
    assert durability_faults(recorder.operations, root) == []
    yield from CrashSimulator(recorder.operations, root, before).states(
        random_subsets=random_subsets, seed=1, every=max(1, len(recorder.operations) // moments)
    )


def survive(found: Iterator[CrashState], scene: Scene, action: Action) -> int:
    """How many different states: each keeps every promise, and the command can be carried out from there."""
    seen: set[frozenset[tuple[str, bytes]]] = set()
    for state in found:
        store = state.store()
        objects = frozenset(store.objects.items())
        if "done" in state.acknowledged:
            action.done(scene, state.store())
        if objects not in seen:
            seen.add(objects)
            action.sound(scene, store)
            action.act(scene, store)
            action.sound(scene, store)
            action.done(scene, store)
    return len(seen)


@pytest.mark.parametrize("action", ACTIONS, ids=lambda action: action.name)
def test_a_power_cut_at_any_moment_breaks_no_promise(scene: Scene, action: Action, tmp_path: Path) -> None:
    assert survive(states(scene, action, tmp_path, random_subsets=0, moments=12), scene, action) >= 2


@pytest.mark.slow
@pytest.mark.parametrize("action", [*ACTIONS, *MENDING], ids=lambda action: action.name)
def test_a_power_cut_that_keeps_any_part_of_what_was_not_synced(scene: Scene, action: Action, tmp_path: Path) -> None:
    assert survive(states(scene, action, tmp_path, random_subsets=10, moments=150), scene, action) >= 2
