"""A fault at every single operation of every command's store traffic: before it takes effect, after, once, and for good."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping

import pytest
from _pytest.mark.structures import ParameterSet

from dedupstore.errors import DedupError
from dedupstore.storage.memory import MemoryStore
from tests.support.actions import ACTIONS, Action
from tests.support.faults import Fault, FaultPlan, FaultyStore, every_fault
from tests.support.mending import MENDING
from tests.support.scenes import Scene, make_scene, store_of

ROWS = (*ACTIONS, *MENDING)
QUICK = {"check of damage", "check --repair", "repair packs from a copy", "repair parity"}
"""Rows of `MENDING` that take little time, or have no quick test of their own."""

# A store that is dead before a read leaves what one leaves that is dead before the next write.
FAULTS = [
    pytest.param(Fault.FAIL_BEFORE, None, True, id="dead from a write on"),
    pytest.param(Fault.FAIL_AFTER, 1, True, id="written, and an error once"),
    pytest.param(Fault.FAIL_BEFORE, None, False, id="dead from then on", marks=pytest.mark.slow),
    pytest.param(Fault.FAIL_AFTER, 1, False, id="done, and an error once", marks=pytest.mark.slow),
    pytest.param(Fault.FAIL_AFTER, None, False, id="mute from then on", marks=pytest.mark.slow),
    pytest.param(Fault.FAIL_BEFORE, 1, False, id="not done once", marks=pytest.mark.slow),
    pytest.param(Fault.NOT_FOUND, 1, False, id="gone once", marks=pytest.mark.slow),
    pytest.param(Fault.FLIPPED, 1, False, id="a flipped bit once", marks=pytest.mark.slow),
    pytest.param(Fault.TRUNCATED, 1, False, id="half an object once", marks=pytest.mark.slow),
    pytest.param(Fault.EMPTY_LISTING, 1, False, id="an empty listing once", marks=pytest.mark.slow),
    pytest.param(Fault.WITHOUT_LAST_PAGE, 1, False, id="a cut listing once", marks=pytest.mark.slow),
    pytest.param(Fault.FULL, None, False, id="full from then on", marks=pytest.mark.slow),
    pytest.param(Fault.READ_ONLY, 1, False, id="denied once", marks=pytest.mark.slow),
]


THIN = 37
"""Where what mends is struck in the fast tests: at each so manyth operation, by one kind of fault for each row."""


def _cases() -> Iterator[ParameterSet]:
    for action in ROWS:
        for fault in FAULTS:
            quick = action not in MENDING or (fault is FAULTS[0] and action.name in QUICK)
            marks = fault.marks if quick else pytest.mark.slow
            yield pytest.param(action, *fault.values, id=f"{action.name}-{fault.id}", marks=marks)


def _thin_cases() -> Iterator[ParameterSet]:
    """All that can happen to more than writes, dealt out to the rows."""
    kinds = [fault for fault in FAULTS if "list" in fault.values[0].verbs or "get" in fault.values[0].verbs][1:]
    for action, fault in zip(MENDING, itertools.cycle(kinds)):
        yield pytest.param(action, *fault.values[:2], id=f"{action.name}-{fault.id}")


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return make_scene(tmp_path_factory.mktemp("every"), frozenset({1, 2}))


@pytest.mark.parametrize(("action", "fault", "times", "writes_only"), [*_cases()])
def test_a_fault_at_any_operation_breaks_no_promise_and_running_it_again_is_enough(
    scene: Scene, action: Action, fault: Fault, times: int | None, writes_only: bool
) -> None:
    struck, verbs = strike(scene, action, fault, times, writes_only=writes_only)

    assert struck or not verbs.intersection(fault.verbs)


@pytest.mark.parametrize(("action", "fault", "times"), [*_thin_cases()])
def test_a_fault_at_some_operations_of_what_mends_breaks_no_promise(
    scene: Scene, action: Action, fault: Fault, times: int | None
) -> None:
    struck, _ = strike(scene, action, fault, times, every=THIN)

    assert struck


def strike(
    scene: Scene, action: Action, fault: Fault, times: int | None, *, writes_only: bool = False, every: int = 1
) -> tuple[int, set[str]]:
    """Run it once for each operation, or each `every`-th, with the fault there; at how many, and of what kinds they are."""
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

    return every_fault(fault, run, writes_only=writes_only, times=times, every=every), verbs


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
    for action in ROWS:
        before: Mapping[str, bytes] = action.before(scene)
        store = store_of(before)

        action.act(scene, store)

        assert store.objects != before, action.name
        action.sound(scene, store)
        action.done(scene, store)
