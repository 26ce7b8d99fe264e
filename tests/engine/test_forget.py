"""Forgetting: the order of its writes, what a kill or a fault leaves, others at the same time, and the way back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from dedupstore.engine.forget import execute_forget
from dedupstore.errors import IncompleteListing, NothingMatches, Refused, StoreReadOnly
from dedupstore.model.mark import PROTECT, TAGS, UNPROTECT, Mark
from dedupstore.policy.keeping import NEWEST_GOOD, NO_RULE
from dedupstore.policy.retention import Policy
from dedupstore.repo import layout
from dedupstore.repo.forgetting import delete_commits, open_forgotten, put_markers, take_back_markers
from dedupstore.storage.memory import MemoryStore
from tests.support.faults import FaultyStore, Step
from tests.support.forgetting import (
    DAY,
    KEEP_2,
    NOW,
    Scene,
    assert_sound,
    check,
    existing,
    forget,
    fresh,
    make_scene,
    options,
    planned,
)
from tests.support.recording import RecordingStore, outline
from tests.support.repositories import (
    new_repository,
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return make_scene(tmp_path_factory.mktemp("forget"))


@pytest.fixture
def scene(made: Scene) -> Scene:
    return fresh(made)


# The plan


def test_a_plan_says_why_of_each_and_changes_nothing(scene: Scene) -> None:
    store = scene.store()
    recording = RecordingStore(store)
    with scene.open(recording) as repository:
        plan = planned(repository)

    assert [row.keep for row in plan.rows] == [False, False, False, True, True]
    assert [row.reasons for row in plan.rows] == [*[(NO_RULE,)] * 3, ("last",), ("last", NEWEST_GOOD)]
    assert plan.majorities == (("site", "host"),)
    assert not outline(recording.calls)
    assert store.objects == scene.objects


def test_half_of_the_snapshots_is_no_majority(scene: Scene) -> None:
    with scene.open(scene.store()) as repository:
        assert planned(repository, options(Policy(last=3))).majorities == ()


def test_the_newest_good_snapshot_cannot_be_named(scene: Scene) -> None:
    with scene.open(scene.store()) as repository, pytest.raises(Refused) as refused:
        planned(repository, options(None, *scene.snapshots))
    assert refused.value.code == "refused.guarded_snapshot"
    assert NEWEST_GOOD in refused.value.why


@pytest.mark.parametrize(
    "mark", [Mark(kind=PROTECT, time_ns=1, text="audit"), Mark(kind=TAGS, time_ns=1, add=("pinned",))]
)
def test_marks_guard_against_rules_and_names(scene: Scene, mark: Mark) -> None:
    store = scene.store()
    with scene.open(store) as repository:
        repository.catalog.add_mark(scene.snapshots[0], mark)

        assert planned(repository).rows[0].keep
        with pytest.raises(Refused):
            planned(repository, options(None, scene.snapshots[0]))


def test_protection_ends_when_its_time_has_come_or_it_is_taken_back(scene: Scene) -> None:
    with scene.open(scene.store()) as repository:
        repository.catalog.add_mark(scene.snapshots[0], Mark(kind=PROTECT, time_ns=1, until_ns=NOW + DAY))
        repository.catalog.add_mark(scene.snapshots[1], Mark(kind=PROTECT, time_ns=1))
        assert [row.keep for row in planned(repository).rows[:2]] == [True, True]

        scene.clock.advance(24 * 3600)
        repository.catalog.add_mark(scene.snapshots[1], Mark(kind=UNPROTECT, time_ns=2))

        assert [row.keep for row in planned(repository).rows[:2]] == [False, False]


def test_the_last_verified_snapshot_stays(scene: Scene) -> None:
    with scene.open(scene.store()) as repository:
        wanted = replace(KEEP_2, verified={scene.snapshots[1]: NOW, scene.snapshots[0]: NOW - DAY})

        assert [row.keep for row in planned(repository, wanted).rows] == [False, True, False, True, True]


def test_nothing_is_planned_while_it_is_not_known_what_is_protected(scene: Scene) -> None:
    store = scene.store()
    store.delete(layout.MARKS_SENTINELS[1])
    with scene.open(store) as repository:
        with pytest.raises(IncompleteListing):
            planned(repository)
        assert len(existing(repository)) == 5


def test_an_unknown_source_is_an_error_and_an_empty_repository_is_not(scene: Scene) -> None:
    with scene.open(scene.store()) as repository, pytest.raises(NothingMatches):
        planned(repository, replace(KEEP_2, source="typo"))
    with new_repository(MemoryStore()) as empty:
        assert planned(empty).rows == ()


def test_a_snapshot_whose_record_is_damaged_is_told_and_stays(scene: Scene) -> None:
    store = scene.store()
    key = layout.root_key(scene.snapshots[0])
    store.objects[key] = store.objects[key][:-1]
    with scene.open(store) as repository:
        plan = planned(repository)

    assert scene.snapshots[0] not in {row.snapshot.id for row in plan.rows}
    assert [finding.code for finding in plan.findings] == ["snapshot.unreadable"]


# The order of writes


def test_the_marker_is_durable_before_the_commit_goes(scene: Scene) -> None:
    recording = RecordingStore(scene.store())
    with scene.open(recording) as repository:
        forget(repository)

    assert outline(recording.calls) == ["put forgotten", "barrier", "delete commits", "barrier"]


def test_what_is_forgotten_is_a_root_still_and_a_note_to_nobody(scene: Scene) -> None:
    store = scene.store()
    with scene.open(store) as repository:
        gone = set(forget(repository))

        assert gone == set(scene.snapshots[:3])
        assert existing(repository) == scene.snapshots[3:]
        for identifier in gone:
            marker = open_forgotten(store, repository.keyring, identifier)
            assert marker.time_ns == NOW
            assert marker.snapshot == repository.catalog.get_uncommitted(identifier)
        assert check(repository).findings == ()
    assert_sound(scene, store)


def test_a_store_that_denies_deletes_says_so_and_every_snapshot_stays(scene: Scene) -> None:
    class AppendOnly(MemoryStore):
        def delete(self, key: str) -> None:
            raise StoreReadOnly(f"cannot delete {key}")

    store = AppendOnly()
    store.objects = dict(scene.objects)
    with scene.open(store) as repository:
        with pytest.raises(Refused, match="3 snapshots of 3 still there") as refused:
            forget(repository)
        assert (refused.value.code, refused.value.exit_code) == ("forget.denied", 8)
        assert existing(repository) == scene.snapshots
        assert {finding.code for finding in check(repository).findings} == {"check.forget_unfinished"}
        assert check(repository).exit_code == 0


def test_markers_without_the_right_to_delete_hide_nothing(scene: Scene) -> None:
    """What somebody can do who may only put: every snapshot stays, and the next forget is not misled."""
    store = scene.store()
    with scene.open(store) as repository:
        records = {one.id: one.encode() for one in repository.catalog.snapshots().snapshots}
        put_markers(store, repository.keyring, records, NOW - 365 * DAY)
        assert existing(repository) == scene.snapshots

        forget(repository)

        assert existing(repository) == scene.snapshots[3:]
        for identifier in scene.snapshots[:3]:
            assert open_forgotten(store, repository.keyring, identifier).time_ns == NOW
    assert_sound(scene, store)


# Others at the same time


def meanwhile(store: MemoryStore, verb: str, folder: str, act: Callable[[], object]) -> FaultyStore:
    """A store in which `act` happens once, right before the first such operation."""
    done = False

    def hook(step: Step) -> None:
        nonlocal done
        if not done and not step.done and step.verb == verb and step.key.startswith(folder):
            done = True
            act()

    return FaultyStore(store, hook=hook)


def test_of_two_forgets_that_would_take_everything_together_one_gives_way(scene: Scene) -> None:
    """We forget all but the newest; between our plan and our markers, another is about to forget that one."""
    store = scene.store()
    with scene.open(store) as repository, scene.open(store) as other:
        newest = other.catalog.get(scene.snapshots[-1])
        plan = planned(repository, options(None, *scene.snapshots[:-1]))
        repository.catalog._store = meanwhile(
            store, "put", layout.FORGOTTEN, lambda: put_markers(store, other.keyring, {newest.id: newest.encode()}, NOW)
        )

        with pytest.raises(Refused) as refused:
            execute_forget(repository.catalog, plan, repository.clock)

        assert refused.value.code == "refused.changed_meanwhile"
        assert existing(other) == scene.snapshots
        left = [key for key in store.objects if key.startswith(layout.FORGOTTEN) and key not in layout.SENTINELS]
        assert left == [layout.forgotten_key(newest.id)]


@pytest.mark.parametrize(
    ("verb", "folder"), [("put", layout.FORGOTTEN), ("list", layout.COMMITS), ("list", layout.MARKS)]
)
def test_what_is_protected_before_the_last_look_stays(scene: Scene, verb: str, folder: str) -> None:
    store = scene.store()
    with scene.open(store) as repository, scene.open(store) as other:
        plan = planned(repository)
        repository.catalog._store = meanwhile(
            store, verb, folder, lambda: other.catalog.add_mark(scene.snapshots[0], Mark(kind=PROTECT, time_ns=1))
        )

        try:
            gone = set(execute_forget(repository.catalog, plan, repository.clock))
        except Refused:
            gone = set()

        assert scene.snapshots[0] not in gone
        assert scene.snapshots[0] in existing(other)
    assert_sound(scene, store)


def test_a_marker_that_another_forget_took_back_is_put_again(scene: Scene) -> None:
    store = scene.store()
    with scene.open(store) as repository:
        plan = planned(repository)
        repository.catalog._store = meanwhile(
            store, "delete", layout.COMMITS, lambda: store.delete(layout.forgotten_key(scene.snapshots[0]))
        )

        execute_forget(repository.catalog, plan, repository.clock)

    assert_sound(scene, store)


def test_of_two_forgets_one_may_give_way_at_any_moment_and_the_way_back_stays_open(scene: Scene) -> None:
    """The other one put its markers first, so ours counts on them; then, before any step of ours, it takes them back."""
    at, struck = 0, True
    while struck:
        store, struck = scene.store(), False
        with scene.open(store) as repository, scene.open(store) as other:
            plan = planned(repository)
            records = {snapshot.id: snapshot.encode() for snapshot in plan.removed}
            put_markers(store, other.keyring, records, NOW)

            def give_way(step: Step, at: int = at) -> None:
                nonlocal struck
                if step.number == at and not step.done:
                    struck = True
                    take_back_markers(store, other.keyring, records, NOW)  # noqa: B023

            repository.catalog._store = FaultyStore(store, hook=give_way)
            execute_forget(repository.catalog, plan, repository.clock)
            if not struck:
                # After the last step.
                take_back_markers(store, other.keyring, records, NOW)
        assert_sound(scene, store)
        at += 1
    assert at > 20


def test_a_plan_that_others_carried_out_meanwhile_does_nothing_more(scene: Scene) -> None:
    store = scene.store()
    with scene.open(store) as repository, scene.open(store) as other:
        plan = planned(repository)
        forget(other)

        assert execute_forget(repository.catalog, plan, repository.clock) == []
        named = planned(other, options(None, scene.snapshots[3]))
        delete_commits(store, [scene.snapshots[3]])
        with pytest.raises(Refused):
            execute_forget(other.catalog, named, other.clock)


def test_a_snapshot_forgotten_while_it_is_listed_is_no_damage(scene: Scene) -> None:
    store = scene.store()
    with scene.open(store) as repository, scene.open(store) as other:
        repository.catalog._store = meanwhile(store, "get", layout.COMMITS, lambda: forget(other))

        listing = repository.catalog.snapshots()

    assert not listing.damaged
    assert {snapshot.id for snapshot in listing.snapshots} == set(scene.snapshots[3:])
