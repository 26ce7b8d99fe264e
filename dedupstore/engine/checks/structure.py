"""Reads every manifest of every snapshot and asks of every chunk they name whether a usable copy exists."""

from __future__ import annotations

import os
from collections.abc import Iterator

from dedupstore.engine.check_options import Damage, DamagedFile, Level
from dedupstore.engine.check_session import Session
from dedupstore.engine.damage import DamageWalk
from dedupstore.engine.sound_walk import SoundWalk
from dedupstore.events import Finding
from dedupstore.units import format_number, printable, short_id


class StructureCheck:
    """Nothing counts as lost before a second look: prune may have moved it, this machine's index may be wrong."""

    name = "structure"
    level = Level.STRUCTURE

    def run(self, session: Session) -> Iterator[Finding]:
        session.step("structure")
        if _sound(session):
            return
        damage = _walk(session)
        if damage.files_total:
            session.look()
            damage = _walk(session)
        if damage.files_total:
            was_cached = session.judges_by_cache
            session.look(trust_cache=False)
            damage = _walk(session)
            if was_cached and not damage.files_total:
                session.repository.drop_index()
                yield Finding(
                    code="check.cache_rebuilt",
                    message="this machine's index did not say what the repository's segments say; it is built anew",
                    severity="note",
                )
        if damage.files_total and session.orphans():
            session.look(trust_cache=False, with_orphans=True)
            rest = _walk(session)
            if rest.files_total < damage.files_total:
                yield Finding(
                    code="check.index_incomplete",
                    message=f"{format_number(damage.files_total - rest.files_total, 'file')} cannot be found because index "
                    "segments are lost; their data is there; try: dedup repair index",
                    severity="error",
                )
            damage = rest
        session.damage = damage
        for file in damage.files:
            yield _finding(file)


def _sound(session: Session) -> bool:
    """Whether nothing is damaged: then the walk that can say what is, and is much slower, has nothing to do."""
    ahead = session.take_ahead()
    walk: SoundWalk | None
    if ahead is not None:
        walk = ahead.outcome(lambda: _go_on(session))
        snapshots = ahead.snapshots
    else:
        walk = SoundWalk(session.load_manifest, session.health, lambda: _go_on(session))
        snapshots = session.snapshots()
        if not walk.sound(snapshots):
            walk = None
    if walk is None:
        return False
    counts = session.counts
    counts.snapshots, counts.directories, counts.files = len(snapshots), walk.directories, walk.files
    session.walked = tuple(snapshot.id for snapshot in snapshots)
    return True


def _go_on(session: Session) -> None:
    session.cancel.check()
    session.listener.progress(session.progress)


def _walk(session: Session) -> Damage:
    counts = session.counts
    counts.directories = counts.files = counts.snapshots = 0
    walk = DamageWalk(
        session.load_manifest, session.health, session.cancel, counts,
        lambda: session.listener.progress(session.progress),
    )  # fmt: skip
    snapshots = session.snapshots()
    for snapshot in snapshots:
        counts.snapshots += 1
        walk.walk(snapshot)
    session.walked = tuple(snapshot.id for snapshot in snapshots)
    return walk.damage(snapshots)


def _finding(file: DamagedFile) -> Finding:
    names = ", ".join(short_id(identifier) for identifier in file.snapshots[:3])
    more = ", …" if len(file.snapshots) > 3 else ""
    count = len(file.snapshots)
    newest = {True: "; the newest copy is intact", False: "; the newest copy is hit", None: ""}[file.newest_intact]
    what = "directory" if file.directory else "file"
    # Without the path, which is told beside it: equal ones are shown as one, with their paths below it.
    where = "" if file.path else "the top "
    return Finding(
        code=f"check.{what}_damaged",
        message=f"{where}{what} damaged in {format_number(count, 'snapshot')} of {printable(os.fsencode(file.source))} "
        f"({names}{more}){newest}",
        path=file.path,
        severity="error",
    )
