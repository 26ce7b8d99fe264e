"""`dedup key rekey`."""

from __future__ import annotations

import dataclasses

import click

from dedupstore.cancel import STORED
from dedupstore.cli import options, progress
from dedupstore.cli.command import command
from dedupstore.cli.opening import repeated, with_access
from dedupstore.cli.session import Session
from dedupstore.service import rekey as service
from dedupstore.service.access import Access
from dedupstore.units import format_bytes, format_number, parse_size


@command("rekey", examples=["dedup key rekey --dry-run", "dedup key rekey", "dedup key rekey --max-repack 20G"])
@options.dry_run_option
@click.option("--max-repack", metavar="SIZE", default="", help="Write at most so much, such as 500M or 20G.")
@click.pass_obj
def rekey(session: Session, dry_run: bool, max_repack: str) -> None:
    """Write again, under today's keys, what lies under earlier ones.

    For after dedup key rotate, when somebody may have an old key and may get at the storage. Works in steps, beside
    running snapshots and prunes, from any machine; may be stopped at any time and goes on with the next one. What was
    copied from the storage before stays readable, and so do the records of snapshots from before (source, host, paths
    given, times, tags; no content and no names of files in it) until these are forgotten and pruned.
    """
    request = service.Request(max_repack=parse_size(max_repack) if max_repack else None, dry_run=dry_run)
    session.out.begin("key rekey")
    token = session.take_token(STORED)

    def work(access: Access) -> service.Outcome:
        with progress.showing(session) as listener:
            return service.run(request, access, listener, token)

    _tell(session, with_access(session, work))


def _tell(session: Session, outcome: service.Outcome) -> None:
    out, report = session.out, outcome.report
    before, left = outcome.before, outcome.left
    out.line(f"  old keys {_amount(before.packs, before.bytes)} under keys before epoch {outcome.epoch}")
    if report is None:
        out.line(f"  rekey    {format_number(outcome.packs, 'pack')}, {format_bytes(outcome.bytes_moving)} to be moved")
    else:
        written = format_bytes(report.bytes_written)
        out.line(f"  rekeyed  {_amount(report.packs_deleted, report.bytes_deleted)} deleted; {written} written")
        if report.young:
            out.line(
                f"  young    {format_number(report.young, 'pack')} that no snapshot needs yet stay for a day: "
                "one may be under way"
            )
        if left.packs > report.young:
            out.line(f"  left     {_amount(left.packs, left.bytes)}")
            out.note(f"  next: dedup key rekey{repeated(session)} goes on")
        if left.snapshots:
            out.line(f"  records  {format_number(left.snapshots, 'snapshot')} from before, as they were")
    out.finish(
        dry_run=report is None,
        epoch=outcome.epoch,
        before=dataclasses.asdict(before),
        chosen=None if report is not None else {"packs": outcome.packs, "bytes_moving": outcome.bytes_moving},
        done=None if report is None else dataclasses.asdict(report),
        left=dataclasses.asdict(left),
    )


def _amount(packs: int, size: int) -> str:
    return f"{format_number(packs, 'pack')}, {format_bytes(size)}"
