"""`dedup prune`."""

from __future__ import annotations

import dataclasses

import click

from dedupstore.cli import options, progress
from dedupstore.cli.command import command
from dedupstore.cli.opening import repeated, with_access
from dedupstore.cli.session import Session
from dedupstore.service import prune as service
from dedupstore.service import times
from dedupstore.service.access import Access
from dedupstore.units import format_bytes, format_number, parse_size


@command("prune", examples=["dedup prune --dry-run", "dedup prune", "dedup prune --grace 0 --max-repack 2G"])
@options.dry_run_option
@click.option("--max-repack", metavar="SIZE", default="", help="Write at most so much again, such as 500M or 2G.")
@click.option(
    "--grace", metavar="TIME", default="24h", show_default=True,
    help="How long packs wait between being condemned and being deleted; 0: not at all.",
)  # fmt: skip
@click.option(
    "--undo-window", metavar="TIME", default="7d", show_default=True,
    help="How long a forgotten snapshot can be brought back; 0: not at all.",
)  # fmt: skip
@click.pass_obj
def prune(session: Session, dry_run: bool, max_repack: str, grace: str, undo_window: str) -> int:
    """Free the space of what no snapshot needs any more.

    What forget let go of counts as needed until its undo window is over. dedup forget --bytes says how much nothing else
    needs; a prune leaves up to 5 % of it in packs that are hardly worth writing again, and frees more where it merges
    small packs. What it says it will free counts what it will write.

    Works in two steps: packs are condemned, and deleted by the first prune after the grace time. Safe beside running
    snapshots and other prunes, from any machine; may be stopped at any time and goes on with the next one.
    """
    request = service.Request(
        grace_ns=times.duration(grace),
        undo_window_ns=times.duration(undo_window),
        max_repack=parse_size(max_repack) if max_repack else None,
        dry_run=dry_run,
    )
    session.out.begin("prune")
    token = session.take_token()

    def work(access: Access) -> service.Outcome:
        with progress.showing(session) as listener:
            return service.run(request, access, listener, token)

    outcome = with_access(session, work)
    _tell(session, outcome)
    return outcome.exit_code


def _tell(session: Session, outcome: service.Outcome) -> None:
    out = session.out
    out.line(f"  packs    {format_number(outcome.packs, 'pack')}, {format_bytes(outcome.bytes)}")
    if outcome.roots_expired:
        out.line(f"  expired  {format_number(len(outcome.roots_expired), 'snapshot')} past the time to undo it")
    _tell_choices(session, outcome)
    _tell_waiting(session, outcome)
    if outcome.report is not None:
        _tell_done(session, outcome)
    report = outcome.report
    out.finish(
        exit_code=outcome.exit_code,
        dry_run=report is None,
        packs=outcome.packs,
        bytes=outcome.bytes,
        bytes_free=outcome.bytes_free,
        roots_expired=list(outcome.roots_expired),
        chosen={
            name: dataclasses.asdict(getattr(outcome, name))
            for name in ("dead", "damaged", "sparse", "small", "unindexed")
        },
        young=outcome.young,
        waiting=[{"packs": one.packs, "bytes": one.bytes, "due": out.timestamp(one.due_ns)} for one in outcome.waiting],
        done=None
        if report is None
        else {
            "packs_condemned": report.packs_condemned,
            "packs_deleted": report.packs_deleted,
            "bytes_deleted": report.bytes_deleted,
            "bytes_moved": report.bytes_moved,
            "bytes_written": report.bytes_written,
            "bytes_freed": report.bytes_freed,
            "packs_lost": report.packs_lost,
            "plans_done": report.plans_done,
            "roots_expired": report.roots_expired,
            "segments_merged": report.segments_merged,
            "next_due": None if report.next_due_ns is None else out.timestamp(report.next_due_ns),
        },
    )


def _tell_choices(session: Session, outcome: service.Outcome) -> None:
    out = session.out
    would = "would be" if outcome.report is None else "are"
    reasons = (
        (outcome.dead, "that no snapshot needs"),
        (outcome.unindexed, "that a stopped run left behind"),
        (outcome.damaged, "known to be damaged, and nothing is lost with them"),
        (outcome.sparse, "of which much is not needed"),
        (outcome.small, "small enough to be merged"),
    )
    chosen = [(share, why) for share, why in reasons if share.packs]
    for share, why in chosen:
        moving = f"; {format_bytes(share.moving)} of them move" if share.moving else ""
        out.line(
            f"  condemn  {format_number(share.packs, 'pack')} {why}, {format_bytes(share.bytes)}{moving}",
        )
    if chosen:
        out.line(f"  free     about {format_bytes(outcome.bytes_free)} once they {would} deleted, after the grace time")
    else:
        out.line("  condemn  nothing: what is there is needed")
    if outcome.young:
        out.line(
            f"  young    {format_number(outcome.young, 'pack')} that no snapshot needs yet stay: one may be under way"
        )


def _tell_waiting(session: Session, outcome: service.Outcome) -> None:
    for one in outcome.waiting:
        when = "now" if one.due else session.out.minute(one.due_ns)
        session.out.line(
            f"  waiting  {format_number(one.packs, 'pack')}, {format_bytes(one.bytes)}, to be deleted {when}"
        )


def _tell_done(session: Session, outcome: service.Outcome) -> None:
    out, report = session.out, outcome.report
    assert report is not None
    if report.packs_deleted:
        moved = f"; {format_bytes(report.bytes_written)} written for what moved" if report.bytes_written else ""
        out.line(
            f"  deleted  {format_number(report.packs_deleted, 'pack')}, {format_bytes(report.bytes_deleted)}{moved}"
        )
    if report.next_due_ns is not None:
        out.note(
            f"  next: dedup prune{repeated(session)} after {out.minute(report.next_due_ns)} deletes what is condemned"
        )
