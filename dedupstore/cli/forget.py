"""`dedup forget`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from dedupstore.cli import consent, options, progress
from dedupstore.cli.command import command
from dedupstore.cli.configured import configured_host, configured_rules
from dedupstore.cli.errors import safe
from dedupstore.cli.opening import repeated, with_access
from dedupstore.cli.session import Session
from dedupstore.cli.shapes import distance, snapshot_fields
from dedupstore.errors import Refused
from dedupstore.service import forget as service
from dedupstore.units import format_bytes, format_number

_WARNINGS = 3


class Count(click.ParamType[int]):
    """How many to keep: a number, or all of them."""

    name = "count"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        if value == "unlimited":
            return -1
        if not str(value).isdecimal() or int(value) > 1_000_000:
            self.fail(f"{value!r} is not a number from 0 on, or unlimited.", param, ctx)
        return int(value)


def _keep_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Adds `--keep-last` to `--keep-yearly`, `--keep-within` to `--keep-within-yearly`, and `--keep-tag`."""
    function = click.option("--keep-tag", "keep_tags", metavar="TAG", multiple=True, help="Keep what has this tag.")(
        function
    )
    for name in reversed(service.PERIODS):
        function = click.option(
            f"--keep-within-{name}", metavar="SPAN", help=f"Of that span, keep the newest {_each(name)}."
        )(function)
    function = click.option("--keep-within", metavar="SPAN", help="Keep all of it: 12h, 14d, 8w, 6m (months), 1y6m.")(
        function
    )
    for name in reversed(service.PERIODS):
        function = click.option(
            f"--keep-{name}", metavar="N", type=Count(), help=f"Keep the newest {_each(name)}, N of them."
        )(function)
    return click.option("--keep-last", metavar="N", type=Count(), help="Keep the N newest; or: unlimited.")(function)


def _each(period: str) -> str:
    return f"of each {'day' if period == 'daily' else period.removesuffix('ly')}"


@command(
    "forget",
    examples=[
        "dedup forget --keep-daily 14 --keep-weekly 8 --keep-monthly 12 --dry-run",
        "dedup forget --policy --dry-run",
        "dedup forget --source blog --keep-last 3 --keep-within 30d --yes",
        "dedup forget 4kq2-m8",
    ],
)
@click.argument("snapshots", nargs=-1, metavar="[ID]...")
@click.option("--snapshot", "more", metavar="ID", multiple=True, help="The same as naming it; repeatable.")
@_keep_options
@click.option("--policy", is_flag=True, help="By the rules that the configuration has for each source.")
@options.source_option
@options.host_option
@click.option("--count-bursts", is_flag=True, help="Judge floods of snapshots as any others.")
@click.option("--bytes", "measure", is_flag=True, help="Say how much prune could free then; reads every directory.")
@options.dry_run_option
@click.pass_obj
def forget(
    session: Session,
    /,
    snapshots: tuple[str, ...],
    more: tuple[str, ...],
    policy: bool,
    source: str | None,
    host: str | None,
    count_bursts: bool,
    measure: bool,
    dry_run: bool,
    keep_tags: tuple[str, ...],
    **rules: Any,
) -> int:
    """Let go of snapshots: those that no rule keeps, or those named.

    Each source and host is judged by itself, by the clock of this machine (--utc: by that of UTC). A rule such as
    --keep-daily 14 keeps the newest snapshot of each of the 14 most recent days that have one; a snapshot stays when
    any rule keeps it. The newest good snapshot of each source, the last verified one, and those that are protected or
    tagged "pinned" always stay. Those dated in the future, or that came in a flood, stay and take no other's place;
    then the exit code is 3.

    With --policy each source of the configuration is judged by its [retention.NAME], as far as its snapshots were made
    on this machine (--host: on another one); snapshots of other sources are left alone.

    A snapshot whose record cannot be read any more stops prune; it goes only when it is named by its id.

    What is forgotten can be brought back (dedup undo-forget) until a prune frees its space, by default seven days later
    at the earliest.
    """
    given = {name.removeprefix("keep_"): value for name, value in rules.items() if value is not None}
    by_source = configured_rules(session, source or "") if policy else {}
    request = service.Request(
        rules=by_source,
        keep={name: value for name, value in given.items() if not name.startswith("within")},
        within={
            name.removeprefix("within").lstrip("_"): text for name, text in given.items() if name.startswith("within")
        },
        keep_tags=keep_tags,
        snapshots=(*snapshots, *more),
        # What was kept before a restore has another source, and goes by the same rules.
        source="" if policy else source or "",
        host=host or (configured_host(session) if policy else ""),
        count_bursts=count_bursts,
        measure=measure,
        dry_run=dry_run,
        utc=session.settings.utc,
    )
    return _run(session, request)


