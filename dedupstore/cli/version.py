"""`dedup version`."""

from __future__ import annotations

import dataclasses

import click

from dedupstore.cli.command import command
from dedupstore.cli.session import Session
from dedupstore.service import version as service

_CHUNKERS = {"c": "C kernel", "python": "Python (slow; the C kernel was not built)"}


@command("version", examples=["dedup version", "dedup version --json"])
@click.pass_obj
def version(session: Session) -> None:
    """Show the versions of dedup and its libraries."""
    found = service.run()
    out = session.out
    out.document(dataclasses.asdict(found))
    out.line(f"dedup {found.version}")
    out.line(f"Python {found.python} on {found.platform}")
    out.line(f"chunker: {_CHUNKERS.get(found.chunker, found.chunker)}")
    out.line()
    out.table(("LIBRARY", "VERSION"), [(name, known or "not installed") for name, known in found.libraries.items()])
