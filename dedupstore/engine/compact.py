"""Many small index segments become one; what a segment says of pruned packs is said no longer.

A segment goes only when everything it says is said by segments that are greater (by size, then by name) or is about
packs that were pruned. That order is the same for everybody, so of two that say the same the greater one stays, whoever
compacts at the same time. Merging and deleting are two prunes apart: a listing that was under way while the merged
segment was stored is over by the time the old ones go.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from dedupstore.errors import CorruptObject, ObjectNotFound, StoreError
from dedupstore.repo import layout
from dedupstore.repo.gcplan import read_pruned
from dedupstore.repo.pack_name import PackName
from dedupstore.repo.repository import Repository
from dedupstore.repo.segment import PackFacts, decode_segment, encode_segment
from dedupstore.storage.base import ObjectInfo
from dedupstore.types import PackId

SMALL_BYTES = 1 << 20
"""Segments up to here are merged; a snapshot of a gigabyte writes half of that."""

MANY = 16
AT_ONCE = 512
"""Bounds memory: half a gigabyte of segments at the very worst, a few megabytes as a rule."""


def compact_segments(repository: Repository) -> int:
    """Take away what is said elsewhere, then merge what is small. How many segments went."""
    store = repository.store
    pruned = pruned_packs(repository)
    small = [row for row in layout.list_complete(store, layout.INDEX) if row.size <= SMALL_BYTES][:AT_ONCE]
    segments = {row: facts for row in small if (facts := _read(repository, row)) is not None}
    redundant = _redundant(segments, pruned)
    gone = 0
    try:
        for row in redundant:
            store.delete(row.key)
            gone += 1
    except StoreError as error:
        # Locked, or not ours to delete: they do no harm, and must not keep the others from being merged.
        if not error.is_denial:
            raise
    if gone:
        store.barrier()
    _merge(repository, {row: facts for row, facts in segments.items() if row not in redundant}, pruned)
    return gone


def pruned_packs(repository: Repository) -> frozenset[PackId]:
    """Those of which no segment needs to say anything any more. To be asked for before segments are listed."""
    store = repository.store
    # Records before packs before segments: a pack that a record names and no listing shows never comes back.
    records = [row.key for row in layout.list_complete(store, layout.GC)]
    pruned = read_pruned(store, repository.keyring, records)
    return pruned - {PackName.parse(row.key).id for row in layout.list_complete(store, layout.PACKS)}


def _read(repository: Repository, row: ObjectInfo) -> list[PackFacts] | None:
    try:
        return decode_segment(repository.keyring, row.key, repository.store.get(row.key))
    except (CorruptObject, ObjectNotFound):
        return None


def _redundant(segments: dict[ObjectInfo, list[PackFacts]], pruned: frozenset[PackId]) -> list[ObjectInfo]:
    """From the greatest down: those that add nothing to the greater ones."""
    said: dict[PackId, list[PackFacts]] = {}
    redundant = []
    for row in sorted(segments, key=lambda row: (row.size, row.key), reverse=True):
        facts = segments[row]
        if all(fact.id in pruned or _says(said.get(fact.id, ()), fact) for fact in facts):
            redundant.append(row)
        for fact in facts:
            said.setdefault(fact.id, []).append(fact)
    return redundant


def _says(known: Iterable[PackFacts], fact: PackFacts) -> bool:
    """Whether one of them says as much. One that repeats the directory says more than one that does not."""
    return any(one == fact or (one.repeated and replace(one, directory=b"", repeated=False) == fact) for one in known)


def _merge(repository: Repository, segments: dict[ObjectInfo, list[PackFacts]], pruned: frozenset[PackId]) -> None:
    """One segment that says all they say; read back and compared before anybody may count on it."""
    if len(segments) < MANY:
        return
    known: dict[PackId, PackFacts] = {}
    for fact in (fact for facts in segments.values() for fact in facts if fact.id not in pruned):
        held = known.setdefault(fact.id, fact)
        if _says([fact], held):
            known[fact.id] = fact
        elif not _says([held], fact):
            # They contradict one another: that is for `repair index` to settle.
            return
    union = list(known.values())
    _, key, sealed = encode_segment(repository.keyring, union)
    if len(sealed) <= max(row.size for row in segments):
        # It would not be greater than all of them, so that they could never go.
        return
    repository.store.put(key, [sealed])
    repository.store.barrier()
    try:
        stored = decode_segment(repository.keyring, key, repository.store.get(key))
    except ObjectNotFound:
        # Another prune has found that greater ones say all this already.
        return
    if stored != union:
        raise CorruptObject(f"index segment {key} does not read back", why="it was merged from others, which all stay")