def _run(session: Session, request: service.Request) -> int:
    out = session.out
    out.begin("forget", source=safe(request.source) or None)
    token = session.take_token()
    shown: list[service.Plan] = []

    def approve(plan: service.Plan) -> bool:
        _show(session, plan)
        shown.append(plan)
        return _approve(session, plan)

    outcome = with_access(
        session, lambda access: service.run(request, access, approve, lambda: progress.showing(session), token)
    )
    if not shown:
        _show(session, outcome.plan)
    if outcome.forgotten:
        window = distance(outcome.undo_window_s * 1_000_000_000)
        out.line(f"  forgotten {format_number(len(outcome.forgotten), 'snapshot')}")
        out.note(f"  to bring one back, for {window}: dedup undo-forget{repeated(session)} ID")
    elif request.dry_run:
        if outcome.plan.majorities and not session.settings.yes:
            out.note("  more than half of the snapshots of a source would go: only with --yes")
        out.note("  nothing was changed (--dry-run)")
    fields = _plan_fields(session, outcome.plan)
    exit_code = _WARNINGS if outcome.plan.findings else 0
    out.finish(
        "warnings" if exit_code else "ok",
        exit_code=exit_code,
        dry_run=outcome.dry_run,
        forgotten=list(outcome.forgotten),
        undo_window_s=outcome.undo_window_s,
        **fields,
    )
    return exit_code


def _approve(session: Session, plan: service.Plan) -> bool:
    if session.settings.yes:
        return True
    if plan.majorities:
        source, host = plan.majorities[0]
        raise Refused(
            f'more than half of the snapshots of "{safe(source)}" on {safe(host)} would go',
            why="that is what a mistake looks like, or somebody who made many snapshots to push yours out",
            hints=["look at the plan; if it is right, add --yes"],
            code="refused.majority",
        )
    if not session.can_ask:
        return False
    going = len(plan.removed) + len(plan.given_up)
    return consent.confirm(session, f"Forget {format_number(going, 'snapshot')}?")


def _show(session: Session, plan: service.Plan) -> None:
    """The plan, one line a snapshot, the reason at its end."""
    out = session.out
    out.findings(plan.findings)
    rows = [
        (
            "keep" if row.keep else "FORGET",
            row.snapshot.short,
            out.minute(row.snapshot.time_ns),
            safe(row.snapshot.source),
            safe(row.snapshot.host),
            ", ".join(safe(reason) for reason in row.reasons),
        )
        for row in plan.rows
        # Who names one of a thousand snapshots wants to see that one.
        if not row.is_beside
    ]
    if rows:
        out.table(("", "ID", "TIME", "SOURCE", "HOST", "REASON"), rows)
    kept = len(plan.rows) - len(plan.removed)
    going = len(plan.removed) + len(plan.given_up)
    for lost in plan.given_up:
        out.line(f"  give up  {lost.short}: {safe(lost.why)}")
        out.note("           it cannot be read, and neither can it be brought back afterwards")
    out.line(f"  plan     keep {format_number(kept, 'snapshot')}, forget {going}")
    if plan.others:
        out.line(f"  others   {format_number(plan.others, 'snapshot')} of other sources or hosts: not judged")
    freed = plan.freed
    if freed is not None:
        out.line(
            f"  frees    {format_bytes(freed.total)}: {format_number(freed.packs, 'pack')} whole, and "
            f"{format_bytes(freed.block_bytes)} in packs of which something is still needed"
        )
        out.note(
            "           by dedup prune, once this can no longer be undone (7 days) and its packs have waited (24 h)"
        )


def _plan_fields(session: Session, plan: service.Plan) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "keep": [_row(session, row) for row in plan.rows if row.keep],
        "remove": [_row(session, row) for row in plan.removed],
        "give_up": [{"id": lost.id, "why": safe(lost.why)} for lost in plan.given_up],
        "others": plan.others,
        "majorities": [{"source": safe(source), "host": safe(host)} for source, host in plan.majorities],
        "findings": [{"code": finding.code, "message": safe(finding.message)} for finding in plan.findings],
    }
    freed = plan.freed
    if freed is not None:
        fields["bytes"] = {"freed": freed.total, "packs": freed.pack_bytes, "blocks": freed.block_bytes}
        fields["blocks"] = freed.blocks
        fields["packs"] = freed.packs
    return fields


def _row(session: Session, row: service.Row) -> dict[str, object]:
    return {"snapshot": snapshot_fields(session.out, row.snapshot), "reasons": [safe(reason) for reason in row.reasons]}
