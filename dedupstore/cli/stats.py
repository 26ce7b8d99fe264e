"""`dedup stats`."""

from __future__ import annotations

import click

from dedupstore.cli import options
from dedupstore.cli.command import command
from dedupstore.cli.errors import safe
from dedupstore.cli.opening import with_access
from dedupstore.cli.selecting import snapshot_filter
from dedupstore.cli.session import Session
from dedupstore.cli.shapes import snapshot_fields
from dedupstore.service import look as service
from dedupstore.units import format_bytes, format_count, format_number


@command("stats", examples=["dedup stats", "dedup stats --source blog"])
@options.source_option
@options.tag_option
@options.host_option
@click.pass_obj
def stats(session: Session, source: str | None, tags: tuple[str, ...], host: str | None) -> None:
    """Show what takes up how much space.

    Logical: every snapshot restored beside the others. Unique: every chunk once. Stored: all objects of the
    repository, compressed and encrypted, also those of other sources.
    """
    wanted = snapshot_filter(session, source=source, host=host, tags=tags)
    token = session.take_token()
    found = with_access(session, lambda access: service.statistics(access, wanted, token))
    out = session.out
    out.document(
        {
            "snapshots": [snapshot_fields(out, snapshot) for snapshot in found.snapshots],
            "bytes": {"logical": found.logical, "unique": found.unique, "stored": found.stored},
            "chunks": found.unique_chunks,
            "packs": found.packs,
            "ratio": round(found.ratio, 3),
        }
    )
    out.line(f"snapshots  {format_count(len(found.snapshots))}")
    out.line(f"logical    {format_bytes(found.logical)}")
    out.line(f"unique     {format_bytes(found.unique)}  in {format_number(found.unique_chunks, 'chunk')}")
    out.line(f"stored     {format_bytes(found.stored)}  in {format_number(found.packs, 'pack')}")
    if found.ratio:
        out.line(f"ratio      {found.ratio:.1f} bytes kept for one stored")
    if found.snapshots:
        out.line()
        by_source: dict[str, list[int]] = {}
        for snapshot in found.snapshots:
            row = by_source.setdefault(snapshot.source, [0, 0, 0])
            row[0] += 1
            row[1] = snapshot.counts.bytes_total
            row[2] += snapshot.counts.bytes_stored
        out.table(
            ("SOURCE", "SNAPSHOTS", "NEWEST", "ADDED"),
            [
                (safe(name), format_count(count), format_bytes(newest), format_bytes(added))
                for name, (count, newest, added) in sorted(by_source.items())
            ],
            right=("SNAPSHOTS", "NEWEST", "ADDED"),
        )
