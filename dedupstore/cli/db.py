"""`dedup db`."""

from __future__ import annotations

import click

from dedupstore.cli import prompts
from dedupstore.cli.command import group
from dedupstore.cli.database_argument import database_named
from dedupstore.cli.errors import safe
from dedupstore.cli.session import Session
from dedupstore.errors import Refused
from dedupstore.service import database_swap as service


@group("db", examples=["dedup db swap sessions /var/lib/blog/app.db.restored"])
def db() -> None:
    """Work with databases that are sources."""


@db.command(
    "swap",
    examples=[
        "dedup db swap blogdb blog_restored",
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
    kept under another name. Of SQLite nobody may have it open; on a server, sessions that use one of the two are ended.
    """
    found = database_named(session, database)
    token = session.take_token()
    given = (session.environ, lambda finding: session.out.findings([finding]), token)
    live = service.live_name(found, *given)
    joint = ".before-" if found.type == "sqlite" else "_before_"
    kept = keep_as or f"{live}{joint}{session.out.compact(session.clock.now_ns())}"
    if not session.settings.yes:
        agreed = session.can_ask and prompts.confirm(
            session, f"Put {safe(new)} in the place of {safe(live)}, and keep that as {safe(kept)}?"
        )
        if not agreed:
            raise Refused(
                "not confirmed", why="nothing was changed", hints=["add --yes to agree"], code="refused.not_confirmed"
            )
    service.swap(found, new, live, kept, *given)
    session.out.line(f"  swapped  {safe(live)} is now what was {safe(new)}")
    session.out.line(f"  kept     the old one is {safe(kept)}")
    session.out.document({"database": safe(live), "was": safe(new), "kept": safe(kept)})
