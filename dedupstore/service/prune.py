"""Free the space of what no snapshot needs any more, beside running snapshots and other pruners."""

from __future__ import annotations

from dataclasses import dataclass

from dedupstore.cancel import CancelToken
from dedupstore.engine.prune import PruneReport, execute_prune
from dedupstore.engine.prune_plan import PruneOptions, PrunePlan, Reason, plan_prune
from dedupstore.events import Listener
from dedupstore.repo.config import Operation
from dedupstore.repo.repository import Repository
from dedupstore.service.access import Access
from dedupstore.service.opened import with_repository
from dedupstore.units import format_id

DEFAULTS = PruneOptions()


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """How long to wait, in nanoseconds, and how much to write again, in bytes."""

    grace_ns: int = DEFAULTS.grace_ns
    undo_window_ns: int = DEFAULTS.undo_window_ns
    max_repack: int | None = None
    dry_run: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """Packs chosen for one reason. Sizes in bytes."""

    packs: int
    bytes: int
    moving: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A plan that was there before, and whether its time has come."""

    packs: int
    bytes: int
    due_ns: int
    due: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What was planned, and, but for a dry run, done. Sizes in bytes."""

    packs: int
    bytes: int
    roots_expired: tuple[str, ...]
    """Forgotten snapshots that cannot be brought back any more."""

    dead: Share
    damaged: Share
    sparse: Share
    small: Share
    unindexed: Share
    young: int
    waiting: tuple[Waiting, ...]
    bytes_free: int
    """What the packs chosen now free once they are deleted, near enough."""

    report: PruneReport | None
    """None on a dry run."""

    exit_code: int = 0


def run(request: Request, access: Access, listener: Listener, cancel: CancelToken) -> Outcome:
    """Raises Refused when the storage does not let anybody delete; IntegrityError when what is needed is not known."""
    options = PruneOptions(
        grace_ns=request.grace_ns, undo_window_ns=request.undo_window_ns, max_repack=request.max_repack
    )

    def work(repository: Repository) -> Outcome:
        plan = plan_prune(repository, options, listener=listener, cancel=cancel)
        report = None
        if not request.dry_run:
            report = execute_prune(repository, plan, options, listener=listener, cancel=cancel)
        return _outcome(plan, report, repository.clock.now_ns())

    return with_repository(access, work, Operation.GC)


def _outcome(plan: PrunePlan, report: PruneReport | None, now_ns: int) -> Outcome:
    unindexed = sum(size for _, size in plan.orphans)
    return Outcome(
        packs=plan.packs,
        bytes=plan.bytes,
        roots_expired=tuple(format_id(root) for root in sorted(plan.roots.expired)),
        dead=_share(plan, Reason.DEAD),
        damaged=_share(plan, Reason.DAMAGED),
        sparse=_share(plan, Reason.SPARSE),
        small=_share(plan, Reason.SMALL),
        unindexed=Share(packs=len(plan.orphans), bytes=unindexed, moving=0),
        young=plan.young,
        waiting=tuple(
            Waiting(
                packs=one.packs,
                bytes=one.bytes,
                due_ns=one.due_ns,
                due=one.due_ns <= now_ns,
            )
            for one in plan.waiting
        ),
        bytes_free=plan.bytes_free,
        report=report,
        exit_code=4 if report is not None and report.packs_lost else 0,
    )


def _share(plan: PrunePlan, reason: Reason) -> Share:
    chosen = [choice for choice in plan.choices if choice.reason is reason]
    return Share(
        packs=len(chosen),
        bytes=sum(choice.row.size for choice in chosen),
        moving=sum(choice.needed for choice in chosen),
    )
