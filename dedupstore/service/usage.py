"""What grew, and what removing a snapshot would free."""

from __future__ import annotations

from dataclasses import dataclass

from dedupstore.cancel import CancelToken
from dedupstore.engine.attribution import freed_alone
from dedupstore.engine.growth import growth
from dedupstore.engine.select import by_name, matching
from dedupstore.errors import NothingMatches
from dedupstore.events import Listener
from dedupstore.model.snapshot import Snapshot
from dedupstore.repo.repository import Repository
from dedupstore.service.access import Access
from dedupstore.service.opened import with_repository
from dedupstore.service.records import SnapshotInfo, snapshot_info
from dedupstore.service.selection import Filter


@dataclass(frozen=True, slots=True, kw_only=True)
class FreedInfo:
    """One snapshot with the stored bytes that removing it alone would free."""

    snapshot: SnapshotInfo
    freed: int


def by_snapshot(access: Access, wanted: Filter, listener: Listener, cancel: CancelToken) -> list[FreedInfo]:
    """Each matching snapshot, oldest first, with what removing it alone would free."""

    def work(repository: Repository) -> list[FreedInfo]:
        every = repository.catalog.marked(cached=True)[0].snapshots
        chosen = matching(every, wanted)
        freed = freed_alone(repository, chosen, listener, cancel)
        return [
            FreedInfo(snapshot=snapshot_info(snapshot), freed=row.total)
            for snapshot, row in zip(chosen, freed, strict=True)
        ]

    return with_repository(access, work)


@dataclass(frozen=True, slots=True, kw_only=True)
class GrownDirectory:
    """See engine/growth.py for what the numbers mean. `path` is empty for the snapshot itself."""

    path: bytes
    bytes: int
    files: int
    changed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Grown:
    before: SnapshotInfo
    after: SnapshotInfo
    directories: tuple[GrownDirectory, ...]
    """Those that grew most first, those that shrank last."""


def by_path(access: Access, wanted: Filter, before: str, after: str, depth: int, cancel: CancelToken) -> Grown:
    """How directories grew from one snapshot to another: empty names mean the oldest and the newest of the source of
    the newest. Raises NothingMatches."""

    def work(repository: Repository) -> Grown:
        old, new = _ends(repository, wanted, before, after)
        repository.look()
        found = growth(repository.reader.load_manifest, old.root, new.root, depth, cancel)
        rows = [
            GrownDirectory(path=path, bytes=row.bytes, files=row.files, changed=row.changed)
            for path, row in found.items()
        ]
        rows.sort(key=lambda row: (-row.bytes, -row.changed, row.path))
        return Grown(before=snapshot_info(old), after=snapshot_info(new), directories=tuple(rows))

    return with_repository(access, work)


def _ends(repository: Repository, wanted: Filter, before: str, after: str) -> tuple[Snapshot, Snapshot]:
    every = matching(repository.catalog.marked(cached=True)[0].snapshots, wanted)
    new = by_name(every, after or "latest")
    line = [snapshot for snapshot in every if (snapshot.source, snapshot.host) == (new.source, new.host)]
    old = by_name(every, before) if before else line[0]
    if old.id == new.id:
        raise NothingMatches(
            "there is only one snapshot to compare",
            why=f'the oldest and the newest of "{new.source}" are the same',
            hints=["take another one, or name two: --from ID --to ID"],
            code="snapshot.not_found",
        )
    return old, new
