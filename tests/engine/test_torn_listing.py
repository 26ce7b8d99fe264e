"""A listing of many folders is not of one moment: what another prune moves meanwhile may be missing in both places."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dedupstore.clock import FrozenClock
from dedupstore.engine.prune_plan import DAY_NS, PruneOptions
from dedupstore.errors import StoreError
from dedupstore.repo import layout
from dedupstore.repo.badlist import BadRecord, put_bad
from dedupstore.repo.pack_name import PackName
from dedupstore.repo.repository import Repository
from dedupstore.storage.base import ObjectInfo
from dedupstore.storage.memory import MemoryStore
from dedupstore.types import Kind
from tests.support.faults import Fault, FaultPlan, FaultyStore, Step
from tests.support.forgetting import undo
from tests.support.pruning import assert_sound, condemn, forget, sweep
from tests.support.replicating import run_mirror
from tests.support.repositories import (
    assert_restores,
    files_below,
    make_tree,
    mutate_tree,
    new_repository,
    open_repository,
    take,
)

NOW_NS = 1_800_000_000 * 10**9


class TornStore(MemoryStore):
    """While packs are listed next, something happens: what came with it is not shown, nor what went."""

    def __init__(self) -> None:
        super().__init__()
        self.meanwhile: Callable[[], None] | None = None
        self.spared = 0
        """How many listings of packs pass before."""

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        act, rows = self.meanwhile, list(super().list(prefix))
        if prefix != "packs/" or act is None:
            return iter(rows)
        if self.spared:
            self.spared -= 1
            return iter(rows)
        self.meanwhile = None
        act()
        left = {row.key for row in super().list(prefix)}
        return iter([row for row in rows if row.key in left])


def condemn_all(repository: Repository, kind: Kind, time_ns: int) -> None:
    repository.look()
    condemn(repository, [row.id for row in repository.index.packs() if row.kind is kind], time_ns)


def test_a_forgotten_snapshot_whose_manifests_move_during_the_listing_is_walked_all_the_same(tmp_path: Path) -> None:
    """It has no commit, so that what is lost of it is passed over; and what lies below, in another plan, would go."""
    store, clock = TornStore(), FrozenClock(NOW_NS)
    tree = make_tree(tmp_path / "tree")
    with new_repository(store, clock=clock) as repository:
        snapshot = take(repository, tree).snapshot
        assert snapshot is not None
        forget(repository, snapshot)
        condemn_all(repository, Kind.DATA, NOW_NS)
        moved = []

        def other_prune() -> None:
            with open_repository(store, clock=clock) as other:
                condemn_all(other, Kind.MANIFEST, NOW_NS - 2 * DAY_NS)
                moved.append(sweep(other, PruneOptions(grace_ns=DAY_NS)).bytes_moved)

        store.meanwhile = other_prune
        report = sweep(repository, PruneOptions(grace_ns=0))

        assert moved[0] > 0 and report.packs_deleted > 0
        back = undo(repository, snapshot.id)
        assert_restores(repository, back, files_below(tree))
        assert_sound(repository, {back.id: files_below(tree)})


@pytest.mark.parametrize("known_bad", [False, True])
def test_a_forgotten_snapshot_whose_manifests_move_after_the_listing_is_walked_all_the_same(
    tmp_path: Path, known_bad: bool
) -> None:
    """They are listed, and gone when they are read. `known_bad`: somebody has said wrongly that they are damaged."""
    store, clock = MemoryStore(), FrozenClock(NOW_NS)
    tree = make_tree(tmp_path / "tree")
    moved: list[int] = []

    def other_prune(step: Step) -> None:
        if armed and step.verb == "get" and step.key.startswith(layout.PACKS):
            armed.clear()
            with open_repository(store, clock=clock) as other:
                condemn_all(other, Kind.MANIFEST, NOW_NS - 2 * DAY_NS)
                moved.append(sweep(other, PruneOptions(grace_ns=DAY_NS)).bytes_moved)

    armed: list[bool] = []
    with new_repository(FaultyStore(store, hook=other_prune), clock=clock) as repository:
        snapshot = take(repository, tree).snapshot
        assert snapshot is not None
        forget(repository, snapshot)
        condemn_all(repository, Kind.DATA, NOW_NS)
        if known_bad:
            manifests = {row.id: None for row in repository.index.packs() if row.kind is Kind.MANIFEST}
            put_bad(store, repository.keyring, BadRecord(packs=manifests))
        armed.append(True)
        sweep(repository, PruneOptions(grace_ns=0))

        assert moved[0] > 0
        back = undo(repository, snapshot.id)
        assert_restores(repository, back, files_below(tree))
        assert_sound(repository, {back.id: files_below(tree)})


def test_a_mirror_shows_no_snapshot_whose_data_moved_during_a_listing(tmp_path: Path) -> None:
    """At each listing of packs that a mirror takes of its source, by a prune that is killed before it says so."""
    tree, at, moved = make_tree(tmp_path / "tree"), 0, True
    while moved:
        source, target = TornStore(), MemoryStore("memory:target")
        states = {}
        with new_repository(source) as repository:
            for number in range(2):
                mutate_tree(tree, 2 * at + number)
                snapshot = take(repository, tree).snapshot
                assert snapshot is not None
                states[snapshot.id] = files_below(tree)
                if number == 0:
                    run_mirror(source, target)
                    before = set(source.objects)
        moved = False

        def other_prune(source: TornStore = source, before: set[str] = before) -> None:
            nonlocal moved
            killed = FaultPlan(fault=Fault.FAIL_BEFORE, at=0, verb="put", below=f"{layout.GC}done-")
            faulty = FaultyStore(source, killed)
            new = [PackName.parse(key).id for key in source.objects.keys() - before if key.startswith(layout.PACKS)]
            with open_repository(faulty) as other:
                condemn(other, new)
                with pytest.raises(StoreError):
                    sweep(other, PruneOptions(grace_ns=0))
            moved = faulty.fired > 0

        source.meanwhile, source.spared = other_prune, at
        assert run_mirror(source, target).exit_code == 0
        with open_repository(target) as repository:
            for snapshot in repository.catalog.snapshots().snapshots:
                assert_restores(repository, snapshot, states[snapshot.id])
        source.meanwhile = None
        with open_repository(source) as other:
            sweep(other, PruneOptions(grace_ns=0))
        assert run_mirror(source, target).exit_code == 0
        with open_repository(target) as repository:
            assert_sound(repository, states)
        at += 1
    assert at > 2
