"""`dedup undo-forget`."""

from __future__ import annotations

import click

from dedupstore.cli import progress
from dedupstore.cli.command import command
from dedupstore.cli.errors import safe
from dedupstore.cli.opening import with_access
from dedupstore.cli.session import Session
from dedupstore.cli.shapes import snapshot_fields
from dedupstore.errors import UsageError
from dedupstore.service import forget as service
from dedupstore.service.access import Access
from dedupstore.service.records import SnapshotInfo


@command("undo-forget", examples=["dedup undo-forget --list", "dedup undo-forget 4kq2-m8"])
@click.argument("identifier", required=False, metavar="[ID]")
@click.option("--list", "only_list", is_flag=True, help="List what can be brought back.")
@click.pass_obj
def undo_forget(session: Session, identifier: str | None, only_list: bool) -> None:
    """Bring a forgotten snapshot back.

    It becomes a new snapshot with a new id, of the same files, time, source, tags and note, after everything it needs
    was found to be there. Possible until a prune has freed its space, seven days after it was forgotten at the earliest.
    """
    if (identifier is None) != only_list:
        raise UsageError("give an ID, or --list", hints=["dedup undo-forget --list"])
    if identifier is None:
        _list(session)
    else:
        _undo(session, identifier)


def _list(session: Session) -> None:
    out = session.out
    found = with_access(session, service.forgotten)
    out.document(
        {
            "forgotten": [
                {
                    "snapshot": snapshot_fields(out, row.snapshot),
                    "forgotten": out.timestamp(row.forgotten_ns),
                    "until": out.timestamp(row.until_ns),
                }
                for row in found
            ]
        }
    )
    if found:
        rows = [
            (
                row.snapshot.short,
                out.minute(row.snapshot.time_ns),
                safe(row.snapshot.source),
                safe(row.snapshot.host),
                out.minute(row.forgotten_ns),
                out.minute(row.until_ns),
            )
            for row in found
        ]
        out.table(("ID", "TIME", "SOURCE", "HOST", "FORGOTTEN", "SURE UNTIL"), rows)
    else:
        out.note("nothing that was forgotten can be brought back")


def _undo(session: Session, identifier: str) -> None:
    out = session.out
    out.begin("undo-forget")

    def work(access: Access) -> SnapshotInfo:
        with progress.showing(session) as listener:
            return service.undo(access, identifier, listener)

    found = with_access(session, work)
    out.line(f'  snapshot {found.short} "{safe(found.source)}" {out.minute(found.time_ns)} is what {identifier} was')
    out.finish("ok", snapshot=snapshot_fields(out, found), was=identifier)
