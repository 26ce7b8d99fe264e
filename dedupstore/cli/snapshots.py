"""`dedup snapshots`."""

from __future__ import annotations

import click

from dedupstore.cli import options
from dedupstore.cli.command import command
from dedupstore.cli.errors import safe
from dedupstore.cli.opening import repeated, with_access
from dedupstore.cli.selecting import snapshot_filter
from dedupstore.cli.session import Session
from dedupstore.cli.shapes import snapshot_fields
from dedupstore.service import selection as service
from dedupstore.service.records import SnapshotInfo
from dedupstore.units import format_bytes, format_count

_DAMAGED = 4


@command("snapshots", examples=["dedup snapshots", 'dedup snapshots --source blog --after "3 days ago"'])
@options.source_option
@options.tag_option
@options.host_option
@click.option("--before", metavar="TIME", help="Only those made then or earlier.")
@click.option("--after", metavar="TIME", help="Only those made then or later.")
@click.option("--limit", metavar="N", type=click.IntRange(min=0), help="Only the newest N.")
@click.pass_obj
def snapshots(
    session: Session,
    source: str | None,
    tags: tuple[str, ...],
    host: str | None,
    before: str | None,
    after: str | None,
    limit: int | None,
) -> int:
    """List snapshots, the newest last."""
    wanted = snapshot_filter(session, source=source, host=host, tags=tags, before=before, after=after)
    found = with_access(session, lambda access: service.snapshots(access, wanted, limit=limit))
    out = session.out
    out.findings(found.findings)
    out.document(
        {
            "snapshots": [snapshot_fields(out, snapshot) for snapshot in found.snapshots],
            "damaged": [safe(finding.message) for finding in found.findings],
        }
    )
    if found.snapshots:
        headings = ("ID", "TIME", "SOURCE", "HOST", "FILES", "SIZE", "ADDED", "REMARKS")
        rows = [_row(session, snapshot) for snapshot in found.snapshots]
        out.table(headings, rows, right=("FILES", "SIZE", "ADDED"))
    else:
        out.note(f"no snapshots; to make one: dedup snapshot{repeated(session)} PATH")
    return _DAMAGED if found.findings else 0


def _row(session: Session, snapshot: SnapshotInfo) -> tuple[str, ...]:
    counts = snapshot.counts
    remarks = [f"{format_count(counts.errors)} missing"] if counts.errors else []
    remarks += [f"#{safe(tag)}" for tag in snapshot.tags]
    if snapshot.note:
        remarks.append(safe(snapshot.note))
    return (
        snapshot.short,
        session.out.minute(snapshot.time_ns),
        safe(snapshot.source),
        safe(snapshot.host),
        format_count(counts.files),
        format_bytes(counts.bytes_total),
        format_bytes(counts.bytes_stored),
        "  ".join(remarks),
    )
