"""Writes again, under today's keys, what lies under earlier ones: prune with another choice of packs.

Packs of earlier epochs are condemned, what is needed of them moves, and they are deleted; one step after the other, so
that the room it takes is that of one step. Every step is a prune: beside running snapshots and other prunes, stopped anywhere
and gone on with by the next. Chunks keep their ids, blocks their compression, deltas their bases. What is forgotten
can be brought back for as long as before.

Segments that speak of such packs alone go with them. Records of snapshots, marks, and records of prunes keep the key
they were written under: their names are taken, and nothing is overwritten.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from dedupstore.cancel import CancelToken
from dedupstore.codec.claims import OBJECT_OVERHEAD, peek_epoch
from dedupstore.engine.compact import pruned_packs
from dedupstore.engine.prune import execute_prune, list_packs, read_listed_plans
from dedupstore.engine.prune_plan import REKEY_CREATOR, PruneOptions, PrunePlan, plan_prune
from dedupstore.errors import IntegrityError, ObjectNotFound, StoreError
from dedupstore.events import Listener
from dedupstore.repo import layout
from dedupstore.repo.repository import Repository
from dedupstore.repo.segment import decode_segment
from dedupstore.types import Span
from dedupstore.units import GIB

STEP_BYTES = 8 * GIB
"""How much a step writes, and takes up until its packs are deleted. Each walks all snapshots again."""

_FOR_EVER_NS = 1 << 62
"""No undo window ends here: that is for a prune."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OldKeys:
    """What lies under earlier epochs. Sizes in bytes."""

    packs: int
    bytes: int
    segments: int
    snapshots: int
    """Records of snapshots, which stay as they are."""


@dataclass(slots=True, kw_only=True)
class RekeyReport:
    """What a run did. Sizes in bytes."""

    steps: int = 0
    packs_deleted: int = 0
    bytes_deleted: int = 0
    bytes_written: int = 0
    segments_deleted: int = 0
    young: int = 0
    """Packs left because nobody needs them yet: they may belong to a snapshot being made under the old keys."""


def plan_rekey(repository: Repository, *, max_repack: int | None, listener: Listener, cancel: CancelToken) -> PrunePlan:
    """What would be written again. Reads and changes nothing; raises as `plan_prune` does."""
    return plan_prune(repository, _options(max_repack), listener=listener, cancel=cancel)


def execute_rekey(
    repository: Repository,
    *,
    max_repack: int | None,
    listener: Listener,
    cancel: CancelToken,
    step_bytes: int = STEP_BYTES,
) -> RekeyReport:
    """Step by step, until nothing is left that can move, or `max_repack` bytes were written (one pack at least).

    Raises as `execute_prune` does; what was done until then stays done.
    """
    report = RekeyReport()
    while max_repack is None or report.bytes_written < max_repack:
        cancel.check()
        left = step_bytes if max_repack is None else min(step_bytes, max_repack - report.bytes_written)
        plan = plan_rekey(repository, max_repack=left, listener=listener, cancel=cancel)
        report.young = plan.young
        if not plan.choices and not _is_begun(repository):
            break
        done = execute_prune(repository, plan, _options(left), listener=listener, cancel=cancel)
        report.steps += 1
        report.packs_deleted += done.packs_deleted
        report.bytes_deleted += done.bytes_deleted
        report.bytes_written += done.bytes_written
    report.segments_deleted = _drop_segments(repository)
    return report


def old_keys(repository: Repository) -> OldKeys:
    """What is under earlier epochs, by the listings and what the index knows of packs. After a look at the repository."""
    store, epoch = repository.store, repository.keyring.epoch
    sizes = {name.id: size for name, size in list_packs(repository)}
    packs = [row for row in repository.index.packs() if row.epoch < epoch and row.id in sizes]
    return OldKeys(
        packs=len(packs),
        bytes=sum(sizes[row.id] for row in packs),
        segments=sum(_is_old(repository, row.key) for row in layout.list_complete(store, layout.INDEX)),
        snapshots=sum(_is_old(repository, row.key) for row in layout.list_complete(store, layout.ROOTS)),
    )


def _options(max_repack: int | None) -> PruneOptions:
    return replace(PruneOptions(), undo_window_ns=_FOR_EVER_NS, max_repack=max_repack, rekey=True)


def _is_begun(repository: Repository) -> bool:
    """Whether a rekey that was stopped has left a plan."""
    return any(plan.creator == REKEY_CREATOR for plan in read_listed_plans(repository).values())


def _drop_segments(repository: Repository) -> int:
    """Delete segments under earlier keys that speak of pruned packs alone; how many. Large ones, too, unlike a prune."""
    store, keyring = repository.store, repository.keyring
    pruned = pruned_packs(repository)
    spent: list[str] = []
    for row in layout.list_complete(store, layout.INDEX):
        if not _is_old(repository, row.key):
            continue
        try:
            facts = decode_segment(keyring, row.key, store.get(row.key))
        except (ObjectNotFound, IntegrityError):
            # Somebody else's work, or damaged: that is for a check to tell.
            continue
        if all(fact.id in pruned for fact in facts):
            spent.append(row.key)
    for key in spent:
        try:
            store.delete(key)
        except StoreError as error:
            if not error.is_denial:
                raise
            return 0
    if spent:
        store.barrier()
    return len(spent)


def _is_old(repository: Repository, key: str) -> bool:
    """Whether an object says that it is of an earlier epoch than the one written under."""
    try:
        return peek_epoch(repository.store.get(key, Span(0, OBJECT_OVERHEAD))) < repository.keyring.epoch
    except (ObjectNotFound, IntegrityError):
        return False
