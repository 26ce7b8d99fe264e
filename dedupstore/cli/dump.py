"""`dedup dump`."""

from __future__ import annotations

from pathlib import Path

import click

from dedupstore.cli import options, progress
from dedupstore.cli.command import command
from dedupstore.cli.errors import safe
from dedupstore.cli.opening import with_access
from dedupstore.cli.selecting import place, selection
from dedupstore.cli.session import Session
from dedupstore.cli.shapes import snapshot_fields
from dedupstore.errors import UsageError
from dedupstore.service import dump as service
from dedupstore.service.access import Access
from dedupstore.units import format_bytes, format_number


@command(
    "dump",
    examples=[
        "dedup dump latest:site > site.tar",
        "dedup dump 4kq2-m8:site/uploads --format zip -o uploads.zip",
        "dedup dump latest | ssh web2 tar -xpf - -C /srv",
    ],
)
@click.argument("where", metavar="[SNAP[:PATH]]", default="")
@options.at_option
@options.source_option
@options.host_option
@click.option(
    "--format", "format_", type=click.Choice(list(service.FORMATS)), help="Default: as FILE is named, or tar."
)
@click.option("-o", "--output", metavar="FILE", help="A new file; standard output without it.")
@click.pass_obj
def dump(
    session: Session, where: str, at: str | None, source: str | None, host: str | None, format_: str | None,
    output: str | None,
) -> int:  # fmt: skip
    """Write a directory of a snapshot as one archive, every byte of it verified.

    A tar archive keeps times to the nanosecond, owners, links, attributes and odd names; a zip archive keeps less, and
    says so. When stored data is damaged the archive stops there, without an end, and the exit code is 4.
    """
    snapshot, path = place(where)
    if output is None and session.out.terminal:
        raise UsageError("an archive is not for a terminal", hints=["redirect it: > FILE", "or name a file: -o FILE"])
    if output is None and session.out.json:
        raise UsageError("standard output cannot be the archive and JSON", hints=["name a file: -o FILE"])
    request = service.Request(
        selection=selection(session, snapshot=snapshot, at=at, source=source, host=host),
        path=path,
        format=format_ or ("zip" if output is not None and output.lower().endswith(".zip") else "tar"),
    )
    out, token = session.out, session.take_token()
    out.begin("dump")

    def work(access: Access) -> service.Outcome:
        with progress.showing(session) as listener:
            if output is None:
                return service.to_reader(request, access, out.raw, listener, token)
            return service.to_file(request, access, Path(output), listener, token)

    done = with_access(session, work)
    out.note(
        f"  dumped   {format_number(done.files, 'file')}, {format_bytes(done.bytes)} of {done.snapshot.short} "
        f"({out.minute(done.snapshot.time_ns)}) to {safe(output) if output else 'standard output'}"
    )
    if done.findings:
        out.note(f"  {format_number(len(done.findings), 'warning')} (exit code {done.exit_code})")
    out.finish(
        "warnings" if done.findings else "ok",
        exit_code=done.exit_code,
        snapshot=snapshot_fields(out, done.snapshot),
        files=done.files,
        directories=done.directories,
        others=done.others,
        bytes=done.bytes,
    )
    return done.exit_code
