"""`dedup restore`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import import_module

import click

from dedupstore.cancel import KEPT, CancelToken
from dedupstore.cli import consent, options, progress, restore_set
from dedupstore.cli.command import command
from dedupstore.cli.errors import safe
from dedupstore.cli.opening import path_argument, with_access
from dedupstore.cli.output import path_fields
from dedupstore.cli.restore_set import tolerance_of
from dedupstore.cli.selecting import selection
from dedupstore.cli.session import Session
from dedupstore.cli.shapes import distance, snapshot_fields
from dedupstore.errors import Interrupted, UsageError
from dedupstore.service import restore as service
from dedupstore.service.access import Access
from dedupstore.service.records import SnapshotInfo
from dedupstore.service.restore_set import SourceSet, find_set
from dedupstore.units import format_bytes, format_count, format_duration, format_number, printable

_SHOWN_STEPS = 20
_RESTORED_BY = {"--special": {"setuid", "device", "attribute"}, "--owners as root": {"owner"}}
_LEFT_OUT = {"unsupported": "attribute that is not taken there", "hard link": "hard link (copied)"}
_SIGNS = {"create": "+", "replace": "M", "metadata": "m", "delete": "-"}


@command(
    "restore",
    examples=[
        "dedup restore --to ./restored",
        'dedup restore --at "yesterday 18:00" site/uploads --to ./restored',
        "dedup restore --source blog --in-place --dry-run",
        "dedup restore --source blogdb --at '03:00' --as blog_restored",
    ],
)
@click.argument("paths", nargs=-1, metavar="[PATH]...", type=click.UNPROCESSED)
@options.selectors
@click.option("--to", "target", metavar="DIR", default="", help="Into this directory; a new ./restored-TIME otherwise.")
@click.option("--in-place", is_flag=True, help="To where it came from; shows the plan and asks first.")
@click.option("--as", "database_name", metavar="NAME", default="", help="A database, as a new one of that name.")
@click.option("--target", "server", metavar="DATABASE", default="", help="With --as: to this server, or source.")
@click.option("--table", "tables", metavar="NAME", multiple=True, help="With --as: only this table; repeatable.")
@click.option("--globals", "with_globals", is_flag=True, help="With --as: roles or users, too, that are not there.")
@click.option(
    "--overwrite", type=click.Choice(service.OVERWRITE), default="if-changed", help="What may replace a file."
)
@click.option("--delete", is_flag=True, help="Remove what is there but not in the snapshot.")
@click.option("--sparse", is_flag=True, help="Turn runs of zeros into holes.")
@click.option("--include", metavar="PATTERN", multiple=True, help="Only what matches, as in .gitignore; repeatable.")
@click.option("--exclude", metavar="PATTERN", multiple=True, help="Leave out what matches; repeatable.")
@options.dry_run_option
@click.option("--verify/--no-verify", default=True, help="Compare whole files with their hash, too; on by default.")
@click.option("--owners/--no-owners", default=None, help="Set owners; the default when run as root, and in databases.")
@click.option("--special", is_flag=True, help="Also setuid bits, devices and file capabilities.")
@click.option(
    "--tolerance", metavar="SPAN", default="", help="How far apart sources may be with --at; 24h by default, or: any."
)
@click.option("--no-safety-snapshot", is_flag=True, help="With --in-place: do not keep what is there now.")
@click.pass_obj
def restore(
    session: Session,
    paths: tuple[str, ...],
    at: str | None,
    snapshot: str | None,
    source: str | None,
    host: str | None,
    tags: tuple[str, ...],
    target: str,
    in_place: bool,
    database_name: str,
    server: str,
    tables: tuple[str, ...],
    with_globals: bool,
    overwrite: str,
    delete: bool,
    sparse: bool,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    dry_run: bool,
    verify: bool,
    owners: bool | None,
    special: bool,
    tolerance: str,
    no_safety_snapshot: bool,
) -> int:
    """Bring files back as they were at a time.

    Takes the newest snapshot at or before TIME (now, if not given); PATHs are those that `dedup ls` shows. What is
    there already is replaced only when it differs, and only after you have agreed. With --as a database becomes a new one
    beside that which is used; `dedup db swap` then puts it in its place.

    With --at and without --source, all sources of the configuration are brought back as of that time, each into a
    directory of its name; it is refused when one of them is much older than the others (--tolerance).
    """
    wanted = selection(session, snapshot=snapshot, at=at, source=source, host=host, tags=tags)
    if database_name:
        if len(paths) > 1 or target or in_place or include or exclude or dry_run:
            raise UsageError("--as restores one database", hints=["leave out --to, --in-place, --dry-run and patterns"])
        # Loaded only for who has one.
        databases = import_module("dedupstore.cli.database_restore")
        which = paths[0] if paths else ""
        return int(
            databases.run(
                session, wanted, which, database_name, server, tables=tables, owners=owners, with_globals=with_globals
            )
        )
    if server or tables or with_globals:
        raise UsageError(
            "--target, --table and --globals are for databases", hints=["dedup restore --as NAME --target ADDRESS"]
        )
    request = service.Request(
        selection=wanted,
        paths=tuple(path_argument(path) for path in paths),
        target=path_argument(target),
        in_place=in_place,
        new_target=lambda time_ns: f"restored-{session.out.compact(time_ns)}".encode(),
        include=include,
        exclude=exclude,
        overwrite=overwrite,
        delete=delete,
        sparse=sparse,
        verify=verify,
        owners=owners,
        special=special,
        safety_snapshot=not no_safety_snapshot,
        dry_run=dry_run,
    )
    if target and in_place:
        raise UsageError("--to and --in-place exclude one another", hints=["choose one of the two"])
    all_sources = at is not None and not (source or snapshot or tags)
    return _run(session, request, tolerance_of(tolerance) if all_sources else None, all_sources=all_sources)


def _run(session: Session, request: service.Request, tolerance_ns: int | None, *, all_sources: bool) -> int:
    out = session.out
    out.begin("restore", source=safe(request.selection.source) or None)
    token = session.take_token(KEPT)

    def work(access: Access) -> int:
        # Opened before anything is told: with_access may start this anew.
        found = _find_set(access, request) if all_sources else None
        if found is not None and (len(found.members) > 1 or found.lacking):
            return restore_set.run(
                session, request, found, tolerance_ns, lambda one: _one(session, one, access, token)
            )  # fmt: skip
        wanted = request.selection
        if found is not None:
            wanted = replace(wanted, source=found.members[0].snapshot.source, host=found.host)
        return _alone(session, replace(request, selection=wanted), access, token)

    return with_access(session, work)


def _find_set(access: Access, request: service.Request) -> SourceSet | None:
    wanted = request.selection
    assert wanted.at_ns is not None
    return find_set(access, wanted.at_ns, host=wanted.host, paths=request.paths)


def _alone(session: Session, request: service.Request, access: Access, token: CancelToken) -> int:
    out, outcome = session.out, _one(session, request, access, token)
    status = "ok" if outcome.exit_code == 0 else "warnings" if outcome.exit_code == 3 else "failed"
    out.finish(
        status,
        exit_code=outcome.exit_code,
        snapshot=snapshot_fields(out, outcome.snapshot),
        target=path_fields(outcome.target) if outcome.target else None,
        dry_run=outcome.dry_run,
        plan=_plan_fields(outcome.plan),
        actions=dict(outcome.actions),
        files=outcome.files,
        directories=outcome.directories,
        bytes={"written": outcome.bytes_written},
        dropped=dict(outcome.dropped),
        findings=outcome.findings_total,
        safety=None if outcome.safety is None else snapshot_fields(out, outcome.safety),
        verified=outcome.verified,
    )
    return outcome.exit_code


def _one(session: Session, request: service.Request, access: Access, token: CancelToken) -> service.Outcome:
    """One snapshot, told in lines; the summary is the caller's."""
    dialogue = _Dialogue(session, request)

    try:
        with progress.showing(session) as listener:
            dialogue.listener = listener
            outcome = service.run(request, access, dialogue, listener, token)
    except Interrupted as error:
        # The files that were finished are there, and the next run keeps them, when it goes to the same place.
        if dialogue.target and not request.target:
            error.hints = (f"go on with: dedup restore --to {printable(dialogue.target)}",)
        raise
    _tell(session, outcome)
    return outcome


