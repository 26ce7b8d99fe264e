"""A fault at every single operation of every command's store traffic: before it takes effect, after, once, and for good."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from dedupstore.errors import DedupError
from dedupstore.storage.memory import MemoryStore
from tests.support.actions import ACTIONS, Action
from tests.support.faults import Fault, FaultPlan, FaultyStore, every_fault
from tests.support.scenes import Scene, make_scene, store_of

FAULTS = [
    pytest.param(Fault.FAIL_BEFORE, None, id="dead from then on"),
    pytest.param(Fault.FAIL_AFTER, 1, id="done, and an error once"),
    pytest.param(Fault.FAIL_AFTER, None, id="mute from then on", marks=pytest.mark.slow),
    pytest.param(Fault.FAIL_BEFORE, 1, id="not done once", marks=pytest.mark.slow),
    pytest.param(Fault.NOT_FOUND, 1, id="gone once", marks=pytest.mark.slow),
    pytest.param(Fault.FLIPPED, 1, id="a flipped bit once", marks=pytest.mark.slow),
    pytest.param(Fault.TRUNCATED, 1, id="half an object once", marks=pytest.mark.slow),
    pytest.param(Fault.EMPTY_LISTING, 1, id="an empty listing once", marks=pytest.mark.slow),
    pytest.param(Fault.WITHOUT_LAST_PAGE, 1, id="a cut listing once", marks=pytest.mark.slow),
    pytest.param(Fault.FULL, None, id="full from then on", marks=pytest.mark.slow),
    pytest.param(Fault.READ_ONLY, 1, id="denied once", marks=pytest.mark.slow),
]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return make_scene(tmp_path_factory.mktemp("every"), frozenset({1, 2}))


@pytest.mark.parametrize(("fault", "times"), FAULTS)
@pytest.mark.parametrize("action", ACTIONS, ids=lambda action: action.name)
def test_a_fault_at_any_operation_breaks_no_promise_and_running_it_again_is_enough(
    scene: Scene, action: Action, fault: Fault, times: int | None
) -> None:
    before = action.before(scene)
    judged: set[frozenset[tuple[str, bytes]]] = set()
    verbs: set[str] = set()

    def run(plan: FaultPlan) -> FaultyStore:
        store = store_of(before)
        faulty = FaultyStore(store, plan)
        try:
            action.act(scene, faulty)
        except DedupError:
            assert faulty.fired
        judge(scene, action, store, judged)
        verbs.update(faulty.by_verb)
        return faulty

    assert every_fault(fault, run, times=times) or not verbs.intersection(fault.verbs)


def judge(scene: Scene, action: Action, store: MemoryStore, judged: set[frozenset[tuple[str, bytes]]]) -> None:
    """Once for each state: most faults hit what only reads, and leave the store as it was."""
    state = frozenset(store.objects.items())
    if state in judged:
        return
    judged.add(state)
    action.sound(scene, store)
    action.act(scene, store)
    action.sound(scene, store)
    action.done(scene, store)


def test_every_action_does_something(scene: Scene) -> None:
    for action in ACTIONS:
        before: Mapping[str, bytes] = action.before(scene)
        store = store_of(before)

        action.act(scene, store)

        assert store.objects != before, action.name
        action.sound(scene, store)
        action.done(scene, store)
