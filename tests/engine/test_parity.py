"""Parity in a repository: made with every pack or later, mends without a replica, goes where its pack goes."""

from __future__ import annotations

from pathlib import Path

import pytest

from dedupstore.cancel import CancelToken
from dedupstore.engine.parity import make_all_parity
from dedupstore.engine.parity_kept import ParityReport, mirror_parity
from dedupstore.engine.repair_packs import PacksReport, repair_packs
from dedupstore.engine.stats import measure
from dedupstore.errors import StoreError
from dedupstore.events import NullListener
from dedupstore.repo import layout
from dedupstore.repo.pack_name import PackName
from dedupstore.repo.parity import keeps_parity, listed_parity, parity_key
from dedupstore.storage.base import ObjectStore
from dedupstore.storage.memory import MemoryStore
from tests.support.damaging import assert_whole, check, flip, flip_block
from tests.support.faults import Fault, FaultPlan, FaultyStore, every_fault
from tests.support.pack_layouts import LAYOUTS, Scene, build
from tests.support.pruning import forget, prune
from tests.support.replicating import check_clean, run_mirror
from tests.support.repositories import assert_restores, files_below, make_tree, new_repository, open_repository, take

NOTHING = NullListener()
PACKS = ["a b c", "d", "B C e", "manifests 0", "manifests 1"]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return build(LAYOUTS["full"], tmp_path_factory.mktemp("parity") / "tree")


@pytest.fixture
def store(scene: Scene) -> MemoryStore:
    """With parity for every pack."""
    store = scene.store()
    assert make(store).made == 5
    return store


def make(store: ObjectStore, *, dry_run: bool = False) -> ParityReport:
    with open_repository(store) as repository:
        return make_all_parity(repository, dry_run=dry_run, listener=NOTHING, cancel=CancelToken())


def repair(store: ObjectStore, *, dry_run: bool = False) -> PacksReport:
    with open_repository(store) as repository:
        return repair_packs(repository, dry_run=dry_run, listener=NOTHING, cancel=CancelToken())


def pack_ids(store: ObjectStore) -> set[bytes]:
    return {PackName.parse(row.key).id for row in layout.list_complete(store, layout.PACKS)}


def test_parity_is_made_later_once_and_then_with_every_pack(scene: Scene, tmp_path: Path) -> None:
    store = scene.store()
    before = dict(store.objects)
    assert make(store, dry_run=True).made == 5
    assert store.objects == before and not keeps_parity(store)

    made = make(store)

    assert (made.packs, made.made, made.exit_code) == (5, 5, 0) and keeps_parity(store)
    assert made.made_bytes == sum(listed_parity(store).values())
    assert make(store).made == 0
    tree = make_tree(tmp_path / "tree")
    with open_repository(store) as repository:
        taken = take(repository, tree, source="other").snapshot
        assert listed_parity(store).keys() == pack_ids(store) and len(pack_ids(store)) > 5
        assert_restores(repository, taken, files_below(tree))
        assert check(repository).findings == ()
        usage = measure(repository, repository.catalog.snapshots().snapshots, CancelToken())
        assert usage.stored == sum(map(len, store.objects.values()))


def test_a_repository_that_keeps_none_has_none(scene: Scene) -> None:
    store = scene.store()
    with open_repository(store) as repository:
        prune(repository)
        assert check(repository).findings == ()
    assert not any(key.startswith(layout.PARITY) for key in store.objects)


@pytest.mark.parametrize("where", ["block", "trailer", "header", "cut"])
@pytest.mark.parametrize("pack", PACKS)
def test_a_damaged_pack_is_mended_without_any_replica(store: MemoryStore, scene: Scene, pack: str, where: str) -> None:
    fact = scene.packs[pack]
    if where == "block":
        flip_block(store, fact, 0)
    elif where == "cut":
        store.objects[fact.name.key] = store.objects[fact.name.key][:-1]
    else:
        flip(store, fact.name.key, -9 if where == "trailer" else 45)
    with open_repository(store) as repository:
        assert check(repository).exit_code == 4
    before = dict(store.objects)
    planned = repair(store, dry_run=True)
    assert store.objects == before

    done = repair(store)

    assert (done.lost, done.exit_code, done.chunks) == (0, 0, planned.chunks)
    assert {key: store.objects[key] for key in before} == before
    with open_repository(store) as repository:
        assert_whole(repository, scene)
        prune(repository)
        assert repository.look().whole
        assert [one for one in check(repository).findings if one.severity != "note"] == []
        assert listed_parity(store).keys() == pack_ids(store)
        assert_whole(repository, scene)


def test_more_damage_than_parity_mends_is_told(store: MemoryStore, scene: Scene) -> None:
    key = scene.packs["a b c"].name.key
    store.objects[key] = store.objects[key][:64] + bytes(20_000) + store.objects[key][20_064:]
    with open_repository(store) as repository:
        assert check(repository).exit_code == 4

    report = repair(store)

    assert report.exit_code == 4 and report.lost
    with open_repository(store) as repository:
        for identifier in scene.snapshots:
            forget(repository, repository.catalog.get(identifier))
        assert check(repository).exit_code == 0


