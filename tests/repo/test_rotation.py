"""Changing a passphrase and rotating the keys: stopped at every step, raced at every step."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from dedupstore.codec.claims import ObjectType
from dedupstore.errors import CorruptObject, DedupError, Refused, WrongPassphrase
from dedupstore.repo import layout
from dedupstore.repo.config import find_config
from dedupstore.repo.keys import list_slots, open_slot
from dedupstore.repo.slots import Secret
from dedupstore.storage.memory import MemoryStore
from tests.support.faults import Fault, FaultPlan, FaultyStore, Step
from tests.support.pruning import assert_sound, check
from tests.support.repositories import (
    SECRET,
    files_below,
    open_repository,
    segment_facts,
    take,
)
from tests.support.rotating import NEW_SECRET, Scene, change, make_scene, open_by, rotate

THIRD_SECRET = Secret.passphrase("a third one, of somebody else")
STOPS = (Fault.FAIL_BEFORE, Fault.FAIL_AFTER)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return make_scene(tmp_path)


def everywhere(act: Callable[[int], bool]) -> int:
    """Call with 0, 1, 2, … until it says that there is nothing there any more; how often it did."""
    return next(at for at in itertools.count() if not act(at))


def test_a_changed_passphrase_opens_and_the_old_one_does_not(scene: Scene) -> None:
    store = scene.store()
    with open_repository(store) as repository:
        changed = change(repository)

    assert [row.label and row.label.text for row in changed.removed] == ["passphrase"]
    with open_by(store, NEW_SECRET) as repository:
        assert_sound(repository, scene.kept)
        assert [row.slot_id for row in list_slots(store, repository.keyring)] == [changed.slot.slot_id]
    with pytest.raises(WrongPassphrase):
        open_by(store, SECRET)


def test_the_old_slot_goes_after_the_new_one_was_durable_and_opened(scene: Scene) -> None:
    store = scene.store()
    steps: list[tuple[str, str]] = []
    with open_repository(FaultyStore(store)) as repository:
        assert isinstance(repository.store, FaultyStore)
        old = next(iter(list_slots(store, repository.keyring)))
        repository.store._hook = lambda step: steps.append((step.verb, step.key)) if step.done else None
        changed = change(repository)

    new_key, old_key = layout.slot_key(changed.slot.slot_id), layout.slot_key(old.slot_id)
    written = steps.index(("put", new_key))
    durable = steps.index(("barrier", ""), written)
    proven = [number for number, step in enumerate(steps) if step == ("get", new_key)]
    assert written < durable < proven[1] < steps.index(("delete", old_key))


def test_a_store_that_keeps_the_old_slot_is_told_and_both_open(scene: Scene) -> None:
    store = scene.store()
    faulty = FaultyStore(store)
    with open_repository(faulty) as repository:
        faulty.plan = FaultPlan(fault=Fault.READ_ONLY, at=0, verb="delete")
        changed = change(repository)

    assert (len(changed.left), changed.removed) == (1, ())
    for secret in (SECRET, NEW_SECRET):
        with open_by(store, secret) as repository:
            assert_sound(repository, scene.kept)


@pytest.mark.parametrize("fault", STOPS)
@pytest.mark.parametrize("act", [change, rotate])
def test_stopped_at_any_operation_the_repository_opens_and_the_next_try_ends_it(
    scene: Scene, fault: Fault, act: Callable[..., object]
) -> None:
    def strike(at: int) -> bool:
        store = scene.store()
        faulty = FaultyStore(store)
        with open_repository(faulty) as repository:
            faulty.plan = FaultPlan(fault=fault, at=at, times=None)
            with suppress(DedupError):
                act(repository, NEW_SECRET)
        with open_by(store, NEW_SECRET, SECRET) as repository:
            assert_sound(repository, scene.kept)
            began = repository.keyring.epoch
            again = rotate(repository, THIRD_SECRET, take_over=True)
        with open_by(store, THIRD_SECRET) as repository:
            assert repository.keyring.epoch == again.epoch > began
            assert set(repository.keyring.masters) >= {1, again.epoch}
            assert [row.slot_id for row in list_slots(store, repository.keyring)] == [again.slot.slot_id]
            assert_sound(repository, scene.kept)
        for secret in (SECRET, NEW_SECRET):
            with pytest.raises(WrongPassphrase):
                open_by(store, secret)
        return bool(faulty.fired)

    assert everywhere(strike) > 6


def test_a_rotation_that_was_stopped_is_not_taken_over_unasked(scene: Scene) -> None:
    store = scene.store()
    with open_repository(store) as repository:
        rotate_until(store, "config/")
        before = dict(store.objects)

        with pytest.raises(Refused) as caught:
            rotate(repository)

        assert caught.value.code == "key.rotation_under_way"
        assert store.objects == before
        assert rotate(repository, take_over=True).epoch == 3
    with open_repository(store) as repository:
        assert set(repository.keyring.masters) == {1, 3}
        assert_sound(repository, scene.kept)


def rotate_until(store: MemoryStore, below: str) -> None:
    """A rotation that is stopped when it wants to put something below that prefix."""
    with open_repository(FaultyStore(store)) as repository:
        assert isinstance(repository.store, FaultyStore)
        repository.store.plan = FaultPlan(fault=Fault.FAIL_BEFORE, at=0, verb="put", below=below, times=None)
        with pytest.raises(DedupError, match="cannot put"):
            rotate(repository)


def test_the_same_passphrase_opens_while_a_rotation_is_half_done(scene: Scene) -> None:
    store = scene.store()
    rotate_until(store, "config/")

    with open_repository(store) as repository:
        assert repository.keyring.epoch == 1
        assert_sound(repository, scene.kept)
        assert [finding.code for finding in check(repository).findings] == ["check.rotation_unfinished"]


def test_of_two_rotations_at_any_two_steps_at_most_one_is_in_force(scene: Scene) -> None:
    winners: set[Secret] = set()

    def interrupt(at: int) -> bool:
        store = scene.store()
        acted: list[int] = []
        won: list[Secret] = []

        def other() -> None:
            with open_repository(store) as second, suppress(Refused, WrongPassphrase):
                rotate(second, THIRD_SECRET)
                won.append(THIRD_SECRET)

        def hook(step: Step) -> None:
            if step.number == at and not step.done:
                acted.append(at)
                with suppress(WrongPassphrase):
                    other()

        faulty = FaultyStore(store)
        with open_repository(faulty) as repository:
            faulty.operations = 0
            faulty._hook = hook
            with suppress(Refused):
                rotate(repository, NEW_SECRET)
                won.append(NEW_SECRET)
        assert len(won) <= 1
        winners.update(won)
        with open_by(store, *reversed(won), SECRET) as repository:
            assert_sound(repository, scene.kept)
        return bool(acted)

    assert everywhere(interrupt) > 12
    assert winners == {NEW_SECRET, THIRD_SECRET}


def test_a_rotation_that_was_slow_and_not_dead_leaves_a_way_in_for_the_one_that_takes_it_over(scene: Scene) -> None:
    """The slow one has looked twice already, and goes on at any step of the other."""

    def interrupt(at: int) -> bool:
        store = scene.store()
        waits, goes_on = threading.Event(), threading.Event()
        acted: list[int] = []
        won: list[Secret] = []

        def pause(step: Step) -> None:
            if step.verb == "put" and step.key.startswith(layout.CONFIG) and not step.done:
                waits.set()
                assert goes_on.wait(60)

        def rotate_slowly() -> None:
            with open_repository(slow) as repository, suppress(Refused):
                rotate(repository, NEW_SECRET)
                won.append(NEW_SECRET)

        def hook(step: Step) -> None:
            if step.number == at and not step.done:
                acted.append(at)
                goes_on.set()
                thread.join(60)

        slow, faulty = FaultyStore(store), FaultyStore(store)
        slow._hook = pause
        thread = threading.Thread(target=rotate_slowly)
        thread.start()
        assert waits.wait(60)
        with open_repository(faulty) as repository:
            faulty.operations = 0
            faulty._hook = hook
            with suppress(Refused):
                rotate(repository, THIRD_SECRET, take_over=True)
                won.append(THIRD_SECRET)
        goes_on.set()
        thread.join(60)
        assert len(won) == 1
        with open_by(store, *reversed(won), SECRET) as repository:
            assert_sound(repository, scene.kept)
        return bool(acted)

    assert everywhere(interrupt) > 12


def test_the_old_key_opens_nothing_written_after_the_rotation(scene: Scene) -> None:
    store = scene.store()
    with open_repository(store) as repository:
        stolen = repository.keyring
        rotate(repository, NEW_SECRET)
    before = set(store.objects)
    scene.change_tree()
    with open_by(store, NEW_SECRET) as repository:
        taken = take(repository, scene.tree).snapshot
        assert taken is not None
        scene.kept[taken.id] = files_below(scene.tree)
        assert_sound(repository, scene.kept)
        new_packs = [fact for fact in segment_facts(repository) if fact.name.key not in before]

    assert new_packs and {fact.epoch for fact in new_packs} == {2}
    for fact in new_packs:
        with pytest.raises(CorruptObject, match="no key for epoch 2"):
            stolen.pack_key(fact.epoch, fact.salt, fact.kind)
    sealed = [key for key in store.objects if key not in before and not key.startswith(layout.PACKS)]
    assert len(sealed) == 3
    for key in sealed:
        with pytest.raises(CorruptObject):
            stolen.open(ObjectType(store.objects[key][8]), key, store.objects[key])
    assert find_config(store).epoch == 2


def test_a_slot_that_was_kept_from_before_does_not_open_what_came_after(scene: Scene) -> None:
    store = scene.store()
    slots = {key: data for key, data in store.objects.items() if key.startswith(layout.KEYS)}
    with open_repository(store) as repository:
        rotate(repository, NEW_SECRET)
    store.objects |= slots

    with pytest.raises(WrongPassphrase) as caught:
        open_by(store, SECRET)

    assert caught.value.code == "repo.old_key"
    stolen = open_slot(store, repository.id, SECRET, allow_weak=True)
    with pytest.raises(CorruptObject, match="no key for epoch 2"):
        stolen.open(ObjectType.CONFIG, layout.config_name(2), find_config(store).sealed)


def test_a_snapshot_that_began_before_a_rotation_ends_after_it(scene: Scene) -> None:
    store = scene.store()
    scene.change_tree()

    def interrupt(at: int) -> bool:
        store.objects = dict(scene.objects)
        acted: list[int] = []

        def hook(step: Step) -> None:
            if step.number == at and not step.done:
                acted.append(at)
                with open_repository(store) as other:
                    rotate(other)

        faulty = FaultyStore(store)
        with open_repository(faulty) as repository:
            faulty.operations = 0
            faulty._hook = hook
            taken = take(repository, scene.tree).snapshot
        assert taken is not None
        with open_repository(store) as repository:
            assert_sound(repository, scene.kept | {taken.id: files_below(scene.tree)})
        return bool(acted)

    assert everywhere(interrupt) > 15
