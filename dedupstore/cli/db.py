"""`dedup db`."""

from __future__ import annotations

import click

from dedupstore.cli import prompts
from dedupstore.cli.command import group
from dedupstore.cli.database_argument import database_named
from dedupstore.cli.errors import safe
from dedupstore.cli.session import Session
from dedupstore.errors import Refused
from dedupstore.service import database_restore as service


@group("db", examples=["dedup db swap sessions /var/lib/blog/app.db.restored"])
def db() -> None:
    """Work with databases that are sources."""


@db.command(
    "swap",
    examples=[
        "dedup db swap sessions /var/lib/blog/app.db.restored",
        "dedup db swap sqlite:/var/lib/blog/app.db /var/lib/blog/app.db.restored --yes",
    ],
)
@click.argument("database", metavar="DATABASE")
@click.argument("new", metavar="NEW")
@click.option("--keep-as", metavar="NAME", default="", help="What the old one is called from then on.")
@click.pass_obj
def swap(session: Session, database: str, new: str, keep_as: str) -> None:
    """Put a restored database in the place of the one that is used.

    DATABASE is a source of the configuration, or an address; NEW is what `dedup restore --as` was given. The old one is
    kept under another name. Nobody may have it open.
    """
    found = database_named(session, database)
    live = service.live_name(found)
    kept = keep_as or f"{live}.before-{session.out.compact(session.clock.now_ns())}"
    if not session.settings.yes:
        agreed = session.can_ask and prompts.confirm(
            session, f"Put {safe(new)} in the place of {safe(live)}, and keep that as {safe(kept)}?"
        )
        if not agreed:
            raise Refused(
                "not confirmed", why="nothing was changed", hints=["add --yes to agree"], code="refused.not_confirmed"
            )
    service.swap_in(found, new, kept)
    session.out.line(f"  swapped  {safe(live)} is now what was {safe(new)}")
    session.out.line(f"  kept     the old one is {safe(kept)}")
    session.out.document({"database": safe(live), "was": safe(new), "kept": safe(kept)})
