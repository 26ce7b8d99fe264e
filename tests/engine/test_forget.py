"""Forgetting: the order of its writes, what a kill or a fault leaves, others at the same time, and the way back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC
from pathlib import Path

import pytest

from dedupstore.cancel import CancelToken
from dedupstore.clock import FrozenClock
from dedupstore.engine.check import check_repository
from dedupstore.engine.check_options import CheckOptions, CheckReport, DataShare, Level
from dedupstore.engine.forget import ForgetOptions, ForgetPlan, execute_forget, plan_forget, sweep_marks
from dedupstore.engine.undo_forget import UNDO_OF, forgotten_snapshots, undo_forget
from dedupstore.errors import IncompleteListing, NothingMatches, Refused, StoreError, StoreReadOnly
from dedupstore.events import NullListener
from dedupstore.model.mark import NOTE, PROTECT, TAGS, UNPROTECT, Mark
from dedupstore.model.snapshot import Snapshot
from dedupstore.policy.keeping import NEWEST_GOOD, NO_RULE
from dedupstore.policy.retention import Policy
from dedupstore.repo import layout
from dedupstore.repo.catalog import UNDO_WINDOW_SECONDS
from dedupstore.repo.forgetting import delete_commits, open_forgotten, put_markers
from dedupstore.repo.reachable import reachable
from dedupstore.repo.repository import Repository
from dedupstore.storage.base import ObjectStore
from dedupstore.storage.local import LocalStore
from dedupstore.storage.memory import MemoryStore
from dedupstore.types import SnapshotId
from dedupstore.units import format_id
from tests.support.crash import CrashSimulator, RecordingSystem, durability_faults, read_tree
from tests.support.faults import Fault, FaultPlan, FaultyStore, Step, every_fault
from tests.support.recording import RecordingStore, outline
from tests.support.repositories import (
    assert_restores,
    files_below,
    make_tree,
    mutate_tree,
    new_repository,
    open_repository,
    take,
)

DAY = 24 * 3600 * 10**9
NOW = 1_800_000_000 * 10**9


@dataclass(slots=True)
class Scene:
    """A store with five daily snapshots of one tree, oldest first, and what each should restore to."""

    objects: dict[str, bytes]
    snapshots: list[SnapshotId]
    expected: dict[SnapshotId, dict[bytes, bytes]]
    clock: FrozenClock = field(default_factory=lambda: FrozenClock(NOW))

    def store(self) -> MemoryStore:
        store = MemoryStore()
        store.objects = dict(self.objects)
        return store

    def open(self, store: ObjectStore) -> Repository:
        return open_repository(store, clock=self.clock)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    tree = make_tree(tmp_path_factory.mktemp("forget") / "tree")
    store, clock = MemoryStore(), FrozenClock(NOW - 5 * DAY)
    snapshots, expected = [], {}
    with new_repository(store, clock=clock) as repository:
        for seed in range(5):
            clock.advance(24 * 3600)
            snapshot = take(repository, tree).snapshot
            assert snapshot is not None
            snapshots.append(snapshot.id)
            expected[snapshot.id] = files_below(tree)
            mutate_tree(tree, seed)
    return Scene(dict(store.objects), snapshots, expected)


@pytest.fixture
def scene(made: Scene) -> Scene:
    return replace(made, clock=FrozenClock(NOW))


def options(policy: Policy | None = None, *named: SnapshotId, **more: object) -> ForgetOptions:
    return ForgetOptions(zone=UTC, policy=policy or Policy(), snapshots=frozenset(named), **more)  # type: ignore[arg-type]


KEEP_2 = options(Policy(last=2))


def planned(repository: Repository, wanted: ForgetOptions = KEEP_2) -> ForgetPlan:
    return plan_forget(repository.catalog, wanted, repository.clock)


def forget(repository: Repository, wanted: ForgetOptions = KEEP_2) -> list[Snapshot]:
    return execute_forget(repository.catalog, planned(repository, wanted), repository.clock)


def existing(repository: Repository) -> list[SnapshotId]:
    listing = repository.catalog.snapshots()
    assert not listing.damaged
    return [snapshot.id for snapshot in listing.snapshots]


def undo(repository: Repository, snapshot: SnapshotId) -> Snapshot:
    return undo_forget(repository, format_id(snapshot), listener=NullListener())


def check(repository: Repository, wanted: CheckOptions | None = None) -> CheckReport:
    wanted = wanted or CheckOptions(read_data=DataShare())
    return check_repository(repository, wanted, listener=NullListener(), cancel=CancelToken())


def assert_sound(scene: Scene, store: MemoryStore) -> None:
    """The deepest check is clean; every snapshot restores; every other one can be brought back, and restores."""
    with scene.open(store) as repository:
        report = check(repository)
        assert report.exit_code == 0, report.findings
        there = existing(repository)
        for snapshot in repository.catalog.snapshots().snapshots:
            assert_restores(repository, snapshot, scene.expected[snapshot.id])
        for identifier in scene.snapshots:
            if identifier not in there:
                assert_restores(repository, undo(repository, identifier), scene.expected[identifier])


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
        gone = {snapshot.id for snapshot in forget(repository)}

        assert gone == set(scene.snapshots[:3])
        assert existing(repository) == scene.snapshots[3:]
        for identifier in gone:
            marker = open_forgotten(store, repository.keyring, identifier)
            assert marker.time_ns == NOW
            assert marker.snapshot == repository.catalog.get_uncommitted(identifier)
        assert check(repository).findings == ()
    assert_sound(scene, store)


@pytest.mark.parametrize("fault", [Fault.FAIL_BEFORE, Fault.FAIL_AFTER])
def test_a_fault_at_any_operation_leaves_each_snapshot_there_or_forgotten(scene: Scene, fault: Fault) -> None:
    def run(plan: FaultPlan) -> FaultyStore:
        store = scene.store()
        faulty = FaultyStore(store, plan)
        with scene.open(store) as repository:
            shown = planned(repository)
            repository.catalog._store = faulty
            try:
                execute_forget(repository.catalog, shown, repository.clock)
            except StoreError:
                assert faulty.fired
        with scene.open(store) as repository:
            assert set(existing(repository)) >= set(scene.snapshots[3:])
            assert check(repository, CheckOptions(level=Level.QUICK)).exit_code == 0
            forget(repository)
            assert existing(repository) == scene.snapshots[3:]
        assert_sound(scene, store)
        return faulty

    assert every_fault(fault, run) > 20


class Killed(BaseException):
    """The process ends here."""


def test_killed_before_or_after_any_operation_each_snapshot_is_there_or_can_be_brought_back(scene: Scene) -> None:
    for at in range(1000):
        store = scene.store()
        killed = False

        def kill(step: Step, at: int = at) -> None:
            nonlocal killed
            if step.number == at and not step.done:
                killed = True
                raise Killed

        with scene.open(store) as repository:
            shown = planned(repository)
            repository.catalog._store = FaultyStore(store, hook=kill)
            try:
                execute_forget(repository.catalog, shown, repository.clock)
            except Killed:
                pass
        assert_sound(scene, store)
        if not killed:
            assert at > 20
            return
    raise AssertionError("it never ended")


def test_a_power_cut_at_any_file_operation_leaves_each_snapshot_there_or_a_way_back(
    scene: Scene, tmp_path: Path
) -> None:
    root = str(tmp_path / "store")
    LocalStore.create(root).close()
    fill = LocalStore(root)
    for key, data in scene.objects.items():
        fill.put(key, [data])
    fill.barrier()
    before, recorder = read_tree(root), RecordingSystem()
    with scene.open(LocalStore(root, system=recorder)) as repository:
        forget(repository)
    recorder.acknowledge("forgotten")
    assert durability_faults(recorder.operations, root) == []

    seen = set()
    for state in CrashSimulator(recorder.operations, root, before).states(every=1, random_subsets=3, seed=1):
        store = state.store()
        with scene.open(store) as repository:
            there = frozenset(existing(repository))
        assert there >= set(scene.snapshots[3:])
        assert there == set(scene.snapshots[3:]) or not state.acknowledged
        if there not in seen:
            seen.add(there)
            assert_sound(scene, store)
        else:
            for identifier in set(scene.snapshots) - there:
                assert open_forgotten(store, repository.keyring, identifier).snapshot.id == identifier
    assert len(seen) > 2


def test_a_store_that_denies_deletes_says_so_and_every_snapshot_stays(scene: Scene) -> None:
    class AppendOnly(MemoryStore):
        def delete(self, key: str) -> None:
            raise StoreReadOnly(f"cannot delete {key}")

    store = AppendOnly()
    store.objects = dict(scene.objects)
    with scene.open(store) as repository:
        with pytest.raises(StoreReadOnly):
            forget(repository)
        assert existing(repository) == scene.snapshots
        assert {finding.code for finding in check(repository).findings} == {"check.forget_unfinished"}
        assert check(repository).exit_code == 0


def test_markers_without_the_right_to_delete_hide_nothing(scene: Scene) -> None:
    """What somebody can do who may only put: every snapshot stays, and the next forget is not misled."""
    store = scene.store()
    with scene.open(store) as repository:
        put_markers(store, repository.keyring, repository.catalog.snapshots().snapshots, NOW - 365 * DAY)
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
            store, "put", layout.FORGOTTEN, lambda: put_markers(store, other.keyring, [newest], NOW)
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
            gone = {snapshot.id for snapshot in execute_forget(repository.catalog, plan, repository.clock)}
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


# The way back


def test_undo_makes_a_new_snapshot_of_the_same_files_time_and_words(scene: Scene) -> None:
    store = scene.store()
    with scene.open(store) as repository:
        repository.catalog.add_mark(scene.snapshots[0], Mark(kind=NOTE, time_ns=1, text="keep me"))
        repository.catalog.add_mark(scene.snapshots[0], Mark(kind=TAGS, time_ns=1, add=("x",)))
        old = repository.catalog.get(scene.snapshots[0])
        forget(repository)
        assert {row.snapshot.id for row in forgotten_snapshots(repository.catalog)} == set(scene.snapshots[:3])

        new = undo(repository, old.id)

        assert new.id != old.id
        assert (new.note, new.tags) == ("keep me", ("x",))
        assert dict(new.details)[UNDO_OF] == format_id(old.id)
        same = replace(new, id=old.id, note=old.note, tags=old.tags, details=old.details)
        assert same == old
        assert new.id in existing(repository)
        with pytest.raises(NothingMatches) as twice:
            undo(repository, old.id)
        assert twice.value.code == "snapshot.not_forgotten"
        assert_restores(repository, new, scene.expected[old.id])
        assert check(repository).findings == ()


def test_undo_publishes_its_root_then_looks_then_commits(scene: Scene) -> None:
    store = scene.store()
    with scene.open(store) as repository:
        forget(repository)
    recording = RecordingStore(store)
    with scene.open(recording) as repository:
        undo(repository, scene.snapshots[0])

    assert outline(recording.calls) == ["put roots", "barrier", "put commits", "barrier"]
    root = next(at for at, call in enumerate(recording.calls) if call.verb == "put")
    looked = [call.key for call in recording.calls[root:] if call.verb == "list"]
    assert looked[:3] == [layout.GC, layout.INDEX, layout.PACKS]


def test_undo_after_a_prune_is_too_late_and_leaves_no_snapshot(scene: Scene) -> None:
    store = scene.store()
    with scene.open(store) as repository:
        forget(repository)
        scene.clock.advance(UNDO_WINDOW_SECONDS + 1)
        for identifier in scene.snapshots[:3]:
            store.delete(layout.root_key(identifier))
            store.delete(layout.forgotten_key(identifier))

        with pytest.raises(NothingMatches) as late:
            undo(repository, scene.snapshots[0])

        assert late.value.code == "snapshot.undo_too_late"
        assert existing(repository) == scene.snapshots[3:]
        assert check(repository).exit_code == 0


def test_undo_of_a_tree_whose_data_is_gone_is_too_late_though_nothing_looks_lost(scene: Scene) -> None:
    """A prune went on while we listed, and segments were compacted: the view is whole, the tree is not."""
    store = scene.store()
    with scene.open(store) as repository:
        only = set(packs_only_of(repository, scene, 1))
        assert only
        forget(repository)
    for key in [key for key in store.objects if key in only]:
        del store.objects[key]
    for key in [key for key in store.objects if key.startswith(layout.INDEX) and key not in layout.SENTINELS]:
        del store.objects[key]
    with scene.open(store) as repository:
        assert repository.look().whole

        with pytest.raises(NothingMatches) as late:
            undo(repository, scene.snapshots[1])

        assert late.value.code == "snapshot.undo_too_late"
        assert existing(repository) == scene.snapshots[3:]


def packs_only_of(repository: Repository, scene: Scene, number: int) -> list[str]:
    """Names of the packs that one snapshot reads and no other does."""

    def packs(identifier: SnapshotId) -> set[str]:
        repository.look()
        load, locate = repository.reader.load_manifest, repository.reader.locate
        root = repository.catalog.get(identifier).root
        return {repository.index.pack(locate(chunk).pack_no).name.key for _, chunk in reachable(load, root)}

    others = (packs(other) for at, other in enumerate(scene.snapshots) if at != number)
    return sorted(packs(scene.snapshots[number]).difference(*others))


@pytest.mark.parametrize("fault", [Fault.FAIL_BEFORE, Fault.FAIL_AFTER])
def test_a_fault_at_any_operation_of_an_undo_can_be_tried_again(scene: Scene, fault: Fault) -> None:
    base = scene.store()
    with scene.open(base) as repository:
        forget(repository)

    def run(plan: FaultPlan) -> FaultyStore:
        store = MemoryStore()
        store.objects = dict(base.objects)
        faulty = FaultyStore(store, plan)
        identifier = scene.snapshots[0]
        try:
            with scene.open(faulty) as repository:
                undo(repository, identifier)
        except (StoreError, NothingMatches):
            assert faulty.fired
        with scene.open(store) as repository:
            brought = [snapshot for snapshot in repository.catalog.snapshots().snapshots if snapshot.details]
            new = brought[0] if brought else undo(repository, identifier)
            assert_restores(repository, new, scene.expected[identifier])
            assert check(repository).exit_code == 0
        return faulty

    assert every_fault(fault, run) > 20


# What a check says, and what is swept


def test_a_check_names_damaged_marks_and_markers(scene: Scene) -> None:
    store = scene.store()
    with scene.open(store) as repository:
        repository.catalog.add_mark(scene.snapshots[4], Mark(kind=PROTECT, time_ns=1))
        forget(repository)
        store.objects["marks/readme"] = b"not ours"
        (mark,) = [key for key in store.objects if key.startswith(f"marks/{format_id(scene.snapshots[4])}")]
        for key in (mark, layout.forgotten_key(scene.snapshots[0])):
            store.objects[key] = store.objects[key][:-3] + b"xyz"

        report = check(repository, CheckOptions(level=Level.QUICK))

        assert {(finding.code, finding.severity) for finding in report.findings} == {
            ("check.foreign_object", "warning"),
            ("check.mark_damaged", "error"),
            ("check.forgotten_damaged", "warning"),
        }
        assert report.exit_code == 4
        repository.catalog.add_mark(scene.snapshots[4], Mark(kind=UNPROTECT, time_ns=2))
        assert ("check.mark_damaged", "note") in {
            (finding.code, finding.severity) for finding in check(repository, CheckOptions(level=Level.QUICK)).findings
        }


def test_marks_are_swept_once_nothing_of_their_snapshot_is_left(scene: Scene) -> None:
    store = scene.store()
    with scene.open(store) as repository:
        for identifier in (scene.snapshots[0], scene.snapshots[4]):
            repository.catalog.add_mark(identifier, Mark(kind=NOTE, time_ns=1, text="x"))
        forget(repository)
        assert sweep_marks(repository.catalog) == 0

        store.delete(layout.root_key(scene.snapshots[0]))
        store.delete(layout.forgotten_key(scene.snapshots[0]))

        assert sweep_marks(repository.catalog) == 1
        assert repository.catalog.marks().marks.keys() == {scene.snapshots[4]}
        assert check(repository).exit_code == 0


def test_a_check_says_what_it_verified(scene: Scene, tmp_path: Path) -> None:
    with scene.open(scene.store()) as repository:
        assert check(repository, CheckOptions()).verified == ()
        assert check(repository, CheckOptions(read_data=DataShare(fraction=0.5))).verified == ()
        assert set(check(repository).verified) == set(scene.snapshots)
        assert check(repository, CheckOptions(restore=True)).verified == (scene.snapshots[4],)


def test_a_check_does_not_call_verified_what_is_damaged(scene: Scene) -> None:
    store = scene.store()
    with scene.open(store) as repository:
        damaged = packs_only_of(repository, scene, 1)[0]
        store.objects[damaged] = store.objects[damaged][:100] + b"\0\0\0\0" + store.objects[damaged][104:]

        report = check(repository)

    assert report.exit_code == 4
    assert set(report.verified) == set(scene.snapshots) - {scene.snapshots[1]}