class _Dialogue:
    """Tells what was chosen and planned, and asks."""

    def __init__(self, session: Session, request: service.Request) -> None:
        self._session = session
        self._request = request
        self._steps = 0
        self.target = b""
        self.listener: progress.Reporter | None = None

    def chosen(self, snapshot: SnapshotInfo, target: bytes, places: Sequence[bytes]) -> None:
        self.target = target
        out, at_ns = self._session.out, self._request.selection.at_ns
        now_ns = self._session.clock.now_ns()
        away = f"{distance(now_ns - snapshot.time_ns)} ago"
        if at_ns is not None and now_ns - at_ns > 1_000_000_000:
            away = f"{distance(at_ns - snapshot.time_ns)} before {out.second(at_ns)}"
        out.line(
            f"  source   {safe(snapshot.source)}, snapshot {snapshot.short} of {out.minute(snapshot.time_ns)} ({away})"
        )
        # Names in the plan begin with the last of each: who agrees must see what they are names in.
        for place in places[:_SHOWN_STEPS]:
            out.line(f"  place    {printable(place)}")
        if len(places) > _SHOWN_STEPS:
            out.line(f"  place    and {format_count(len(places) - _SHOWN_STEPS)} more: dedup snapshots --json")
        out.event(
            "chosen",
            snapshot=snapshot_fields(out, snapshot),
            target=path_fields(target) if target else None,
            places=[path_fields(place) for place in places],
            asked=None if at_ns is None else out.timestamp(at_ns),
            distance_s=round(((at_ns if at_ns is not None else now_ns) - snapshot.time_ns) / 1e9, 3),
        )

    def planned(self, action: str, path: bytes) -> None:
        out = self._session.out
        self._steps += 1
        if out.json:
            if self._request.dry_run:
                out.event("planned", action=action, **path_fields(path))
        elif self._request.dry_run or (action in ("replace", "delete") and self._steps <= _SHOWN_STEPS):
            out.line(f"  {_SIGNS[action]} {out.name(path)}")

    def approve(self, plan: service.Plan) -> bool:
        session = self._session
        session.out.line(f"  plan     {plan_text(plan)}")
        if session.settings.yes:
            return True
        if not session.can_ask:
            return False
        if self.listener is not None:
            self.listener.close()
        where = "where it came from" if self._request.in_place else printable(self.target)
        return consent.confirm(session, f"Change {where} like this?")


