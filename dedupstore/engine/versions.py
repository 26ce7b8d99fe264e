"""Bringing the table of paths up to date, and reading from it who saw which version of a path.

A snapshot is learned as what differs from the nearest one of its source that is there already: equal directories are
not read. What happened to a path (`EventPlace`) then holds for that snapshot and all that build on it, until the next
thing happens to the path.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from dedupstore.cancel import CancelToken
from dedupstore.engine.diff import REMOVED, diff
from dedupstore.engine.walk import walk
from dedupstore.errors import IntegrityError, ObjectNotFound
from dedupstore.events import Finding, Listener, Progress
from dedupstore.model.snapshot import Snapshot
from dedupstore.repo.lmdb_versions import BYTES_PER_STEP, PATHS_PER_STEP, VersionTable
from dedupstore.repo.repository import Repository
from dedupstore.repo.versions import GONE, VANISHED, EventPlace, IndexedSnapshot, Version, version_of
from dedupstore.types import SnapshotId
from dedupstore.units import short_id

_STALE_FACTOR = 8
_STALE_LEAST = 1000
_MAX_PATTERNS = 1 << 16


def learn(
    repository: Repository, snapshots: Sequence[Snapshot], listener: Listener, cancel: CancelToken
) -> list[Snapshot]:
    """Learn those of `snapshots` (all of the repository, oldest first) that are not in the table yet.

    Returns the ones that are in it now. A snapshot whose manifests are damaged is a finding and is left out: what can
    be searched is.
    """
    table = repository.versions
    known = table.snapshots()
    if len(known) > max(_STALE_LEAST, _STALE_FACTOR * len(snapshots)):
        # Most of what it holds happened in snapshots that were removed long ago.
        table.clear()
        known = {}
    if any(snapshot.id not in known for snapshot in snapshots):
        repository.look()
    progress = Progress(phase="index")
    near: dict[tuple[str, str], Snapshot] = {}
    for snapshot in snapshots:
        cancel.check()
        if snapshot.id not in known:
            base = _base(snapshot, near, snapshots, known)
            learned = _learn_one(repository, snapshot, base, known, progress, listener, cancel)
            if learned is None:
                continue
            known[snapshot.id] = learned
        near[snapshot.source, snapshot.host] = near[snapshot.source, ""] = snapshot
    return [snapshot for snapshot in snapshots if snapshot.id in known]


def _base(
    snapshot: Snapshot, near: Mapping[tuple[str, str], Snapshot], snapshots: Sequence[Snapshot],
    known: Mapping[SnapshotId, IndexedSnapshot],
) -> Snapshot | None:  # fmt: skip
    """The one to compare with: the newest before it of the same source, of the same host if there is one, else the
    oldest after it."""
    before = near.get((snapshot.source, snapshot.host)) or near.get((snapshot.source, ""))
    if before is not None:
        return before
    return next((other for other in snapshots if other.id in known and other.source == snapshot.source), None)


def _learn_one(
    repository: Repository, snapshot: Snapshot, base: Snapshot | None, known: Mapping[SnapshotId, IndexedSnapshot],
    progress: Progress, listener: Listener, cancel: CancelToken,
) -> IndexedSnapshot | None:  # fmt: skip
    table = repository.versions
    for compared in [base, None] if base is not None else [None]:
        number = table.begin()
        items = _differences(repository, snapshot, compared)
        try:
            while batch := _next_batch(items):
                cancel.check()
                table.add(number, batch)
                progress.files_done += len(batch)
                listener.progress(progress)
        except (IntegrityError, ObjectNotFound) as error:
            # It may be the base whose manifests do not read: then all of this one's are read instead.
            failure = error
            continue
        base_number = known[compared.id].number if compared is not None else -1
        table.finish(snapshot.id, number, base_number)
        return IndexedSnapshot(snapshot.id, number, base_number)
    listener.finding(
        Finding(
            code="versions.unreadable",
            message=f"snapshot {short_id(snapshot.id)} is not searched: {failure.in_one_line}",
            severity="error",
        )
    )
    return None


def _next_batch(items: Iterator[tuple[bytes, Version]]) -> list[tuple[bytes, Version]]:
    """What one step takes: a path may be as long as its author likes."""
    batch: list[tuple[bytes, Version]] = []
    length = 0
    for item in items:
        batch.append(item)
        length += len(item[0])
        if len(batch) >= PATHS_PER_STEP or length >= BYTES_PER_STEP:
            break
    return batch


def _differences(repository: Repository, snapshot: Snapshot, base: Snapshot | None) -> Iterator[tuple[bytes, Version]]:
    load, keyed = repository.reader.load_manifest, repository.versions.keyed
    if base is None:
        for path, entry in walk(load, snapshot.root):
            yield path, version_of(keyed, entry)
        return
    for change in diff(load, base.root, snapshot.root):
        gone = change.kind == REMOVED or change.after is None
        yield change.path, VANISHED if gone or change.after is None else version_of(keyed, change.after)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One version of a path and the snapshots that have it: the first, the last and how many, by time."""

    version: Version
    first: Snapshot
    last: Snapshot
    snapshots: int


