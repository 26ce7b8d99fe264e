"""Mirrors of a repository from which snapshots were forgotten and pruned: what is gone on purpose is not told as lost."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from dedupstore.engine.check_options import CheckReport
from dedupstore.engine.prune_plan import DAY_NS
from dedupstore.errors import Refused
from dedupstore.repo import layout
from dedupstore.repo.repository import Repository
from dedupstore.repo.segment import encode_segment
from dedupstore.storage.memory import MemoryStore
from dedupstore.types import SnapshotId
from tests.support.faults import FaultyStore, Step
from tests.support.pruning import NOW, assert_sound, check, forget, plans, prune
from tests.support.replicating import States, run_mirror
from tests.support.repositories import (
    files_below,
    make_tree,
    mutate_tree,
    new_repository,
    open_repository,
    segment_facts,
    take,
)


@dataclass(slots=True)
class Scene:
    """A repository with four snapshots: before two of them were forgotten and pruned, and afterwards."""

    before: dict[str, bytes]
    after: dict[str, bytes]
    states: States
    left: States
    tree: Path


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    tree = make_tree(tmp_path_factory.mktemp("pruned") / "tree")
    store, states = MemoryStore("memory:source"), States()
    with new_repository(store) as repository:
        for seed in range(4):
            taken = take(repository, tree).snapshot
            assert taken is not None
            states[taken.id] = files_below(tree)
            mutate_tree(tree, seed)
        before = dict(store.objects)
        forget_and_prune(repository, 0, 2)
    left = {identifier: files for at, (identifier, files) in enumerate(states.items()) if at in (1, 3)}
    assert packs_in(before) - packs_in(store.objects), "nothing was pruned"
    return Scene(before, dict(store.objects), states, left, tree)


def forget_and_prune(repository: Repository, *numbers: int) -> None:
    snapshots = repository.catalog.snapshots().snapshots
    for number in numbers:
        forget(repository, snapshots[number])
    prune(repository)
    assert not plans(repository.store)


def store_of(objects: dict[str, bytes], url: str = "memory:source") -> MemoryStore:
    store = MemoryStore(url)
    store.objects = dict(objects)
    return store


def packs_in(objects: dict[str, bytes]) -> set[str]:
    return {key for key in objects if key.startswith(layout.PACKS)}


def checked(store: MemoryStore) -> CheckReport:
    with open_repository(store) as repository:
        return check(repository)


def codes(report: CheckReport) -> set[str]:
    return {finding.code for finding in report.findings}


def test_a_check_of_a_new_mirror_finds_nothing_wrong(scene: Scene) -> None:
    source, target = store_of(scene.after), MemoryStore("memory:target")

    assert run_mirror(source, target).exit_code == 0

    assert target.objects == source.objects
    report = checked(target)
    assert report.exit_code == 0 and codes(report) <= {"check.packs_removed"}
    with open_repository(target) as repository:
        assert_sound(repository, scene.left)


@pytest.mark.parametrize("delete", [False, True])
def test_a_mirror_made_before_follows_a_prune_and_stays_clean(scene: Scene, delete: bool) -> None:
    target = MemoryStore("memory:target")
    run_mirror(store_of(scene.before), target)

    assert run_mirror(store_of(scene.after), target, delete=delete).exit_code == 0

    with open_repository(target) as repository:
        assert_sound(repository, scene.left if delete else scene.states)
    assert codes(checked(target)) <= {"check.packs_removed"}
    assert not delete or packs_in(target.objects) == packs_in(scene.after)


def test_at_no_moment_a_check_of_the_mirror_takes_pruned_packs_for_lost(scene: Scene) -> None:
    """Judged after every operation that changes the mirror, from its first record of a prune on."""
    target = MemoryStore("memory:target")
    run_mirror(store_of(scene.before), target)
    looked = 0

    def look(step: Step) -> None:
        nonlocal looked
        if step.done and step.verb in ("put", "delete"):
            looked += 1
            with open_repository(store_of(target.objects, "memory:copy")) as repository:
                assert repository.look().lost == frozenset()

    run_mirror(store_of(scene.after), FaultyStore(target, hook=look), delete=True)

    assert looked > 5


def test_a_new_snapshot_in_a_mirror_is_made_without_a_walk_for_lost_packs(scene: Scene) -> None:
    target = MemoryStore("memory:target")
    run_mirror(store_of(scene.after), target)

    with open_repository(target) as repository:
        view = repository.look()
        taken = take(repository, scene.tree).snapshot
        assert taken is not None
        assert view.whole and view.pruned
        assert_sound(repository, {**scene.left, taken.id: files_below(scene.tree)})


def test_a_prune_beside_a_mirror_at_any_moment_leaves_a_mirror_that_the_next_run_makes_clean(scene: Scene) -> None:
    total, at = 1, 0
    while at < total:
        source, target = store_of(scene.before), MemoryStore("memory:target")

        def carry_out(step: Step, at: int = at, source: MemoryStore = source) -> None:
            if step.number == at and not step.done:
                with open_repository(source) as repository:
                    forget_and_prune(repository, 0, 2)

        faulty = FaultyStore(source, hook=carry_out)
        run_mirror(faulty, target)
        if at >= faulty.operations:
            # One run takes a listing more than another: this one ended before.
            break
        run_mirror(source, target)
        with open_repository(target) as repository:
            there = {snapshot.id for snapshot in repository.catalog.snapshots().snapshots}
            assert scene.left.keys() <= there
        run_mirror(source, target, delete=True)
        with open_repository(target) as repository:
            assert_sound(repository, scene.left)
        total = faulty.operations
        at += 5


def test_plans_stay_where_their_packs_are(scene: Scene) -> None:
    source, target = store_of(scene.before), MemoryStore("memory:target")
    plan = layout.plan_key(bytes(16))
    source.objects[plan] = b"whatever: it is not read"

    run_mirror(source, target)

    assert plan not in target.objects
    with open_repository(target) as repository:
        assert_sound(repository, scene.states)


def test_a_record_of_a_prune_is_held_back_when_packs_cannot_be_copied(scene: Scene) -> None:
    """What the pruned packs held may lie in just the pack that is damaged."""
    source, target = store_of(scene.after), MemoryStore("memory:target")
    key = sorted(packs_in(source.objects) - set(layout.SENTINELS))[0]
    source.objects[key] = b"rot" + source.objects[key][3:]

    assert run_mirror(source, target).exit_code == 4

    assert {name for name in target.objects if name.startswith(layout.GC)} <= set(layout.SENTINELS)
    assert run_mirror(store_of(scene.after), target).exit_code == 0
    with open_repository(target) as repository:
        assert_sound(repository, scene.left)


def test_a_mirror_that_was_pruned_itself_gets_no_pruned_name_back(scene: Scene) -> None:
    """A name that comes again may be deleted again, by a prune that has looked before."""
    source, target = store_of(scene.before), MemoryStore("memory:target")
    run_mirror(source, target)
    with open_repository(target) as repository:
        forget_and_prune(repository, 0, 2)
    before = dict(target.objects)

    with pytest.raises(Refused) as refused:
        run_mirror(source, target)

    assert refused.value.code == "mirror.diverged"
    assert target.objects == before
    with open_repository(target) as repository:
        assert_sound(repository, scene.left)


def test_nothing_is_mirrored_into_a_place_where_a_prune_waits(scene: Scene) -> None:
    source, target = store_of(scene.before), MemoryStore("memory:target")
    run_mirror(source, target)
    with open_repository(target) as repository:
        for snapshot in repository.catalog.snapshots().snapshots[:3]:
            forget(repository, snapshot)
        prune(repository, replace(NOW, grace_ns=DAY_NS))
        assert plans(target)

    with pytest.raises(Refused):
        run_mirror(source, target)


@pytest.mark.parametrize("behind", ["new", "two snapshots behind"])
def test_a_prune_of_the_mirror_itself_at_any_moment_leaves_no_snapshot_without_its_data(
    scene: Scene, behind: str
) -> None:
    """Packs come long before the record that needs them: a prune there takes them for left behind."""
    total, at = 1, 0
    refusals: list[str] = []
    while at < total:
        source, target = store_of(scene.before), MemoryStore("memory:target")
        if behind != "new":
            with open_repository(source) as repository:
                oldest = [snapshot.id for snapshot in repository.catalog.snapshots().snapshots[:2]]
            run_mirror(before_snapshots(source, oldest), target)

        def strike(step: Step, at: int = at, target: MemoryStore = target) -> None:
            if step.number == at and not step.done and layout.FORMAT_KEY in target.objects:
                with open_repository(target) as repository:
                    prune(repository)

        faulty = FaultyStore(target, hook=strike)
        try:
            run_mirror(source, faulty)
        except Refused as refused:
            refusals.append(refused.code)
        if layout.FORMAT_KEY in target.objects:
            with open_repository(target) as repository:
                there = {snapshot.id for snapshot in repository.catalog.snapshots().snapshots}
                assert_sound(repository, {one: scene.states[one] for one in there})
        total = faulty.operations
        at += 1
    assert set(refusals) == {"mirror.diverged"}


def before_snapshots(source: MemoryStore, kept: list[SnapshotId]) -> MemoryStore:
    """As the source was when it had only these snapshots, but for packs and segments: all it has ever had."""
    store = store_of(source.objects)
    for key in source.objects:
        if key.startswith((layout.ROOTS, layout.COMMITS)) and key not in layout.SENTINELS:
            if SnapshotId(layout.parse_id_key(key, key[: key.index("/") + 1])) not in kept:
                del store.objects[key]
    return store


def test_a_prune_of_the_repository_at_any_moment_of_a_deleting_mirror_leaves_every_snapshot_shown_whole(
    scene: Scene,
) -> None:
    """What it listed of snapshots before the prune and of packs after it must not be put together."""
    total, at = 1, 0
    while at < total:
        source, target = store_of(scene.before), MemoryStore("memory:target")
        run_mirror(source, target)

        def strike(step: Step, at: int = at, source: MemoryStore = source) -> None:
            if step.number == at and not step.done:
                with open_repository(source) as repository:
                    forget_and_prune(repository, 0, 2)

        faulty = FaultyStore(source, hook=strike)
        run_mirror(faulty, target, delete=True)
        with open_repository(target) as repository:
            there = repository.catalog.committed()
            assert scene.left.keys() <= there
            assert_sound(repository, {one: scene.states[one] for one in there})
        total = faulty.operations
        at += 1


def test_segments_merged_while_they_are_copied_leave_no_pack_that_the_mirror_cannot_find(scene: Scene) -> None:
    """The merged one was not listed, and those that were are gone before all of them have been read."""
    total, at = 1, 0
    while at < total:
        source, target = store_of(scene.before), MemoryStore("memory:target")

        def strike(step: Step, at: int = at, source: MemoryStore = source) -> None:
            if step.number == at and not step.done:
                merge_segments(source)

        faulty = FaultyStore(source, hook=strike)
        assert run_mirror(faulty, target).exit_code == 0
        assert not any(finding.severity != "note" for finding in checked(target).findings), f"merged before {at}"
        with open_repository(target) as repository:
            assert_sound(repository, scene.states)
        total = faulty.operations
        at += 1


def merge_segments(store: MemoryStore) -> None:
    """What two prunes in a row do where there are many segments."""
    with open_repository(store) as repository:
        old = [row.key for row in layout.list_complete(store, layout.INDEX)]
        _, key, sealed = encode_segment(repository.keyring, list(segment_facts(repository)))
        store.put(key, [sealed])
        for one in old:
            store.delete(one)
