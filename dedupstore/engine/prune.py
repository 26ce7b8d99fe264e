"""Frees what no snapshot needs, beside running snapshots and other pruners, without a lock: M4 and E1 to E7.

Whoever chose the packs of a plan, even wrongly, even long ago: what is deleted is decided by what the store says then.
A plan is condemned first and carried out later, by anyone, any number of times at once. It may be interrupted anywhere
and goes on with the next prune. See docs/protocols.md for why this is safe; the steps have its numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial

from dedupstore.cancel import CancelToken
from dedupstore.engine.compact import compact_segments
from dedupstore.engine.evacuate import Evacuation
from dedupstore.engine.liveness import Marker
from dedupstore.engine.parity_kept import drop_parity
from dedupstore.engine.prune_plan import REKEY_CREATOR, PruneOptions, PrunePlan, Reason, due_ns
from dedupstore.engine.prune_roots import CREATOR, expire_roots, list_roots
from dedupstore.engine.prune_survey import Survey, index_packs, survey
from dedupstore.errors import (
    IntegrityError,
    ObjectNotFound,
    Refused,
    RepositoryError,
    StoreError,
    StoreFull,
)
from dedupstore.events import Finding, Listener, Progress
from dedupstore.repo import layout
from dedupstore.repo.config import Operation, require_features
from dedupstore.repo.gcplan import Done, Plan, put_done, put_plan, read_plans
from dedupstore.repo.pack_name import PackName
from dedupstore.repo.repository import Repository
from dedupstore.types import PackId, SnapshotId

MAX_ROUNDS = 8
PACKS_PER_PLAN = 50_000


@dataclass(slots=True, kw_only=True)
class PruneReport:
    """What a prune did. Sizes in bytes."""

    roots_expired: int = 0
    packs_condemned: int = 0
    bytes_condemned: int = 0
    packs_deleted: int = 0
    bytes_deleted: int = 0
    bytes_moved: int = 0
    bytes_written: int = 0
    plans_done: int = 0
    packs_lost: int = 0
    """Condemned packs that went before prune deleted them, and with them what snapshots need."""

    segments_merged: int = 0
    parity_dropped: int = 0
    """Parity of packs that are gone; its bytes are among those deleted."""

    next_due_ns: int | None = None
    """When the first of the plans that wait may be carried out; None: none waits."""

    @property
    def bytes_freed(self) -> int:
        return self.bytes_deleted - self.bytes_written


class Restart(RepositoryError):
    """Another sweeper was faster: look at everything again."""

    code = "prune.restart"


def execute_prune(
    repository: Repository, plan: PrunePlan, options: PruneOptions, *, listener: Listener, cancel: CancelToken
) -> PruneReport:
    """Condemn what `plan` chose and carry out every plan whose time has come. Returns when all of it is durable.

    Raises Refused when the store denies deleting: what is condemned stays condemned, and is deleted by whoever may.
    """
    require_features(repository.config, Operation.GC)
    work = _Prune(repository, options, listener, cancel)
    with _denials():
        work.report.roots_expired = expire_roots(repository, plan.roots, options.undo_window_ns)
    try:
        work.condemn(plan)
    except StoreFull:
        # There is no room for even a plan; one that waits already may make some.
        if not work.sweep_due():
            raise
        work.condemn(plan)
    work.sweep_due()
    with suppress(StoreFull), _denials():
        work.report.segments_merged = compact_segments(repository)
    try:
        dropped, freed = drop_parity(repository.store, cancel)
        work.report.parity_dropped = dropped
        work.report.bytes_deleted += freed
    except StoreError as error:
        # Locked for longer than its pack was: the next prune tries again, and nothing depends on it.
        if not error.is_denial:
            raise
    work.report.next_due_ns = work.next_due_ns()
    return work.report


class _Prune:
    def __init__(self, repository: Repository, options: PruneOptions, listener: Listener, cancel: CancelToken) -> None:
        self.report = PruneReport()
        self._repository = repository
        self._options = options
        self._listener = listener
        self._cancel = cancel
        self._lost: frozenset[PackId] = frozenset()
        """Condemned packs found to be lost, with something in them that a snapshot needs, when last looked."""

    def condemn(self, plan: PrunePlan) -> None:
        """M4. What costs nothing to delete gets a plan of its own, which a full disk can carry out."""
        marked = tuple(sorted(plan.roots.kept))
        dead = [choice.row.id for choice in plan.choices if choice.reason is Reason.DEAD]
        dead += self._index_orphans(plan.orphans)
        moving = [choice.row.id for choice in plan.choices if choice.reason is not Reason.DEAD]
        sizes = {choice.row.id: choice.row.size for choice in plan.choices}
        sizes.update((name.id, size) for name, size in plan.orphans)
        for packs in (dead, moving):
            for start in range(0, len(packs), PACKS_PER_PLAN):
                part = tuple(packs[start : start + PACKS_PER_PLAN])
                now_ns = self._repository.clock.now_ns()
                creator = REKEY_CREATOR if self._options.rekey else CREATOR
                condemned = Plan(packs=part, roots=marked, creator=creator, time_ns=now_ns)
                put_plan(self._repository.store, self._repository.keyring, condemned)
                self.report.packs_condemned += len(part)
                self.report.bytes_condemned += sum(sizes[pack] for pack in part)

    def sweep_due(self) -> bool:
        """Carry out the plans whose time has come; whether anything was deleted."""
        deleted = self.report.packs_deleted
        if self.report.packs_condemned or self._due():
            self._repository.settle()
        try:
            self._sweep(self._due)
        except StoreFull:
            # First what needs no room, plan by plan; that makes room for the rest.
            before = self.report.packs_deleted
            for key in sorted(self._due()):
                self._sweep(partial(self._due_among, {key}), writing=False)
            if self.report.packs_deleted == before:
                raise
            self._sweep(self._due)
        return self.report.packs_deleted > deleted

    def next_due_ns(self) -> int | None:
        now_ns = self._repository.clock.now_ns()
        plans = read_listed_plans(self._repository).values()
        return min((due_ns(plan, self._options, now_ns) for plan in plans), default=None)

    def _index_orphans(self, orphans: Sequence[tuple[PackName, int]]) -> list[PackId]:
        try:
            index_packs(self._repository, orphans)
        except StoreFull:
            return []
        known = self._repository.index.pack_no
        return [name.id for name, _ in orphans if known(name.id) is not None]

    def _due(self) -> set[str]:
        now_ns = self._repository.clock.now_ns()
        plans = read_listed_plans(self._repository)
        return {key for key, plan in plans.items() if due_ns(plan, self._options, now_ns) <= now_ns}

    def _due_among(self, keys: set[str]) -> set[str]:
        return self._due() & keys

    def _sweep(self, choose: Callable[[], set[str]], *, writing: bool = True) -> None:
        """E1 to E7, from the beginning whenever another sweeper was in between."""
        failure: Exception | None = None
        seen: frozenset[str] = frozenset()
        for _ in range(MAX_ROUNDS):
            taken = choose()
            if not taken:
                return
            try:
                self._sweep_once(taken, writing=writing)
                return
            except (Restart, ObjectNotFound) as error:
                failure = error
            except IntegrityError as error:
                # What cannot be read may have been moved a moment ago; twice, with no prune in between, it is damaged.
                records = frozenset(row.key for row in layout.list_complete(self._repository.store, layout.GC))
                if isinstance(failure, IntegrityError) and records == seen:
                    raise
                failure, seen = error, records
        raise RepositoryError(
            "the plans of a prune could not be carried out",
            why=f"the repository changed in each of {MAX_ROUNDS} rounds" + (f" ({failure})" if failure else ""),
            hints=["run it again: dedup prune"],
            code="prune.restart",
        )

    def _sweep_once(self, taken: set[str], *, writing: bool) -> None:
        """One round with the plans `taken` (E1). Without `writing`: only if that needs no room for data."""
        repository = self._repository
        # Roots that were put before a plan was must be listed: at once, or after what the listings lag behind.
        repository.settle()
        roots = list_roots(repository)  # E2
        seen = survey(repository)  # E3
        plans = {key: plan for key, plan in seen.plans.items() if key in taken}
        if len(plans) < len(taken):
            raise Restart("a plan was carried out by somebody else")
        packs = {pack for plan in plans.values() for pack in plan.packs}
        unindexed = [(name, size) for name, size, _ in seen.unindexed if name.id in packs]
        if unindexed:
            if not writing:
                return
            if index_packs(repository, unindexed) < len(unindexed):
                raise _unreadable(len(unindexed))
            raise Restart("condemned packs were not indexed")
        going = {no for no in seen.present if repository.index.pack(no).id in packs}
        evacuation = Evacuation(repository, seen, going)
        marker = Marker(
            repository, seen.present, evacuation.live, self._listener, self._cancel, on_lost=evacuation.missing,
            bad=seen.bad,
        )  # fmt: skip
        marker.mark(roots)
        if marker.left_out:
            self._require_same(marker.left_out, seen)
        lost = frozenset(evacuation.lost & packs)
        if lost & seen.misfits:
            raise _unreadable(len(lost & seen.misfits))
        if not lost <= self._lost:
            self._lost = lost
            raise Restart("condemned packs are gone, and with them what a snapshot needs")
        if evacuation.settle():  # E4
            if not writing:
                return
            try:
                moved, written = evacuation.carry_out(self._listener, self._cancel)  # E5
            except IntegrityError as error:
                raise _unmovable(error) from error
            self.report.bytes_moved += moved
            self.report.bytes_written += written
        with _denials():
            self._delete(seen, packs)  # E6
            self._finish(plans, lost)  # E7

    def _require_same(self, left_out: Set[SnapshotId], seen: Survey) -> None:
        """Something of these roots was taken for lost, and what lies below it was not looked for. Another sweeper may only
        have moved it, and of what is a snapshot by now nothing may be left out.
        """
        self._repository.settle()
        there = {name.id for name, _ in list_packs(self._repository)}
        if any(self._repository.index.pack(no).id not in there for no in seen.present):
            raise Restart("packs were deleted by somebody else")
        if left_out & self._repository.catalog.committed():
            raise Restart("a run went on")

    def _delete(self, seen: Survey, packs: set[PackId]) -> None:
        """E6: delete, and believe that they are gone only when the listing says so."""
        store = self._repository.store
        listed = [entry for entry in list_packs(self._repository) if entry[0].id in packs]
        progress = Progress(phase="delete", files_total=len(listed))
        for name, size in listed:
            self._cancel.check()
            store.delete(name.key)
            self.report.packs_deleted += 1
            self.report.bytes_deleted += size
            progress.files_done += 1
            progress.bytes_done += size
            self._listener.progress(progress)
        store.barrier()
        self._repository.settle()
        left = sum(name.id in packs for name, _ in list_packs(self._repository))
        if left:
            raise Refused(
                f"{left} packs were deleted and are still listed",
                why="the storage keeps them: object lock, versions, or a listing that lags behind",
                hints=["run it again later: dedup prune; the plan stays"],
                code="prune.denied",
            )

    def _finish(self, plans: dict[str, Plan], lost: frozenset[PackId]) -> None:
        """E7: tell what is gone, then take the plan away. What is `lost` was not pruned and must go on being missed."""
        if lost:
            self.report.packs_lost += len(lost)
            self._listener.finding(_lost(len(lost)))
        store, keyring = self._repository.store, self._repository.keyring
        for key, plan in plans.items():
            gone = tuple(pack for pack in plan.packs if pack not in lost)
            put_done(store, keyring, Done(packs=gone, creator=CREATOR, time_ns=self._repository.clock.now_ns()))
            store.delete(key)
            self.report.plans_done += 1
        store.barrier()
        self._repository.settle()


def read_listed_plans(repository: Repository) -> dict[str, Plan]:
    """Every visible plan, by key."""
    keys = [row.key for row in layout.list_complete(repository.store, layout.GC)]
    return read_plans(repository.store, repository.keyring, keys)


def list_packs(repository: Repository) -> list[tuple[PackName, int]]:
    """Name and size of every pack there is."""
    return [(PackName.parse(row.key), row.size) for row in layout.list_complete(repository.store, layout.PACKS)]


@contextmanager
def _denials() -> Iterator[None]:
    """A store that does not let us delete is no failure: it is append-only, or its objects are locked."""
    try:
        yield
    except StoreError as error:
        if not error.is_denial:
            raise
        raise Refused(
            "the storage does not allow deleting",
            why=error.in_one_line,
            hints=["nothing is lost; what was condemned waits for a prune that may delete: dedup prune"],
            code="prune.denied",
        ) from error


def _lost(count: int) -> Finding:
    return Finding(
        code="prune.pack_lost",
        message=f"{count} condemned packs were gone before they were deleted, and what snapshots need was nowhere else; "
        "try: dedup check",
        severity="error",
    )


def _unreadable(count: int) -> IntegrityError:
    return IntegrityError(
        f"{count} condemned packs cannot be read, so none was deleted",
        why="whether a snapshot needs what they hold is not known",
        hints=["find out what is damaged: dedup check --read-data"],
        code="prune.pack_unreadable",
    )


def _unmovable(error: IntegrityError) -> IntegrityError:
    return IntegrityError(
        "what snapshots need cannot be moved out of condemned packs, so none of these was deleted",
        why=error.in_one_line,
        hints=[
            "see which files are hit: dedup check --read-data",
            "store it again from where it is whole, here or in a replica (--from): dedup repair packs",
            "or go on without it: dedup repair snapshots, then dedup forget the damaged ones",
            "then run it again: dedup prune; the plan waits, and nothing is lost by that",
        ],
        code="prune.unmovable",
    )
