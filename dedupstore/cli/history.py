"""`dedup history`."""

from __future__ import annotations

import os

import click

from dedupstore.cli import options
from dedupstore.cli.command import command
from dedupstore.cli.errors import safe
from dedupstore.cli.opening import path_argument, quoted, repeated, with_access
from dedupstore.cli.output import path_fields
from dedupstore.cli.searching import Indexing, range_text, size_text, version_fields
from dedupstore.cli.selecting import snapshot_filter
from dedupstore.cli.session import Session
from dedupstore.cli.shapes import moment
from dedupstore.service import find as service
from dedupstore.service.access import Access


@command("history", examples=["dedup history site/index.html", "dedup history etc/hosts --source web1 --json"])
@click.argument("path")
@options.source_option
@options.tag_option
@options.host_option
@click.pass_obj
def history(session: Session, path: str, source: str | None, tags: tuple[str, ...], host: str | None) -> int:
    """Show every version of a path: when, how large, in which snapshots, and what changed.

    PATH is one that dedup ls shows, beginning with the last name of what was stored.
    """
    search = service.Search(filter=snapshot_filter(session, source=source, host=host, tags=tags))
    out, token = session.out, session.take_token()

    def work(access: Access) -> service.History:
        with Indexing(session) as indexing:
            return service.history(access, search, path_argument(path), indexing.listener, token)

    found = with_access(session, work)
    out.findings(found.result.findings)
    out.document(
        {
            **path_fields(found.path),
            "versions": [
                {**version_fields(out, version), "source": safe(version.first.source), "changes": list(version.changes)}
                for version in found.versions
            ],
            "snapshots": found.result.snapshots,
        }
    )
    out.table(
        ("FIRST SEEN", "LAST SEEN", "SNAPSHOTS", "SOURCE", "CHANGED", "SIZE", "WHAT"),
        [_row(session, version) for version in found.versions],
        right=("SIZE",),
    )
    newest = found.versions[-1]
    shown = safe(quoted(os.fsdecode(found.path)))
    out.note(f"bring one back: dedup restore{repeated(session)} --snapshot {newest.last.short} {shown}")
    return found.result.exit_code


def _row(session: Session, version: service.VersionInfo) -> tuple[str, ...]:
    out = session.out
    return (
        out.minute(version.first.time_ns),
        out.minute(version.last.time_ns),
        f"{range_text(out, version)} ({version.snapshots})",
        safe(version.first.source),
        moment(out.minute, version.mtime_ns),
        size_text(version),
        ", ".join(version.changes),
    )
