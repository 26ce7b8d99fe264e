"""Which roots keep data alive, and the end of those that no longer do: first part of step M2.

| root | becomes |
|---|---|
| with a commit marker | a snapshot: stays, whatever else is there |
| forgotten less than the undo window ago | stays, so that forgetting can be undone (see `undo_window`) |
| forgotten longer ago | goes; then its forget marker does |
| neither committed nor forgotten | a run under way or abandoned: forgotten here once it is 30 days old |

Clocks decide only when something may go that nobody claims. That no snapshot loses its root to a wrong clock rests on
the order: the forget marker is there before the commits are listed, and a writer looks for it after its commit is.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from dedupstore.engine.undo_window import IMPLAUSIBLE_NS, Elapsed
from dedupstore.errors import CorruptObject, IntegrityError, ObjectNotFound, RepositoryTooNew, StoreFull
from dedupstore.repo import layout
from dedupstore.repo.forgotten import Forgotten, get_forgotten, put_forgotten
from dedupstore.repo.gcplan import Done, put_done
from dedupstore.repo.repository import Repository
from dedupstore.repo.watch import require_all
from dedupstore.types import SnapshotId
from dedupstore.units import short_id

CREATOR = "dedup prune"
"""Who says so in plans and records."""

ABANDONED_NS = 30 * 24 * 3600 * 10**9
"""A writer commits within 7 days or not at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Roots:
    """What the listings say. The first four sets share no id."""

    kept: frozenset[SnapshotId]
    expired: frozenset[SnapshotId]
    """Forgotten so long ago that they may go."""

    abandoned: frozenset[SnapshotId]
    """Never committed and older than 30 days: to be forgotten now."""

    orphaned_markers: frozenset[SnapshotId]
    """Old forget markers whose root is gone already."""

    doubted: frozenset[SnapshotId] = frozenset()
    """Those of `kept` that only the clock of this machine would let go, by a leap that nothing vouches for."""

    pause_ns: int = 0
    """The pause that is doubted."""

    quiet_ns: int = 0
    """How long nothing was written until now, by this clock."""


def list_roots(repository: Repository) -> frozenset[SnapshotId]:
    """E2: every root there is. Raises IntegrityError when a snapshot's root is missing: such a list is not to be trusted.

    And Refused `repo.rolled_back` when a snapshot is missing that this machine has seen and nobody has forgotten.
    """
    roots = _listed(repository, layout.ROOTS)
    commits = _listed(repository, layout.COMMITS)
    require_all(repository.store, *repository.catalog.missed(commits))
    for identifier in commits - roots:
        # Stored between the two listings, or forgotten since.
        if repository.catalog.has_root(identifier):
            roots |= {identifier}
        elif repository.catalog.has_commit(identifier):
            raise IntegrityError(
                f"the record of snapshot {short_id(identifier)} is missing, so nothing was pruned",
                why="its commit marker says that it was complete; its data would be taken for garbage",
                hints=[
                    f"put {layout.root_key(identifier)} back from a copy of the repository",
                    f"or give the snapshot up: dedup forget {short_id(identifier)}",
                ],
                code="check.root_missing",
            )
    return roots


def survey_roots(repository: Repository, undo_window_ns: int) -> Roots:
    """What is kept and what may go, by the clock of this machine. Changes nothing."""
    roots = list_roots(repository)
    commits = _listed(repository, layout.COMMITS)
    markers = _listed(repository, layout.FORGOTTEN)
    elapsed = Elapsed.in_repository(repository)
    now_ns = elapsed.now_ns
    expired: set[SnapshotId] = set()
    doubted: set[SnapshotId] = set()
    pause_ns = 0
    abandoned: set[SnapshotId] = set()
    orphaned: set[SnapshotId] = set()
    for identifier in markers - commits:
        when_ns = marked_ns(repository, identifier)
        if when_ns is None:
            continue
        # Without a window the clocks of two machines do not matter.
        if undo_window_ns == 0 or elapsed.since(when_ns) >= undo_window_ns:
            (expired if identifier in roots else orphaned).add(identifier)
        elif now_ns - when_ns >= undo_window_ns and identifier in roots:
            doubted.add(identifier)
            pause_ns = max(pause_ns, elapsed.pause_ns(when_ns))
    for identifier in roots - commits - markers:
        if _ended_ns(repository, identifier, now_ns) + ABANDONED_NS <= now_ns:
            abandoned.add(identifier)
    gone = expired | (abandoned if undo_window_ns == 0 else set())
    return Roots(
        kept=roots - gone,
        expired=frozenset(expired),
        abandoned=frozenset(abandoned),
        orphaned_markers=frozenset(orphaned),
        doubted=frozenset(doubted),
        pause_ns=pause_ns,
        quiet_ns=elapsed.quiet_ns,
    )


def expire_roots(repository: Repository, roots: Roots, undo_window_ns: int) -> int:
    """Carry out what `survey_roots` found; how many roots went. Root first: a marker without a root is no harm.

    The marker goes last, when a record says what became of its snapshot: one of the two explains at any time that it is
    not withheld. After a long silence a record that says nothing is put: the next prune sees that time passes since.
    """
    store = repository.store
    if roots.doubted and roots.quiet_ns > IMPLAUSIBLE_NS:
        with suppress(StoreFull):
            now_ns = repository.clock.now_ns()
            put_done(store, repository.keyring, Done(packs=(), creator=CREATOR, time_ns=now_ns))
    marked: set[SnapshotId] = set()
    for identifier in sorted(roots.abandoned):
        # On a full disk there may be no room for the marker, and no hurry.
        with suppress(ObjectNotFound, StoreFull):
            record = repository.catalog.get_uncommitted(identifier).encode()
            marker = Forgotten(record=record, time_ns=repository.clock.now_ns())
            put_forgotten(store, repository.keyring, identifier, marker)
            marked.add(identifier)
    # Listed after every marker is durable: a run that commits all the same is seen here, or sees its marker itself.
    commits = _listed(repository, layout.COMMITS)
    going = (roots.expired | (marked if undo_window_ns == 0 else frozenset())) - commits
    for identifier in sorted(going):
        store.delete(layout.root_key(identifier))
    store.barrier()
    ended = sorted(going | roots.orphaned_markers - commits)
    # Where there is no room for the record the markers stay, and with them the explanation: the next prune ends them.
    with suppress(StoreFull):
        if ended:
            now_ns = repository.clock.now_ns()
            put_done(store, repository.keyring, Done(packs=(), creator=CREATOR, time_ns=now_ns, roots=tuple(ended)))
        for identifier in ended:
            store.delete(layout.forgotten_key(identifier))
        store.barrier()
    return len(going)


def marked_ns(repository: Repository, identifier: SnapshotId) -> int | None:
    """When a snapshot was forgotten; None where its marker does not say so: such a one stays."""
    try:
        return get_forgotten(repository.store, repository.keyring, identifier).time_ns
    except (ObjectNotFound, CorruptObject, RepositoryTooNew):
        return None


def _listed(repository: Repository, prefix: str) -> frozenset[SnapshotId]:
    rows = layout.list_complete(repository.store, prefix)
    return frozenset(SnapshotId(layout.parse_id_key(row.key, prefix)) for row in rows)


def _ended_ns(repository: Repository, identifier: SnapshotId, now_ns: int) -> int:
    try:
        return repository.catalog.get_uncommitted(identifier).end_ns
    except (ObjectNotFound, IntegrityError):
        # Gone, or a record that does not open: not to be given up here, and the walk of all roots tells of it.
        return now_ns + 1
