"""`dedup snapshot` of sources of the configuration: one run over some of them, or all."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module

from dedupstore.cancel import STORED
from dedupstore.cli import progress
from dedupstore.cli.creating import create_if_missing, tell
from dedupstore.cli.errors import document as error_document
from dedupstore.cli.errors import safe
from dedupstore.cli.gentle import Gentle
from dedupstore.cli.opening import opened, repeated
from dedupstore.cli.session import REPO, Place, Session
from dedupstore.cli.several import Several
from dedupstore.cli.snapshot_shapes import outcome_fields, requests_fields, tell_outcome, tell_requests
from dedupstore.errors import DedupError, Interrupted, NothingMatches, UsageError
from dedupstore.events import Listener
from dedupstore.service import configured, runs
from dedupstore.service.access import Access
from dedupstore.service.config_schema import StdinSource
from dedupstore.service.pace import Pace
from dedupstore.service.requests import counted
from dedupstore.units import format_number

DEFAULT = ""
"""Among names of repositories: the one of the call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What the call says. `sources` are names; none for all."""

    sources: tuple[str, ...]
    tags: tuple[str, ...]
    note: str
    host: str
    time_ns: int | None
    dry_run: bool
    force: bool
    allow_empty: bool
    skip_if_unchanged: bool
    level: int | None
    gentle: Gentle


def sources_named(session: Session, words: Sequence[str]) -> tuple[str, ...] | None:
    """The words as names of sources, none for all of them; None when they are paths. Raises UsageError for a mixture."""
    if not words:
        if not session.configuration().config.sources:
            raise UsageError(
                "nothing to take a snapshot of",
                why="no path is given, and the configuration has no source",
                hints=["dedup snapshot /srv/site", "dedup config init"],
            )
        return ()
    known = session.configuration().config.sources
    named = [word for word in words if word in known]
    if not named:
        return None
    if len(named) < len(words):
        other = next(word for word in words if word not in known)
        raise UsageError(
            f"{safe(named[0])} is a source of the configuration, and {safe(other)} is not",
            why="sources and paths are not mixed in one call",
            hints=["write ./NAME for a path", *(f"there is: {name}" for name in known)][:4],
        )
    return tuple(named)


def run(session: Session, wanted: Wanted, *, init: bool) -> int:
    out, loaded = session.out, session.configuration()
    out.begin("snapshot", source=safe(wanted.sources[0]) if len(wanted.sources) == 1 else None)
    tasks = _tasks(session, wanted, wanted.gentle.begin(session, loaded.config))
    repos = tuple(dict.fromkeys(repo for task in tasks for repo in task.repos))
    sent = [counted(url) for url in dict.fromkeys(_place(session, repo).url for repo in repos)]
    # Before anything is taken: nobody wants to be asked for a passphrase after an hour.
    accesses = {repo: _open(session, _place(session, repo), wanted, init=init, only=len(repos) == 1) for repo in repos}
    for task in tasks:
        if isinstance(task.source, StdinSource) and len(task.repos) > 1:
            _require_one_repository(task, accesses)
    alone = len(tasks) == 1 and len(repos) == 1
    concurrent = 1 if len(tasks) == 1 else loaded.config.max_concurrent
    token = session.take_token(STORED)
    told: list[runs.Result] = []

    def tell_result(result: runs.Result) -> None:
        told.append(result)
        if concurrent == 1:
            _tell(session, result, several=len(repos) > 1, alone=alone)

    with contextlib.ExitStack() as stack:
        shared = Several(stack.enter_context(progress.showing(session))) if concurrent > 1 else None

        if shared is not None:
            # Also what the repositories have to tell comes from several threads.
            accesses = {
                repo: access if isinstance(access, DedupError) else replace(access, note=shared.finding)
                for repo, access in accesses.items()
            }

        @contextlib.contextmanager
        def watch(source: str, repo: str) -> Iterator[Listener]:
            if shared is not None:
                with shared.watching() as listener:
                    yield listener
                return
            with progress.showing(session) as reporter:
                yield reporter

        results = runs.run(tasks, accesses, session.environ, watch, tell_result, token, max_concurrent=concurrent)
    if concurrent > 1:
        for result in results:
            _tell(session, result, several=len(repos) > 1, alone=alone)
    return _end(session, results, _together(sent), alone=alone)


def _together(sent: Sequence[Callable[[], Mapping[str, int]]]) -> Mapping[str, int]:
    """The requests to all repositories."""
    total: Counter[str] = Counter()
    for since in sent:
        total.update(since())
    return dict(sorted(total.items()))


def _tasks(session: Session, wanted: Wanted, pace: Pace | None) -> list[runs.Task]:
    loaded = session.configuration()
    options = configured.Options(
        tags=wanted.tags,
        note=wanted.note,
        host=wanted.host,
        time_ns=session.clock.now_ns() if wanted.time_ns is None else wanted.time_ns,
        run=os.urandom(16),
        dry_run=wanted.dry_run,
        skip_if_unchanged=wanted.skip_if_unchanged,
        force=wanted.force,
        level=wanted.level,
        pace=pace,
        allow_empty=wanted.allow_empty,
        stdin_fd=None if session.stdin.isatty() else _descriptor(session),
    )
    # A flag says where this call goes; the variable only which repository is the default.
    flag = session.settings.repo if session.settings.repo != session.environ.get("DEDUP_REPO") else None
    tasks = []
    for name in configured.names_of(loaded, wanted.sources):
        source = loaded.source(name)
        repos = (DEFAULT,) if flag or not source.repos else tuple(dict.fromkeys(source.repos))
        if isinstance(source, StdinSource) and len(wanted.sources) > 1:
            raise UsageError(
                f'the source "{name}" is piped in, and can be read once',
                hints=[f"by itself: COMMAND | dedup snapshot {name}"],
            )
        tasks.append(runs.Task(source=source, request=configured.request_of(loaded, name, options), repos=repos))
    if not tasks:
        raise NothingMatches("every source of the configuration is piped in", hints=["COMMAND | dedup snapshot NAME"])
    return tasks


def _require_one_repository(task: runs.Task, accesses: Mapping[str, Access | DedupError]) -> None:
    """What is piped in is there once: repositories with keys of their own cannot share a reading of it."""
    there = [access for repo in task.repos if not isinstance(access := accesses[repo], DedupError)]
    if there and not import_module("dedupstore.service.carried").is_one(there):
        name = safe(task.request.source)
        raise UsageError(
            f'the source "{name}" is piped in, and its repositories have keys of their own',
            why="each of them would have to read it",
            hints=[
                f"into one: COMMAND | dedup snapshot {name} -r repo:NAME",
                "and from there: dedup copy -r repo:NAME --to repo:OTHER",
                "or make the second by: dedup mirror --to URL --init",
            ],
        )


def _descriptor(session: Session) -> int | None:
    try:
        return session.stdin.fileno()
    except OSError:
        return None


def _place(session: Session, repo: str) -> Place:
    return session.require_place() if repo == DEFAULT else session.in_past(session.resolved(f"{REPO}{repo}"))


def _open(session: Session, place: Place, wanted: Wanted, *, init: bool, only: bool) -> Access | DedupError:
    """The way in, or why there is none: other repositories get their snapshots all the same.

    Also where its passphrase cannot be had: a stick that is not plugged in must not keep all others from being written.
    """
    try:
        made = None if wanted.dry_run else create_if_missing(session, place, init=init)
        if made is None:
            return opened(session, place)
    except Interrupted:
        raise
    except DedupError as error:
        if only and isinstance(error, UsageError):
            raise
        return error
    access, created, kit_path = made
    tell(session, created, kit_path)
    session.out.event("created", repository=created.id, url=created.url, recovery_kit=kit_path or None)
    return access


def _tell(session: Session, result: runs.Result, *, several: bool, alone: bool) -> None:
    out = session.out
    if result.error is not None and alone:
        return
    where = f" in {_place(session, result.repo).url}" if several else ""
    if result.outcome is not None:
        out.line(f'  source   "{safe(result.source)}"{safe(where)}')
        tell_outcome(session, result.outcome, last=alone)
    else:
        out.line(f'  failed   "{safe(result.source)}"{safe(where)}: no snapshot')
    for error in (result.error, result.hook):
        if error is not None:
            out.complain(error)
    if not alone:
        out.event("result", **_fields(session, result))


def _end(session: Session, results: Sequence[runs.Result], sent: Mapping[str, int], *, alone: bool) -> int:
    out = session.out
    requests = requests_fields(sent)
    tell_requests(out, sent)
    code = runs.worst([result.exit_code for result in results])
    if alone:
        (result,) = results
        if result.error is not None:
            raise result.error
        assert result.outcome is not None
        out.finish(result.status, exit_code=code, **outcome_fields(out, result.outcome), **requests)
        return code
    failed = sum(result.error is not None for result in results)
    text = f"{len(results) - failed} of {format_number(len(results), 'snapshot')} taken"
    out.line(f"  run      {text}{f', {failed} failed (exit code {code})' if failed else ''}")
    if not failed:
        out.note(f"  next: dedup restore{repeated(session)} --at now --to ./restored")
    interrupted = any(isinstance(result.error, Interrupted) for result in results)
    status = "interrupted" if interrupted else "failed" if failed else "warnings" if code else "ok"
    out.finish(status, exit_code=code, results=[_fields(session, result) for result in results], **requests)
    return code


def _fields(session: Session, result: runs.Result) -> dict[str, object]:
    place = _place(session, result.repo)
    common = {
        "source": safe(result.source),
        "repo": place.name or None,
        "url": safe(place.url),
        "status": result.status,
        "exit_code": result.exit_code,
        "hook": None if result.hook is None else error_document(result.hook),
    }
    if result.outcome is None:
        assert result.error is not None
        return {**common, "snapshot": None, "error": error_document(result.error)}
    return {**common, **outcome_fields(session.out, result.outcome)}
