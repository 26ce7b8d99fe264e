"""`dedup extend-locks`."""

from __future__ import annotations

import click

from dedupstore.cli import consent, options, progress
from dedupstore.cli.command import command
from dedupstore.cli.configured import configured_host, configured_rules
from dedupstore.cli.opening import repeated, with_access
from dedupstore.cli.progress import Reporter
from dedupstore.cli.session import Session
from dedupstore.errors import Refused
from dedupstore.service import locks as service
from dedupstore.service import times
from dedupstore.service.access import Access
from dedupstore.units import format_bytes, format_number


@command(
    "extend-locks",
    examples=[
        "dedup extend-locks",
        "dedup extend-locks --policy",
        "dedup extend-locks --for 30d --ending-within 15d",
        "dedup extend-locks --until 2027-01-31 --dry-run",
    ],
)
@click.option(
    "--for", "length", metavar="TIME", default="", help="From now on, such as 30d; else object_lock's length."
)
@click.option("--until", metavar="TIME", default="", help="Until then, such as 2027-01-31.")
@click.option(
    "--ending-within", metavar="TIME", default="", help="Only what is locked for less than that: saves requests."
)
@click.option("--policy", is_flag=True, help="Not of snapshots that the rules of the configuration let go.")
@options.dry_run_option
@click.pass_obj
def extend_locks(session: Session, length: str, until: str, ending_within: str, policy: bool, dry_run: bool) -> int:
    """Keep what the snapshots need locked for longer.

    In a bucket with Object Lock each object is locked from when it was put. What a later snapshot uses again is free to be
    deleted before that snapshot is old, unless its lock is extended: run this regularly. Only locks that end earlier are
    changed, so it may be stopped and run again at any time. Nobody can shorten a lock afterwards.

    What is kept locked cannot be forgotten. With --policy the locks of snapshots that dedup forget --policy would let go
    are left to run out, so that it can; those of a source that would lose more than half only with --yes.
    """
    request = service.Request(
        until_ns=times.instant(until, session.clock, session.environ, utc=session.settings.utc) if until else None,
        for_ns=times.duration(length) if length else None,
        within_ns=times.duration(ending_within) if ending_within else None,
        rules=configured_rules(session, "") if policy else {},
        host=configured_host(session) if policy else "",
        majorities=session.settings.yes,
        dry_run=dry_run,
    )
    session.out.begin("extend-locks")
    token = session.take_token()

    def work(access: Access) -> service.Outcome:
        with progress.showing(session) as listener:
            return service.run(
                request, access, listener, token, agree=lambda until_ns: _agree(session, listener, until_ns)
            )

    outcome = with_access(session, work)
    _tell(session, outcome)
    return outcome.exit_code


def _agree(session: Session, listener: Reporter, until_ns: int) -> None:
    when = session.out.minute(until_ns)
    if not session.settings.yes and not session.can_ask:
        raise Refused(
            f"nothing is locked until {when} without your consent",
            why="nobody can delete it before, and it has to be paid for until then",
            hints=["look: --dry-run", "agree: --yes"],
            code="locks.needs_consent",
        )
    listener.close()
    if not consent.confirm(session, f"Lock until {when}? Nobody can delete it before."):
        raise Refused("the locks were not changed", code="refused.not_confirmed")


def _tell(session: Session, outcome: service.Outcome) -> None:
    out, report = session.out, outcome.report
    amount = f"{format_number(report.needed, 'object')}, {format_bytes(report.needed_bytes)}"
    out.line(f"  needed   {amount}, by {format_number(report.snapshots, 'snapshot')}")
    if report.first_end_ns is not None:
        out.line(f"  before   the first lock ends {out.minute(report.first_end_ns)}")
    if report.unlocked:
        out.line(f"  unlocked {format_number(report.unlocked, 'object')} had no lock")
    if outcome.left_out:
        out.line(f"  left out {format_number(outcome.left_out, 'snapshot')} that the rules let go")
    when = out.minute(outcome.until_ns)
    if outcome.dry_run:
        out.line(f"  would    be extended to {when}: {format_number(report.short, 'object')}")
    else:
        out.line(f"  extended {format_number(report.extended, 'object')} to {when}")
    if report.hidden:
        out.note(f"  next: dedup check{repeated(session)}")
    out.finish(
        {0: "ok", 3: "warnings"}.get(outcome.exit_code, "failed"),
        exit_code=outcome.exit_code,
        dry_run=outcome.dry_run,
        until=out.timestamp(outcome.until_ns),
        snapshots=report.snapshots,
        left_out=outcome.left_out,
        needed={"objects": report.needed, "bytes": report.needed_bytes},
        short=report.short,
        unlocked=report.unlocked,
        first_end=None if report.first_end_ns is None else out.timestamp(report.first_end_ns),
        extended=report.extended,
        hidden=report.hidden,
    )
