"""`dedup restore --as`: a database that becomes a new one."""

from __future__ import annotations

import shlex

from dedupstore.cli import progress
from dedupstore.cli.database_argument import database_named
from dedupstore.cli.errors import safe
from dedupstore.cli.opening import with_access
from dedupstore.cli.session import Session
from dedupstore.cli.shapes import snapshot_fields
from dedupstore.service import database_restore as service
from dedupstore.service.access import Access
from dedupstore.service.config_schema import SqliteSource
from dedupstore.service.databases import DATABASES, Database
from dedupstore.service.selection import Selection
from dedupstore.units import format_bytes, format_duration, format_number


def run(
    session: Session,
    wanted: Selection,
    which: str,
    name: str,
    server: str,
    *,
    tables: tuple[str, ...],
    owners: bool | None,
    with_globals: bool,
) -> int:
    out, token = session.out, session.take_token()
    out.begin("restore", source=safe(wanted.source) or None)
    request = service.Request(
        selection=wanted,
        name=name,
        which=which,
        tables=tables,
        target=lambda source: database_named(session, server) if server else configured(session, source),
        owners=owners,
        with_globals=with_globals,
    )

    def work(access: Access) -> service.Outcome:
        with progress.showing(session) as listener:
            return service.run(request, access, listener, token)

    outcome = with_access(session, work)
    snapshot = outcome.snapshot
    out.line(f"  source   {safe(snapshot.source)}, snapshot {snapshot.short} of {out.minute(snapshot.time_ns)}")
    out.line(
        f"  restored {format_bytes(outcome.bytes)} as {safe(name)}   {format_number(outcome.tables, 'table')}, "
        f"{format_number(outcome.rows, 'row')}   {format_duration(outcome.seconds)}"
    )
    if outcome.exit_code:
        out.note(f"  {format_number(len(outcome.findings), 'difference')} (exit code {outcome.exit_code})")
    else:
        out.note(
            f"  next: look at it, and then: dedup db swap {shlex.quote(safe(snapshot.source))} {shlex.quote(safe(name))}"
        )
    out.finish(
        "warnings" if outcome.exit_code else "ok",
        exit_code=outcome.exit_code,
        snapshot=snapshot_fields(out, snapshot),
        database=safe(name),
        bytes={"written": outcome.bytes},
        tables=outcome.tables,
        rows=outcome.rows,
    )
    return outcome.exit_code


def configured(session: Session, source: str) -> Database | None:
    """What the configuration says of the source: the server that it is, and the password."""
    if source not in session.configuration().config.sources:
        return None
    found = session.configuration().source(source)
    return found if isinstance(found, DATABASES) and not isinstance(found, SqliteSource) else None
