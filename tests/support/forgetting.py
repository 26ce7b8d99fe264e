"""Five daily snapshots, some of which are forgotten: the scene of the tests of forget and undo-forget."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC
from pathlib import Path

from dedupstore.cancel import CancelToken
from dedupstore.clock import FrozenClock
from dedupstore.engine.check import check_repository
from dedupstore.engine.check_options import CheckOptions, CheckReport, DataShare
from dedupstore.engine.forget import ForgetOptions, ForgetPlan, execute_forget, plan_forget
from dedupstore.engine.undo_forget import undo_forget
from dedupstore.events import NullListener
from dedupstore.model.snapshot import Snapshot
from dedupstore.policy.retention import Policy
from dedupstore.repo.reachable import reachable
from dedupstore.repo.repository import Repository
from dedupstore.storage.base import ObjectStore
from dedupstore.storage.memory import MemoryStore
from dedupstore.types import SnapshotId
from dedupstore.units import format_id
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


def make_scene(folder: Path) -> Scene:
    """Take the snapshots, of a tree below `folder`."""
    tree = make_tree(folder / "tree")
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


def fresh(made: Scene) -> Scene:
    """The same scene with a clock of its own."""
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


def packs_only_of(repository: Repository, scene: Scene, number: int) -> list[str]:
    """Names of the packs that one snapshot reads and no other does."""

    def packs(identifier: SnapshotId) -> set[str]:
        repository.look()
        load, locate = repository.reader.load_manifest, repository.reader.locate
        root = repository.catalog.get(identifier).root
        return {repository.index.pack(locate(chunk).pack_no).name.key for _, chunk in reachable(load, root)}

    others = (packs(other) for at, other in enumerate(scene.snapshots) if at != number)
    return sorted(packs(scene.snapshots[number]).difference(*others))
