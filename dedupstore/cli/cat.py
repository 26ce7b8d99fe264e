"""`dedup cat`."""

from __future__ import annotations

import base64

import click

from dedupstore.cli import options
from dedupstore.cli.command import command
from dedupstore.cli.opening import with_access
from dedupstore.cli.selecting import place, selection
from dedupstore.cli.session import Session
from dedupstore.cli.shapes import entry_fields
from dedupstore.errors import UsageError
from dedupstore.service import look as service
from dedupstore.units import MIB, format_bytes

_MAX_DOCUMENT = 64 * MIB


@command("cat", examples=["dedup cat latest:site/index.html", 'dedup cat --at "2 days ago" :etc/hosts > hosts'])
@click.argument("where", metavar="[SNAP]:PATH")
@options.at_option
@options.source_option
@options.host_option
@click.pass_obj
def cat(session: Session, where: str, at: str | None, source: str | None, host: str | None) -> None:
    """Print one file of a snapshot, every byte of it verified."""
    snapshot, path = place(where)
    if not path:
        raise UsageError("which file?", hints=[f"dedup cat {where or 'latest'}:PATH", "dedup ls latest --recursive"])
    wanted = selection(session, snapshot=snapshot, at=at, source=source, host=host)
    out = session.out
    collected = bytearray()

    def write(data: bytes | memoryview) -> None:
        if not out.json:
            out.raw(data)
            return
        collected.extend(data)
        if len(collected) > _MAX_DOCUMENT:
            raise UsageError(
                f"with --json a file may have {format_bytes(_MAX_DOCUMENT)}", hints=["leave out --json, or restore it"]
            )

    token = session.take_token()
    entry = with_access(session, lambda access: service.read_file(access, wanted, path, write, token))
    if out.json:
        out.document({"entry": entry_fields(out, entry), "content_b64": base64.b64encode(collected).decode("ascii")})
