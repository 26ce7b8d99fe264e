"""Bring files back: into a new directory, into one that exists, or to where they came from."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from dedupstore import __version__
from dedupstore.cancel import CancelToken
from dedupstore.engine.restore import plan_restore, restore
from dedupstore.engine.restore_options import (
    Action,
    Filter,
    Overwrite,
    RestoreOptions,
    RestorePlan,
    RestoreResult,
    Verdict,
)
from dedupstore.engine.snapshot import SnapshotPlan, take_snapshot
from dedupstore.engine.walk import split_path
from dedupstore.errors import Refused, UsageError
from dedupstore.events import Finding, Listener, NullListener
from dedupstore.model.snapshot import Snapshot
from dedupstore.repo.config import Operation
from dedupstore.repo.repository import Repository
from dedupstore.service.access import Access
from dedupstore.service.opened import with_repository
from dedupstore.service.records import SnapshotInfo, safety_source, snapshot_info
from dedupstore.service.selection import SAFETY, Selection, choose
from dedupstore.sources.exclude import Excluder, ExcludeRules
from dedupstore.sources.roots import resolve_roots
from dedupstore.units import format_count

OVERWRITE = tuple(choice.value for choice in Overwrite)
DATABASES = ("sqlite", "postgresql", "mysql")
"""Kinds of snapshots that hold databases."""

_MAX_NUMBER = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What to bring back and where to. With neither `target` nor `in_place` it goes into a new directory."""

    selection: Selection
    paths: tuple[bytes, ...] = ()
    target: bytes = b""
    in_place: bool = False
    new_target: Callable[[int], bytes] = field(default=lambda time_ns: b"restored")
    """Names the new directory, from the time of the snapshot."""

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    overwrite: str = Overwrite.IF_CHANGED.value
    delete: bool = False
    sparse: bool = False
    verify: bool = True
    owners: bool | None = None
    """None: when running as root, who alone may set them."""

    special: bool = False
    safety_snapshot: bool = True
    """Before anything in place is changed, keep what is there now as a snapshot."""

    dry_run: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What would happen. `replace` and `delete` are the counts of what would be lost from the target."""

    create: int
    replace: int
    metadata: int
    delete: int
    keep: int
    skip: int
    bytes_to_write: int
    findings: tuple[Finding, ...]

    @property
    def destroys(self) -> bool:
        return bool(self.replace or self.delete)


class Dialogue(Protocol):
    """How a restore talks to its door, from the thread that runs it."""

    def chosen(self, snapshot: SnapshotInfo, target: bytes, places: Sequence[bytes]) -> None:
        """The snapshot that was chosen; `target` is empty when it goes to where it came from, which are the `places`."""
        ...

    def planned(self, action: str, path: bytes) -> None:
        """One step of a plan: create, replace, metadata or delete."""
        ...

    def approve(self, plan: Plan) -> bool:
        """Whether to carry out a plan that destroys something. False: nothing is changed, Refused is raised."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What was done. `files`, `directories` and `bytes_written` count what was written, not what was there already."""

    snapshot: SnapshotInfo
    target: bytes
    plan: Plan | None
    dry_run: bool
    actions: Mapping[str, int]
    files: int
    directories: int
    bytes_written: int
    dropped: Mapping[str, int]
    findings: tuple[Finding, ...]
    findings_total: int
    safety: SnapshotInfo | None
    verified: bool
    exit_code: int
    seconds: float


def run(request: Request, access: Access, dialogue: Dialogue, listener: Listener, cancel: CancelToken) -> Outcome:
    """Raises NothingMatches, Refused (a plan was not approved), TargetFailed, Interrupted, RepositoryError."""
    if request.in_place and request.target:
        raise UsageError("--to and --in-place exclude one another", hints=["choose one of the two"])
    # In place the safety snapshot is written first.
    writes = request.in_place and request.safety_snapshot and not request.dry_run
    return with_repository(
        access,
        lambda repository: _Restore(request, repository, dialogue, listener, cancel).run(),
        Operation.WRITE if writes else Operation.READ,
    )


