"""Does every commit marker have its record, and does it open? Can what was forgotten be brought back?"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from dedupstore.engine.check_options import Level
from dedupstore.engine.check_session import Session
from dedupstore.engine.twice import twice
from dedupstore.errors import DedupError, ObjectNotFound, StoreGone
from dedupstore.events import Finding
from dedupstore.repo import layout
from dedupstore.repo.forgetting import RecordLost, open_forgotten
from dedupstore.repo.watch import what_differs
from dedupstore.types import SnapshotId
from dedupstore.units import short_id


class SnapshotsCheck:
    """Records and markers, read and compared. A record without a marker of either kind is a run that was stopped."""

    name = "snapshots"
    level = Level.QUICK

    def run(self, session: Session) -> Iterator[Finding]:
        inventory = session.inventory
        for identifier in sorted(inventory.commits):
            session.cancel.check()
            finding = _look_at(session, identifier)
            if finding is not None:
                yield finding
        differs = what_differs(*session.repository.catalog.missed(inventory.commits))
        if differs:
            yield Finding(code="repo.rolled_back", message=f"an older state is shown: {differs}", severity="error")
        unfinished = inventory.roots - inventory.commits - inventory.forgotten
        yield from _unreadable_runs(session, unfinished)
        if unfinished:
            yield Finding(
                code="check.uncommitted",
                message=f"{len(unfinished)} runs stored their tree but were stopped before they became snapshots",
                severity="note",
            )
        yield from _forgotten(session)


def _unreadable_runs(session: Session, unfinished: set[SnapshotId]) -> Iterator[Finding]:
    """Of a run under way nobody else may judge; one whose record does not open would stop prune for ever."""
    for identifier in sorted(unfinished):
        try:
            twice(partial(session.repository.catalog.get_uncommitted, identifier))
        except (StoreGone, ObjectNotFound):
            continue
        except DedupError as exc:
            yield Finding(
                code="check.run_damaged",
                message=f"the record of run {short_id(identifier)}, which was stopped, does not open: {exc.message}; "
                f"prune waits for: dedup forget {short_id(identifier)}",
            )


def _forgotten(session: Session) -> Iterator[Finding]:
    inventory, repository = session.inventory, session.repository
    unfinished = inventory.forgotten & inventory.commits
    if unfinished:
        yield Finding(
            code="check.forget_unfinished",
            message=f"a forget was stopped before {len(unfinished)} snapshots were forgotten: they exist",
            severity="note",
        )
    for identifier in sorted(inventory.forgotten - inventory.commits):
        session.cancel.check()
        try:
            twice(partial(open_forgotten, repository.store, repository.keyring, identifier))
        except StoreGone:
            raise
        except ObjectNotFound:
            # Expired by a prune since the listing.
            continue
        except RecordLost as exc:
            yield _no_way_back(identifier, exc, "note")
        except DedupError as exc:
            yield _no_way_back(identifier, exc, "warning")


def _no_way_back(identifier: SnapshotId, error: DedupError, severity: str) -> Finding:
    return Finding(
        code="check.forgotten_damaged",
        message=f"forgotten snapshot {short_id(identifier)} cannot be brought back: {error.message}",
        severity=severity,
    )


def _look_at(session: Session, identifier: SnapshotId) -> Finding | None:
    try:
        twice(lambda: session.repository.catalog.get(identifier))
    except StoreGone:
        raise
    except ObjectNotFound as exc:
        if _forgotten_meanwhile(session, identifier):
            return None
        return _damaged(identifier, exc, "check.root_missing")
    except DedupError as exc:
        return _damaged(identifier, exc, "check.snapshot_damaged")
    return None


def _forgotten_meanwhile(session: Session, identifier: SnapshotId) -> bool:
    try:
        session.repository.store.head(layout.commit_key(identifier))
    except ObjectNotFound:
        return True
    return False


def _damaged(identifier: SnapshotId, error: DedupError, code: str) -> Finding:
    message = f"snapshot {short_id(identifier)} cannot be read: {error.in_one_line}"
    return Finding(code=code, message=message, severity="error")
