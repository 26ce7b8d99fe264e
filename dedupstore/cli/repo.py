"""`dedup repo`."""

from __future__ import annotations

import dataclasses
from importlib import import_module
from typing import Any

import click

from dedupstore.cli import consent
from dedupstore.cli.command import group
from dedupstore.cli.opening import with_access
from dedupstore.cli.session import Session
from dedupstore.errors import Refused
from dedupstore.service import repository as service
from dedupstore.units import format_bytes, format_count, format_number


@group("repo", examples=["dedup repo info", "dedup repo probe", "dedup repo trust"])
def repo() -> None:
    """Show a repository; try its storage; take what that shows for the newest state."""


@repo.command("info", examples=["dedup repo info", "dedup repo info -r /mnt/backup --json"])
@click.pass_obj
def info(session: Session) -> None:
    """Show what a repository is made of."""
    found = with_access(session, service.info)
    out = session.out
    fields = dataclasses.asdict(found)
    fields["created"] = out.timestamp(fields.pop("created_ns"))
    out.document(fields)
    sizes = f"{format_bytes(found.chunk_minimum)} to {format_bytes(found.chunk_maximum)}"
    rows = [
        ("repository", f"{service.short_repository_id(found.id)}  ({found.id})"),
        ("at", found.url),
        *([("that is", found.expansion)] if found.expansion else []),
        ("created", out.minute(found.created_ns)),
        ("format", f"{found.format}, key epoch {found.epoch}"),
        ("keys", format_count(found.slots)),
        ("snapshots", format_count(found.snapshots)),
        ("stored", f"{format_bytes(found.stored)} in {format_number(found.packs, 'pack')}"),
        ("index", format_number(found.segments, "segment")),
        ("chunks", f"{format_bytes(found.chunk_average)} on average, {sizes}"),
        ("blocks", f"{format_bytes(found.block_bytes)}, delta {format_bytes(found.delta_block_bytes)}"),
    ]
    for name, text in rows:
        out.line(f"{name:<11} {text}")


@repo.command(
    "probe", examples=["dedup repo probe 's3://bucket/prefix?endpoint=https://s3.example.org'", "dedup repo probe"]
)
@click.argument("url", required=False)
@click.pass_obj
def probe(session: Session, url: str | None) -> int:
    """Try what the server of a bucket really does.

    Needs no repository and no passphrase, only the bucket: some small objects are put, read, listed, and taken away again.
    Without URL, the bucket of the repository.
    """
    place = session.resolved(url) if url else session.require_place()
    # Loaded only for who asks.
    found = import_module("dedupstore.service.probe").run(place.url)
    probed, out = found.probed, session.out
    warnings = [{"code": finding.code, "message": finding.message} for finding in found.warnings]
    out.document({**dataclasses.asdict(probed), "warnings": warnings, "advice": list(found.advice)})
    rows = [
        ("server", f"{probed.endpoint}, spoken to as {probed.vendor}, {probed.style} style"),
        ("takes", ", ".join(f"{value} ms a {name}" for name, value in probed.milliseconds.items())),
        ("listing", f"{_lag_text(probed.put_lag)} after a put, {_lag_text(probed.delete_lag)} after a delete"),
        ("ranges", probed.ranges),
        ("checksums", f"MD5 compared: {probed.md5}, CRC-32 compared: {probed.crc32}"),
        ("create only", probed.create_only),
        ("delete", probed.delete),
        ("versions", probed.versions),
        ("locks", f"{probed.object_lock}{f', by default {probed.default_lock}' if probed.default_lock else ''}"),
    ]
    for name, text in rows:
        out.line(f"{name:<11} {text}")
    out.findings(found.warnings)
    for text in found.advice:
        out.note(f"  {text}")
    return int(found.exit_code)


def _lag_text(lag: Any) -> str:
    if lag is None:
        return "unknown"
    return (
        f"late {lag.late} of {lag.rounds} times, {lag.longest_seconds} s"
        if lag.late
        else f"at once, {lag.rounds} times"
    )


@repo.command("trust", examples=["dedup repo trust", "dedup repo trust -r /mnt/backup --yes"])
@click.pass_obj
def trust(session: Session) -> None:
    """Take what storage shows now for the newest state there is.

    This machine remembers which snapshots and keys it has seen at a place. Where storage shows less, prune and forget
    remove nothing; where it shows older keys or another repository, nothing goes on. Use this when there is a good
    reason, such as a repository that was put back from a copy.
    """
    place = session.require_place()
    if not consent.confirm(session, f"Take what is at {place.url} for the newest state there is?"):
        raise Refused(
            "not confirmed", why="nothing was changed", hints=["add --yes to agree"], code="refused.not_confirmed"
        )
    found = with_access(session, service.trust_shown, trusting=True)
    out = session.out
    out.document(dataclasses.asdict(found))
    shown = f"epoch {found.epoch}, {format_number(found.snapshots, 'snapshot')}"
    out.line(f"  trusted  {service.short_repository_id(found.id)} at {found.url}: {shown}")
    if found.missing:
        out.line(f"  missing  {format_number(len(found.missing), 'snapshot')} that this machine had seen")
    if found.returned:
        out.line(f"  returned {format_number(len(found.returned), 'snapshot')} that had been forgotten")
