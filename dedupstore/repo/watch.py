"""Roll-back and withholding: what this machine has seen of a repository, against what storage shows now.

Whoever holds the storage cannot forge an object, but can show an older state, or leave snapshots out. A client that has
seen more notices. A snapshot that is not listed any more is explained by its forget marker, or by the record of the prune
that ended it; both are sealed, so only somebody with the keys can have put them.
"""

from __future__ import annotations

from collections.abc import Iterable, Set
from shlex import quote
from typing import Protocol

from dedupstore.errors import IntegrityError, ObjectNotFound, Refused, RepositoryTooNew
from dedupstore.repo import layout
from dedupstore.repo.forgotten import get_forgotten
from dedupstore.repo.gcplan import read_expired
from dedupstore.repo.keyring import KeyRing
from dedupstore.storage.base import ObjectStore
from dedupstore.types import SnapshotId
from dedupstore.units import format_number, short_id

_SHOWN = 5


class Watch(Protocol):
    """The memory of one machine for one repository at one place."""

    @property
    def seen(self) -> frozenset[SnapshotId]:
        """Snapshots that were listed once and have not gone since with an explanation."""
        ...

    @property
    def gone(self) -> frozenset[SnapshotId]:
        """Snapshots that went with an explanation: an id never comes back."""
        ...

    def listed(
        self, commits: frozenset[SnapshotId], withheld: frozenset[SnapshotId], returned: frozenset[SnapshotId]
    ) -> None:
        """Told of every complete listing, and what was wrong with it."""
        ...

    def committed(self, snapshot: SnapshotId) -> None:
        """Told of a snapshot that was made here."""
        ...


def unexplained(store: ObjectStore, keyring: KeyRing, missing: Set[SnapshotId]) -> frozenset[SnapshotId]:
    """Those of the missing snapshots that nobody has forgotten.

    Markers are asked for before records are listed: a prune puts its record before it takes the marker away.
    """
    left = {identifier for identifier in missing if not _is_marked(store, keyring, identifier)}
    if left:
        left -= read_expired(store, keyring, [row.key for row in layout.list_complete(store, layout.GC)])
    return frozenset(left)


def _is_marked(store: ObjectStore, keyring: KeyRing, identifier: SnapshotId) -> bool:
    try:
        get_forgotten(store, keyring, identifier)
    except (ObjectNotFound, IntegrityError, RepositoryTooNew):
        return False
    return True


def what_differs(withheld: Set[SnapshotId], returned: Set[SnapshotId]) -> str:
    """For people; empty when nothing does."""
    parts = []
    if withheld:
        parts.append(f"{_some(withheld)} missing that this machine has seen, and nobody has forgotten")
    if returned:
        parts.append(f"{_some(returned)} there again that had been forgotten")
    return "; ".join(parts)


def require_all(store: ObjectStore, withheld: Set[SnapshotId], returned: Set[SnapshotId]) -> None:
    """Raises Refused when storage shows an older state than this machine has seen: nothing may be removed by it."""
    if withheld or returned:
        raise Refused(
            f"{store.url} shows an older state than before, so nothing was removed",
            why=what_differs(withheld, returned),
            hints=[
                "find out what became of the storage",
                f"if the repository was put back from a copy on purpose: dedup repo trust -r {quote(store.url)}",
            ],
            code="repo.rolled_back",
        )


def _some(snapshots: Iterable[SnapshotId]) -> str:
    names = sorted(map(short_id, snapshots))
    more = "" if len(names) <= _SHOWN else ", …"
    verb = "is" if len(names) == 1 else "are"
    return f"{format_number(len(names), 'snapshot')} ({', '.join(names[:_SHOWN])}{more}) {verb}"
