"""Take one snapshot: of paths, of a command's output, or of a stream."""

from __future__ import annotations

import os
import socket
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from importlib import import_module
from typing import TYPE_CHECKING

from dedupstore import __version__
from dedupstore.cancel import CancelToken
from dedupstore.engine.snapshot import SnapshotPlan, SnapshotResult, take_snapshot
from dedupstore.engine.tally import Pace
from dedupstore.errors import SourceFailed, UsageError
from dedupstore.events import Finding, Listener
from dedupstore.repo.config import Operation
from dedupstore.repo.repository import Repository
from dedupstore.service.access import Access
from dedupstore.service.opened import open_repository, with_repository
from dedupstore.service.records import Counts, SnapshotInfo, counts_of, snapshot_info
from dedupstore.service.texts import require_text
from dedupstore.sources.base import NamedStream, StreamSource
from dedupstore.sources.command import CommandStream, StdinStream
from dedupstore.sources.exclude import Excluder, ExcludeRules
from dedupstore.sources.roots import resolve_roots
from dedupstore.units import printable

if TYPE_CHECKING:
    from dedupstore.service.databases import Database

MAX_LEVEL = 19


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What to snapshot. Exactly one of `paths`, `command`, `stdin_fd` and `database` says where the bytes come from."""

    paths: tuple[bytes, ...] = ()
    command: tuple[str, ...] = ()
    stdin_fd: int | None = None
    allow_empty: bool = False
    """Whether a standard input without a byte is a file without a byte, and no failure."""

    database: Database | None = None
    name: str = ""
    """The file name under which a stream is kept."""

    source: str = ""
    host: str = ""
    user: str = ""
    tags: tuple[str, ...] = ()
    note: str = ""
    time_ns: int | None = None
    exclude: tuple[str, ...] = ()
    exclude_files: tuple[bytes, ...] = ()
    exclude_if_present: tuple[bytes, ...] = ()
    exclude_caches: bool = False
    exclude_nodump: bool = False
    exclude_larger_than: int | None = None
    one_file_system: bool = False
    dry_run: bool = False
    skip_if_unchanged: bool = False
    force: bool = False
    level: int = 3
    timeout_seconds: float | None = None
    """How long a command may take."""

    withheld: frozenset[str] = frozenset()
    """Variables that a command is not to see: they hold secrets."""

    run: bytes | None = None
    """The 16 bytes that the snapshots of one run have in common; None for a run of its own."""

    details: tuple[tuple[str, str], ...] = ()
    """More for the record, as pairs."""

    pace: Pace | None = None
    """What keeps reading to a rate; shared by all sources of a run. None: as fast as it goes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of it. `exit_code` is 3 when files are missing from the snapshot."""

    snapshot: SnapshotInfo | None
    source: str
    counts: Counts
    findings: tuple[Finding, ...]
    unchanged: bool
    dry_run: bool
    first: bool
    seconds: float
    rolled_back: bool = False
    """Whether storage shows an older state than this machine has seen. The snapshot is whole all the same."""

    @property
    def exit_code(self) -> int:
        return 3 if self.rolled_back or any(finding.severity != "note" for finding in self.findings) else 0


def run(request: Request, access: Access, listener: Listener, cancel: CancelToken) -> Outcome:
    """Raises SourceFailed (no snapshot was made), RepositoryError (none either), Interrupted."""
    check(request)
    try:
        return _take(request, access, listener, cancel)
    except SourceFailed as error:
        if error.code != "database.altered":
            raise
        message = f"{error.message}: {error.why}; it is dumped again"
        access.note(Finding(code="database.altered", message=message, severity="note"))
        return _take(request, access, listener, cancel)


def _take(request: Request, access: Access, listener: Listener, cancel: CancelToken) -> Outcome:
    with ExitStack() as stack:
        began_ns = access.clock.now_ns()
        opened = _open_streams(request, access, cancel, stack)
        plan = _plan(request, opened, None if opened is None else stack.enter_context(closing(opened.streams())))
        if opened is not None:
            plan = replace(plan, began_ns=began_ns, found=lambda: opened.details)

        def work(repository: Repository) -> SnapshotResult:
            return take_snapshot(repository, plan, listener=listener, cancel=cancel)

        if opened is None:
            result = with_repository(access, work, Operation.WRITE)
        else:
            # A stream can be read once: no second try when the cache breaks.
            with open_repository(access, Operation.WRITE) as repository:
                result = work(repository)
    outcome = _outcome(plan, result)
    if request.database is not None and outcome.snapshot is not None:
        downtime = import_module("dedupstore.service.database_downtime")
        downtime.tell(access.environ, request.database, outcome.source, outcome.counts.bytes_total, access.note)
    return outcome


def default_source(paths: Sequence[bytes]) -> str:
    """The name of a source that nobody named: its absolute paths."""
    return " ".join(printable(path) for path in sorted(paths))


def check(request: Request) -> None:
    """Raise UsageError for a request that makes no sense; `run` asks the same before anything else."""
    given = [bool(request.paths), bool(request.command), request.stdin_fd is not None, request.database is not None]
    if sum(given) != 1:
        raise UsageError(
            "nothing to take a snapshot of"
            if not any(given)
            else "paths, a database, --command and --stdin exclude one another",
            hints=["dedup snapshot /srv/site", "dedup snapshot --command dump.sql -- pg_dump blog"],
        )
    if (request.command or request.stdin_fd is not None) and (
        not request.name or "/" in request.name or request.name in (".", "..")
    ):
        raise UsageError("a stream needs a plain file name", hints=["dedup snapshot --stdin dump.sql < dump.sql"])
    require_text(request.source, request.host, request.note, *request.tags)
    if request.time_ns is not None and request.time_ns < 0:
        raise UsageError("a snapshot cannot stand for a time before 1970", code="usage.time")
    if not 1 <= request.level <= MAX_LEVEL:
        raise UsageError(
            f"there is no compression level {request.level}", hints=[f"1 to {MAX_LEVEL}; 3 is the default"]
        )


@dataclass(frozen=True, slots=True)
class _Piped:
    """One stream as a source: what a command prints, or standard input."""

    kind: str
    stream: NamedStream
    origins: tuple[tuple[bytes, bytes], ...] = ()
    details: tuple[tuple[str, str], ...] = ()

    def streams(self) -> Generator[NamedStream, None, None]:
        yield self.stream


def _open_streams(request: Request, access: Access, cancel: CancelToken, stack: ExitStack) -> StreamSource | None:
    """What is read instead of files, open until the stack ends."""
    name = os.fsencode(request.name)
    if request.command:
        environ = {name: value for name, value in access.environ.items() if name not in request.withheld}
        command = CommandStream(request.command, environ, cancel, timeout_seconds=request.timeout_seconds)
        return _Piped("command", NamedStream(name=name, stream=stack.enter_context(command)))
    if request.stdin_fd is not None:
        piped = StdinStream(request.stdin_fd, cancel, may_be_empty=request.allow_empty)
        return _Piped("stdin", NamedStream(name=name, stream=piped))
    if request.database is not None:
        # Loaded only for who has one.
        service = import_module("dedupstore.service.databases")
        opened: StreamSource = stack.enter_context(
            service.opened(request.database, access.environ, access.note, cancel)
        )
        return opened
    return None


def _plan(request: Request, opened: StreamSource | None, streams: Iterator[NamedStream] | None) -> SnapshotPlan:
    roots = resolve_roots(request.paths, one_file_system=request.one_file_system) if request.paths else []
    source = request.source or (
        default_source([root.path for root in roots]) if roots else printable(os.fsencode(request.name))
    )
    return SnapshotPlan(
        source=source,
        kind="files" if opened is None else opened.kind,
        host=request.host or socket.gethostname(),
        user=request.user or str(os.geteuid()),
        tool=f"dedup {__version__}",
        roots=roots,
        streams=streams,
        origins=() if opened is None else opened.origins,
        excluder=Excluder(
            ExcludeRules(
                patterns=request.exclude,
                pattern_files=request.exclude_files,
                if_present=request.exclude_if_present,
                caches=request.exclude_caches,
                larger_than=request.exclude_larger_than,
                one_file_system=request.one_file_system,
                nodump=request.exclude_nodump,
            )
        ),
        tags=request.tags,
        note=request.note,
        time_ns=request.time_ns,
        dry_run=request.dry_run,
        skip_if_unchanged=request.skip_if_unchanged,
        force=request.force,
        level=request.level,
        run=request.run,
        details=request.details,
        pace=request.pace,
    )


def _outcome(plan: SnapshotPlan, result: SnapshotResult) -> Outcome:
    snapshot = snapshot_info(result.snapshot) if result.snapshot is not None else None
    return Outcome(
        snapshot=snapshot,
        source=plan.source,
        counts=counts_of(result.statistics),
        findings=tuple(result.findings),
        unchanged=result.unchanged,
        dry_run=plan.dry_run,
        first=result.parent is None,
        seconds=result.seconds,
        rolled_back=result.rolled_back,
    )
