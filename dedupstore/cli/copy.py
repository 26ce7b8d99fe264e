"""`dedup copy`."""

from __future__ import annotations

import click

from dedupstore.cancel import STORED
from dedupstore.cli import options, progress
from dedupstore.cli.command import command
from dedupstore.cli.errors import safe
from dedupstore.cli.opening import with_access
from dedupstore.cli.selecting import snapshot_filter
from dedupstore.cli.session import Session
from dedupstore.cli.shapes import snapshot_fields
from dedupstore.cli.target import target_options, with_target
from dedupstore.errors import IntegrityError
from dedupstore.service import copy as service
from dedupstore.service import secrets
from dedupstore.service.access import Access
from dedupstore.service.records import SnapshotInfo
from dedupstore.units import format_bytes, format_duration, format_number


@command(
    "copy",
    examples=[
        "dedup copy --to /mnt/nas/backup --to-passphrase-file /etc/dedup/nas.pass",
        "dedup copy --to /mnt/nas/backup latest --source site",
        "dedup copy --to /mnt/nas/backup --after 2026-01-01 --dry-run",
    ],
)
@click.argument("names", nargs=-1, metavar="[SNAP]...")
@target_options
@options.source_option
@options.tag_option
@options.host_option
@click.option("--before", metavar="TIME", help="Only those made then or earlier.")
@click.option("--after", metavar="TIME", help="Only those made then or later.")
@click.option("--compression", metavar="LEVEL", type=click.IntRange(1, 19), default=3, help="1 (fast) to 19 (small).")
@options.storage_class_option
@options.dry_run_option
@click.pass_obj
def copy(
    session: Session, names: tuple[str, ...], target: str, to_passphrase_file: str, to_passphrase_command: str,
    to_key_file: str, source: str | None, tags: tuple[str, ...], host: str | None, before: str | None,
    after: str | None, compression: int, storage_class: str, dry_run: bool,
) -> int:  # fmt: skip
    """Copy snapshots to another repository, which has keys of its own.

    All of them, those named, or those that match; what is there already is left out, so run it after every snapshot.
    Every chunk is verified on the way. The target is opened by DEDUP_TO_PASSPHRASE and its kin (_FILE, _COMMAND, _FD),
    by DEDUP_TO_KEY_FILE, or by the options.
    """
    request = service.Request(
        names=names,
        wanted=snapshot_filter(session, source=source, host=host, tags=tags, before=before, after=after),
        level=compression,
        dry_run=dry_run,
    )
    environ = secrets.of_target(
        session.environ,
        passphrase_file=to_passphrase_file,
        passphrase_command=to_passphrase_command,
        key_file=to_key_file,
    )
    session.out.begin("copy")
    token = session.take_token(STORED)

    def work(there: Access, here: Access) -> service.Outcome:
        with progress.showing(session) as listener:
            return service.run(request, here, there, listener, token)

    outcome = with_target(
        session, target, environ, lambda there: with_access(session, lambda here: work(there, here)),
        storage_class=storage_class,
    )  # fmt: skip
    _tell(session, outcome)
    return outcome.exit_code


def _tell(session: Session, outcome: service.Outcome) -> None:
    out = session.out
    for one in outcome.copied:
        sizes = f"{format_bytes(one.read)} read   {format_bytes(one.stored)} stored"
        out.line(f"  copied   {_named(session, one.original)}   {sizes}   as {one.copy.short}")
    for snapshot in outcome.lacking:
        out.line(f"  would copy {_named(session, snapshot)}")
    if outcome.present:
        out.line(f"  present  {format_number(len(outcome.present), 'snapshot')} already there")
    if not outcome.dry_run:
        stored = format_bytes(sum(one.stored for one in outcome.copied))
        text = f"{format_number(len(outcome.copied), 'snapshot')} copied to {outcome.target}, {stored} stored"
        out.line(f"  {text}   {format_duration(outcome.seconds)}")
    if outcome.exit_code:
        out.complain(
            IntegrityError(
                f"{format_number(len(outcome.failed), 'snapshot')} could not be copied whole",
                why="the findings above name the files; every other snapshot was copied",
                hints=["look for damage: dedup check --read-data", "a new snapshot stores what still exists"],
                code="copy.incomplete",
            )
        )
    out.finish(
        "failed" if outcome.exit_code else "ok",
        exit_code=outcome.exit_code,
        dry_run=outcome.dry_run,
        target=safe(outcome.target),
        repository=outcome.repository,
        target_repository=outcome.target_repository,
        copied=[
            {
                "snapshot": snapshot_fields(out, one.copy),
                "original": one.original.id,
                "bytes": {"read": one.read, "stored": one.stored},
            }
            for one in outcome.copied
        ],
        lacking=[snapshot.id for snapshot in outcome.lacking],
        present=[snapshot.id for snapshot in outcome.present],
        failed=[snapshot.id for snapshot in outcome.failed],
    )


def _named(session: Session, snapshot: SnapshotInfo) -> str:
    return f'{snapshot.short} "{safe(snapshot.source)}" of {session.out.minute(snapshot.time_ns)}'