def plan_text(plan: service.Plan) -> str:
    words = [
        f"{format_count(count)} {word}"
        for count, word in (
            (plan.create, "new"),
            (plan.replace, "replaced"),
            (plan.metadata, "with other owner, mode or time"),
            (plan.delete, "deleted"),
            (plan.keep, "kept as they are"),
            (plan.skip, "left alone"),
        )
        if count
    ]
    return f"{', '.join(words) or 'nothing to do'}; {format_bytes(plan.bytes_to_write)} to write"


def _plan_fields(plan: service.Plan | None) -> dict[str, object] | None:
    if plan is None:
        return None
    names = ("create", "replace", "metadata", "delete", "keep", "skip", "bytes_to_write")
    return {name: getattr(plan, name) for name in names}


def _tell(session: Session, outcome: service.Outcome) -> None:
    out = session.out
    if outcome.dry_run:
        if outcome.plan is not None:
            out.line(f"  plan     {plan_text(outcome.plan)}")
        out.note("  nothing was changed (--dry-run)")
        return
    if outcome.safety is not None:
        out.line(f"  safety   what was there before is snapshot {outcome.safety.short}")
    where = f"to {printable(outcome.target)}" if outcome.target else "to where it came from"
    kept = outcome.actions.get("keep", 0)
    text = f"  restored {format_number(outcome.files, 'file')}  {format_bytes(outcome.bytes_written)} {where}"
    if kept:
        text += f"   {format_count(kept)} were right already"
    if left := outcome.actions.get("skip", 0):
        text += f"   {format_count(left)} left alone"
    if outcome.exit_code == 0:
        text += "   verified: all hashes match" if outcome.verified else "   verified: every chunk"
    out.line(f"{text}   {format_duration(outcome.seconds)}")
    if outcome.dropped:
        out.note(f"  left out {_left_out(outcome.dropped)}")
    if outcome.findings_total:
        out.note(f"  {format_number(outcome.findings_total, 'finding')} (exit code {outcome.exit_code})")


def _left_out(dropped: Mapping[str, int]) -> str:
    """`1 x socket; 2 x device, 1 x setuid (restored with --special)`."""
    options = {name: option for option, names in _RESTORED_BY.items() for name in names}
    groups: dict[str, list[str]] = {}
    for name, count in sorted(dropped.items(), key=lambda item: (options.get(item[0], ""), item[0])):
        groups.setdefault(options.get(name, ""), []).append(f"{format_count(count)} x {_LEFT_OUT.get(name, name)}")
    return "; ".join(
        ", ".join(words) + (f" (restored with {option})" if option else "") for option, words in groups.items()
    )
