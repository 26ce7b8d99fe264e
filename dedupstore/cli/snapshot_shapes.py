"""One snapshot that was taken, in words and as JSON."""

from __future__ import annotations

from collections.abc import Mapping

from dedupstore.cli.errors import safe
from dedupstore.cli.opening import repeated
from dedupstore.cli.output import Output
from dedupstore.cli.session import Session
from dedupstore.cli.shapes import count_fields, files_text, snapshot_fields, stored_text
from dedupstore.service import snapshot as service
from dedupstore.units import format_bytes, format_count, format_duration, format_number


def tell_outcome(session: Session, outcome: service.Outcome, *, last: bool = True) -> None:
    """What was stored and which snapshot it is; `last`: and what to type next."""
    out, counts = session.out, outcome.counts
    out.line(
        f"  {_title(outcome)}  {files_text(counts, first=outcome.first)}  {format_bytes(counts.bytes_read)} read   "
        f"{_stored(outcome)}   {format_duration(outcome.seconds)}"
    )
    missing = sum(finding.severity != "note" for finding in outcome.findings)
    if missing:
        out.note(
            f"  {format_number(missing, 'warning')}: the snapshot holds everything else (exit code {outcome.exit_code})"
        )
    if outcome.snapshot is not None:
        _tell_snapshot(session, outcome, last=last)


def requests_fields(sent: Mapping[str, int]) -> dict[str, object]:
    """By kind and in all; null where requests cost nothing."""
    return {"requests": {**sent, "total": sum(sent.values())} if sent else None}


def tell_requests(out: Output, sent: Mapping[str, int]) -> None:
    """For the curious: what storage will charge for."""
    if sent:
        kinds = ", ".join(f"{count} {kind}" for kind, count in sent.items())
        out.detail(f"  requests {format_count(sum(sent.values()))}: {kinds}")


def outcome_fields(out: Output, outcome: service.Outcome) -> dict[str, object]:
    return {
        "snapshot": None if outcome.snapshot is None else snapshot_fields(out, outcome.snapshot),
        "source": safe(outcome.source),
        "dry_run": outcome.dry_run,
        "unchanged": outcome.unchanged,
        **count_fields(outcome.counts),
    }


def _tell_snapshot(session: Session, outcome: service.Outcome, *, last: bool) -> None:
    out, snapshot = session.out, outcome.snapshot
    assert snapshot is not None
    when = out.minute(snapshot.time_ns)
    if outcome.unchanged:
        out.line(f'  nothing changed since snapshot {snapshot.short} "{safe(snapshot.source)}" of {when}')
        return
    out.line(f'  snapshot {snapshot.short} "{safe(snapshot.source)}" {when}')
    if last:
        where = repeated(session)
        out.note(f"  next: dedup restore{where} --at now --to ./restored     see: dedup ls{where} {snapshot.short}")


def _title(outcome: service.Outcome) -> str:
    return "would store" if outcome.dry_run else "stored  "


def _stored(outcome: service.Outcome) -> str:
    counts = outcome.counts
    return f"{format_bytes(counts.bytes_new)} new, before compression" if outcome.dry_run else stored_text(counts)
