"""Forgetting and pruning as tests need it: at once, and with a clean check afterwards.

forget(repository, first)
prune(repository)
assert_sound(repository, {second: files})
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from dedupstore.cancel import CancelToken
from dedupstore.engine.check import check_repository
from dedupstore.engine.check_options import CheckOptions, CheckReport, DataShare
from dedupstore.engine.prune import PruneReport, execute_prune
from dedupstore.engine.prune_plan import PruneOptions, PrunePlan, plan_prune
from dedupstore.engine.prune_roots import Roots
from dedupstore.engine.repair import repair_index
from dedupstore.events import NullListener
from dedupstore.model.snapshot import Snapshot
from dedupstore.repo import layout
from dedupstore.repo.forgotten import Forgotten, put_forgotten
from dedupstore.repo.gcplan import Plan, put_plan
from dedupstore.repo.repository import Repository
from dedupstore.storage.base import ObjectStore
from dedupstore.types import PackId, SnapshotId
from tests.support.repositories import (
    assert_restores,
    chunk_locations,
    files_below,
    mutate_tree,
    random_bytes,
    segment_facts,
    take,
)

NOW = PruneOptions(grace_ns=0, undo_window_ns=0)
"""No waiting: what is forgotten is gone when this prune ends."""


def two(repository: Repository, tree: Path) -> tuple[Snapshot, Snapshot, dict[bytes, bytes]]:
    """One snapshot to forget, one to keep, and what the second holds."""
    first = take(repository, tree).snapshot
    for number in range(0, 20, 2):
        (tree / f"many{number % 3}" / f"file{number:03d}").unlink()
    mutate_tree(tree, 1)
    (tree / "noise.bin").write_bytes(random_bytes("other noise", 90_000))
    second = take(repository, tree).snapshot
    assert first is not None and second is not None
    return first, second, files_below(tree)


def forget(repository: Repository, snapshot: Snapshot | None) -> None:
    """As `dedup forget` does: the marker first, then the commit goes."""
    assert snapshot is not None
    marker = Forgotten(record=snapshot.encode(), time_ns=repository.clock.now_ns())
    put_forgotten(repository.store, repository.keyring, snapshot.id, marker)
    repository.store.delete(layout.commit_key(snapshot.id))
    repository.store.barrier()


def condemn(repository: Repository, packs: Iterable[PackId], time_ns: int = 1) -> None:
    """A plan as somebody else made it, about anything."""
    condemned = Plan(packs=tuple(sorted(packs)), roots=(), creator="another host", time_ns=time_ns)
    put_plan(repository.store, repository.keyring, condemned)


def plan(repository: Repository, options: PruneOptions = NOW) -> PrunePlan:
    return plan_prune(repository, options, listener=NullListener(), cancel=CancelToken())


def prune(repository: Repository, options: PruneOptions = NOW) -> PruneReport:
    """Plan and carry out."""
    return execute_prune(repository, plan(repository, options), options, listener=NullListener(), cancel=CancelToken())


def sweep(repository: Repository, options: PruneOptions = NOW) -> PruneReport:
    """Carry out what waits, without a plan of one's own."""
    nothing = Roots(kept=frozenset(), expired=frozenset(), abandoned=frozenset(), orphaned_markers=frozenset())
    empty = PrunePlan(roots=nothing, choices=(), waiting=(), orphans=(), packs=0, bytes=0, young=0, bytes_written=0)
    return execute_prune(repository, empty, options, listener=NullListener(), cancel=CancelToken())


def assert_sound(repository: Repository, snapshots: Mapping[SnapshotId, Mapping[bytes, bytes]]) -> None:
    """These snapshots and no others, byte for byte; a check that reads everything finds nothing."""
    listing = repository.catalog.snapshots()
    assert {snapshot.id for snapshot in listing.snapshots} == snapshots.keys()
    assert not listing.damaged
    for snapshot in listing.snapshots:
        assert_restores(repository, snapshot, snapshots[snapshot.id])
    assert [finding for finding in check(repository).findings if finding.severity != "note"] == []


def check(repository: Repository) -> CheckReport:
    """A check that reads everything."""
    options = CheckOptions(read_data=DataShare.parse("all"))
    return check_repository(repository, options, listener=NullListener(), cancel=CancelToken())


def assert_comes_to_rest(repository: Repository) -> None:
    """What a prune writes may be merged by the next; after a few there is nothing left to do, and no plan."""
    reports = []
    for _ in range(8):
        reports.append(prune(repository))
        if not (reports[-1].packs_condemned or reports[-1].segments_merged or plans(repository.store)):
            return
    chosen = [(choice.reason.name, choice.needed, choice.row) for choice in plan(repository).choices]
    raise AssertionError(f"prune comes to no rest: {reports[-1]}, and again {chosen}")


def assert_rebuilds(repository: Repository) -> None:
    """From the packs alone come the same locations as from the segments that are there, and those of orphans."""
    listed = {info.key[9:73] for info in layout.list_complete(repository.store, layout.PACKS)}
    described = {fact.id for fact in segment_facts(repository)}
    before = {row for row in chunk_locations(repository) if row[0].hex() in listed}
    for info in layout.list_complete(repository.store, layout.INDEX):
        repository.store.delete(info.key)
    repository.drop_index()
    repair_index(repository, listener=NullListener(), cancel=CancelToken())
    assert {row for row in chunk_locations(repository) if row[0] in described} == before


def pack_bytes(store: ObjectStore) -> int:
    return sum(info.size for info in layout.list_complete(store, layout.PACKS))


def plans(store: ObjectStore) -> list[str]:
    rows = layout.list_complete(store, layout.GC)
    return [row.key for row in rows if layout.parse_gc_key(row.key)[0] == "plan"]
