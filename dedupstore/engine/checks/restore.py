"""Restores the newest snapshot of each source to nowhere: every chunk read, every whole-file hash compared."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from dedupstore.engine.check_options import Level
from dedupstore.engine.check_session import Session
from dedupstore.engine.restore import drill
from dedupstore.engine.restore_options import RestoreOptions
from dedupstore.errors import IntegrityError, ObjectNotFound
from dedupstore.events import Finding, NullListener
from dedupstore.model.snapshot import Snapshot
from dedupstore.units import short_id


class RestoreCheck:
    """A restore as a user would do it, through the same code; only nothing is written."""

    name = "restore"
    level = Level.RESTORE

    def run(self, session: Session) -> Iterator[Finding]:
        session.step("restore")
        newest: dict[tuple[str, str], Snapshot] = {}
        for snapshot in session.repository.catalog.snapshots().snapshots:
            wanted = session.options.restore_sources
            if not wanted or snapshot.source in wanted:
                newest[snapshot.source, snapshot.host] = snapshot
        for snapshot in newest.values():
            yield from _drill(session, snapshot)


def _drill(session: Session, snapshot: Snapshot) -> Iterator[Finding]:
    name = f"snapshot {short_id(snapshot.id)} of source {snapshot.source!r}"
    try:
        result = drill(
            session.repository.reader, snapshot, RestoreOptions(), listener=NullListener(), cancel=session.cancel
        )
    except (IntegrityError, ObjectNotFound) as exc:
        yield Finding(
            code="check.restore_failed", message=f"{name} cannot be restored: {exc.message}", severity="error"
        )
        return
    session.counts.restored_snapshots += 1
    session.counts.restored_files += result.files
    session.counts.restored_bytes += result.bytes_written
    if not any(finding.severity == "error" for finding in result.findings):
        session.restored.append(snapshot.id)
    for finding in result.findings:
        code = "check.restore_failed" if finding.severity == "error" else finding.code
        yield replace(finding, code=code, message=f"{name}: {finding.message}")
