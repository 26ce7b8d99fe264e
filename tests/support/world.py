"""A repository, those who work on it, and a dictionary that says what must be in it: the model of the state machine.

Every action may be interrupted at any operation of the store. What an action acknowledged is in the dictionary from then
on; what was interrupted is looked up afterwards, and counts only if it is whole.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import TypeVar

from dedupstore.cancel import CancelToken
from dedupstore.clock import FrozenClock
from dedupstore.engine.copy import copy_snapshots
from dedupstore.engine.mirror import mirror
from dedupstore.engine.mirror_plan import MirrorOptions, plan_mirror
from dedupstore.engine.origin import origin_of
from dedupstore.engine.prune_plan import DAY_NS, PruneOptions
from dedupstore.engine.repair import repair_index
from dedupstore.errors import DedupError, RepositoryError
from dedupstore.events import NullListener
from dedupstore.repo import layout
from dedupstore.repo.forgetting import list_forgotten
from dedupstore.repo.pack_name import PackName
from dedupstore.repo.repository import InitOptions, Repository
from dedupstore.storage.memory import MemoryStore
from dedupstore.types import PackId, SnapshotId
from dedupstore.units import parse_id
from tests.support import forgetting, pruning
from tests.support.faults import Fault, FaultPlan, FaultyStore
from tests.support.mending import mend as mend_packs
from tests.support.repositories import (
    SMALL,
    assert_restores,
    files_below,
    new_repository,
    open_repository,
    random_bytes,
    segment_facts,
    take,
    text_bytes,
)

Files = Mapping[bytes, bytes]
T = TypeVar("T")

OPTIONS: InitOptions = replace(SMALL, pack_bytes=48 << 10, delta_block_bytes=4 << 10)
NOW_NS = 1_900_000_000 * 10**9
"""Ahead of the files that tests write, so that unchanged ones are taken over unread."""

TOLD_OF: Mapping[str, frozenset[str]] = {
    layout.PACKS: frozenset({"check.pack_damaged", "check.file_damaged", "check.directory_damaged"}),
    layout.INDEX: frozenset({"check.segment_damaged", "check.index_incomplete"}),
    layout.ROOTS: frozenset({"check.snapshot_damaged", "check.run_damaged"}),
    layout.COMMITS: frozenset({"check.snapshot_damaged"}),
}
"""What a check says of one flipped bit, by the folder of the object."""

WEEK_NS = 7 * DAY_NS
CLIENTS = 2


class Stop(Enum):
    """How an action ends at its k-th operation: the fault, and how many operations in a row it hits."""

    KILLED = (Fault.FAIL_BEFORE, None)
    KILLED_AFTER = (Fault.FAIL_AFTER, None)
    FAILED = (Fault.FAIL_BEFORE, 1)
    DONE_BUT_FAILED = (Fault.FAIL_AFTER, 1)


@dataclass(frozen=True, slots=True)
class Interruption:
    """At which operation of an action, counted from 0, and how."""

    at: int
    how: Stop

    @property
    def plan(self) -> FaultPlan:
        fault, times = self.how.value
        return FaultPlan(fault=fault, at=self.at, times=times)


@dataclass(slots=True)
class World:
    """`expected` is the truth: the snapshots that exist, in the order in which they came to be, and their files."""

    folder: Path
    clock: FrozenClock = field(default_factory=lambda: FrozenClock(NOW_NS))
    store: MemoryStore = field(default_factory=lambda: MemoryStore("memory:main"))
    mirrored: MemoryStore = field(default_factory=lambda: MemoryStore("memory:mirror"))
    copied: MemoryStore = field(default_factory=lambda: MemoryStore("memory:copy"))
    client: int = 0
    expected: dict[SnapshotId, Files] = field(default_factory=dict)
    forgotten: dict[SnapshotId, int] = field(default_factory=dict)
    """When each snapshot was forgotten that can be brought back for sure."""

    ever: dict[SnapshotId, Files] = field(default_factory=dict)
    """Every snapshot there ever was; copies and mirrors may lag behind."""

    damaged: dict[str, bytes] = field(default_factory=dict)
    """What was flipped: the object's bytes before."""

    unindexed: bool = False
    """A segment was lost: until the index is repaired, not everything is found by everyone."""

    mirror_unindexed: bool = False
    """The same of the mirror, since a segment was missing when it was made."""

    def __post_init__(self) -> None:
        self.tree.mkdir()
        new_repository(self.store, options=OPTIONS, clock=self.clock).close()
        new_repository(self.copied, options=OPTIONS, clock=self.clock).close()

    @property
    def tree(self) -> Path:
        return self.folder / "tree"

    @property
    def hurt(self) -> bool:
        return bool(self.damaged) or self.unindexed

    @property
    def _lacks_segments(self) -> bool:
        return self.unindexed or any(key.startswith(layout.INDEX) for key in self.damaged)

    def cache(self, number: int) -> Path:
        return self.folder / f"cache{number}"

    # The tree

    def write(self, name: str, content: int) -> None:
        """Text of which some rows differ between contents, or noise that is its own; small names are directories."""
        path = self.tree / name
        path.parent.mkdir(exist_ok=True)
        if content < 5:
            text = bytearray(text_bytes(len(name), 500))
            text[3000 * content : 3000 * content + 40] = b"%040d" % content
            path.write_bytes(text)
        else:
            path.write_bytes(random_bytes(f"{content}", 1500 * content))

    def remove(self, name: str) -> None:
        (self.tree / name).unlink(missing_ok=True)

    # Actions

    def snapshot(self, source: str, stop: Interruption | None, **plan: object) -> None:
        files = files_below(self.tree)
        taken = self._attempt(lambda repository: take(repository, self.tree, source=source, **plan).snapshot, stop)
        there = self._listed()
        if taken is not None:
            assert taken.id in there, "acknowledged, and not there"
        for new in there.difference(self.expected):
            assert taken is not None or stop is not None or self.damaged
            self.expected[new] = self.ever[new] = files

    def forget(self, number: int, stop: Interruption | None) -> None:
        """One that is not the newest of its source."""
        with self._open(self.store) as repository:
            newest = {one.source: one.id for one in repository.catalog.snapshots().snapshots}
        choice = [snapshot for snapshot in self.expected if snapshot not in newest.values()]
        if not choice:
            return
        going = choice[number % len(choice)]
        done = self._attempt(lambda repository: forgetting.forget(repository, forgetting.options(None, going)), stop)
        assert not done or done == [going]
        if done or going not in self._listed():
            del self.expected[going]
            if not self.hurt:
                # What could not be read when it was forgotten may have no way back.
                self.forgotten[going] = self.clock.now_ns()

    def undo(self, number: int, stop: Interruption | None) -> None:
        if not self.forgotten:
            return
        old = list(self.forgotten)[number % len(self.forgotten)]
        back = self._attempt(lambda repository: forgetting.undo(repository, old), stop)
        for new in self._listed().difference(self.expected):
            self.expected[new] = self.ever[new] = self.ever[old]
            self.forgotten.pop(old, None)
        assert back is None or back.id in self.expected

    def prune(self, *, grace_ns: int, window_ns: int, stop: Interruption | None) -> None:
        options = PruneOptions(grace_ns=grace_ns, undo_window_ns=window_ns)
        self._attempt(lambda repository: pruning.prune(repository, options), stop)
        now_ns = self.clock.now_ns()
        for snapshot, when in list(self.forgotten.items()):
            # What was forgotten and is damaged stops no prune, and may not come back.
            if when + window_ns <= now_ns or self.hurt:
                del self.forgotten[snapshot]

    def copy(self, stop: Interruption | None) -> None:
        def work(there: Repository) -> None:
            with self._open(self.store) as here:
                wanted = here.catalog.snapshots().snapshots
                result = copy_snapshots(here, there, wanted, listener=NullListener(), cancel=CancelToken())
            assert self.hurt or not result.failed, result.findings

        self._attempt(work, stop, self.copied)

    def mirror(self, stop: Interruption | None, *, delete: bool) -> None:
        """Not while a record or marker is damaged: without a key nobody can tell, and the damage would come along."""
        if not self.expected or any(key.startswith((layout.ROOTS, layout.COMMITS)) for key in self.damaged):
            return
        faulty = FaultyStore(self.mirrored, stop.plan if stop else None)
        options = MirrorOptions(delete=delete)
        try:
            plan = plan_mirror(self.store, faulty, options)
            result = mirror(self.store, faulty, plan, options, listener=NullListener(), cancel=CancelToken())
        except RepositoryError:
            self.mirror_unindexed |= self._lacks_segments
            assert faulty.fired or self.damaged
            return
        assert self.hurt or result.exit_code == 0, result.findings
        self.mirror_unindexed = self._lacks_segments
        if not self.damaged:
            with self._open(self.mirrored) as repository:
                shown = repository.catalog.committed()
            assert shown == self.expected.keys() if delete else shown >= self.expected.keys()

    def repair(self, stop: Interruption | None) -> None:
        def work(repository: Repository) -> bool:
            return repair_index(repository, listener=NullListener(), cancel=CancelToken()).exit_code == 0

        if self._attempt(work, stop) and not self.damaged:
            self.unindexed = False

    def mend(self, stop: Interruption | None) -> None:
        """Damaged packs, by the mirror and the copy, as far as these have what is needed; what is mended is pruned.

        After that it is as if nothing had been damaged, without the bytes that were.
        """
        if not self.damaged or not all(key.startswith(layout.PACKS) for key in self.damaged):
            return
        mirror = self._twin(self.mirrored) if layout.FORMAT_KEY in self.mirrored.objects else None

        def work(repository: Repository) -> bool:
            mend_packs(repository, mirror=mirror, copy=self.copied.objects)
            return True

        if self._attempt(work, stop):
            for _ in range(2):
                # What only a forgotten snapshot needed is nobody's once its root has gone.
                self.prune(grace_ns=0, window_ns=0, stop=None)
            self.damaged = {key: data for key, data in self.damaged.items() if key in self.store.objects}

    # What happens to it

    def lose_cache(self) -> None:
        shutil.rmtree(self.cache(self.client), ignore_errors=True)

    def lose_segment(self, number: int) -> None:
        segments = self._objects(layout.INDEX)
        if segments and not self.damaged:
            self.store.delete(segments[number % len(segments)])
            self.unindexed = True

    def flip(self, folder: str, number: int, position: int) -> None:
        """One bit, in the order in which the objects were put; a check that reads everything names what is hit."""
        keys = [key for key in self.store.objects if key.startswith(folder) and key not in layout.SENTINELS]
        if not keys or self.hurt:
            return
        key = keys[number % len(keys)]
        data = bytearray(self.store.objects[key])
        data[position % len(data)] ^= 1 << position % 8
        self.damaged[key] = self.store.objects[key]
        self.store.objects[key] = bytes(data)
        with self._open(self.store) as repository:
            report = pruning.check(repository)
        told = [finding for finding in report.findings if finding.severity != "note"]
        superseded = any(finding.code == "check.segment_superseded" for finding in report.findings)
        if folder == layout.ROOTS and layout.parse_id_key(key, folder) in self._marked():
            # Forgotten: the copy in its marker is as good.
            return
        if folder == layout.PACKS and PackName.parse(key).id not in self._described():
            # Left by a run that was stopped, and no part of anything.
            return
        assert told or (folder == layout.INDEX and superseded), f"a flipped bit of {key} was not noticed"
        assert {finding.code for finding in told} <= TOLD_OF[folder], told

    def heal(self) -> None:
        """The bytes are as they were, wherever the object is still there."""
        for key, data in self.damaged.items():
            if key in self.store.objects:
                self.store.objects[key] = data
        self.damaged.clear()

    def restore_from_mirror(self) -> None:
        """The repository burnt down: what the mirror had is all there is, and every cache knows too much."""
        if layout.FORMAT_KEY not in self.mirrored.objects or self.hurt:
            return
        self.store.objects = dict(self.mirrored.objects)
        there = self._listed()
        assert there <= self.ever.keys()
        self.expected = {snapshot: self.ever[snapshot] for snapshot in self.ever if snapshot in there}
        self.forgotten.clear()
        self.unindexed = self.mirror_unindexed

    # What must hold

    def assert_holds(self) -> None:
        """All promises, of a copy of the repository: nothing is changed by looking."""
        twin = self._twin(self.store)
        for key, data in self.damaged.items():
            if key in twin.objects:
                twin.objects[key] = data
        with self._open(twin) as repository:
            if self.hurt:
                repair_index(repository, listener=NullListener(), cancel=CancelToken())
            pruning.assert_sound(repository, self.expected)
            pruning.assert_rebuilds(repository)
            for snapshot in list(self.forgotten)[-1:]:
                assert_restores(repository, forgetting.undo(repository, snapshot), self.ever[snapshot])
        with open_repository(self._twin(twin), self.cache(self.client), clock=self.clock) as repository:
            pruning.assert_comes_to_rest(repository)
            for snapshot in repository.catalog.snapshots().snapshots:
                if snapshot.id in self.expected:
                    assert_restores(repository, snapshot, self.expected[snapshot.id])
            assert_clean(repository)
        shutil.rmtree(self.cache(self.client), ignore_errors=True)
        self._assert_copies()

    def _assert_copies(self) -> None:
        with self._open(self._twin(self.copied)) as repository:
            snapshots = repository.catalog.snapshots()
            for copy in snapshots.snapshots:
                original = SnapshotId(parse_id(origin_of(copy, repository.id).snapshot))
                assert_restores(repository, copy, self.ever[original])
            assert_clean(repository)
        if layout.FORMAT_KEY in self.mirrored.objects:
            with self._open(self._twin(self.mirrored)) as repository:
                if self.mirror_unindexed:
                    repair_index(repository, listener=NullListener(), cancel=CancelToken())
                for snapshot in repository.catalog.snapshots().snapshots:
                    assert_restores(repository, snapshot, self.ever[snapshot.id])
                assert not repository.catalog.snapshots().damaged

    # Inside

    def _attempt(
        self, work: Callable[[Repository], T], stop: Interruption | None, store: MemoryStore | None = None
    ) -> T | None:
        """None when it was interrupted, or failed because of damage; any other failure is one of the test."""
        faulty = FaultyStore(store or self.store)
        try:
            with open_repository(faulty, self._cache_for(store), clock=self.clock) as repository:
                faulty.plan = stop.plan if stop else None
                return work(repository)
        except (RepositoryError, DedupError):
            if not faulty.fired and not self.hurt:
                raise
            return None

    def _cache_for(self, store: MemoryStore | None) -> Path | None:
        return self.cache(self.client) if store is None else None

    def _open(self, store: MemoryStore) -> Repository:
        return open_repository(store, clock=self.clock)

    def _listed(self) -> set[SnapshotId]:
        with self._open(self.store) as repository:
            return repository.catalog.committed()

    def _marked(self) -> set[SnapshotId]:
        with self._open(self.store) as repository:
            return list_forgotten(self.store) - repository.catalog.committed()

    def _described(self) -> set[PackId]:
        with self._open(self._twin(self.store)) as repository:
            return {fact.id for fact in segment_facts(repository)}

    def _objects(self, folder: str) -> list[str]:
        return [key for key in self.store.objects if key.startswith(folder) and key not in layout.SENTINELS]

    @staticmethod
    def _twin(store: MemoryStore) -> MemoryStore:
        twin = MemoryStore("memory:twin")
        twin.objects = dict(store.objects)
        return twin


def assert_clean(repository: Repository) -> None:
    """A check that reads everything finds nothing."""
    told = [finding for finding in pruning.check(repository).findings if finding.severity != "note"]
    assert not told, told
