"""`dedup check`."""

from __future__ import annotations

import dataclasses

import click

from dedupstore.cli import options, progress
from dedupstore.cli.command import command
from dedupstore.cli.errors import safe
from dedupstore.cli.opening import repeated, with_access
from dedupstore.cli.output import path_fields
from dedupstore.cli.replica import repair_fields, replica_options, with_replica
from dedupstore.cli.selecting import selection
from dedupstore.cli.session import Session
from dedupstore.errors import IntegrityError, UsageError
from dedupstore.service import check as service
from dedupstore.service import times
from dedupstore.service.access import Access
from dedupstore.service.repair import PacksOutcome, Replica
from dedupstore.units import format_bytes, format_count, format_duration, format_number, printable

_ALL = "all"
_EVERY_SOURCE = "*"
_SHOWN = 20


@command(
    "check",
    examples=[
        "dedup check",
        "dedup check --read-data=5% --max-time 1h",
        "dedup check --restore=blog",
        "dedup check --read-data --repair --from /mnt/usb/mirror",
    ],
)
@click.option("--quick", is_flag=True, help="Only listings, sizes and small objects: seconds.")
@click.option(
    "--read-data", metavar="[=5%|2G|all]", is_flag=False, flag_value=_ALL, default=None,
    help="Read data, too, the longest unread first; all of it if nothing is said.",
)  # fmt: skip
@click.option("--max-time", metavar="TIME", default="", help="Stop reading data after 30m, 1h; the next check goes on.")
@click.option(
    "--restore", metavar="[=SOURCE]", is_flag=False, flag_value=_EVERY_SOURCE, default=None,
    help="Restore the newest snapshots to nowhere and compare every file.",
)  # fmt: skip
@click.option("--repair", is_flag=True, help="Mend what is damaged, by parity, then from the replica, and look again.")
@click.option("--repair-plan", is_flag=True, help="Say what --repair would mend.")
@replica_options
@options.snapshot_option
@click.pass_obj
def check(
    session: Session, quick: bool, read_data: str | None, max_time: str, restore: str | None, repair: bool,
    repair_plan: bool, replica: str, from_passphrase_file: str, from_passphrase_command: str, from_key_file: str,
    snapshot: str | None,
) -> int:  # fmt: skip
    """Prove that what is stored can be restored.

    Always the structure: that every file of every snapshot has all its chunks. With --read-data the chunks
    themselves; what was read is remembered, so that 5 % a day covers everything in 20 days. What is found damaged is
    written down, so that nothing new relies on it; otherwise nothing is changed without --repair.
    """
    if replica and not (repair or repair_plan):
        raise UsageError("--from is for a repair", hints=["add --repair or --repair-plan"])
    if quick and (read_data is not None or restore is not None):
        raise UsageError("--quick reads no data", hints=["leave it out, or --read-data and --restore"])
    request = service.Request(
        quick=quick,
        read_data=read_data,
        max_seconds=times.duration(max_time) / 1e9 if max_time else None,
        restore=restore is not None,
        restore_sources=() if restore in (None, _EVERY_SOURCE) else (str(restore),),
        snapshots=() if snapshot is None else (selection(session, snapshot=snapshot),),
    )
    service.check_request(request)
    session.out.begin("check")
    token = session.take_token()

    def work(there: Replica | None, access: Access) -> tuple[service.Outcome, PacksOutcome | None]:
        with progress.showing(session) as listener:
            if repair or repair_plan:
                return service.run_and_mend(request, access, there, listener, token, dry_run=not repair)
            return service.run(request, access, listener, token), None

    outcome, mended = with_replica(
        session, replica, from_passphrase_file, from_passphrase_command, from_key_file,
        lambda there: with_access(session, lambda access: work(there, access)),
    )  # fmt: skip
    _tell(session, request, outcome, mended)
    return outcome.exit_code


def _tell(session: Session, request: service.Request, outcome: service.Outcome, mended: PacksOutcome | None) -> None:
    out, counts = session.out, outcome.counts
    for name, text in _lines(request, outcome):
        out.line(f"  {name:<8} {text}")
    if mended is not None:
        what = (
            f"{format_number(mended.packs, 'lost pack')} put back, {format_number(mended.chunks, 'chunk')} stored again"
        )
        left = f"; {format_number(mended.lost, 'path')} cannot be mended" if mended.lost else ""
        out.line(f"  {'would be' if mended.dry_run else 'mended':<8} {what}{left}")
    if outcome.exit_code == 0:
        out.line(f"  ok       everything that was looked at is intact   {format_duration(outcome.seconds)}")
    elif outcome.exit_code == 4:
        out.complain(_damage(session, outcome))
    else:
        out.note(f"  {format_number(outcome.warnings, 'warning')} (exit code {outcome.exit_code})")
    status = {0: "ok", 3: "warnings"}.get(outcome.exit_code, "failed")
    out.finish(
        status,
        exit_code=outcome.exit_code,
        counts=dataclasses.asdict(counts),
        coverage=None if outcome.coverage is None else dataclasses.asdict(outcome.coverage),
        complete=outcome.complete,
        errors=outcome.errors,
        warnings=outcome.warnings,
        recorded=outcome.recorded,
        repair=None if mended is None else repair_fields(mended),
        damage={
            "chunks": outcome.damaged_chunks,
            "files": outcome.damaged_total,
            "snapshots": list(outcome.damaged_snapshots),
            "paths": [
                {
                    **path_fields(hit.path),
                    "source": safe(hit.source),
                    "host": safe(hit.host),
                    "directory": hit.directory,
                    "snapshots": list(hit.snapshots),
                    "newest_intact": hit.newest_intact,
                }
                for hit in outcome.damaged_paths
            ],
        },
    )


