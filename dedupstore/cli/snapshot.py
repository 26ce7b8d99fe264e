"""`dedup snapshot`."""

from __future__ import annotations

import click

from dedupstore.cli import options, progress
from dedupstore.cli.command import command
from dedupstore.cli.creating import create_if_missing, tell
from dedupstore.cli.errors import safe
from dedupstore.cli.opening import path_argument, repeated, with_access
from dedupstore.cli.session import Session
from dedupstore.cli.shapes import count_fields, files_text, snapshot_fields, stored_text
from dedupstore.errors import UsageError
from dedupstore.service import snapshot as service
from dedupstore.service import times
from dedupstore.service.access import Access
from dedupstore.units import format_bytes, format_duration, format_number, parse_size


@command(
    "snapshot",
    examples=[
        "dedup snapshot ~/site -r /mnt/backup",
        "dedup snapshot /srv/blog /etc/nginx --source blog --exclude '*.tmp' --exclude-caches",
        "dedup snapshot --command blog.sql -- pg_dump --no-password blog",
    ],
)
@click.argument("paths", nargs=-1, metavar="[PATH]...", type=click.UNPROCESSED)
@click.option("--init", "init", is_flag=True, help="Create the repository when there is none.")
@click.option("--source", metavar="NAME", default="", help="What this is called; the paths themselves otherwise.")
@click.option("--tag", "tags", metavar="TAG", multiple=True, help="A tag for the snapshot; repeatable.")
@click.option("--note", metavar="TEXT", default="", help="A note for the snapshot.")
@click.option(
    "--exclude", metavar="PATTERN", multiple=True, help="Leave out what matches, as in .gitignore; repeatable."
)
@click.option("--exclude-file", metavar="FILE", multiple=True, help="Read patterns from a file; repeatable.")
@click.option("--exclude-if-present", metavar="NAME", multiple=True, help="Leave out directories that hold NAME.")
@click.option("--exclude-caches", is_flag=True, help="Leave out directories marked by a CACHEDIR.TAG.")
@click.option("--exclude-larger-than", metavar="SIZE", default="", help="Leave out larger files.")
@click.option("--exclude-nodump", is_flag=True, help="Leave out what `chattr +d` marks.")
@click.option("--one-file-system", is_flag=True, help="Do not go into other file systems.")
@options.dry_run_option
@click.option("--skip-if-unchanged", is_flag=True, help="Make no snapshot when nothing has changed.")
@click.option("--force", is_flag=True, help="Read all files again, also those that look unchanged.")
@click.option("--stdin", "stdin_name", metavar="NAME", default="", help="Store standard input as a file NAME.")
@click.option("--command", "command_name", metavar="NAME", default="", help="Store the output of a command as NAME.")
@click.option("--compression", metavar="LEVEL", type=int, default=3, help="1 (fast) to 19 (small); 3 by default.")
@click.option("--host", metavar="NAME", default="", help="Instead of the name of this machine.")
@click.option("--time", "time_text", metavar="TIME", default="", help="Instead of now; for importing old copies.")
@click.pass_obj
def snapshot(
    session: Session,
    paths: tuple[str, ...],
    init: bool,
    source: str,
    tags: tuple[str, ...],
    note: str,
    exclude: tuple[str, ...],
    exclude_file: tuple[str, ...],
    exclude_if_present: tuple[str, ...],
    exclude_caches: bool,
    exclude_larger_than: str,
    exclude_nodump: bool,
    one_file_system: bool,
    dry_run: bool,
    skip_if_unchanged: bool,
    force: bool,
    stdin_name: str,
    command_name: str,
    compression: int,
    host: str,
    time_text: str,
) -> int:
    """Store files as they are now.

    Each PATH appears in the snapshot under its last name. The next snapshot of the same source reads only what
    changed. With --command NAME -- CMD..., the output of a command is stored; if it fails there is no snapshot.
    """
    request = service.Request(
        paths=() if command_name else tuple(path_argument(path) for path in paths),
        command=_command_line(command_name, paths),
        stdin_fd=_stdin(session, stdin_name),
        name=command_name or stdin_name,
        source=source,
        host=host,
        tags=tags,
        note=note,
        time_ns=times.instant(time_text, session.clock, session.environ, utc=session.settings.utc)
        if time_text
        else None,
        exclude=exclude,
        exclude_files=tuple(path_argument(path) for path in exclude_file),
        exclude_if_present=tuple(path_argument(name) for name in exclude_if_present),
        exclude_caches=exclude_caches,
        exclude_nodump=exclude_nodump,
        exclude_larger_than=parse_size(exclude_larger_than) if exclude_larger_than else None,
        one_file_system=one_file_system,
        dry_run=dry_run,
        skip_if_unchanged=skip_if_unchanged,
        force=force,
        level=compression,
    )
    service.check(request)
    return _run(session, request, init=init)


