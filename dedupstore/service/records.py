"""What the doors show: plain records, free of the layers below."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dedupstore.units import format_id, short_id

if TYPE_CHECKING:
    # Not loaded for the types alone: a list of snapshots shows no entries.
    from dedupstore.model.entry import Entry
    from dedupstore.model.mark import Marking
    from dedupstore.model.snapshot import Snapshot, Statistics


COPY_OF = "copy.snapshot"
"""What engine/origin.py writes; told here without loading the engine."""

CONFIG = "config"
SOURCES = "set.sources"
"""What service/configured.py writes: the configuration, and the names of all its sources, one a line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What a run saw and stored. Sizes in bytes."""

    files: int = 0
    directories: int = 0
    others: int = 0
    files_new: int = 0
    files_changed: int = 0
    files_unchanged: int = 0
    files_removed: int = 0
    bytes_total: int = 0
    bytes_read: int = 0
    bytes_new: int = 0
    bytes_stored: int = 0
    chunks_new: int = 0
    errors: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotInfo:
    """One complete snapshot. Times in nanoseconds since the epoch."""

    id: str
    short: str
    source: str
    kind: str
    host: str
    user: str
    trigger: str
    time_ns: int
    end_ns: int
    parent: str | None
    tags: tuple[str, ...]
    note: str
    paths: tuple[bytes, ...]
    tool: str
    counts: Counts
    protected: bool = False
    protected_until_ns: int | None = None
    """None: for as long as nobody unprotects it."""

    protection: str = ""
    """Why it is protected."""
    copy_of: str | None = None
    """The id it had where it was taken, if this is a copy from another repository."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryInfo:
    """One path in a snapshot."""

    path: bytes
    kind: str
    mode: int
    uid: int
    gid: int
    user: str
    group: str
    size: int
    mtime_ns: int
    target: bytes
    hash: str
    """Plain BLAKE3 in hex of files of several chunks, as `b3sum` prints it; empty for others."""


def safety_source(source: str) -> str:
    """The source under which is kept what a restore in place is about to replace."""
    return f"{source} (before restore)"


def snapshot_info(snapshot: Snapshot, marking: Marking | None = None) -> SnapshotInfo:
    """What is shown of a snapshot that has today's tags and note; with its marks also whether it is protected."""
    return SnapshotInfo(
        id=format_id(snapshot.id),
        short=short_id(snapshot.id),
        source=snapshot.source,
        kind=snapshot.kind,
        host=snapshot.host,
        user=snapshot.user,
        trigger=snapshot.trigger,
        time_ns=snapshot.time_ns,
        end_ns=snapshot.end_ns,
        parent=format_id(snapshot.parent) if snapshot.parent is not None else None,
        tags=snapshot.tags,
        note=snapshot.note,
        paths=tuple(path for _, path in snapshot.origins),
        tool=snapshot.tool,
        counts=counts_of(snapshot.statistics),
        protected=marking is not None and marking.protected,
        protected_until_ns=marking.until_ns if marking is not None else None,
        protection=marking.reason if marking is not None else "",
        copy_of=dict(snapshot.details).get(COPY_OF),
    )


def counts_of(statistics: Statistics) -> Counts:
    return Counts(**{name: getattr(statistics, name) for name in Counts.__slots__})


def entry_info(path: bytes, entry: Entry) -> EntryInfo:
    return EntryInfo(
        path=path,
        kind=entry.kind,
        mode=entry.mode,
        uid=entry.uid,
        gid=entry.gid,
        user=entry.user,
        group=entry.group,
        size=entry.size,
        mtime_ns=entry.mtime,
        target=entry.target,
        hash=entry.hash.hex() if not entry.holes else "",
    )
