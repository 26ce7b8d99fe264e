"""Is everything there, and is it what was stored: runs the checks of `checks/` over one repository.

A check takes no lock and may run beside snapshots and prune. It writes nothing to the store but what it found damaged.
"""

from __future__ import annotations

from collections.abc import Sequence

from dedupstore.cancel import CancelToken
from dedupstore.engine.allocator import keep_freed_memory
from dedupstore.engine.check_options import CheckOptions, CheckReport
from dedupstore.engine.check_session import Session
from dedupstore.engine.checks import CHECKS
from dedupstore.engine.checks.base import Check
from dedupstore.engine.known_damage import look_again, record_damage
from dedupstore.events import Listener
from dedupstore.repo.repository import Repository
from dedupstore.threads import BriskSwitching


def check_repository(
    repository: Repository,
    options: CheckOptions,
    *,
    listener: Listener,
    cancel: CancelToken,
    checks: Sequence[Check] = CHECKS,
) -> CheckReport:
    """Check a repository. Damage is in the report; what raises is trouble that says nothing about the data.

    Raises StoreGone for a store that is gone, StoreError for one that stops answering, Interrupted when asked to
    stop: what was verified by then is remembered.
    """
    keep_freed_memory()
    clock = repository.clock
    began = clock.monotonic()
    session = Session(repository, options, listener, cancel)
    seconds = {"look": clock.monotonic() - began}
    try:
        with BriskSwitching():
            look_again(session)
            for check in checks:
                if not options.includes(check.level):
                    continue
                started = clock.monotonic()
                for finding in check.run(session):
                    session.report(finding)
                seconds[check.name] = clock.monotonic() - started
        recorded = record_damage(session)
    finally:
        session.close()
    return CheckReport(
        counts=session.counts,
        findings=tuple(session.findings),
        errors=session.severities["error"],
        warnings=session.severities["warning"],
        notes=session.severities["note"],
        damage=session.damage,
        coverage=session.coverage,
        complete=session.complete,
        verified=session.verified,
        seconds=seconds,
        recorded=recorded,
    )
