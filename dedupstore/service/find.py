"""Finding paths by pattern in all snapshots, and the history of one path."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from dedupstore.cancel import CancelToken
from dedupstore.engine import find as engine
from dedupstore.engine.find import Wanted as Wanted
from dedupstore.engine.find import compiled
from dedupstore.engine.select import matching
from dedupstore.engine.versions import Seen, Timeline, learn
from dedupstore.engine.walk import split_path
from dedupstore.errors import NothingMatches
from dedupstore.events import Collector, Finding, Listener
from dedupstore.model.snapshot import Snapshot
from dedupstore.repo.repository import Repository
from dedupstore.repo.versions import Version
from dedupstore.service.access import Access
from dedupstore.service.opened import with_repository
from dedupstore.service.records import SnapshotInfo, snapshot_info
from dedupstore.service.selection import Filter, Selection, choose, unreadable
from dedupstore.units import printable

_DAMAGED = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionInfo:
    """One version of a path. `changes`: what differs from the version before it; empty for the first."""

    path: bytes
    kind: str
    mode: int
    uid: int
    gid: int
    size: int
    mtime_ns: int
    first: SnapshotInfo
    last: SnapshotInfo
    snapshots: int
    changes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundInfo:
    """The newest version of a path that answers the question, and how many versions do."""

    version: VersionInfo
    versions: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """Which snapshots are searched: all that the filter leaves, or the one that `one` names."""

    filter: Filter
    one: Selection | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchResult:
    paths: int
    snapshots: int
    more: bool
    """Whether the limit cut off others."""

    findings: tuple[Finding, ...]

    @property
    def exit_code(self) -> int:
        return _DAMAGED if any(finding.severity == "error" for finding in self.findings) else 0


def find(
    access: Access, search: Search, wanted: Wanted, limit: int | None, visit: Callable[[FoundInfo], None],
    listener: Listener, cancel: CancelToken,
) -> SearchResult:  # fmt: skip
    """Call `visit` for every path that matches, in the order in which they were first seen."""
    # A mistake in the pattern is told before anything is opened.
    compiled(wanted)
    collector = Collector(listener)
    shown = 0

    def work(repository: Repository) -> SearchResult:
        nonlocal shown
        timeline, searched = _timeline(repository, search, collector, cancel)
        skip = shown
        for number, found in enumerate(engine.find(repository.versions, timeline, wanted, cancel)):
            if limit is not None and number >= limit:
                return _result(number, searched, collector, more=True)
            if number >= skip:
                # When the cache broke on the way, the second try goes on where the first one ended.
                visit(FoundInfo(version=_info(found.path, found.seen), versions=found.versions))
                shown += 1
        return _result(shown, searched, collector, more=False)

    return with_repository(access, work)


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    path: bytes
    versions: tuple[VersionInfo, ...]
    """By source and host, then oldest first."""

    result: SearchResult


def history(access: Access, search: Search, path: bytes, listener: Listener, cancel: CancelToken) -> History:
    """Every version of one path. Raises NothingMatches when no snapshot has it."""
    whole = b"/".join(split_path(path))

    def work(repository: Repository) -> History:
        collector = Collector(listener)
        timeline, searched = _timeline(repository, search, collector, cancel)
        [(_, seen)] = timeline.versions(iter([whole]))
        if not seen:
            raise NothingMatches(
                f"no snapshot has {printable(whole)}",
                why=f"{len(searched)} snapshots were looked through",
                hints=[f"dedup find {printable(whole.rsplit(b'/', 1)[-1])}", "dedup ls latest --recursive"],
                code="snapshot.path_not_found",
            )
        return History(
            path=whole, versions=_told(whole, seen), result=_result(1, searched, collector, more=False)
        )  # fmt: skip

    return with_repository(access, work)


def _timeline(
    repository: Repository, search: Search, listener: Collector, cancel: CancelToken
) -> tuple[Timeline, list[Snapshot]]:
    """The table, up to date, and those of its snapshots that are asked about."""
    listing, _ = repository.catalog.marked(cached=True)
    for finding in unreadable(listing):
        listener.finding(finding)
    chosen = [choose(repository.catalog, search.one)] if search.one else matching(listing.snapshots, search.filter)
    learned = {snapshot.id for snapshot in learn(repository, listing.snapshots, listener, cancel)}
    searched = [snapshot for snapshot in chosen if snapshot.id in learned]
    return Timeline(repository.versions, searched), searched


def _result(paths: int, searched: list[Snapshot], collector: Collector, *, more: bool) -> SearchResult:
    return SearchResult(paths=paths, snapshots=len(searched), more=more, findings=tuple(collector.findings))


def _info(path: bytes, seen: Seen) -> VersionInfo:
    version = seen.version
    return VersionInfo(
        path=path,
        kind=version.kind,
        mode=version.mode,
        uid=version.uid,
        gid=version.gid,
        size=version.size,
        mtime_ns=version.mtime,
        first=snapshot_info(seen.first),
        last=snapshot_info(seen.last),
        snapshots=seen.snapshots,
    )


def _told(path: bytes, seen: list[Seen]) -> tuple[VersionInfo, ...]:
    told: list[VersionInfo] = []
    before: Seen | None = None
    for one in seen:
        same_line = before is not None and (before.first.source, before.first.host) == (
            one.first.source,
            one.first.host,
        )
        changes = _changes(before.version, one.version) if same_line and before is not None else ()
        told.append(replace(_info(path, one), changes=changes))
        before = one
    return tuple(told)


def _changes(before: Version, after: Version) -> tuple[str, ...]:
    """In the words of `dedup history`: what differs, the content first."""
    if before.kind != after.kind:
        return ("kind",)
    names = [
        ("content", before.content != after.content or before.size != after.size),
        ("mode", before.mode != after.mode),
        ("owner", (before.uid, before.gid) != (after.uid, after.gid)),
        ("time", before.mtime != after.mtime),
        # Extended attributes, access lists, hard links.
        ("attributes", before.attributes != after.attributes),
    ]
    return tuple(name for name, differs in names if differs)
