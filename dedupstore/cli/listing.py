"""The list of snapshots: asked for and shown. Loaded by `dedup snapshots` while the key is being derived."""

from __future__ import annotations

from dedupstore.cli.errors import safe
from dedupstore.cli.opening import repeated
from dedupstore.cli.session import Session
from dedupstore.cli.shapes import protection_text, snapshot_fields
from dedupstore.service import selection as service
from dedupstore.service.access import Access
from dedupstore.service.records import SnapshotInfo
from dedupstore.service.selection import SnapshotList
from dedupstore.units import format_bytes, format_count

_DAMAGED = 4


def find(
    access: Access,
    *,
    source: str,
    host: str,
    tags: tuple[str, ...],
    before_ns: int | None,
    after_ns: int | None,
    limit: int | None,
) -> SnapshotList:
    """The snapshots that match; empty texts and None say nothing."""
    wanted = service.Filter(source=source, host=host, tags=tags, before_ns=before_ns, after_ns=after_ns)
    return service.snapshots(access, wanted, limit=limit)


def show(session: Session, found: SnapshotList) -> int:
    """Print them; the exit code."""
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
    return _DAMAGED if found.findings or found.rolled_back else 0


def _row(session: Session, snapshot: SnapshotInfo) -> tuple[str, ...]:
    counts = snapshot.counts
    remarks = [f"{format_count(counts.errors)} missing"] if counts.errors else []
    remarks += ["copy"] if snapshot.copy_of is not None else []
    remarks += [f"#{safe(tag)}" for tag in snapshot.tags]
    if snapshot.protected:
        remarks.append(protection_text(session.out, snapshot))
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
