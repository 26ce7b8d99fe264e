"""The sources of a configuration as they were at one time: which snapshots belong together.

Every snapshot of a configured source names all sources that the configuration had. The newest such snapshot at or
before a time says what the set is; of each of its sources the newest at or before that time belongs to it. A source
that failed in the last run is there with an older snapshot, or lacking; both are told, and refused beyond a tolerance.
"""

from __future__ import annotations

import socket
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass

from dedupstore.engine.walk import find_path
from dedupstore.errors import NothingMatches, Refused, UsageError
from dedupstore.model.snapshot import Snapshot
from dedupstore.repo.repository import Repository
from dedupstore.service.access import Access
from dedupstore.service.config_kinds import NAME
from dedupstore.service.opened import with_repository
from dedupstore.service.records import CONFIG, SOURCES, SnapshotInfo, snapshot_info
from dedupstore.service.selection import SAFETY
from dedupstore.units import format_duration, printable

_DAY_NS = 24 * 3600 * 1_000_000_000
TOLERANCE_NS = _DAY_NS
"""How much older than the newest of its set a snapshot may be, unless the user says otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One source of the set. `behind_ns`: how much older it is than the newest of the set, 0 within one run."""

    snapshot: SnapshotInfo
    behind_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceSet:
    """In the order of the configuration. `lacking`: sources without any snapshot at or before the time.

    `not_given`: those of them into which something is piped when somebody likes to, and never was.
    """

    host: str
    members: tuple[Member, ...]
    lacking: tuple[str, ...] = ()
    not_given: frozenset[str] = frozenset()


def find_set(access: Access, at_ns: int, *, host: str = "", paths: Sequence[bytes] = ()) -> SourceSet | None:
    """The set as of a time; with paths, only the sources that hold them all. None where no configuration made any.

    `host` chooses among several machines; without it this one's set is meant, or the only one there is.
    """
    return with_repository(access, lambda repository: _find(repository, at_ns, host, paths))


def require_together(found: SourceSet, tolerance_ns: int | None) -> None:
    """Raise Refused for a set with something lacking, or further apart than the tolerance; None tolerates all."""
    if tolerance_ns is None:
        return
    late = [member for member in found.members if member.behind_ns > tolerance_ns]
    lost = [name for name in found.lacking if name not in found.not_given]
    if not late and not lost:
        return
    words = [
        f'"{member.snapshot.source}" is {format_duration(member.behind_ns / 1e9)} older than the newest'
        for member in late
    ] + [f'"{name}" has no snapshot at or before that time' for name in lost]
    farthest_days = max((-(-member.behind_ns // _DAY_NS) for member in late), default=0)
    way = "take what there is: --tolerance any" if lost else f"take them all the same: --tolerance {farthest_days}d"
    raise Refused(
        "the sources as of that time do not belong together",
        why="; ".join(words),
        hints=[way, "one of them: --source NAME"],
        code="restore.set_apart",
    )


def _find(repository: Repository, at_ns: int, host: str, paths: Sequence[bytes]) -> SourceSet | None:
    snapshots = [
        snapshot
        for snapshot in repository.catalog.marked(cached=True)[0].snapshots
        if snapshot.time_ns <= at_ns and snapshot.trigger != SAFETY and (not host or snapshot.host == host)
    ]
    told = [snapshot for snapshot in snapshots if SOURCES in dict(snapshot.details)]
    if not told:
        return None
    chosen = _host([snapshot.host for snapshot in told])
    last = next(snapshot for snapshot in reversed(told) if snapshot.host == chosen)
    newest = {snapshot.source: snapshot for snapshot in snapshots if snapshot.host == chosen}
    # They become names of directories: what no configuration can have called so is left out.
    said = dict.fromkeys(dict(last.details)[SOURCES].split("\n"))
    names = [name for name in said if NAME.fullmatch(name)]
    members = [newest[name] for name in names if name in newest]
    lacking = tuple(name for name in names if name not in newest)
    if paths:
        repository.look()
        members, lacking = _holding(repository, members, paths), ()
    if not members:
        return None
    latest = max(member.time_ns for member in members)
    return SourceSet(
        host=chosen,
        members=tuple(Member(snapshot=snapshot_info(member), behind_ns=latest - member.time_ns) for member in members),
        lacking=lacking,
        not_given=frozenset(lacking) & _piped(last),
    )


def _piped(snapshot: Snapshot) -> set[str]:
    """The sources of type stdin of its configuration, where that was kept."""
    try:
        sources = tomllib.loads(dict(snapshot.details).get(CONFIG, ""))["sources"]
        return {name for name, source in sources.items() if source["type"] == "stdin"}
    except (tomllib.TOMLDecodeError, KeyError, TypeError, AttributeError):
        # What a repository holds may be anything.
        return set()


def _host(hosts: Sequence[str]) -> str:
    known = sorted(set(hosts))
    if len(known) == 1:
        return known[0]
    if socket.gethostname() in known:
        return socket.gethostname()
    raise UsageError(
        f"there are sources of {len(known)} machines",
        why=", ".join(known),
        hints=[f"say which: --host {known[0]}"],
    )


def _holding(repository: Repository, members: Sequence[Snapshot], paths: Sequence[bytes]) -> list[Snapshot]:
    found = []
    for member in members:
        try:
            for path in paths:
                find_path(repository.reader.load_manifest, member.root, path)
        except NothingMatches:
            continue
        found.append(member)
    if not found:
        raise NothingMatches(
            f"no source has {', '.join(map(printable, paths))} as of that time",
            hints=["paths are those that dedup ls shows", "dedup find NAME"],
            code="snapshot.path_not_found",
        )
    return found