class _Restore:
    def __init__(
        self, request: Request, repository: Repository, dialogue: Dialogue, listener: Listener, cancel: CancelToken
    ) -> None:
        self._request = request
        self._repository = repository
        self._dialogue = dialogue
        self._listener = listener
        self._cancel = cancel

    def run(self) -> Outcome:
        request, repository = self._request, self._repository
        began = repository.clock.monotonic()
        snapshot = choose(repository.catalog, request.selection, note=repository.on_note)
        if request.in_place and snapshot.kind in DATABASES:
            raise _not_replaced(snapshot)
        target = b"" if request.in_place else request.target or new_name(request.new_target(snapshot.time_ns))
        places = _origins(snapshot, request.paths) if request.in_place else []
        self._dialogue.chosen(snapshot_info(snapshot), target, places)
        repository.look()
        options = _options(request, target)
        plan = self._plan(snapshot, options) if self._needs_plan(target) else None
        if request.dry_run:
            outcome = _outcome(snapshot, target, plan, None, None, request)
        else:
            safety = None
            if plan is not None and plan.destroys:
                if not self._dialogue.approve(plan):
                    raise _not_approved(plan)
                if request.in_place and request.safety_snapshot:
                    safety = self._safety_snapshot(snapshot)
            result = restore(repository.reader, snapshot, options, listener=self._listener, cancel=self._cancel)
            outcome = _outcome(snapshot, target, plan, result, safety, request)
        return replace(outcome, seconds=repository.clock.monotonic() - began)

    def _needs_plan(self, target: bytes) -> bool:
        """A plan costs a look at everything that is there; a new directory needs none."""
        return self._request.dry_run or self._request.in_place or _holds_something(target)

    def _plan(self, snapshot: Snapshot, options: RestoreOptions) -> Plan:
        def visit(action: Action, path: bytes) -> None:
            self._dialogue.planned(action.value, path)

        found = plan_restore(
            self._repository.reader, snapshot, options, listener=self._listener, cancel=self._cancel, visit=visit
        )
        return _plan_of(found)

    def _safety_snapshot(self, snapshot: Snapshot) -> SnapshotInfo | None:
        """What is there now, under a source of its own: it must never be taken for the newest good snapshot."""
        paths = [path for path in _origins(snapshot, self._request.paths) if os.path.lexists(path)]
        if not paths:
            return None
        plan = SnapshotPlan(
            source=safety_source(snapshot.source),
            kind="files",
            host=socket.gethostname(),
            user=str(os.geteuid()),
            tool=f"dedup {__version__}",
            roots=resolve_roots(paths),
            excluder=Excluder(ExcludeRules()),
            trigger=SAFETY,
            tags=("before-restore",),
        )
        result = take_snapshot(self._repository, plan, listener=NullListener(), cancel=self._cancel)
        for finding in result.findings:
            self._listener.finding(finding)
        return snapshot_info(result.snapshot) if result.snapshot is not None else None


def pattern_filter(include: tuple[str, ...], exclude: tuple[str, ...]) -> Filter | None:
    """A filter by gitignore patterns over the paths that `dedup ls` shows. Without `include` all is included."""
    if not include and not exclude:
        return None
    wanted, unwanted = Excluder(ExcludeRules(patterns=include)), Excluder(ExcludeRules(patterns=exclude))

    def judge(path: bytes, is_directory: bool) -> Verdict:
        if unwanted.matches(path, is_directory):
            return Verdict.SKIP
        if not include or wanted.matches(path, is_directory):
            return Verdict.TAKE
        return Verdict.LOOK if is_directory else Verdict.SKIP

    return judge


