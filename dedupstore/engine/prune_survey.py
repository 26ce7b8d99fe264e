"""What prune knows of the packs: steps M1 and E3. Stricter than a writer's look, for what it does not see it may destroy.

The order is index, plans, packs, index again. Whether a pack is safe is judged by the plans listed *after* the first
segments, and what depends on what by the segments listed *last*: the other way round a pack that was stored, indexed
and condemned in between would count, or a delta block indexed in between would lose its bases.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from dedupstore.errors import IntegrityError, ObjectNotFound
from dedupstore.repo import layout
from dedupstore.repo.badlist import BadPlaces, KnownBad, bad_places, read_bad
from dedupstore.repo.gcplan import Plan, read_plans
from dedupstore.repo.index import PackRow
from dedupstore.repo.pack_name import PackName
from dedupstore.repo.repository import Repository
from dedupstore.repo.segment import PackFacts, encode_segment, read_facts
from dedupstore.repo.view import read_directories, sync_segments
from dedupstore.types import PackId

_SEGMENT_PACKS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """One look. Packs are numbers of the local index, unless said otherwise."""

    plans: dict[str, Plan]
    """Every visible plan, by key."""

    present: set[int]
    """Indexed, listed with the right size, and known what they hold."""

    safe: set[int]
    """Those of them that were indexed before the plans were listed, and that none condemns: only these count."""

    indexed_first: int
    """Packs with a smaller number were indexed at the first listing of segments."""

    misfits: frozenset[PackId]
    """Indexed packs that are listed with another size or name than they were stored with."""

    modified_ns: dict[int, int]
    """When the store says a pack was written; only where it says so."""

    unindexed: tuple[tuple[PackName, int, int], ...]
    """Name, size and time of packs that no segment describes (yet)."""

    bad: BadPlaces = field(default_factory=BadPlaces)
    """Blocks of packs that are there and are known to be damaged: no copies of what they held."""

    lost: frozenset[int] = frozenset()
    """Packs that a check has missed or found unreadable, and that are not there now either, or not with their size, or
    do not say what they hold."""

    unread: frozenset[int] = frozenset()
    """Packs of which it is not known what they hold, or held: if anything is missing it may have been there."""


def survey(repository: Repository) -> Survey:
    """E3. Raises IncompleteListing, and IntegrityError when what a listed pack holds cannot be found out."""
    store, keyring, index = repository.store, repository.keyring, repository.index
    sync_segments(store, keyring, index)
    indexed_first = max((row.no for row in index.packs()), default=-1) + 1
    records = [row.key for row in layout.list_complete(store, layout.GC)]
    plans = read_plans(store, keyring, records)
    known = read_bad(store, keyring, records)
    condemned = {pack for plan in plans.values() for pack in plan.packs}
    listed: dict[PackId, tuple[PackName, int, int]] = {}
    for info in layout.list_complete(store, layout.PACKS):
        name = PackName.parse(info.key)
        listed[name.id] = (name, info.size, info.modified_ns)
    damaged = sync_segments(store, keyring, index)
    if any(index.pack_no(pack) is None for pack in listed):
        # A listing that was under way while segments were merged may have shown neither the old nor the new ones.
        damaged = sync_segments(store, keyring, index)
    present: set[int] = set()
    safe: set[int] = set()
    modified: dict[int, int] = {}
    misfits: set[PackId] = set()
    unknown: list[PackRow] = []
    lost: set[int] = set()
    unread: set[int] = set()
    for row in index.packs():
        found = listed.pop(row.id, None)
        if found is None and row.no >= indexed_first:
            found = _ask_for(repository, row)
        misfit = found is not None and found[:2] != (row.name, row.size)
        if found is None or misfit:
            if row.id in known.lost and row.id not in condemned and not row.removed:
                lost.add(row.no)
            if not row.known and not row.removed:
                unread.add(row.no)
            if misfit:
                misfits.add(row.id)
            continue
        if not row.known:
            unknown.append(row)
        present.add(row.no)
        if row.id not in condemned and row.no < indexed_first:
            safe.add(row.no)
        if found[2]:
            modified[row.no] = found[2]
    silent = _require_known(repository, unknown, known)
    present -= silent
    safe -= silent
    if damaged and listed:
        raise IntegrityError(
            f"{len(damaged)} index segments cannot be read, so nothing was pruned",
            why=f"{len(listed)} packs are described by no other: what depends on what is not known",
            hints=["describe them again: dedup repair index"],
            code="prune.index_damaged",
        )
    return Survey(
        plans=plans,
        present=present,
        safe=safe,
        indexed_first=indexed_first,
        misfits=frozenset(misfits),
        modified_ns=modified,
        unindexed=tuple(listed.values()),
        bad=bad_places(known, present, index.pack_no),
        lost=frozenset(lost | {no for no in silent if index.pack(no).id not in condemned}),
        unread=frozenset(unread | silent),
    )


def index_packs(repository: Repository, packs: Iterable[tuple[PackName, int]]) -> int:
    """Write segments for packs that none describes; how many could be read.

    What a plan deletes has to be indexed first: a writer may be about to do it, and count on the chunks, in a snapshot
    that is published already. One that cannot be read keeps its plan from being carried out.
    """
    facts = [fact for name, size in packs if (fact := _describe(repository, name, size)) is not None]
    for start in range(0, len(facts), _SEGMENT_PACKS):
        part = facts[start : start + _SEGMENT_PACKS]
        segment, key, sealed = encode_segment(repository.keyring, part)
        repository.store.put(key, [sealed])
        repository.store.barrier()
        repository.index.apply(segment, part)
    return len(facts)


def _ask_for(repository: Repository, row: PackRow) -> tuple[PackName, int, int] | None:
    """Name, size and time of a pack that was indexed meanwhile and was not listed; None if it is not there.

    No listing of many folders shows one moment: it may lack both a pack that somebody else's plan took away and the one
    to which what it held had moved before. Then a root without a commit would be walked as if that were lost.
    """
    try:
        return row.name, repository.store.head(row.name.key), 0
    except ObjectNotFound:
        return None


def _describe(repository: Repository, name: PackName, size: int) -> PackFacts | None:
    try:
        return read_facts(repository.store, repository.keyring, name, size)
    except (ObjectNotFound, IntegrityError):
        return None


def _require_known(repository: Repository, rows: Sequence[PackRow], bad: KnownBad) -> set[int]:
    """Those whose directories cannot be read, as a check has found before: nobody counts on anything in them."""
    known = read_directories(repository.store, repository.keyring, repository.index, rows)
    unread = [row for row in rows if row.no not in known]
    missing = [row for row in unread if not bad.covers(row.id, None)]
    if missing:
        raise IntegrityError(
            f"what {len(missing)} packs hold cannot be read, so nothing was pruned",
            why=f"the directory of {missing[0].name.key} is damaged or cannot be reached",
            hints=["find out what is damaged: dedup check --read-data"],
            code="prune.pack_unreadable",
        )
    return {row.no for row in unread}
