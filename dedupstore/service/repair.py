"""Mend what can be mended from what is there; writes new objects, never deletes."""

from __future__ import annotations

from dataclasses import dataclass

from dedupstore.cancel import CancelToken
from dedupstore.engine.repair import repair_index
from dedupstore.events import Finding, Listener
from dedupstore.repo.config import Operation
from dedupstore.service.access import Access
from dedupstore.service.opened import with_repository


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexOutcome:
    """What was done, or would be done with `dry_run`."""

    packs: int
    packs_indexed: int
    packs_unreadable: int
    segments_damaged: int
    segments_written: int
    sentinels_restored: tuple[str, ...]
    findings: tuple[Finding, ...]
    dry_run: bool
    exit_code: int


def index(access: Access, *, dry_run: bool, listener: Listener, cancel: CancelToken) -> IndexOutcome:
    """Describe again every pack that no readable index segment describes."""
    report = with_repository(
        access,
        lambda repository: repair_index(repository, dry_run=dry_run, listener=listener, cancel=cancel),
        Operation.WRITE,
    )
    return IndexOutcome(
        packs=report.packs,
        packs_indexed=report.packs_indexed,
        packs_unreadable=report.packs_unreadable,
        segments_damaged=report.segments_damaged,
        segments_written=report.segments_written,
        sentinels_restored=report.sentinels_restored,
        findings=report.findings,
        dry_run=report.dry_run,
        exit_code=report.exit_code,
    )
