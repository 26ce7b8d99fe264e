"""`dedup repo`."""

from __future__ import annotations

import dataclasses

import click

from dedupstore.cli import prompts
from dedupstore.cli.command import group
from dedupstore.cli.opening import with_access
from dedupstore.cli.session import Session
from dedupstore.errors import Refused
from dedupstore.service import repository as service
from dedupstore.units import format_bytes, format_count, format_number


@group("repo", examples=["dedup repo info", "dedup repo trust"])
def repo() -> None:
    """Show a repository; take what its storage shows for the newest state."""


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


@repo.command("trust", examples=["dedup repo trust", "dedup repo trust -r /mnt/backup --yes"])
@click.pass_obj
def trust(session: Session) -> None:
    """Take what storage shows now for the newest state there is.

    This machine remembers which snapshots and keys it has seen at a place. Where storage shows less, prune and forget
    remove nothing; where it shows older keys or another repository, nothing goes on. Use this when there is a good
    reason, such as a repository that was put back from a copy.
    """
    place = session.require_place()
    if not prompts.confirm(session, f"Take what is at {place.url} for the newest state there is?"):
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
