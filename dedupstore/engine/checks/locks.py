"""Is what the snapshots need locked for long enough?"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from dedupstore.engine.check_options import Level
from dedupstore.engine.check_session import Session
from dedupstore.engine.locks import Term, look_at_locks
from dedupstore.errors import IncompleteListing, Refused
from dedupstore.events import Finding, NullListener
from dedupstore.repo.lock_memory import LockMemory
from dedupstore.repo.repository import Repository
from dedupstore.storage.base import place_of, shows_past
from dedupstore.units import format_duration, format_number


class LocksCheck:
    """Only where the configuration asks for locks: each costs a request, until its end is known and far enough.

    A snapshot is promised to be locked for half of the period after it was made, at least, whatever it uses again. What only
    older ones need may go: they are there to be forgotten one day.
    """

    name = "locks"
    level = Level.STRUCTURE

    def run(self, session: Session) -> Iterator[Finding]:
        period = session.options.object_lock_ns
        if not period:
            return
        repository = session.repository
        session.step("locks")
        now_ns = repository.clock.now_ns()
        listing = repository.catalog.snapshots().snapshots
        young = frozenset(snapshot.id for snapshot in listing if snapshot.end_ns > now_ns - period // 2)
        term = Term(short_ns=now_ns + period // 2, until_ns=None)
        memory = _memory(repository)
        try:
            report = look_at_locks(
                repository, term, young, listener=NullListener(), cancel=session.cancel, memory=memory
            )
        except (Refused, IncompleteListing) as error:
            yield Finding(code=error.code, message=error.in_one_line)
            return
        finally:
            if memory is not None:
                memory.save(now_ns)
        session.counts.locks_remembered = report.remembered
        session.counts.locks_asked = report.needed - report.remembered
        yield from (finding for finding in report.findings if finding.code != "locks.all_packs")
        if report.short:
            first = "" if report.first_end_ns is None else f", the first until {_moment(report.first_end_ns)}"
            never = f", {report.unlocked} of them not at all" if report.unlocked else ""
            yield Finding(
                code="check.lock_ends_early",
                message=f"{format_number(report.short, 'object')} of {report.needed} that snapshots need will be locked for "
                f"less than {_span(period // 2)}{first}{never}; try: dedup extend-locks",
            )


def _memory(repository: Repository) -> LockMemory | None:
    """None where nothing is kept, and of the past: whoever looks at that has reason to ask again."""
    if repository.cache_path is None or shows_past(repository.store):
        return None
    return LockMemory(repository.cache_path, repository.keyring, place_of(repository.store))


def _moment(time_ns: int) -> str:
    return f"{datetime.fromtimestamp(time_ns // 10**9, UTC):%Y-%m-%d %H:%M} UTC"


def _span(length_ns: int) -> str:
    seconds = length_ns / 1e9
    return f"{seconds / 86_400:.0f} days" if seconds >= 2 * 86_400 else format_duration(seconds)
