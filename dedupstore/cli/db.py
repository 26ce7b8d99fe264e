"""`dedup db`."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

import click

from dedupstore.cancel import CancelToken
from dedupstore.cli import consent
from dedupstore.cli.command import group
from dedupstore.cli.database_argument import database_named
from dedupstore.cli.errors import safe
from dedupstore.cli.session import Session
from dedupstore.errors import Refused
from dedupstore.events import Finding
from dedupstore.service import database_look as look
from dedupstore.service import database_swap as service
from dedupstore.units import format_bytes, format_count, format_number


@group("db", examples=["dedup db test blogdb", "dedup db swap sessions /var/lib/blog/app.db.restored"])
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
@click.option("--trust-plan", is_flag=True, help="Go on with an interrupted swap that another machine began.")
@click.pass_obj
def swap(session: Session, database: str, new: str, keep_as: str, trust_plan: bool) -> None:
    """Put a restored database in the place of the one that is used.

    DATABASE is a source of the configuration, or an address; NEW is what `dedup restore --as` was given. The old one is
    kept under another name. Of SQLite nobody may have it open; sessions of PostgreSQL that use one of the two are ended. Of
    MySQL and MariaDB, the same command goes on with a swap that was interrupted.
    """
    found = database_named(session, database)
    given = _given(session)
    live = service.live_name(found, *given)
    joint = ".before-" if found.type == "sqlite" else "_before_"
    kept = (
        service.begun(found, new, live, *given, trusting=trust_plan)
        or keep_as
        or f"{live}{joint}{session.out.compact(session.clock.now_ns())}"
    )
    if not session.settings.yes:
        agreed = session.can_ask and consent.confirm(
            session, f"Put {safe(new)} in the place of {safe(live)}, and keep that as {safe(kept)}?"
        )
        if not agreed:
            raise Refused(
                "not confirmed", why="nothing was changed", hints=["add --yes to agree"], code="refused.not_confirmed"
            )
    service.swap(found, new, live, kept, *given, trusting=trust_plan)
    session.out.line(f"  swapped  {safe(live)} is now what was {safe(new)}")
    session.out.line(f"  kept     the old one is {safe(kept)}")
    session.out.document({"database": safe(live), "was": safe(new), "kept": safe(kept)})


@db.command("list", examples=["dedup db list blogdb", "dedup db list postgresql://backup@127.0.0.1/postgres"])
@click.argument("database", metavar="DATABASE")
@click.pass_obj
def list_(session: Session, database: str) -> None:
    """List the databases of a server."""
    found = look.databases(database_named(session, database), *_given(session))
    session.out.document({"databases": [safe(name) for name in found]})
    for name in found:
        session.out.line(session.out.name(os.fsencode(name)))


@db.command("tables", examples=["dedup db tables blogdb", "dedup db tables sqlite:/var/lib/blog/app.db"])
@click.argument("database", metavar="DATABASE")
@click.pass_obj
def tables(session: Session, database: str) -> None:
    """List the tables of a database, or of all databases of a source, with their rows."""
    found = look.tables(database_named(session, database), *_given(session))
    several = any(table.database for table in found)
    session.out.document(
        {
            "tables": [
                {
                    **({"database": safe(table.database)} if several else {}),
                    "name": safe(table.name),
                    "rows": table.rows,
                }
                for table in found
            ]
        }
    )
    rows = [
        (
            *((safe(table.database),) if several else ()),
            safe(table.name),
            "" if table.rows is None else format_count(table.rows),
        )
        for table in found
    ]
    session.out.table((*(("database",) if several else ()), "table", "rows"), rows, right=("rows",))


@db.command("test", examples=["dedup db test blogdb"])
@click.argument("database", metavar="DATABASE")
@click.pass_obj
def test(session: Session, database: str) -> None:
    """Dump a database to nowhere: whatever would stop a snapshot is told, with what helps."""
    found = look.try_out(database_named(session, database), *_given(session))
    out = session.out
    out.line(f"  server   {safe(found.server)}")
    if found.client:
        out.line(f"  client   {safe(found.client)}")
    out.line(f"  ok       {format_bytes(found.bytes)} in {format_number(len(found.files), 'file')}")
    out.document(
        {
            "server": safe(found.server),
            "client": safe(found.client),
            "files": [safe(name) for name in found.files],
            "bytes": found.bytes,
        }
    )


def _given(session: Session) -> tuple[Mapping[str, str], Callable[[Finding], None], CancelToken]:
    return session.environ, lambda finding: session.out.findings([finding]), session.take_token()
