"""`dedup stats`."""

from __future__ import annotations

import click

from dedupstore.cli import growth, options
from dedupstore.cli.command import command
from dedupstore.cli.errors import safe
from dedupstore.cli.opening import with_access
from dedupstore.cli.selecting import snapshot_filter
from dedupstore.cli.session import Session
from dedupstore.cli.shapes import snapshot_fields
from dedupstore.errors import UsageError
from dedupstore.service import look as service
from dedupstore.service.selection import Filter
from dedupstore.units import format_bytes, format_count, format_number


@command(
    "stats",
    examples=[
        "dedup stats",
        "dedup stats --by-day --source blog",
        "dedup stats --by-snapshot",
        "dedup stats --by-path --from latest~7 --depth 3",
    ],
)
@options.source_option
@options.tag_option
@options.host_option
@click.option("--by-day", is_flag=True, help="What was added on each day.")
@click.option("--by-snapshot", is_flag=True, help="What each snapshot added, and what removing it would free.")
@click.option("--by-path", is_flag=True, help="Which directories grew most between two snapshots.")
@click.option("--from", "before", metavar="ID", help="With --by-path: the older snapshot (default: the oldest).")
@click.option("--to", "after", metavar="ID", help="With --by-path: the newer snapshot (default: the newest).")
@click.option(
    "--depth", type=click.IntRange(min=1), default=2, show_default=True, help="With --by-path: so many names deep."
)
@click.option(
    "--limit", metavar="N", type=click.IntRange(min=1), default=20, show_default=True,
    help="With --by-path: so many directories at each end.",
)  # fmt: skip
@click.pass_obj
def stats(
    session: Session, source: str | None, tags: tuple[str, ...], host: str | None, by_day: bool, by_snapshot: bool,
    by_path: bool, before: str | None, after: str | None, depth: int, limit: int,
) -> int:  # fmt: skip
    """Show what takes up how much space, and what grew.

    Logical: every snapshot restored beside the others. Unique: every chunk once. Stored: all objects of the
    repository, compressed and encrypted, also those of other sources. Freed: stored bytes of blocks that this snapshot
    alone needs, as data or as the base of a delta.
    """
    wanted = snapshot_filter(session, source=source, host=host, tags=tags)
    if by_day + by_snapshot + by_path > 1:
        raise UsageError("--by-day, --by-snapshot and --by-path exclude one another")
    if (before or after) and not by_path:
        raise UsageError("--from and --to belong to --by-path")
    if by_day:
        return growth.by_day(session, wanted)
    if by_snapshot:
        growth.by_snapshot(session, wanted)
    elif by_path:
        growth.by_path(session, wanted, before or "", after or "", depth, limit)
    else:
        _whole(session, wanted)
    return 0


def _whole(session: Session, wanted: Filter) -> None:
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