def _options(request: Request, target: bytes) -> RestoreOptions:
    return RestoreOptions(
        target=os.path.abspath(target) if target else b"",
        in_place=request.in_place,
        paths=request.paths,
        filter=pattern_filter(request.include, request.exclude),
        overwrite=Overwrite(request.overwrite),
        delete=request.delete,
        sparse=request.sparse,
        owners=os.geteuid() == 0 if request.owners is None else request.owners,
        special=request.special,
        verify=request.verify,
    )


def _origins(snapshot: Snapshot, paths: tuple[bytes, ...]) -> list[bytes]:
    """Where on this machine the chosen paths came from: whole origins, or places below them."""
    wanted = [b"/".join(split_path(path)) for path in paths]
    found: set[bytes] = set()
    for name, origin in snapshot.origins:
        if not wanted or b"" in wanted or any((name + b"/").startswith(path + b"/") for path in wanted):
            found.add(origin)
            continue
        found.update(origin + path[len(name) :] for path in wanted if path.startswith(name + b"/"))
    # A place below another one is in the snapshot with it.
    return [path for path in sorted(found) if not any(path.startswith(other + b"/") for other in found)]


def new_name(wanted: bytes) -> bytes:
    """`wanted`, or with a number behind it: a new directory is one that is not there."""
    if not os.path.lexists(wanted):
        return wanted
    for number in range(2, _MAX_NUMBER):
        name = b"%s-%d" % (wanted, number)
        if not os.path.lexists(name):
            return name
    raise Refused(f"there are {_MAX_NUMBER} directories called {os.fsdecode(wanted)}", hints=["add --to DIR"])


def _holds_something(target: bytes) -> bool:
    try:
        with os.scandir(target) as entries:
            return next(entries, None) is not None
    except FileNotFoundError:
        return False
    except OSError:
        # Let the restore say what is wrong with it.
        return True


def _plan_of(found: RestorePlan) -> Plan:
    return Plan(
        create=found.actions.get(Action.CREATE, 0),
        replace=found.actions.get(Action.REPLACE, 0),
        metadata=found.actions.get(Action.METADATA, 0),
        delete=found.actions.get(Action.DELETE, 0),
        keep=found.actions.get(Action.KEEP, 0),
        skip=found.actions.get(Action.SKIP, 0),
        bytes_to_write=found.bytes_to_write,
        findings=found.findings,
    )


def _not_replaced(snapshot: Snapshot) -> Refused:
    return Refused(
        "a database is not replaced file by file",
        why="what its log holds would be applied to another database",
        hints=[
            f"restore it beside: dedup restore --source {snapshot.source} --as NAME",
            f"and when it is right: dedup db swap {snapshot.source} NAME",
        ],
        code="database.not_replaced",
    )


def _not_approved(plan: Plan) -> Refused:
    return Refused(
        f"not confirmed: {format_count(plan.replace)} would be replaced, {format_count(plan.delete)} deleted",
        why="nothing was changed",
        hints=["add --yes to agree", "or restore beside it: --to DIR", "or keep what is there: --overwrite never"],
        code="refused.not_confirmed",
    )


def _outcome(
    snapshot: Snapshot,
    target: bytes,
    plan: Plan | None,
    result: RestoreResult | None,
    safety: SnapshotInfo | None,
    request: Request,
) -> Outcome:
    findings = result.findings if result is not None else plan.findings if plan is not None else ()
    return Outcome(
        snapshot=snapshot_info(snapshot),
        target=target,
        plan=plan,
        dry_run=request.dry_run,
        actions={action.value: count for action, count in result.actions.items()} if result is not None else {},
        files=result.files if result is not None else 0,
        directories=result.directories if result is not None else 0,
        bytes_written=result.bytes_written if result is not None else 0,
        dropped=dict(result.dropped) if result is not None else {},
        findings=findings,
        findings_total=result.findings_total if result is not None else len(findings),
        safety=safety,
        verified=result is not None and request.verify,
        exit_code=result.exit_code if result is not None else 0,
        seconds=0.0,
    )
