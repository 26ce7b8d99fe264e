"""`dedup repo`."""

from __future__ import annotations

import dataclasses

import click

from dedupstore.cli.command import group
from dedupstore.cli.opening import with_access
from dedupstore.cli.session import Session
from dedupstore.service import repository as service
from dedupstore.units import format_bytes, format_count, format_number


@group("repo", examples=["dedup repo info"])
def repo() -> None:
    """Show a repository."""


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