def test_prune_takes_the_parity_of_what_it_takes(store: MemoryStore, scene: Scene) -> None:
    with open_repository(store) as repository:
        forget(repository, repository.catalog.get(scene.snapshots[0]))
        before = listed_parity(store)

        report = prune(repository)

        assert report.packs_deleted and report.parity_dropped == report.packs_deleted
        assert listed_parity(store).keys() == pack_ids(store) != before.keys()
        assert check(repository).exit_code == 0


@pytest.mark.parametrize("fault", [Fault.FAIL_BEFORE, Fault.FAIL_AFTER])
def test_a_prune_that_is_stopped_while_it_drops_parity_goes_on(scene: Scene, fault: Fault) -> None:
    start = scene.store()
    make(start)
    with open_repository(start) as repository:
        forget(repository, repository.catalog.get(scene.snapshots[0]))

    def run(plan: FaultPlan) -> FaultyStore:
        inner = MemoryStore("memory:inner")
        inner.objects = dict(start.objects)
        faulty = FaultyStore(inner, plan)
        try:
            with open_repository(faulty) as repository:
                prune(repository)
        except StoreError:
            assert faulty.fired
        with open_repository(inner) as repository:
            prune(repository)
            assert listed_parity(inner).keys() == pack_ids(inner)
            assert check(repository).exit_code == 0
        return faulty

    assert every_fault(fault, run, verb="delete") >= 4


@pytest.mark.parametrize("fault", [Fault.FULL, Fault.FAIL_BEFORE, Fault.FAIL_AFTER])
def test_making_parity_goes_on_after_any_stop(scene: Scene, fault: Fault) -> None:
    def run(plan: FaultPlan) -> FaultyStore:
        inner = scene.store()
        faulty = FaultyStore(inner, plan)
        try:
            make(faulty)
        except StoreError:
            assert faulty.fired
        assert make(inner).exit_code == 0
        assert listed_parity(inner).keys() == pack_ids(inner)
        check_clean(inner)
        return faulty

    assert every_fault(fault, run, verb="put") == 6


def test_a_snapshot_that_cannot_store_parity_fails_and_the_next_one_is_whole(tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "tree")
    inner = MemoryStore()
    new_repository(inner).close()
    make(inner)
    faulty = FaultyStore(inner, FaultPlan(fault=Fault.FULL, at=0, verb="put", below=layout.PARITY))
    with open_repository(faulty) as repository, pytest.raises(StoreError):
        take(repository, tree)
    with open_repository(inner) as repository:
        taken = take(repository, tree).snapshot
        assert_restores(repository, taken, files_below(tree))
        assert check(repository).exit_code == 0
    make(inner)
    assert listed_parity(inner).keys() == pack_ids(inner)
    check_clean(inner)


def test_no_parity_is_made_of_damage(scene: Scene) -> None:
    store = scene.store()
    flip_block(store, scene.packs["d"], 0)

    report = make(store)

    assert (report.made, report.exit_code) == (4, 4)
    assert [finding.code for finding in report.findings] == ["repair.parity_refused"]
    assert scene.packs["d"].id not in listed_parity(store)
    store.objects[scene.packs["d"].name.key] = scene.objects[scene.packs["d"].name.key]
    assert make(store).made == 1
    check_clean(store)


def test_a_check_tells_of_parity_that_is_missing_damaged_or_foreign(store: MemoryStore, scene: Scene) -> None:
    first, second = scene.packs["d"].id, scene.packs["a b c"].id
    del store.objects[parity_key(first)]
    flip(store, parity_key(second), 500)
    store.objects["parity/00/readme"] = b"not ours"
    with open_repository(store) as repository:
        report = check(repository)

        found = {finding.code: finding.severity for finding in report.findings}
        assert found == {
            "check.parity_missing": "note",
            "check.parity_damaged": "warning",
            "check.foreign_object": "warning",
        }
        assert report.exit_code == 3 and report.damage.files_total == 0
        assert_restores(repository, repository.catalog.get(scene.snapshots[1]), scene.expected[1])


def test_a_mirror_has_the_parity_of_its_packs_and_of_no_other(store: MemoryStore, scene: Scene) -> None:
    mirror = MemoryStore("memory:mirror")
    run_mirror(store, mirror)
    flip(store, parity_key(scene.packs["d"].id), 500)

    report = mirror_parity(store, mirror, delete=False, listener=NOTHING, cancel=CancelToken())

    assert report.made == 4 and [finding.code for finding in report.findings] == ["check.parity_damaged"]
    assert keeps_parity(mirror)
    assert listed_parity(mirror).keys() == pack_ids(mirror) - {scene.packs["d"].id}
    assert mirror_parity(store, mirror, delete=False, listener=NOTHING, cancel=CancelToken()).made == 0
    del mirror.objects[scene.packs["a b c"].name.key]
    mirror_parity(store, mirror, delete=True, listener=NOTHING, cancel=CancelToken())
    assert parity_key(scene.packs["a b c"].id) not in mirror.objects
    run_mirror(store, mirror)
    mirror_parity(store, mirror, delete=False, listener=NOTHING, cancel=CancelToken())
    flip_block(mirror, scene.packs["a b c"], 1)
    with open_repository(mirror) as repository:
        assert check(repository).exit_code == 4
    assert repair(mirror).exit_code == 0
    with open_repository(mirror) as repository:
        assert_whole(repository, scene)
