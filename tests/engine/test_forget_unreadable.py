"""Snapshots that cannot be read any more: prune stops for them, and goes on once they are given up by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from dedupstore.engine.forget import execute_forget, plan_forget
from dedupstore.engine.prune_plan import DAY_NS
from dedupstore.errors import DedupError, IntegrityError, NothingMatches, Refused
from dedupstore.model.mark import PROTECT, UNPROTECT, Mark
from dedupstore.repo import layout
from dedupstore.repo.forgetting import RecordLost, open_forgotten
from dedupstore.repo.repository import Repository
from dedupstore.storage.memory import MemoryStore
from dedupstore.types import SnapshotId
from tests.support.faults import Fault, FaultPlan, FaultyStore
from tests.support.forgetting import Scene, check, existing, forget, fresh, make_scene, options, planned, undo
from tests.support.pruning import NOW, assert_sound, prune

WINDOW = replace(NOW, undo_window_ns=7 * DAY_NS)
Damage = Callable[[MemoryStore, SnapshotId], None]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return make_scene(tmp_path_factory.mktemp("unreadable"))


@pytest.fixture
def scene(made: Scene) -> Scene:
    return fresh(made)


def rot(key: str, store: MemoryStore) -> None:
    store.objects[key] = store.objects[key][:-1] + bytes([store.objects[key][-1] ^ 1])


def record_missing(store: MemoryStore, snapshot: SnapshotId) -> None:
    del store.objects[layout.root_key(snapshot)]


def record_damaged(store: MemoryStore, snapshot: SnapshotId) -> None:
    rot(layout.root_key(snapshot), store)


def marker_damaged(store: MemoryStore, snapshot: SnapshotId) -> None:
    rot(layout.commit_key(snapshot), store)


def run_damaged(store: MemoryStore, snapshot: SnapshotId) -> None:
    """Never committed, and its record is unreadable."""
    del store.objects[layout.commit_key(snapshot)]
    rot(layout.root_key(snapshot), store)


def forgotten_twice_damaged(store: MemoryStore, snapshot: SnapshotId) -> None:
    """Forgotten properly; then both copies of its record rot."""
    store.objects[layout.forgotten_key(snapshot)] = b"rot"
    run_damaged(store, snapshot)


EVERY = [record_missing, record_damaged, marker_damaged, run_damaged, forgotten_twice_damaged]


def states(scene: Scene, without: int) -> dict[SnapshotId, dict[bytes, bytes]]:
    return {one: files for at, (one, files) in enumerate(scene.expected.items()) if at != without}


def give_up(repository: Repository, snapshot: SnapshotId) -> list[SnapshotId]:
    return forget(repository, options(None, snapshot))


@pytest.mark.parametrize("damage", EVERY, ids=lambda damage: damage.__name__)
def test_an_unreadable_snapshot_is_given_up_by_name_and_prune_goes_on(scene: Scene, damage: Damage) -> None:
    store, lost = scene.store(), scene.snapshots[1]
    damage(store, lost)
    with scene.open(store) as repository:
        if damage is not marker_damaged:
            with pytest.raises(IntegrityError) as raised:
                prune(repository, WINDOW)
            assert any("dedup forget" in hint for hint in raised.value.hints)

        assert list(planned(repository, options(None, lost)).unreadable) == [lost]
        assert give_up(repository, lost) == [lost]

        prune(repository, WINDOW)
        assert_sound(repository, states(scene, without=1))
        prune(repository)
        assert_sound(repository, states(scene, without=1))
        assert [finding for finding in check(repository).findings if finding.severity != "note"] == []
    left = {key for key in store.objects if lost.hex() in key or layout.root_key(lost) in key}
    assert not left and layout.forgotten_key(lost) not in store.objects


@pytest.mark.parametrize("damage", EVERY, ids=lambda damage: damage.__name__)
def test_only_what_is_named_is_given_up(scene: Scene, damage: Damage) -> None:
    store = scene.store()
    damage(store, scene.snapshots[1])
    with scene.open(store) as repository:
        forget(repository, options(None, scene.snapshots[0]))

        assert scene.snapshots[1] not in planned(repository).unreadable
        assert layout.root_key(scene.snapshots[1]) in store.objects or damage is record_missing
        with pytest.raises(NothingMatches):
            planned(repository, options(None, SnapshotId(bytes(16))))


def test_a_snapshot_of_which_only_the_marker_is_damaged_can_be_brought_back(scene: Scene) -> None:
    store = scene.store()
    marker_damaged(store, scene.snapshots[1])
    with scene.open(store) as repository:
        give_up(repository, scene.snapshots[1])
        prune(repository, WINDOW)

        back = undo(repository, scene.snapshots[1])

        assert_sound(repository, states(scene, without=1) | {back.id: scene.expected[scene.snapshots[1]]})


def test_a_lost_record_cannot_be_brought_back_and_that_is_said(scene: Scene) -> None:
    store, lost = scene.store(), scene.snapshots[1]
    record_missing(store, lost)
    with scene.open(store) as repository:
        give_up(repository, lost)

        with pytest.raises(RecordLost):
            open_forgotten(store, repository.keyring, lost)
        with pytest.raises(DedupError) as raised:
            undo(repository, lost)
        assert raised.value.code == "snapshot.undo_too_late"
        report = check(repository)
        assert {finding.code for finding in report.findings} == {"check.forgotten_damaged"}
        assert report.exit_code == 0


def test_the_copy_in_its_marker_keeps_the_data_of_a_forgotten_snapshot_whose_record_rots(scene: Scene) -> None:
    store, first = scene.store(), scene.snapshots[0]
    with scene.open(store) as repository:
        forget(repository, options(None, first))
        record_damaged(store, first)

        prune(repository, WINDOW)
        back = undo(repository, first)

        assert_sound(repository, states(scene, without=0) | {back.id: scene.expected[first]})


def test_protection_holds_for_what_cannot_be_read(scene: Scene) -> None:
    store, lost = scene.store(), scene.snapshots[1]
    with scene.open(store) as repository:
        repository.catalog.add_mark(lost, Mark(kind=PROTECT, time_ns=1))
        record_damaged(store, lost)

        with pytest.raises(Refused) as refused:
            plan_forget(repository.catalog, options(None, lost), repository.clock)
        assert refused.value.code == "refused.guarded_snapshot"

        repository.catalog.add_mark(lost, Mark(kind=UNPROTECT, time_ns=2))
        assert give_up(repository, lost) == [lost]
        prune(repository)
        assert_sound(repository, states(scene, without=1))


def test_one_wrong_reading_gives_nothing_up(scene: Scene) -> None:
    store = scene.store()
    for at in range(40):
        faulty = FaultyStore(store, FaultPlan(fault=Fault.FLIPPED, at=at, verb="get", below=layout.ROOTS))
        with scene.open(faulty) as repository:
            try:
                plan = planned(repository, options(None, scene.snapshots[1]))
            except NothingMatches:
                continue
            assert not plan.unreadable
        if not faulty.fired:
            break
    with scene.open(store) as repository:
        assert existing(repository) == scene.snapshots


@pytest.mark.parametrize("at", range(30))
def test_giving_up_can_be_stopped_anywhere_and_done_again(scene: Scene, at: int) -> None:
    store, lost = scene.store(), scene.snapshots[1]
    record_damaged(store, lost)
    faulty = FaultyStore(store, FaultPlan(fault=Fault.FAIL_BEFORE, at=at, times=None))
    with scene.open(store) as repository:
        plan = planned(repository, options(None, lost))
        repository.catalog._store = faulty
        stopped = False
        try:
            execute_forget(repository.catalog, plan, repository.clock)
        except DedupError:
            stopped = True
        repository.catalog._store = store
        if stopped and lost in {one for one, _ in repository.catalog.snapshots().damaged}:
            give_up(repository, lost)
        prune(repository)
        assert_sound(repository, states(scene, without=1))
