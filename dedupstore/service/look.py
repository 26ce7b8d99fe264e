"""Looking inside: the list of snapshots, directories, files, differences, sizes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from dedupstore.cancel import CancelToken
from dedupstore.engine.diff import Change, diff
from dedupstore.engine.file_content import file_content
from dedupstore.engine.select import matching
from dedupstore.engine.stats import measure
from dedupstore.engine.walk import find_path, split_path, walk
from dedupstore.errors import NothingMatches, UsageError
from dedupstore.model.entry import FILE
from dedupstore.model.snapshot import Snapshot
from dedupstore.repo.repository import Repository
from dedupstore.service.access import Access
from dedupstore.service.database_diff import TableChange, tables_changed
from dedupstore.service.opened import open_repository, with_repository
from dedupstore.service.records import EntryInfo, SnapshotInfo, entry_info, snapshot_info
from dedupstore.service.selection import Filter, Selection, choose
from dedupstore.units import printable


def list_files(
    access: Access, selection: Selection, path: bytes, *, recursive: bool, visit: Callable[[EntryInfo], None]
) -> SnapshotInfo:
    """Call `visit` for the entries of a directory (or for the one file) of a snapshot, in order."""

    def work(repository: Repository) -> SnapshotInfo:
        snapshot = choose(repository.catalog, selection, note=repository.on_note)
        repository.look()
        load = repository.reader.load_manifest
        entry = find_path(load, snapshot.root, path)
        base = b"/".join(split_path(path))
        if entry.tree is None:
            visit(entry_info(base, entry))
        else:
            for below, found in walk(load, entry.tree, base, recursive=recursive):
                visit(entry_info(below, found))
        return snapshot_info(snapshot)

    return with_repository(access, work)


def read_file(
    access: Access, selection: Selection, path: bytes, write: Callable[[bytes | memoryview], None], cancel: CancelToken
) -> EntryInfo:
    """Hand the bytes of one file to `write`, verified chunk by chunk, holes as zeros."""
    with open_repository(access) as repository:
        snapshot = choose(repository.catalog, selection, note=repository.on_note)
        repository.look()
        load = repository.reader.load_manifest
        entry = find_path(load, snapshot.root, path)
        if entry.kind != FILE:
            raise UsageError(f"{printable(path)} is not a file", hints=["dedup ls SNAPSHOT:PATH"])
        for piece in file_content(repository.reader, entry):
            cancel.check()
            write(piece)
        return entry_info(b"/".join(split_path(path)), entry)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeInfo:
    """One difference; see engine/diff.py for the kinds."""

    kind: str
    path: bytes
    before: EntryInfo | None
    after: EntryInfo | None


@dataclass(slots=True, kw_only=True)
class DiffSummary:
    before: SnapshotInfo
    after: SnapshotInfo
    counts: dict[str, int]
    bytes_added: int = 0
    bytes_removed: int = 0
    tables: tuple[TableChange, ...] = ()
    """Of the databases that both hold."""


def compare(
    access: Access, before: Selection, after: Selection, path: bytes, visit: Callable[[ChangeInfo], None]
) -> DiffSummary:
    """Call `visit` for every difference between two snapshots (below `path`, when one is given)."""

    def work(repository: Repository) -> DiffSummary:
        left, right = (
            choose(repository.catalog, before, note=repository.on_note),
            choose(repository.catalog, after, note=repository.on_note),
        )
        repository.look()
        summary = DiffSummary(before=snapshot_info(left), after=snapshot_info(right), counts={})
        for change in _changes(repository, left, right, path):
            summary.counts[change.kind] = summary.counts.get(change.kind, 0) + 1
            if change.before is not None:
                summary.bytes_removed += change.before.size
            if change.after is not None:
                summary.bytes_added += change.after.size
            if change.before is not None and change.after is not None and change.kind == "metadata":
                summary.bytes_removed -= change.before.size
                summary.bytes_added -= change.after.size
            visit(
                ChangeInfo(
                    kind=change.kind,
                    path=change.path,
                    before=entry_info(change.path, change.before) if change.before is not None else None,
                    after=entry_info(change.path, change.after) if change.after is not None else None,
                )
            )
        if summary.counts and not split_path(path):
            summary.tables = tuple(tables_changed(repository, left, right))
        return summary

    return with_repository(access, work)


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """Sizes in bytes; see engine/stats.py for what each means."""

    snapshots: tuple[SnapshotInfo, ...]
    logical: int
    unique: int
    unique_chunks: int
    stored: int
    packs: int
    ratio: float


def statistics(access: Access, wanted: Filter, cancel: CancelToken) -> Statistics:
    def work(repository: Repository) -> Statistics:
        found = matching(repository.catalog.marked(cached=True)[0].snapshots, wanted)
        usage = measure(repository, found, cancel)
        return Statistics(
            snapshots=tuple(snapshot_info(snapshot) for snapshot in found),
            logical=usage.logical,
            unique=usage.unique,
            unique_chunks=usage.unique_chunks,
            stored=usage.stored,
            packs=usage.packs,
            ratio=usage.ratio,
        )

    return with_repository(access, work)


def _changes(repository: Repository, left: Snapshot, right: Snapshot, path: bytes) -> Iterator[Change]:
    load = repository.reader.load_manifest
    if not split_path(path):
        return diff(load, left.root, right.root)
    old, new = find_path(load, left.root, path), find_path(load, right.root, path)
    if old.tree is None or new.tree is None:
        raise NothingMatches(f"{printable(path)} is not a directory in both snapshots", hints=["give a directory"])
    return diff(load, old.tree, new.tree, b"/".join(split_path(path)))
