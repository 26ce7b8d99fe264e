"""Mend what can be mended from what is there; writes new objects, never deletes."""

from __future__ import annotations

from dataclasses import dataclass, replace

from dedupstore.cancel import CancelToken
from dedupstore.engine.donors import CopyDonor, MirrorDonor
from dedupstore.engine.parity import make_all_parity
from dedupstore.engine.parity_kept import ParityReport
from dedupstore.engine.repair import RepairReport, repair_index
from dedupstore.engine.repair_packs import PacksReport, repair_packs
from dedupstore.engine.repair_snapshots import repair_snapshots
from dedupstore.events import Listener
from dedupstore.repo.config import Operation
from dedupstore.repo.identity import identify
from dedupstore.repo.repository import Repository
from dedupstore.service.access import Access
from dedupstore.service.opened import open_repository, with_repository
from dedupstore.service.places import require_apart
from dedupstore.service.records import SnapshotInfo, snapshot_info
from dedupstore.storage.options import NO_OPTIONS, StoreOptions
from dedupstore.storage.registry import open_store
from dedupstore.units import format_id

IndexOutcome = RepairReport
PacksOutcome = PacksReport
ParityOutcome = ParityReport
"""What was done, or would be done on a dry run: told as it was counted."""


def index(access: Access, *, dry_run: bool, listener: Listener, cancel: CancelToken) -> IndexOutcome:
    """Describe again every pack that no readable index segment describes."""
    return with_repository(
        replace(access, kept_bytes=0),
        lambda repository: repair_index(repository, dry_run=dry_run, listener=listener, cancel=cancel),
        Operation.WRITE,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Replica:
    """Where good copies are taken from: a mirror (`access` None: our own keys open it), or a copy with other keys."""

    url: str
    access: Access | None = None
    options: StoreOptions = NO_OPTIONS
    """Of a mirror; a copy's are in its access."""


def is_mirror(repository_url: str, replica_url: str) -> bool:
    """Whether a replica is the same repository at another place. Raises RepositoryNotFound, Refused for the same place."""
    require_apart(repository_url, replica_url)
    found = []
    for url in (repository_url, replica_url):
        store = open_store(url)
        try:
            found.append(identify(store))
        finally:
            store.close()
    return found[0] == found[1]


def packs(
    access: Access, replica: Replica | None, *, dry_run: bool, listener: Listener, cancel: CancelToken
) -> PacksOutcome:
    """Store again what is damaged, from what is whole here or in the replica."""

    def work(repository: Repository) -> PacksReport:
        mirror = copy = None
        if replica is not None and replica.access is None:
            mirror = MirrorDonor(repository, open_store(replica.url, replica.options))
        elif replica is not None and replica.access is not None:
            copy = CopyDonor(repository, open_repository(replica.access), cancel)
        try:
            return repair_packs(
                repository, mirror=mirror, copy=copy, dry_run=dry_run, listener=listener, cancel=cancel
            )  # fmt: skip
        finally:
            for donor in (mirror, copy):
                if donor is not None:
                    donor.close()

    return with_repository(replace(access, kept_bytes=0), work, Operation.WRITE)


@dataclass(frozen=True, slots=True, kw_only=True)
class LostPath:
    path: bytes
    directory: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RepairedSnapshot:
    """A damaged snapshot, the new one without what is lost, and that."""

    original: SnapshotInfo
    repaired: SnapshotInfo | None
    lost: tuple[LostPath, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotsOutcome:
    snapshots: tuple[RepairedSnapshot, ...]
    known: tuple[SnapshotInfo, ...]
    unreadable: tuple[str, ...]
    dry_run: bool
    exit_code: int


def snapshots(access: Access, *, dry_run: bool, listener: Listener, cancel: CancelToken) -> SnapshotsOutcome:
    """A new snapshot for each damaged one, without what is lost."""
    report = with_repository(
        replace(access, kept_bytes=0),
        lambda repository: repair_snapshots(repository, dry_run=dry_run, listener=listener, cancel=cancel),
        Operation.WRITE,
    )
    return SnapshotsOutcome(
        snapshots=tuple(
            RepairedSnapshot(
                original=snapshot_info(one.original),
                repaired=None if one.repaired is None else snapshot_info(one.repaired),
                lost=tuple(LostPath(path=path, directory=directory) for path, directory in one.lost),
            )
            for one in report.mended
        ),
        known=tuple(snapshot_info(snapshot) for snapshot in report.known),
        unreadable=tuple(format_id(identifier) for identifier in report.unreadable),
        dry_run=report.dry_run,
        exit_code=report.exit_code,
    )


def parity(access: Access, *, dry_run: bool, listener: Listener, cancel: CancelToken) -> ParityOutcome:
    """Keep parity from now on, and make that of the packs there are."""
    return with_repository(
        replace(access, kept_bytes=0),
        lambda repository: make_all_parity(repository, dry_run=dry_run, listener=listener, cancel=cancel),
        Operation.WRITE,
    )
