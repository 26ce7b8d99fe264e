"""Repairs of packs that are stopped, that run at once, and that come after a prune."""

from __future__ import annotations

import pytest

from dedupstore.errors import StoreError, StoreFull
from dedupstore.storage.memory import MemoryStore
from tests.support.damaging import assert_whole, check
from tests.support.faults import Fault, FaultPlan, FaultyStore, every_fault
from tests.support.pack_layouts import LAYOUTS, Scene, build
from tests.support.pruning import forget, prune
from tests.support.repairing import break_blocks, found_damaged, lose, repair, whole_and_pruned
from tests.support.repositories import open_repository
from tests.support.scenes import store_of


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return build(LAYOUTS["full"], tmp_path_factory.mktemp("repair packs") / "tree")


@pytest.mark.parametrize("fault", [Fault.FULL, Fault.FAIL_BEFORE, Fault.FAIL_AFTER])
def test_a_repair_that_is_stopped_anywhere_harms_nothing_and_goes_on(scene: Scene, fault: Fault) -> None:
    """A full disk, a store that dies at each of its writes. From a copy: tests/support/mending.py."""
    damaged = scene.store()
    lose(damaged, scene.packs["d"])
    break_blocks(damaged, scene.packs["a b c"])
    break_blocks(damaged, scene.packs["manifests 1"])
    found_damaged(damaged)
    mirror = scene.store()

    def run(plan: FaultPlan) -> FaultyStore:
        inner = store_of(damaged.objects)
        faulty = FaultyStore(inner, plan)
        try:
            repair(faulty, mirror=mirror)
        except (StoreFull, StoreError):
            assert faulty.fired
        assert {key: inner.objects[key] for key in damaged.objects} == damaged.objects
        assert repair(inner, mirror=mirror).exit_code == 0
        with open_repository(inner) as repository:
            assert_whole(repository, scene)
        return faulty

    assert every_fault(fault, run, verb="put") >= 3


def test_two_repairs_at_once_both_end_well(scene: Scene) -> None:
    """The second begins and ends while the first is about to put its first pack, and while it puts its segment."""
    store = scene.store()
    break_blocks(store, scene.packs["d"])
    break_blocks(store, scene.packs["a b c"])
    found_damaged(store)
    met: list[str] = []

    class Meanwhile(MemoryStore):
        def put(self, key: str, parts: object) -> None:
            folder = key.split("/")[0]
            if folder not in met:
                met.append(folder)
                assert repair(store, mirror=scene.store()).exit_code == 0
            super().put(key, parts)  # type: ignore[arg-type]

    meanwhile = Meanwhile("memory:meanwhile")
    meanwhile.objects = store.objects

    assert repair(meanwhile, mirror=scene.store()).exit_code == 0

    assert met == ["packs", "index"]
    whole_and_pruned(store, scene)


def test_a_pack_that_was_pruned_is_not_put_back(scene: Scene) -> None:
    store = scene.store()
    with open_repository(store) as repository:
        forget(repository, repository.catalog.get(scene.snapshots[0]))
        prune(repository)
        lost = repository.index.pack(0)
        assert any(row.name.key not in store.objects for row in repository.index.packs()), lost
    before = dict(store.objects)

    report = repair(store, mirror=scene.store())

    assert (report.packs, report.chunks) == (0, 0)
    assert store.objects == before
    with open_repository(store) as repository:
        assert check(repository).exit_code == 0
