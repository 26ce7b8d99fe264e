"""`dedup snapshots`."""

from __future__ import annotations

from importlib import import_module

import click

from dedupstore.cli import options
from dedupstore.cli.command import command
from dedupstore.cli.instants import instant
from dedupstore.cli.opening import with_access
from dedupstore.cli.session import Session

# Named as text: it is loaded while the key is being derived, for both take their time.
_LISTING = "dedupstore.cli.listing"


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
    wanted = {
        "source": source or "",
        "host": host or "",
        "tags": tags,
        "before_ns": instant(session, before),
        "after_ns": instant(session, after),
        "limit": limit,
    }
    found = with_access(session, lambda access: import_module(_LISTING).find(access, **wanted))
    exit_code: int = import_module(_LISTING).show(session, found)
    return exit_code
