"""`dedup repair`."""

from __future__ import annotations

import click

from dedupstore.cli import options, progress
from dedupstore.cli.command import group
from dedupstore.cli.opening import with_access
from dedupstore.cli.session import Session
from dedupstore.service import repair as service
from dedupstore.service.access import Access
from dedupstore.units import format_count, format_number


@group("repair", examples=["dedup repair index --dry-run", "dedup repair index"])
def repair() -> None:
    """Mend what a check found. Repairs write new objects and never delete."""


@repair.command("index", examples=["dedup repair index --dry-run", "dedup repair index"])
@options.dry_run_option
@click.pass_obj
def index(session: Session, dry_run: bool) -> int:
    """Rebuild the index from the packs themselves.

    For index objects that were lost or damaged. Reads the end of every pack; safe beside running snapshots.
    """
    out = session.out
    out.begin("repair index")
    token = session.take_token()

    def work(access: Access) -> service.IndexOutcome:
        with progress.showing(session) as listener:
            return service.index(access, dry_run=dry_run, listener=listener, cancel=token)

    found = with_access(session, work)
    would = "would be " if dry_run else ""
    out.line(f"  looked at {format_number(found.packs, 'pack')}")
    out.line(
        f"  {format_count(found.packs_indexed)} {would}indexed again in {format_number(found.segments_written, 'segment')}"
    )
    if found.sentinels_restored:
        out.line(f"  {format_count(len(found.sentinels_restored))} marks of listings {would}put back")
    if found.packs_unreadable:
        out.line(f"  {format_count(found.packs_unreadable)} packs cannot be read; see dedup check")
    out.finish(
        "failed" if found.exit_code else "ok",
        exit_code=found.exit_code,
        dry_run=dry_run,
        packs=found.packs,
        packs_indexed=found.packs_indexed,
        packs_unreadable=found.packs_unreadable,
        segments_damaged=found.segments_damaged,
        segments_written=found.segments_written,
        sentinels_restored=list(found.sentinels_restored),
    )
    return found.exit_code
