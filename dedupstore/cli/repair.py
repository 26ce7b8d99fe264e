"""`dedup repair`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import click

from dedupstore.cancel import STORED, CancelToken
from dedupstore.cli import options, progress
from dedupstore.cli.command import group
from dedupstore.cli.opening import repeated, with_access
from dedupstore.cli.output import path_fields
from dedupstore.cli.replica import repair_fields, replica_options, with_replica
from dedupstore.cli.session import Session
from dedupstore.errors import IntegrityError
from dedupstore.events import Listener
from dedupstore.service import repair as service
from dedupstore.service.access import Access
from dedupstore.units import format_bytes, format_count, format_number, printable

_SHOWN = 20

Answer = TypeVar("Answer")


def _carry_out(session: Session, work: Callable[[Access, Listener, CancelToken], Answer]) -> Answer:
    """Do it to the repository, with progress shown."""
    token = session.take_token(STORED)

    def carry_out(access: Access) -> Answer:
        with progress.showing(session) as listener:
            return work(access, listener, token)

    return with_access(session, carry_out)


@group("repair", examples=["dedup repair index", "dedup repair packs --from /mnt/usb/mirror", "dedup repair snapshots"])
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
    found = _carry_out(
        session,
        lambda access, listener, cancel: service.index(access, dry_run=dry_run, listener=listener, cancel=cancel),
    )
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


@repair.command(
    "packs", examples=["dedup repair packs --from /mnt/usb/mirror --dry-run", "dedup repair packs --from /mnt/usb/mirror"]
)  # fmt: skip
@replica_options
@options.dry_run_option
@click.pass_obj
def packs(
    session: Session, replica: str, from_passphrase_file: str, from_passphrase_command: str, from_key_file: str,
    dry_run: bool,
) -> int:  # fmt: skip
    """Store again what is damaged or lost, from where it is whole.

    First dedup check --read-data, which finds what is damaged. Good bytes come from other copies in the repository, and
    from a replica: a mirror, or a repository that snapshots were copied to or from. Lost packs are put back, all else
    goes into new packs; damaged ones stay until dedup prune takes them away.
    """
    out = session.out
    out.begin("repair packs")

    def work(there: service.Replica | None) -> service.PacksOutcome:
        return _carry_out(
            session,
            lambda access, listener, cancel: service.packs(
                access, there, dry_run=dry_run, listener=listener, cancel=cancel
            ),
        )

    found = with_replica(session, replica, from_passphrase_file, from_passphrase_command, from_key_file, work)
    would = "would be " if dry_run else ""
    out.line(f"  back     {format_number(found.packs, 'lost pack')} {would}put back, {format_bytes(found.pack_bytes)}")
    out.line(
        f"  stored   {format_number(found.chunks, 'chunk')} {would}stored again, {format_bytes(found.chunk_bytes)}"
    )
    if found.lost:
        out.complain(
            IntegrityError(
                f"{format_number(found.lost, 'path')} cannot be mended",
                why="what is damaged of them is nowhere to be had",
                hints=[
                    "name another replica: --from URL",
                    f"a new snapshot stores what still exists: dedup snapshot{repeated(session)} PATH",
                    f"go on without what is lost: dedup repair snapshots{repeated(session)}",
                ],
                code="repair.incomplete",
            )
        )
    out.finish(
        "failed" if found.exit_code else "ok",
        exit_code=found.exit_code,
        **repair_fields(found),
    )
    return found.exit_code


@repair.command("snapshots", examples=["dedup repair snapshots --dry-run", "dedup repair snapshots"])
@options.dry_run_option
@click.pass_obj
def snapshots(session: Session, dry_run: bool) -> int:
    """Make new snapshots without what is lost, and list that.

    For what no replica has any more: try dedup repair packs first. The damaged snapshots stay as they are; forget them
    when you are sure. Ends with exit code 3 when something is lost, and with 4 when nothing is left of a snapshot.
    """
    out = session.out
    out.begin("repair snapshots")
    found = _carry_out(
        session,
        lambda access, listener, cancel: service.snapshots(access, dry_run=dry_run, listener=listener, cancel=cancel),
    )
    for one in found.snapshots:
        made = "nothing of it is left" if one.repaired is None else f"now also as {one.repaired.short}"
        if dry_run:
            made = "would be made anew"
        out.line(f"  damaged  {one.original.short}, without {format_number(len(one.lost), 'path')}: {made}")
        for lost in one.lost[:_SHOWN]:
            out.line(f"  lost     {printable(lost.path) or '/'}{'/' if lost.directory else ''}")
        if len(one.lost) > _SHOWN:
            out.line(f"           and {format_count(len(one.lost) - _SHOWN)} more; --json has all")
    if not found.snapshots:
        out.line("  damaged  no snapshot that was not repaired already")
    out.finish(
        {0: "ok", 3: "warnings"}.get(found.exit_code, "failed"),
        exit_code=found.exit_code,
        dry_run=dry_run,
        snapshots=[
            {
                "original": one.original.id,
                "repaired": None if one.repaired is None else one.repaired.id,
                "lost": [{**path_fields(lost.path), "directory": lost.directory} for lost in one.lost],
            }
            for one in found.snapshots
        ],
        repaired_before=[one.id for one in found.known],
        unreadable=list(found.unreadable),
    )
    return found.exit_code


@repair.command("parity", examples=["dedup repair parity --dry-run", "dedup repair parity"])
@options.dry_run_option
@click.pass_obj
def parity(session: Session, dry_run: bool) -> int:
    """Keep parity from now on, and make that of the packs there are.

    It takes 3.3 % more space and mends a pack that is damaged in one place of up to a 31st of its size, or in several
    that do not fall together, without any replica: dedup repair packs uses it. A lost pack it cannot bring back.
    """
    out = session.out
    out.begin("repair parity")
    found = _carry_out(
        session,
        lambda access, listener, cancel: service.parity(access, dry_run=dry_run, listener=listener, cancel=cancel),
    )
    if dry_run:
        out.line(f"  parity   {format_number(found.made, 'pack')} of {format_count(found.packs)} would get parity")
    else:
        out.line(f"  parity   made for {format_number(found.made, 'pack')}, {format_bytes(found.made_bytes)}")
    out.finish(
        "failed" if found.exit_code else "ok",
        exit_code=found.exit_code,
        dry_run=dry_run,
        packs=found.packs,
        made=found.made,
        made_bytes=found.made_bytes,
        refused=len(found.findings),
    )
    return found.exit_code