def _command_line(name: str, words: tuple[str, ...]) -> tuple[str, ...]:
    if name and not words:
        raise UsageError("--command needs a command", hints=[f"dedup snapshot --command {name} -- pg_dump blog"])
    return words if name else ()


def _stdin(session: Session, name: str) -> int | None:
    if not name:
        return None
    if session.stdin.isatty():
        raise UsageError(
            "--stdin reads a pipe, and this is a terminal", hints=[f"pg_dump blog | dedup snapshot --stdin {name}"]
        )
    return session.stdin.fileno()


def _run(session: Session, request: service.Request, *, init: bool) -> int:
    out = session.out
    out.begin("snapshot", source=safe(request.source) or None)
    made = None if request.dry_run else create_if_missing(session, session.require_place(), init=init)

    def take(access: Access) -> service.Outcome:
        with progress.showing(session) as listener:
            return service.run(request, access, listener, session.take_token())

    if made is None:
        outcome = with_access(session, take)
    else:
        access, created, kit_path = made
        tell(session, created, kit_path)
        out.event("created", repository=created.id, url=created.url, recovery_kit=kit_path or None)
        outcome = take(access)
    _tell(session, outcome)
    return outcome.exit_code


def _tell(session: Session, outcome: service.Outcome) -> None:
    out, counts = session.out, outcome.counts
    out.line(
        f"  {_title(outcome)}  {files_text(counts, first=outcome.first)}  {format_bytes(counts.bytes_read)} read   "
        f"{_stored(outcome)}   {format_duration(outcome.seconds)}"
    )
    missing = sum(finding.severity != "note" for finding in outcome.findings)
    if missing:
        out.note(
            f"  {format_number(missing, 'warning')}: the snapshot holds everything else (exit code {outcome.exit_code})"
        )
    if outcome.snapshot is not None:
        _tell_snapshot(session, outcome)
    fields: dict[str, object] = {
        "snapshot": None if outcome.snapshot is None else snapshot_fields(out, outcome.snapshot),
        "source": safe(outcome.source),
        "dry_run": outcome.dry_run,
        "unchanged": outcome.unchanged,
        **count_fields(counts),
    }
    out.finish("warnings" if outcome.exit_code else "ok", exit_code=outcome.exit_code, **fields)


def _tell_snapshot(session: Session, outcome: service.Outcome) -> None:
    out, snapshot = session.out, outcome.snapshot
    assert snapshot is not None
    when = out.minute(snapshot.time_ns)
    if outcome.unchanged:
        out.line(f'  nothing changed since snapshot {snapshot.short} "{safe(snapshot.source)}" of {when}')
        return
    out.line(f'  snapshot {snapshot.short} "{safe(snapshot.source)}" {when}')
    where = repeated(session)
    out.note(f"  next: dedup restore{where} --at now --to ./restored     see: dedup ls{where} {snapshot.short}")


def _title(outcome: service.Outcome) -> str:
    return "would store" if outcome.dry_run else "stored  "


def _stored(outcome: service.Outcome) -> str:
    counts = outcome.counts
    return f"{format_bytes(counts.bytes_new)} new, before compression" if outcome.dry_run else stored_text(counts)
