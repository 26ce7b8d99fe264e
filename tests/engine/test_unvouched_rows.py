"""What a run that never became a snapshot leaves in this machine's memory is a hint where to go on, and no promise.

The clock stands an hour ahead of the files, so that none of them was written too lately to be trusted, and the cache is
kept from run to run: the two things without which memory is never believed at all.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from dedupstore.clock import FrozenClock
from dedupstore.errors import RepositoryError, StoreError
from dedupstore.repo.repository import Repository
from dedupstore.storage.base import ObjectStore
from dedupstore.storage.memory import MemoryStore
from tests.support.checking import assert_clean
from tests.support.faults import Fault, FaultPlan, FaultyStore, Step, every_fault
from tests.support.pruning import assert_sound, forget, prune
from tests.support.repositories import (
    assert_restores,
    files_below,
    make_tree,
    mutate_tree,
    new_repository,
    open_repository,
    random_bytes,
    take,
)

HOUR_NS = 3600 * 10**9


@dataclass(slots=True)
class Machine:
    """One cache, one tree of files that were written long ago."""

    cache: Path
    tree: Path

    def open(self, store: ObjectStore) -> Repository:
        return open_repository(store, self.cache, clock=FrozenClock(time.time_ns() + HOUR_NS))


@pytest.fixture
def store(tmp_path: Path) -> MemoryStore:
    """A repository in which there was a prune: from then on, packs that are gone need not be lost."""
    made = MemoryStore()
    with new_repository(made) as repository:
        forget(repository, take(repository, make_tree(tmp_path / "other", seed=7), source="other").snapshot)
        prune(repository)
    return made


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "cache", make_tree(tmp_path / "tree"))


def pruned_on_the_way(store: MemoryStore) -> FaultyStore:
    """A store in which somebody prunes, without any grace time, before the first manifests are put: data is there."""
    pruned = False

    def hook(step: Step) -> None:
        nonlocal pruned
        if step.verb == "put" and step.key.startswith("packs/") and ".m" in step.key and not pruned:
            pruned = True
            with open_repository(store) as other:
                assert prune(other).packs_deleted > 0

    return FaultyStore(store, hook=hook)


@pytest.mark.parametrize("with_parent", [False, True])
def test_a_run_after_one_whose_chunks_were_pruned_stores_them_anew(
    store: MemoryStore, machine: Machine, *, with_parent: bool
) -> None:
    expected = {}
    if with_parent:
        with machine.open(store) as repository:
            first = take(repository, machine.tree).snapshot
            assert first is not None
            expected[first.id] = files_below(machine.tree)
        for folder in ("a", "many2"):
            (machine.tree / folder / "new").write_bytes(random_bytes(folder, 300_000))

    with machine.open(pruned_on_the_way(store)) as repository, pytest.raises(RepositoryError) as failure:
        take(repository, machine.tree)
    assert failure.value.code == "snapshot.chunks_lost"

    with machine.open(store) as repository:
        second = take(repository, machine.tree).snapshot
        assert second is not None
        assert_sound(repository, {**expected, second.id: files_below(machine.tree)})


def test_directories_of_a_forgotten_snapshot_are_asked_for_chunk_by_chunk(
    store: MemoryStore, machine: Machine, tmp_path: Path
) -> None:
    """Its manifests may outlive its data: they lie in packs of which something else is needed."""
    with machine.open(store) as repository:
        first = take(repository, machine.tree).snapshot
        before = files_below(machine.tree)
        (machine.tree / "many1" / "new").write_bytes(random_bytes("new", 300_000))
        (machine.tree / "a" / "b" / "c").chmod(0o700)
        second = take(repository, machine.tree).snapshot
        beside = take(repository, machine.tree / "a", source="beside").snapshot
        forget(repository, second)
        assert prune(repository).packs_deleted > 0

        third = take(repository, machine.tree).snapshot

        assert first is not None and beside is not None and third is not None
        assert_sound(
            repository,
            {first.id: before, beside.id: files_below(machine.tree / "a"), third.id: files_below(machine.tree)},
        )


@pytest.mark.parametrize("fault", [Fault.FAIL_BEFORE, Fault.FULL])
def test_a_put_that_fails_leaves_no_directory_that_the_next_run_believes(
    machine: Machine, tmp_path: Path, fault: Fault
) -> None:
    """Packs of manifests and of data are put side by side: one may be there without the other."""
    scene = MemoryStore()
    with new_repository(scene) as repository:
        take(repository, make_tree(tmp_path / "other", seed=7), source="other")

    def run(plan: FaultPlan) -> FaultyStore:
        store = MemoryStore()
        store.objects = dict(scene.objects)
        here = Machine(tmp_path / f"cache {plan.at}", machine.tree)
        faulty = FaultyStore(store, plan)
        try:
            with here.open(faulty) as repository:
                take(repository, machine.tree)
        except StoreError:
            assert faulty.fired
        with here.open(store) as repository:
            assert_restores(repository, take(repository, machine.tree).snapshot, files_below(machine.tree))
            assert_clean(repository)
        return faulty

    assert every_fault(fault, run, verb="put") > 5


def test_a_run_goes_on_where_the_one_before_was_stopped_without_reading_files_again(
    store: MemoryStore, machine: Machine
) -> None:
    with machine.open(store) as repository:
        take(repository, machine.tree)
    mutate_tree(machine.tree, 1)
    changed = files_below(machine.tree)
    stopped = FaultyStore(store, FaultPlan(fault=Fault.FAIL_BEFORE, at=0, verb="put", below="roots/"))
    with machine.open(stopped) as repository, pytest.raises(StoreError):
        take(repository, machine.tree)

    with machine.open(store) as repository:
        again = take(repository, machine.tree)

        assert again.statistics.bytes_read == 0
        assert again.statistics.chunks_new == 0
        assert_restores(repository, again.snapshot, changed)
        assert_clean(repository)
