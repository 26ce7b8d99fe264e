"""`dedup export`."""

from __future__ import annotations

from pathlib import Path

import click

from dedupstore.cli import options, progress
from dedupstore.cli.command import command
from dedupstore.cli.database_restore import configured
from dedupstore.cli.errors import safe
from dedupstore.cli.opening import with_access
from dedupstore.cli.selecting import selection
from dedupstore.cli.session import Session
from dedupstore.cli.shapes import snapshot_fields
from dedupstore.errors import UsageError
from dedupstore.service import export as service
from dedupstore.service.access import Access
from dedupstore.units import format_bytes, format_number

_STANDARD_OUTPUT = "-"


@command(
    "export",
    examples=[
        "dedup export --source blogdb --to /srv/dumps",
        "dedup export --source shop --at '03:00'",
        "dedup export --source blogdb --to - | psql blog_copy",
    ],
)
@click.argument("which", metavar="[DATABASE]", default="")
@options.selectors
@click.option("--to", "target", metavar="DIR", default=".", help="Into this directory; - is standard output.")
@click.pass_obj
def export(
    session: Session,
    which: str,
    at: str | None,
    snapshot: str | None,
    source: str | None,
    host: str | None,
    tags: tuple[str, ...],
    target: str,
) -> int:
    """Write databases of a snapshot as plain dumps that need no dedup: backup_TYPE_TIME_SOURCE.sql.

    psql, mariadb or mysql take them as they are; a copy of SQLite is a database, and ends in .db. Without DATABASE all
    of the snapshot are written, and its globals.sql beside them. Nothing is overwritten.
    """
    out, token = session.out, session.take_token()
    to_reader = target == _STANDARD_OUTPUT
    if to_reader and out.terminal:
        raise UsageError("a dump is not for a terminal", hints=["redirect it: > FILE", "or name a directory: --to DIR"])
    if to_reader and out.json:
        raise UsageError("standard output cannot be the dump and JSON", hints=["name a directory: --to DIR"])
    request = service.Request(
        selection=selection(session, snapshot=snapshot, at=at, source=source, host=host, tags=tags),
        time_name=out.compact,
        which=which,
        configured=lambda name: configured(session, name),
    )
    out.begin("export")

    def work(access: Access) -> service.Outcome:
        with progress.showing(session) as listener:
            if to_reader:
                return service.to_reader(request, access, out.raw, listener, token)
            return service.to_directory(request, access, Path(target), listener, token)

    done = with_access(session, work)
    info = done.snapshot
    out.note(f"  source   {safe(info.source)}, snapshot {info.short} of {out.minute(info.time_ns)}")
    for file in done.files:
        tables = f", {format_number(file.tables, 'table')}" if file.database else ""
        if file.path:
            out.line(f"  exported {safe(file.path)}   {format_bytes(file.bytes)}{tables}")
        else:
            out.note(f"  exported {safe(file.database)} to standard output   {format_bytes(file.bytes)}{tables}")
    out.finish(
        "ok",
        snapshot=snapshot_fields(out, info),
        files=[
            {"database": safe(file.database) or None, "path": safe(file.path), "bytes": file.bytes}
            for file in done.files
        ],
    )
    return 0
