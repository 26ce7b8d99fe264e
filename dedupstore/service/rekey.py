"""Write again, under today's keys, what lies under earlier ones."""

from __future__ import annotations

from dataclasses import dataclass

from dedupstore.cancel import CancelToken
from dedupstore.engine.rekey import OldKeys, RekeyReport, execute_rekey, old_keys, plan_rekey
from dedupstore.events import Listener
from dedupstore.repo.config import Operation
from dedupstore.repo.repository import Repository
from dedupstore.service.access import Access
from dedupstore.service.opened import with_repository


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """How much to write at most, in bytes; None: all there is."""

    max_repack: int | None = None
    dry_run: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What was under earlier keys, what was done about it, and what is left. Sizes in bytes."""

    epoch: int
    before: OldKeys
    report: RekeyReport | None
    """None on a dry run."""

    left: OldKeys
    packs: int = 0
    bytes_moving: int = 0
    """On a dry run: what would be chosen, and how much of it moves."""


def run(request: Request, access: Access, listener: Listener, cancel: CancelToken) -> Outcome:
    """Raises Refused when the storage does not let anybody delete, or shows an older state; IntegrityError for damage."""

    def work(repository: Repository) -> Outcome:
        epoch = repository.keyring.epoch
        repository.look()
        before = old_keys(repository)
        if request.dry_run:
            plan = plan_rekey(repository, max_repack=request.max_repack, listener=listener, cancel=cancel)
            chosen = {"packs": len(plan.choices), "bytes_moving": plan.bytes_moving}
            return Outcome(epoch=epoch, before=before, report=None, left=before, **chosen)
        report = execute_rekey(repository, max_repack=request.max_repack, listener=listener, cancel=cancel)
        return Outcome(epoch=epoch, before=before, report=report, left=old_keys(repository))

    return with_repository(access, work, Operation.GC)
