"""A store that says once of an object that it is not there, although it is: nothing is destroyed because of that."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest

from dedupstore.errors import RepositoryError
from dedupstore.model.mark import PROTECT, Mark
from dedupstore.repo import layout
from dedupstore.repo.gcplan import Plan, put_plan, read_plans
from dedupstore.repo.pack_name import PackName
from dedupstore.storage.memory import MemoryStore
from dedupstore.types import SnapshotId
from tests.support import forgetting
from tests.support.faults import Fault, FaultPlan, FaultyStore, every_fault
from tests.support.pruning import assert_sound, sweep
from tests.support.repositories import files_below, make_tree, new_repository, open_repository, take


def test_a_root_that_seems_to_be_gone_takes_no_snapshot_with_it(tmp_path: Path) -> None:
    """Every pack is condemned, so whoever does not walk a root deletes all that only it needs."""
    source, kept = MemoryStore(), {}
    with new_repository(source) as repository:
        for seed in range(3):
            tree = make_tree(tmp_path / f"tree{seed}", seed=seed)
            taken = take(repository, tree, source=f"{seed}").snapshot
            assert taken is not None
            kept[taken.id] = files_below(tree)
        packs = [PackName.parse(row.key).id for row in layout.list_complete(source, layout.PACKS)]
        put_plan(source, repository.keyring, Plan(packs=tuple(packs), roots=(), creator="test", time_ns=1))

    def run(plan: FaultPlan) -> FaultyStore:
        store = MemoryStore()
        store.objects = dict(source.objects)
        faulty = FaultyStore(store)
        with open_repository(faulty) as repository:
            faulty.plan = plan
            with suppress(RepositoryError):
                sweep(repository)
        if store.objects != source.objects:
            with open_repository(store) as repository:
                assert_sound(repository, kept)
        return faulty

    assert every_fault(Fault.NOT_FOUND, run, verb="get") > 3


def test_a_plan_that_seems_to_be_gone_still_condemns(tmp_path: Path) -> None:
    store = MemoryStore()
    with new_repository(store) as repository:
        key = put_plan(store, repository.keyring, Plan(packs=(), roots=(), creator="test", time_ns=1))
        faulty = FaultyStore(store, FaultPlan(fault=Fault.NOT_FOUND, at=0, verb="get", below=layout.GC))

        with pytest.raises(RepositoryError):
            read_plans(faulty, repository.keyring, [key])
        store.delete(key)
        assert read_plans(store, repository.keyring, [key]) == {}


def test_a_mark_that_seems_to_be_gone_protects(tmp_path: Path) -> None:
    scene = forgetting.make_scene(tmp_path)
    store = scene.store()
    protected: SnapshotId = scene.snapshots[0]
    with scene.open(store) as repository:
        repository.catalog.add_mark(protected, Mark(kind=PROTECT, time_ns=1))

    def run(plan: FaultPlan) -> FaultyStore:
        here = MemoryStore()
        here.objects = dict(store.objects)
        faulty = FaultyStore(here, plan)
        with scene.open(faulty) as repository:
            forgetting.forget(repository)
        with scene.open(here) as repository:
            assert protected in forgetting.existing(repository)
        return faulty

    for at in range(3):
        run(FaultPlan(fault=Fault.NOT_FOUND, at=at, verb="get", below=layout.MARKS))