class Timeline:
    """Which snapshot has which version of a path. Only the snapshots it is made of are answered for."""

    def __init__(self, table: VersionTable, snapshots: Sequence[Snapshot]) -> None:
        """`snapshots`: oldest first; those the table does not know are left out."""
        known = table.snapshots()
        self._table = table
        self._snapshots = [(snapshot, known[snapshot.id].number) for snapshot in snapshots if snapshot.id in known]
        self._bases = {row.number: row.base for row in known.values()}
        self._patterns: dict[tuple[int, ...], list[list[_Run]]] = {}

    def versions(self, paths: Iterator[bytes]) -> Iterator[tuple[bytes, list[Seen]]]:
        """Each path with its versions, oldest first, those that no snapshot here has left out.

        A version that was replaced and came back is there twice.
        """
        for path, events in self._table.events(paths):
            yield path, list(self._runs(events)) if events else []

    def _runs(self, events: list[EventPlace]) -> Iterator[Seen]:
        pattern = tuple(event.number for event in events)
        placed = self._patterns.get(pattern)
        if placed is None:
            # Paths that came and changed with the same snapshots are many: what holds for one of them holds for all.
            if len(self._patterns) >= _MAX_PATTERNS:
                self._patterns.clear()
            placed = self._patterns[pattern] = self._place(pattern)
        for runs in placed:
            yield from self._merged(runs, events)

    def _merged(self, runs: list[_Run], events: list[EventPlace]) -> Iterator[Seen]:
        """Neighbours that turn out to be one version are one."""
        version, first, last, count = VANISHED, 0, 0, 0
        for event, begins, ends, length in runs:
            found = events[event].version if event >= 0 else VANISHED
            if found == version:
                last, count = ends, count + length
                continue
            if version.kind != GONE:
                yield self._seen(version, first, last, count)
            version, first, last, count = found, begins, ends, length
        if version.kind != GONE:
            yield self._seen(version, first, last, count)

    def _seen(self, version: Version, first: int, last: int, count: int) -> Seen:
        return Seen(
            version=version, first=self._snapshots[first][0], last=self._snapshots[last][0], snapshots=count
        )  # fmt: skip

    def _place(self, pattern: tuple[int, ...]) -> list[list[_Run]]:
        """For each source and host, which of the events holds in which snapshots."""
        holds: dict[int, int] = {number: index for index, number in enumerate(pattern)}
        groups: dict[tuple[str, str], list[_Run]] = {}
        for position, (snapshot, number) in enumerate(self._snapshots):
            event = self._holding(number, holds)
            runs = groups.setdefault((snapshot.source, snapshot.host), [])
            if runs and runs[-1].event == event:
                runs[-1] = _Run(event, runs[-1].first, position, runs[-1].snapshots + 1)
            else:
                runs.append(_Run(event, position, position, 1))
        return list(groups.values())

    def _holding(self, number: int, holds: dict[int, int]) -> int:
        """The event that holds in a snapshot: its own, or that of the nearest base that has one; -1 for none."""
        passed = []
        while number not in holds and number >= 0:
            passed.append(number)
            number = self._bases.get(number, -1)
        event = holds.get(number, -1)
        for one in passed:
            holds[one] = event
        return event


class _Run(NamedTuple):
    """Snapshots of one source and host, by their positions, in which one event of a path holds (-1: none)."""

    event: int
    first: int
    last: int
    snapshots: int
