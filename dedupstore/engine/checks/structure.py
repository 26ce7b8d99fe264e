"""Reads every manifest of every snapshot and asks of every chunk they name whether a usable copy exists."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from dedupstore.engine.check_options import Damage, DamagedFile, Level
from dedupstore.engine.check_session import Session
from dedupstore.engine.damage import DamageWalk
from dedupstore.engine.inventory import twice
from dedupstore.errors import DedupError, StoreMissing
from dedupstore.events import Finding
from dedupstore.model.snapshot import Snapshot
from dedupstore.types import ChunkId
from dedupstore.units import printable, short_id


class StructureCheck:
    """Nothing counts as lost before a second look: prune may have moved it, this machine's index may be wrong."""

    name = "structure"
    level = Level.STRUCTURE

    def run(self, session: Session) -> Iterator[Finding]:
        session.step("structure")
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
                    message=f"{damage.files_total - rest.files_total} files cannot be found because index segments "
                    "are lost; their data is there; try: dedup repair index",
                    severity="error",
                )
            damage = rest
        session.damage = damage
        for file in damage.files:
            yield _finding(file)


def _walk(session: Session) -> Damage:
    counts = session.counts
    counts.directories = counts.files = counts.snapshots = 0
    walk = DamageWalk(
        lambda chunk: _load(session, chunk), session.health, session.cancel, counts,
        lambda: session.listener.progress(session.progress),
    )  # fmt: skip
    snapshots = _snapshots(session)
    for snapshot in snapshots:
        counts.snapshots += 1
        walk.walk(snapshot)
    session.walked = tuple(snapshot.id for snapshot in snapshots)
    return walk.damage(snapshots)


def _load(session: Session, chunk: ChunkId) -> bytes:
    return twice(lambda: session.reader.load_manifest(chunk))


def _snapshots(session: Session) -> list[Snapshot]:
    """The snapshots to walk, oldest first; those that cannot be read have been told by another check."""
    found = []
    wanted = session.options.snapshots
    for identifier in session.inventory.commits:
        if wanted and identifier not in wanted:
            continue
        try:
            found.append(twice(partial(session.repository.catalog.get, identifier)))
        except StoreMissing:
            raise
        except DedupError:
            continue
    return sorted(found, key=lambda snapshot: (snapshot.time_ns, snapshot.id))


def _finding(file: DamagedFile) -> Finding:
    names = ", ".join(short_id(identifier) for identifier in file.snapshots[:3])
    more = ", …" if len(file.snapshots) > 3 else ""
    count = len(file.snapshots)
    newest = {True: "; the newest copy is intact", False: "; the newest copy is hit", None: ""}[file.newest_intact]
    what = "directory" if file.directory else "file"
    return Finding(
        code=f"check.{what}_damaged",
        message=f"{what} {printable(file.path) or '/'} of source {file.source!r} is damaged in {count} "
        f"snapshot{'s' if count > 1 else ''} ({names}{more}){newest}",
        path=file.path,
        severity="error",
    )