def _lines(request: service.Request, outcome: service.Outcome) -> list[tuple[str, str]]:
    counts = outcome.counts
    if request.quick:
        lines = [("checked", f"{format_number(counts.packs, 'pack')}: their presence and size")]
    else:
        text = f"{format_number(counts.snapshots, 'snapshot')}, {format_count(counts.directories)} directories, "
        text += f"{format_number(counts.files, 'file')}, {format_number(counts.packs, 'pack')}"
        lines = [("checked", text)]
    if request.read_data is not None:
        text = f"{format_bytes(counts.bytes_read)} in {format_number(counts.packs_read, 'pack')}, "
        text += f"{format_number(counts.chunks, 'chunk')} hashed again"
        lines.append(("read", text if outcome.complete else f"{text}; time ran out, the next check goes on"))
    if request.restore:
        text = f"{format_number(counts.restored_files, 'file')}, {format_bytes(counts.restored_bytes)} of "
        lines.append(("restored", f"{text}{format_number(counts.restored_snapshots, 'snapshot')}, to nowhere"))
    if counts.locks_asked or counts.locks_remembered:
        text = f"{format_number(counts.locks_asked, 'object')} asked for"
        if counts.locks_remembered:
            text += (
                f"; {format_count(counts.locks_remembered)} remembered, of a mode that nobody can end before its time"
            )
        lines.append(("locks", text))
    coverage = outcome.coverage
    if coverage is not None and coverage.bytes_total:
        share = 100 * coverage.bytes_recent // coverage.bytes_total
        lines.append(("covered", f"{share} % of all data was read in the last {coverage.days} days"))
    if outcome.recorded:
        packs = format_number(outcome.recorded, "damaged pack")
        lines.append(("noted", f"{packs}: the next snapshot stores again what still exists of it"))
    return lines


def _damage(session: Session, outcome: service.Outcome) -> IntegrityError:
    where = repeated(session)
    if {finding.code for finding in outcome.findings if finding.severity == "error"} == {"repo.rolled_back"}:
        return IntegrityError(
            "the storage shows an older state than this machine has seen",
            why="what is there is whole, but it is not all, or not the newest",
            hints=[
                "find out what became of the storage",
                f"if the repository was put back from a copy on purpose: dedup repo trust{where}",
            ],
            code="repo.rolled_back",
        )
    if not outcome.damaged_total:
        hints = [f"dedup repair index{where}", f"dedup check{where} --read-data"]
        if any(finding.code == "check.pack_missing" for finding in outcome.findings):
            hints.append(
                "is this a mirror of a repository in which a prune was stopped? dedup prune there, then dedup mirror"
            )
        return IntegrityError(
            f"{format_number(outcome.errors, 'error')} in the repository",
            why="no file of a snapshot is known to be hit; the findings above name the objects",
            hints=hints,
        )
    whole = sum(hit.newest_intact is True for hit in outcome.damaged_paths)
    for hit in outcome.damaged_paths[:_SHOWN]:
        newest = {True: "; the newest copy is intact", False: "; the newest copy, too", None: ""}[hit.newest_intact]
        session.out.line(
            f"  hit      {printable(hit.path) or 'the whole snapshot'} in {format_number(len(hit.snapshots), 'snapshot')} of {safe(hit.source)}{newest}"
        )
    if outcome.damaged_total > _SHOWN:
        session.out.line(f"           and {format_count(outcome.damaged_total - _SHOWN)} more")
    return IntegrityError(
        f"{format_number(outcome.damaged_chunks, 'chunk')} damaged or missing",
        why=f"{format_number(outcome.damaged_total, 'file')} in {format_number(len(outcome.damaged_snapshots), 'snapshot')} "
        f"cannot be restored from there; of {format_count(whole)} of them the newest copy is intact",
        hints=[
            "all other files restore: do not delete anything",
            f"see what can be mended: dedup check{where} --repair-plan, with --from URL if there is a replica",
            f"a new snapshot stores what still exists: dedup snapshot{where} PATH",
        ],
    )
