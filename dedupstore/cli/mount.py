"""`dedup mount`."""

from __future__ import annotations

from pathlib import Path

import click

from dedupstore.cli import options
from dedupstore.cli.command import command
from dedupstore.cli.errors import safe
from dedupstore.cli.opening import quoted, with_access
from dedupstore.cli.output import path_fields
from dedupstore.cli.selecting import selection
from dedupstore.cli.session import Session
from dedupstore.errors import UsageError
from dedupstore.service import mount as service
from dedupstore.service.access import Access


@command(
    "mount",
    examples=["dedup mount /mnt/snapshots", 'dedup mount /mnt/site --source site --at "yesterday 18:00"'],
)
@click.argument("directory", metavar="DIR")
@options.selectors
@click.option("--allow-other", is_flag=True, help="Let other users in, by the modes of the files.")
@click.pass_obj
def mount(
    session: Session, directory: str, at: str | None, snapshot: str | None, source: str | None, host: str | None,
    tags: tuple[str, ...], allow_other: bool,
) -> int:  # fmt: skip
    """Show snapshots as a read-only file system, until Ctrl-C.

    Below DIR are by-time and by-source, each with a directory for every snapshot; new ones appear. With a selection
    (--at, --snapshot, --source, ...) DIR is the one snapshot that it means. Every byte is verified before it is given: what
    is damaged is an input/output error, and a line here. Needs mfusepy (pip install 'dedupstore[mount]') and fuse3.
    """
    if at and snapshot:
        raise UsageError("--at and --snapshot exclude one another")
    one = None
    if at or snapshot or source or host or tags:
        one = selection(session, snapshot=snapshot, at=at, source=source, host=host, tags=tags)
    out = session.out
    request = service.Request(
        target=Path(directory),
        stamp=lambda time_ns: out.minute(time_ns).replace(" ", "_").replace(":", ""),
        one=one,
        allow_other=allow_other,
    )
    out.begin("mount", **path_fields(directory.encode("utf-8", "surrogateescape")))

    def ready() -> None:
        out.note(
            f"mounted at {safe(directory)}; to end it: Ctrl-C, or {safe(service.unmount_command(quoted(directory)))}"
        )
        out.event("mounted")

    def work(access: Access) -> int:
        return service.run(request, access, ready, lambda finding: out.findings([finding]))

    exit_code = with_access(session, work)
    out.note(f"unmounted {safe(directory)}")
    out.finish("ok" if exit_code == 0 else "failed", exit_code=exit_code)
    return exit_code
