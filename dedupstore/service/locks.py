"""Keep what the snapshots need locked for longer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from dedupstore.cancel import CancelToken
from dedupstore.engine.forget import ForgetOptions, plan_forget
from dedupstore.engine.locks import LockReport, Term, look_at_locks, require_versions
from dedupstore.errors import UsageError
from dedupstore.events import Listener
from dedupstore.policy.keeping import SourceRules
from dedupstore.policy.timespec import local_zone
from dedupstore.repo.repository import Repository
from dedupstore.service.access import Access
from dedupstore.service.check_memory import verified_at
from dedupstore.service.opened import with_repository
from dedupstore.types import SnapshotId

LONG_NS = 366 * 24 * 3600 * 10**9
"""What is to be locked for longer is asked about: nobody can take it back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Until when, as an instant or from now on; without either for as long as the configuration locks new objects."""

    until_ns: int | None = None
    for_ns: int | None = None
    within_ns: int | None = None
    """Only what is locked for less than that; None: what ends earlier than it is to."""

    rules: Mapping[str, SourceRules] = field(default_factory=dict)
    """Of sources: what they let go is left to run out, so that it can be forgotten then. Empty: all is kept locked."""

    host: str = ""
    """The host whose snapshots the rules are for."""

    majorities: bool = False
    """Also of a source that would lose more than half."""

    dry_run: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What was found and done; see engine/locks.py for what is counted."""

    url: str
    until_ns: int
    report: LockReport
    left_out: int
    """Snapshots that the rules let go."""

    dry_run: bool
    exit_code: int


def run(
    request: Request, access: Access, listener: Listener, cancel: CancelToken, agree: Callable[[int], None]
) -> Outcome:
    """`agree` is asked, by raising or not, when the locks are to end more than a year from now.

    Raises UsageError for a time that is none, Refused where nothing can be locked or we may not.
    """
    now_ns = access.clock.now_ns()
    until_ns = _until(request, access, now_ns)
    short_ns = until_ns if request.within_ns is None else min(until_ns, now_ns + request.within_ns)
    # A lock ends at a whole second; one that was given for as long a moment ago is no shorter.
    until_ns, short_ns = _up(until_ns), short_ns // 10**9 * 10**9

    def work(repository: Repository) -> Outcome:
        require_versions(repository)
        if until_ns > now_ns + LONG_NS and not request.dry_run:
            agree(until_ns)
        term = Term(short_ns=short_ns, until_ns=None if request.dry_run else until_ns)
        left_out = _let_go(request, access, repository)
        wanted = frozenset(repository.catalog.committed() - left_out)
        report = look_at_locks(repository, term, wanted, listener=listener, cancel=cancel)
        severities = {finding.severity for finding in report.findings}
        code = 4 if "error" in severities else 3 if "warning" in severities else 0
        return Outcome(
            url=repository.store.url,
            until_ns=until_ns,
            report=report,
            left_out=len(left_out),
            dry_run=request.dry_run,
            exit_code=code,
        )

    return with_repository(access, work)


def _let_go(request: Request, access: Access, repository: Repository) -> set[SnapshotId]:
    """What `dedup forget --policy` would forget; of a source that would lose more than half only if that was agreed to."""
    if not request.rules:
        return set()
    catalog = repository.catalog
    options = ForgetOptions(
        zone=local_zone(access.environ),
        rules=request.rules,
        host=request.host,
        verified=verified_at(access.environ, repository.id.hex(), repository.store.url, access.note),
    )
    plan = plan_forget(catalog, options, access.clock)
    spared = () if request.majorities else plan.majorities
    return {snapshot.id for snapshot in plan.removed if (snapshot.source, snapshot.host) not in spared}


def _until(request: Request, access: Access, now_ns: int) -> int:
    if request.until_ns is not None and request.for_ns is not None:
        raise UsageError("--for and --until say the same", hints=["give one of them"])
    if request.until_ns is not None:
        if request.until_ns <= now_ns:
            raise UsageError("that time has passed already", hints=["give a later one to --until"], code="usage.time")
        return request.until_ns
    length = access.options.object_lock_ns if request.for_ns is None else request.for_ns
    if not length:
        raise UsageError(
            "it is not said until when objects are to be locked",
            why="the configuration has no object_lock for this repository",
            hints=["dedup extend-locks --for 30d", "or write object_lock into [repos.NAME] of the configuration"],
        )
    return now_ns + length


def _up(time_ns: int) -> int:
    return -(-time_ns // 10**9) * 10**9
