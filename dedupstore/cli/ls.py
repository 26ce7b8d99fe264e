"""`dedup ls`."""

from __future__ import annotations

import click

from dedupstore.cli import options
from dedupstore.cli.command import command
from dedupstore.cli.opening import with_access
from dedupstore.cli.selecting import place, selection
from dedupstore.cli.session import Session
from dedupstore.cli.shapes import entry_fields, mode_text, moment, owner, snapshot_fields
from dedupstore.service import look as service
from dedupstore.service.access import Access
from dedupstore.service.records import EntryInfo, SnapshotInfo


@command(
    "ls",
    examples=["dedup ls latest", "dedup ls 4kq2-m8:site/uploads --long", 'dedup ls --at "yesterday 18:00" --recursive'],
)
@click.argument("where", metavar="[SNAP[:PATH]]", default="")
@options.at_option
@options.source_option
@options.host_option
@click.option("-l", "--long", "long", is_flag=True, help="Mode, owner, size and time of each.")
@click.option("-R", "--recursive", is_flag=True, help="Everything below, not only the directory itself.")
@click.pass_obj
def ls(
    session: Session, where: str, at: str | None, source: str | None, host: str | None, long: bool, recursive: bool
) -> None:
    """List the files in a snapshot.

    SNAP is an id (4 letters are enough), latest, latest~2 or @tag:NAME; the newest snapshot when it is left out.
    """
    snapshot, path = place(where)
    wanted = selection(session, snapshot=snapshot, at=at, source=source, host=host)
    out = session.out
    entries: list[dict[str, object]] = []

    def visit(entry: EntryInfo) -> None:
        if out.json:
            entries.append(entry_fields(out, entry))
        elif long:
            out.line(_long(session, entry))
        else:
            out.line(out.name(entry.path) + ("/" if entry.kind == "d" else ""))

    def work(access: Access) -> SnapshotInfo:
        return service.list_files(access, wanted, path, recursive=recursive, visit=visit)

    found = with_access(session, work)
    out.document({"snapshot": snapshot_fields(out, found), "entries": entries})


def _long(session: Session, entry: EntryInfo) -> str:
    out = session.out
    target = f" -> {out.name(entry.target)}" if entry.target else ""
    return (
        f"{mode_text(entry)}  {owner(entry.user, entry.uid):<8} {owner(entry.group, entry.gid):<8} "
        f"{entry.size:>12} {moment(out.minute, entry.mtime_ns)}  {out.name(entry.path)}{target}"
    )
