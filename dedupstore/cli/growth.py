"""The parts of `dedup stats` that say what grew."""

from __future__ import annotations

from dedupstore.cli.errors import safe
from dedupstore.cli.opening import with_access
from dedupstore.cli.output import path_fields
from dedupstore.cli.searching import Indexing
from dedupstore.cli.session import Session
from dedupstore.cli.shapes import snapshot_fields
from dedupstore.service import selection, usage
from dedupstore.service.access import Access
from dedupstore.service.records import SnapshotInfo
from dedupstore.service.selection import Filter
from dedupstore.units import format_bytes, format_count

_DAY = len("2026-11-21")


_DAMAGED = 4


def by_day(session: Session, wanted: Filter) -> int:
    """From the records of snapshots alone: a day's additions, and how large the sources were in the end."""
    found = with_access(session, lambda access: selection.snapshots(access, wanted))
    out = session.out
    days: dict[str, list[SnapshotInfo]] = {}
    for snapshot in found.snapshots:
        days.setdefault(out.minute(snapshot.time_ns)[:_DAY], []).append(snapshot)
    newest: dict[tuple[str, str], int] = {}
    rows: list[dict[str, object]] = []
    table: list[tuple[str, ...]] = []
    for day, snapshots in days.items():
        newest.update({(snapshot.source, snapshot.host): snapshot.counts.bytes_total for snapshot in snapshots})
        size = sum(newest.values())
        new = sum(snapshot.counts.bytes_new for snapshot in snapshots)
        stored = sum(snapshot.counts.bytes_stored for snapshot in snapshots)
        rows.append({"day": day, "snapshots": len(snapshots), "size": size, "new": new, "stored": stored})
        table.append((day, format_count(len(snapshots)), format_bytes(size), format_bytes(new), format_bytes(stored)))
    out.findings(found.findings)
    out.document({"days": rows})
    out.table(
        ("DAY", "SNAPSHOTS", "SIZE", "NEW", "ADDED"), table, right=("SNAPSHOTS", "SIZE", "NEW", "ADDED")
    )  # fmt: skip
    return _DAMAGED if found.findings else 0


def by_snapshot(session: Session, wanted: Filter) -> None:
    """What each added when it was made, and what removing it would free now."""
    token = session.take_token()

    def work(access: Access) -> list[usage.FreedInfo]:
        with Indexing(session) as measuring:
            return usage.by_snapshot(access, wanted, measuring.listener, token)

    found = with_access(session, work)
    out = session.out
    out.document({"snapshots": [{**snapshot_fields(out, row.snapshot), "freed": row.freed} for row in found]})
    out.table(
        ("ID", "TIME", "SOURCE", "SIZE", "ADDED", "FREED"),
        [
            (
                row.snapshot.short,
                out.minute(row.snapshot.time_ns),
                safe(row.snapshot.source),
                format_bytes(row.snapshot.counts.bytes_total),
                format_bytes(row.snapshot.counts.bytes_stored),
                format_bytes(row.freed),
            )
            for row in found
        ],
        right=("SIZE", "ADDED", "FREED"),
    )
    out.note("FREED is for one snapshot alone; two that share data free more together")


def by_path(session: Session, wanted: Filter, before: str, after: str, depth: int, limit: int) -> None:
    """Where it grew, and where it shrank."""
    token = session.take_token()
    found = with_access(session, lambda access: usage.by_path(access, wanted, before, after, depth, token))
    out = session.out
    rows = found.directories
    if len(rows) > 2 * limit:
        rows = rows[:limit] + rows[-limit:]
    out.document(
        {
            "before": snapshot_fields(out, found.before),
            "after": snapshot_fields(out, found.after),
            "directories": [
                {**path_fields(row.path), "bytes": row.bytes, "files": row.files, "changed": row.changed}
                for row in rows
            ],
            "more": len(found.directories) - len(rows),
        }
    )
    out.line(
        f"{safe(found.after.source)} from {out.minute(found.before.time_ns)} ({found.before.short}) "
        f"to {out.minute(found.after.time_ns)} ({found.after.short})"
    )
    out.table(
        ("GROWN", "FILES", "CHANGED", "DIRECTORY"),
        [
            (_signed(row.bytes), f"{row.files:+d}", format_bytes(row.changed), out.name(row.path) or "(all)")
            for row in rows
        ],
        right=("GROWN", "FILES", "CHANGED"),
    )


def _signed(count: int) -> str:
    return f"{'-' if count < 0 else '+'}{format_bytes(abs(count))}"
