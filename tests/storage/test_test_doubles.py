"""The stores that tests of other layers rely on do what they say."""

import pytest

from dedupstore.errors import ObjectNotFound, StoreError, StoreFull, StoreReadOnly
from dedupstore.storage.base import ObjectStore
from dedupstore.storage.memory import MemoryStore
from dedupstore.types import Span
from tests.storage.contract import StoreContract
from tests.support.faults import Fault, FaultPlan, FaultyStore, Step, every_fault
from tests.support.recording import Call, RecordingStore, assert_barrier_between, outline


class TestFaultyStoreWithoutAPlan(StoreContract):
    @pytest.fixture
    def store(self) -> FaultyStore:
        return FaultyStore(MemoryStore())


class TestRecordingStore(StoreContract):
    @pytest.fixture
    def store(self) -> RecordingStore:
        return RecordingStore(MemoryStore())


def scenario(store: ObjectStore) -> None:
    store.put("packs/a", [b"0123456789"])
    store.barrier()
    store.put("roots/a", [b"root"])
    store.get("packs/a", Span(2, 4))
    store.head("roots/a")
    list(store.list("packs/"))
    store.delete("roots/a")


@pytest.mark.parametrize(
    ("fault", "verb", "times"),
    [
        (Fault.FAIL_BEFORE, None, 7),
        (Fault.FAIL_AFTER, None, 7),
        (Fault.FAIL_AFTER, "put", 2),
        (Fault.FULL, None, 2),
        (Fault.READ_ONLY, None, 3),
        (Fault.TRUNCATED, None, 1),
        (Fault.NOT_FOUND, None, 2),
        (Fault.EMPTY_LISTING, None, 1),
    ],
)
def test_walking_a_fault_meets_every_operation_it_can_happen_to_once(
    fault: Fault, verb: str | None, times: int
) -> None:
    def run(plan: FaultPlan) -> FaultyStore:
        store = FaultyStore(MemoryStore(), plan)
        try:
            scenario(store)
        except StoreError:
            assert store.fired == 1
        return store

    assert every_fault(fault, run, verb=verb) == times


def store_with(fault: Fault, **options: object) -> FaultyStore:
    inner = MemoryStore()
    inner.objects |= {"packs/a": b"0123456789", "packs/b": b"b", "packs/c": b"c"}
    return FaultyStore(inner, FaultPlan(fault=fault, at=0, **options))  # type: ignore[arg-type]


def test_a_failure_before_does_nothing_and_a_failure_after_does_it() -> None:
    for fault, there in ((Fault.FAIL_BEFORE, False), (Fault.FAIL_AFTER, True)):
        store = store_with(fault, transient=True)
        with pytest.raises(StoreError) as caught:
            store.put("packs/d", [b"d"])
        assert caught.value.transient
        assert ("packs/d" in store.inner.objects) is there  # type: ignore[attr-defined]


def test_damaged_reads_differ_in_the_way_named() -> None:
    assert store_with(Fault.TRUNCATED).get("packs/a") == b"01234"
    assert store_with(Fault.FLIPPED).get("packs/a") == b"01234\x346789"
    assert store_with(Fault.WRONG_RANGE).get("packs/a", Span(1, 4)) == b"2341"
    assert [row.key for row in store_with(Fault.WITHOUT_LAST_PAGE, page_rows=2).list("packs/")] == ["packs/a"]
    assert list(store_with(Fault.EMPTY_LISTING).list("packs/")) == []
    with pytest.raises(ObjectNotFound):
        store_with(Fault.NOT_FOUND).head("packs/a")
    with pytest.raises(StoreFull):
        store_with(Fault.FULL).put("packs/d", [b"d"])
    with pytest.raises(StoreReadOnly):
        store_with(Fault.READ_ONLY).delete("packs/a")


def test_a_fault_can_be_bound_to_a_folder_and_last() -> None:
    store = store_with(Fault.FULL, below="roots/", times=None)

    store.put("packs/d", [b"d"])
    for _ in range(3):
        with pytest.raises(StoreFull):
            store.put("roots/a", [b"a"])

    assert (store.fired, store.operations, store.by_verb["put"]) == (3, 4, 4)


def test_the_hook_sees_every_operation_before_and_after() -> None:
    steps: list[Step] = []
    store = FaultyStore(MemoryStore(), FaultPlan(fault=Fault.FULL, at=0), hook=steps.append)

    store.barrier()
    with pytest.raises(StoreFull):
        store.put("packs/a", [b"a"])

    assert steps == [
        Step(0, "barrier", "", False),
        Step(0, "barrier", "", True),
        Step(1, "put", "packs/a", False),
        Step(1, "put", "packs/a", True),
    ]


def test_the_record_is_the_order_of_what_succeeded() -> None:
    store = RecordingStore(MemoryStore())

    scenario(store)

    assert store.calls[0] == Call("put", "packs/a", 10)
    assert outline(store.calls) == ["put packs", "barrier", "put roots", "delete roots"]
    puts = [call for call in store.calls if call.verb in ("put", "barrier")]
    assert_barrier_between(puts, lambda call: call.folder == "packs", lambda call: call.folder == "roots")
    with pytest.raises(AssertionError, match="no barrier between"):
        assert_barrier_between(
            store.calls, lambda call: call == Call("put", "roots/a", 4), lambda call: call.verb == "delete"
        )
