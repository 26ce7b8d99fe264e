"""`dedup snapshot`, once it is known what was asked for. Loaded while the key is being derived."""

from __future__ import annotations

from importlib import import_module

import click
from click.core import ParameterSource

from dedupstore.cancel import STORED
from dedupstore.cli import progress
from dedupstore.cli.creating import create_if_missing, tell
from dedupstore.cli.database_argument import database_argument
from dedupstore.cli.errors import safe
from dedupstore.cli.gentle import Gentle
from dedupstore.cli.instants import instant
from dedupstore.cli.opening import path_argument, with_access
from dedupstore.cli.session import Session
from dedupstore.cli.snapshot_shapes import outcome_fields, requests_fields, tell_outcome, tell_requests
from dedupstore.errors import UsageError
from dedupstore.service import snapshot as service
from dedupstore.service.access import Access
from dedupstore.service.requests import counted
from dedupstore.units import parse_size


def take(
    session: Session,
    *,
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
    allow_empty: bool,
    command_name: str,
    compression: int,
    host: str,
    time_text: str,
    storage_class: str,
    limit_rate: str,
    nice: int | None,
    ionice: str | None,
) -> int:
    """The request, checked before anything is done, and what becomes of it; the exit code."""
    time_ns = instant(session, time_text or None)
    session.storage_class = storage_class
    gentle = Gentle(limit_rate=limit_rate, nice=nice, ionice=ionice)
    given = click.get_current_context().get_parameter_source("compression") is not ParameterSource.DEFAULT
    if not (command_name or stdin_name) and not (paths and all("/" in path for path in paths)):
        # Loaded only where a source can be meant.
        configured = import_module("dedupstore.cli.snapshot_run")
        if (sources := configured.sources_named(session, paths)) is not None:
            _refuse_options_of_paths(source, exclude, exclude_file, exclude_if_present, exclude_larger_than)
            wanted = configured.Wanted(
                sources=sources, tags=tags, note=note, host=host, time_ns=time_ns, dry_run=dry_run, force=force,
                allow_empty=allow_empty,
                skip_if_unchanged=skip_if_unchanged, level=compression if given else None, gentle=gentle,
            )  # fmt: skip
            return int(configured.run(session, wanted, init=init))
    database = None if command_name else database_argument(paths)
    if database is not None:
        _refuse_options_of_paths(exclude, exclude_file, exclude_if_present, exclude_larger_than)
    request = service.Request(
        paths=() if command_name or database is not None else tuple(path_argument(path) for path in paths),
        database=None if database is None else database[0],
        command=_command_line(command_name, paths),
        stdin_fd=_stdin(session, stdin_name),
        allow_empty=allow_empty,
        name=command_name or stdin_name,
        source=source or ("" if database is None else database[1]),
        host=host,
        tags=tags,
        note=note,
        time_ns=time_ns,
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
        pace=gentle.begin(session),
    )
    service.check(request)
    return _run(session, request, init=init)


def _refuse_options_of_paths(*given: object) -> None:
    if any(given):
        raise UsageError(
            "what a source is, and what it leaves out, stands in the configuration",
            hints=["change it there: dedup config show", "or name paths instead of sources"],
        )


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
    place = session.require_place()
    sent = counted(place.url)
    made = None if request.dry_run else create_if_missing(session, place, init=init)

    def taken(access: Access) -> service.Outcome:
        with progress.showing(session) as listener:
            return service.run(request, access, listener, session.take_token(STORED))

    if made is None:
        outcome = with_access(session, taken)
    else:
        access, created, kit_path = made
        tell(session, created, kit_path)
        out.event("created", repository=created.id, url=created.url, recovery_kit=kit_path or None)
        outcome = taken(access)
    tell_outcome(session, outcome)
    requests = sent()
    tell_requests(out, requests)
    status = "warnings" if outcome.exit_code else "ok"
    out.finish(status, exit_code=outcome.exit_code, **outcome_fields(out, outcome), **requests_fields(requests))
    return outcome.exit_code
