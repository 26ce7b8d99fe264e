"""Marks in a mirror: a snapshot is never shown without its protection, and never loses it before it goes itself."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dedupstore.cancel import CancelToken
from dedupstore.engine.mirror_verify import verify_mirror
from dedupstore.errors import StoreError
from dedupstore.events import NullListener
from dedupstore.model.mark import NOTE, PROTECT, TAGS, UNPROTECT, Mark
from dedupstore.model.snapshot import Snapshot
from dedupstore.repo import layout
from dedupstore.repo.marks import MarkBook
from dedupstore.storage.memory import MemoryStore
from dedupstore.types import SnapshotId
from tests.support.faults import Fault, FaultPlan, FaultyStore, Step, every_fault
from tests.support.replicating import History, assert_mirrored, check_clean, make_history, run_mirror
from tests.support.repositories import open_repository

FOR_EVER = Mark(kind=PROTECT, time_ns=1, text="audit")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> History:
    return make_history(tmp_path_factory.mktemp("marks"), snapshots=2)


@pytest.fixture(scope="module")
def history(plain: History) -> History:
    """The first snapshot is protected, the second has another tag and another note than when it was made."""
    store = plain.store()
    first, second = plain.states
    mark(store, first, FOR_EVER)
    mark(store, second, Mark(kind=TAGS, time_ns=2, add=("release",)))
    mark(store, second, Mark(kind=NOTE, time_ns=3, text="before the move"))
    return replace(plain, objects=dict(store.objects))


def mark(store: MemoryStore, snapshot: SnapshotId, said: Mark) -> None:
    with open_repository(store) as repository:
        repository.catalog.add_mark(snapshot, said)


def without_marks(objects: dict[str, bytes]) -> MemoryStore:
    """As a repository from before marks existed, but for the feature: which a mirror, without a key, cannot see."""
    store = MemoryStore("memory:source")
    store.objects = {key: data for key, data in objects.items() if not key.startswith(layout.MARKS)}
    return store


def marks_of(store: MemoryStore) -> set[str]:
    return {key for key in store.objects if key.startswith(layout.MARKS) and key not in layout.SENTINELS}


def said(store: MemoryStore) -> tuple[tuple[Snapshot, ...], MarkBook]:
    with open_repository(store) as repository:
        listing, book = repository.catalog.marked()
        book.require_whole()
        return listing.snapshots, book


def is_protected(store: MemoryStore, number: int) -> bool:
    snapshots, book = said(store)
    return book.of(snapshots[number]).holds(10)


def test_what_was_said_of_snapshots_later_is_said_in_the_mirror_too(history: History) -> None:
    source, target = history.store(), MemoryStore("memory:target")

    assert run_mirror(source, target).exit_code == 0

    assert said(target)[0] == said(source)[0] and said(target)[0][1].note == "before the move"
    assert [is_protected(target, number) for number in (0, 1)] == [True, False]
    assert_mirrored(target, history.states, list(history.states))


def test_marks_made_after_a_mirror_come_with_the_next_one(history: History, plain: History) -> None:
    target = MemoryStore("memory:target")
    run_mirror(plain.store(), target)
    assert not marks_of(target)

    result = run_mirror(history.store(), target)

    assert result.objects == 3 and is_protected(target, 0)
    check_clean(target)


def test_at_no_moment_a_snapshot_is_shown_without_its_marks(history: History) -> None:
    source, target = history.store(), MemoryStore("memory:target")
    marks = {layout.parse_mark_key(key)[0]: key for key in marks_of(source)}

    def look(step: Step) -> None:
        for snapshot, key in marks.items():
            assert layout.commit_key(snapshot) not in target.objects or key in target.objects
            # A forget sweeps marks that no record belongs to; what shrinks is past that.
            assert shrinks or key not in target.objects or layout.root_key(snapshot) in target.objects

    shrinks = False
    run_mirror(source, FaultyStore(target, hook=look))
    shrinks = True
    for prefix in (layout.COMMITS, layout.ROOTS, layout.MARKS):
        gone = layout.root_key(next(iter(history.states))).removeprefix(layout.ROOTS)
        for key in [key for key in source.objects if key.startswith(prefix + gone)]:
            del source.objects[key]
    run_mirror(source, FaultyStore(target, hook=look), delete=True)

    assert target.objects.keys() == source.objects.keys()
    check_clean(target)


@pytest.mark.parametrize("fault", [Fault.FAIL_BEFORE, Fault.FAIL_AFTER])
def test_a_fault_while_a_mirror_gets_its_first_marks_is_healed_by_the_next_run(history: History, fault: Fault) -> None:
    """Also between the two sentinels of `marks/`, in a mirror that was made before there were any."""
    old, source = without_marks(history.objects), history.store()

    def run(plan: FaultPlan) -> FaultyStore:
        target = MemoryStore("memory:target")
        run_mirror(old, target)
        assert not any(key.startswith(layout.MARKS) for key in target.objects)
        faulty = FaultyStore(target, plan)
        try:
            run_mirror(source, faulty)
        except StoreError:
            assert faulty.fired
        assert run_mirror(source, target).exit_code == 0
        assert target.objects == source.objects
        return faulty

    assert every_fault(fault, run) > 15


def test_a_mark_goes_with_its_snapshot_and_never_before(history: History) -> None:
    """One that was made in the mirror itself, or that the repository has lost, may protect what is still there."""
    source, target = history.store(), MemoryStore("memory:target")
    run_mirror(source, target)
    lost = next(key for key in sorted(marks_of(source)) if layout.parse_mark_key(key)[0] == next(iter(history.states)))
    del source.objects[lost]
    mark(target, list(history.states)[1], FOR_EVER)

    assert run_mirror(source, target, delete=True).deleted == 0

    assert [is_protected(target, number) for number in (0, 1)] == [True, True]
    check_clean(target)


def test_a_repository_that_lost_all_of_its_marks_takes_none_from_the_mirror(history: History) -> None:
    target = MemoryStore("memory:target")
    run_mirror(history.store(), target)
    before = dict(target.objects)

    result = run_mirror(without_marks(history.objects), target, delete=True)

    assert [finding.code for finding in result.findings] == ["mirror.marks_lost"] and result.exit_code == 3
    assert target.objects == before


def test_a_listing_of_marks_cut_short_ends_the_mirror(history: History) -> None:
    source, target = history.store(), MemoryStore("memory:target")
    del source.objects[layout.MARKS_SENTINELS[1]]

    with pytest.raises(StoreError):
        run_mirror(source, target)

    assert layout.FORMAT_KEY not in target.objects


def test_a_damaged_mark_is_named_and_not_copied_and_holds_no_snapshot_back(history: History) -> None:
    source, target = history.store(), MemoryStore("memory:target")
    key = sorted(marks_of(source))[0]
    source.objects[key] = b"rot" + source.objects[key][3:]

    result = run_mirror(source, target)

    assert result.exit_code == 4 and [key in finding.message for finding in result.findings] == [True]
    assert marks_of(target) == marks_of(source) - {key}
    assert_mirrored(target, history.states, list(history.states))


def test_snapshots_of_the_mirror_are_protected_although_new_ones_are_held_back(
    history: History, plain: History
) -> None:
    source, target = history.store(), MemoryStore("memory:target")
    run_mirror(plain.store(), target)
    orphan = "packs/ff/" + "ff" * 32 + ".d1"
    source.objects[orphan] = b"not what its name says"

    assert run_mirror(source, target).exit_code == 4

    assert is_protected(target, 0)


def test_verification_names_a_mark_that_is_not_one(history: History) -> None:
    source, target = history.store(), MemoryStore("memory:target")
    run_mirror(source, target)
    with open_repository(target) as repository:
        identifier = repository.id
    first = min(marks_of(target))
    commit = next(key for key in target.objects if key.startswith(layout.COMMITS) and key not in layout.SENTINELS)
    target.objects[first] = target.objects[commit]

    found = verify_mirror(target, identifier, listener=NullListener(), cancel=CancelToken())

    assert [first in finding.message for finding in found.findings] == [True]
    target.objects[first] = source.objects[first]
    assert verify_mirror(target, identifier, listener=NullListener(), cancel=CancelToken()).exit_code == 0


def test_what_was_taken_back_is_taken_back_in_the_mirror(history: History) -> None:
    source, target = history.store(), MemoryStore("memory:target")
    run_mirror(source, target)
    mark(source, next(iter(history.states)), Mark(kind=UNPROTECT, time_ns=9))

    run_mirror(source, target)

    assert not is_protected(target, 0)
    check_clean(target)
