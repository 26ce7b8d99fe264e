"""`dedup restore --at TIME` of all sources of a configuration: what belongs together, shown, then one after the other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from dedupstore.cli.errors import document as error_document
from dedupstore.cli.errors import safe
from dedupstore.cli.output import path_fields
from dedupstore.cli.session import Session
from dedupstore.cli.shapes import distance, snapshot_fields
from dedupstore.errors import DedupError, Interrupted
from dedupstore.service import restore as service
from dedupstore.service import times
from dedupstore.service.restore_set import TOLERANCE_NS, SourceSet, require_together
from dedupstore.service.runs import worst
from dedupstore.units import format_number, printable

Restore = Callable[[service.Request], service.Outcome]
"""Restores one snapshot and tells of it."""

ANY = "any"


def tolerance_of(text: str) -> int | None:
    """Nanoseconds; None for `any`. Raises UsageError."""
    return None if text == ANY else times.duration(text) if text else TOLERANCE_NS


def run(
    session: Session, request: service.Request, found: SourceSet, tolerance_ns: int | None, restore: Restore
) -> int:
    """Each source into a directory of its own name below the target. A source that fails does not stop the others."""
    out, at_ns = session.out, request.selection.at_ns
    assert at_ns is not None
    _show(session, found, at_ns)
    require_together(found, tolerance_ns)
    newest_ns = max(member.snapshot.time_ns for member in found.members)
    base = b"" if request.in_place else request.target or service.new_name(request.new_target(newest_ns))
    results: list[dict[str, object]] = []
    codes: list[int] = []
    for member in found.members:
        name = member.snapshot.source
        target = b"" if request.in_place else base + b"/" + name.encode()
        one = replace(
            request, target=target, selection=replace(request.selection, snapshot=member.snapshot.id, at_ns=None)
        )  # fmt: skip
        try:
            outcome = restore(one)
        except Interrupted:
            raise
        except DedupError as error:
            out.line(f'  failed   "{safe(name)}"')
            out.complain(error)
            results.append({"source": safe(name), "exit_code": error.exit_code, "error": error_document(error)})
            codes.append(error.exit_code)
            continue
        codes.append(outcome.exit_code)
        results.append(
            {
                "source": safe(name),
                "exit_code": outcome.exit_code,
                "snapshot": snapshot_fields(out, outcome.snapshot),
                "target": path_fields(outcome.target) if outcome.target else None,
                "files": outcome.files,
                "bytes": {"written": outcome.bytes_written},
                "verified": outcome.verified,
            }
        )
    code = worst(codes)
    where = f" below {printable(base)}" if base else ""
    good = sum(each in (0, 3) for each in codes)
    out.line(f"  set      {good} of {format_number(len(codes), 'source')} restored{where}")
    status = "ok" if code == 0 else "warnings" if code == 3 else "failed"
    out.finish(status, exit_code=code, dry_run=request.dry_run, results=results, lacking=list(found.lacking))
    return code


def _show(session: Session, found: SourceSet, at_ns: int) -> None:
    """Which snapshots these are, and how far each is from the time that was asked for."""
    out = session.out
    rows = [
        (
            safe(member.snapshot.source),
            member.snapshot.short,
            out.second(member.snapshot.time_ns),
            f"{distance(at_ns - member.snapshot.time_ns)} before",
            f"{distance(member.behind_ns)} older than the newest" if member.behind_ns else "",
        )
        for member in found.members
    ]
    rows += [
        (safe(name), "-", "-", "no snapshot", "nothing was ever piped into it" if name in found.not_given else "")
        for name in found.lacking
    ]
    out.table(("SOURCE", "ID", "TIME", "DISTANCE", ""), rows)
    out.event(
        "set",
        asked=out.timestamp(at_ns),
        host=safe(found.host),
        lacking=[safe(name) for name in found.lacking],
        members=[
            {
                "source": safe(member.snapshot.source),
                "snapshot": member.snapshot.id,
                "time": out.timestamp(member.snapshot.time_ns),
                "distance_s": round((at_ns - member.snapshot.time_ns) / 1e9, 3),
                "behind_s": round(member.behind_ns / 1e9, 3),
            }
            for member in found.members
        ],
    )
