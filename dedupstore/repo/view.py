"""What of the repository may be used right now: step W1 (and W5) of the snapshot protocol.

Safety rests on the order of the listings (gc plans, then segments, then packs) and on the rule that an index
entry counts only while its pack is listed with the right size and no plan condemns it. See docs/protocols.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from dedupstore.errors import CorruptObject, IntegrityError, ObjectNotFound, StoreError
from dedupstore.repo import layout
from dedupstore.repo.badlist import BadPlaces, bad_places, read_bad
from dedupstore.repo.gcplan import read_condemned, read_pruned
from dedupstore.repo.index import Index, PackRow
from dedupstore.repo.keyring import KeyRing
from dedupstore.repo.pack import PackHeader, read_trailer
from dedupstore.repo.pack_name import PackName
from dedupstore.repo.segment import PackFacts, decode_segment
from dedupstore.storage.base import ObjectStore
from dedupstore.types import PackId

_LISTINGS = 4
"""How often the segments are listed while others merge them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """One consistent look at a store.

    `usable` holds pack numbers of the local index. `lost` names packs that segments describe but the listing lacks or
    shows with another size, or whose directory, not repeated in a segment, cannot be read; those that a prune has
    reported deleted before this look are not among them. `orphans` are packs no segment describes (yet).
    """

    usable: set[int]
    condemned: frozenset[PackId]
    lost: frozenset[PackId]
    orphans: tuple[tuple[PackName, int], ...]
    plans: frozenset[str]
    gone: frozenset[int] = frozenset()
    """Numbers of indexed packs that are not listed, lost or pruned: nothing is read from there."""

    pruned: bool = False
    """Whether there ever was a prune: a delta block that no snapshot needed may have lost its bases then."""

    bad: BadPlaces = field(default_factory=BadPlaces)
    """Blocks of packs that are there and are known to be damaged: no copies of what they held."""

    present: frozenset[int] = frozenset()
    """As `usable`, with the packs that are condemned or known to be damaged: they can still be read, or tried."""

    @property
    def whole(self) -> bool:
        """Nothing is lost, damaged or condemned: what a complete snapshot uses is in usable packs."""
        return not self.lost and not self.condemned and not self.bad

    @property
    def closed(self) -> bool:
        """Nothing ever went: every base of every delta block is where it was when the delta was made."""
        return self.whole and not self.pruned


def refresh(store: ObjectStore, keyring: KeyRing, index: Index) -> View:
    """List the store, merge new segments into the index, and say what is usable.

    Raises IncompleteListing for a listing that cannot be proven complete, CorruptObject for a damaged segment.
    """
    records = frozenset(info.key for info in layout.list_complete(store, layout.GC))
    condemned = read_condemned(store, keyring, records)
    sync_segments(store, keyring, index)
    listed: dict[PackId, tuple[PackName, int]] = {}
    for info in layout.list_complete(store, layout.PACKS):
        name = PackName.parse(info.key)
        listed[name.id] = (name, info.size)
    present: set[int] = set()
    lost: set[PackId] = set()
    unknown: list[PackRow] = []
    gone: list[PackRow] = []
    for row in index.packs():
        found = listed.pop(row.id, None)
        if found is None:
            gone.append(row)
        elif found != (row.name, row.size):
            lost.add(row.id)
        elif not row.known:
            unknown.append(row)
        else:
            present.add(row.no)
    known = read_directories(store, keyring, index, unknown)
    present |= known
    usable = {no for no in present if index.pack(no).id not in condemned} if condemned else set(present)
    lost.update(row.id for row in unknown if row.no not in known and row.id not in condemned)
    lost.update(unexplained(store, keyring, index, gone, records))
    orphans = tuple(entry for pack, entry in listed.items() if pack not in condemned)
    bad = bad_places(read_bad(store, keyring, records), present, index.pack_no)
    return View(
        usable=usable - bad.whole,
        condemned=condemned,
        lost=frozenset(lost),
        orphans=orphans,
        gone=frozenset(row.no for row in gone),
        plans=frozenset(key for key in records if layout.parse_gc_key(key)[0] == "plan"),
        pruned=any(layout.parse_gc_key(key)[0] == "done" for key in records),
        bad=bad,
        present=frozenset(present),
    )


def unexplained(
    store: ObjectStore, keyring: KeyRing, index: Index, gone: Sequence[PackRow], records: Iterable[str]
) -> set[PackId]:
    """Those of the packs gone that no prune accounts for; the others are remembered as removed.

    `records` was listed before the segments were: a prune that was done by then had stored and indexed before what it
    saved, so whoever knows it by its record also knows where its live chunks went. Of a later one nothing is believed.
    """
    new = [row for row in gone if not row.removed]
    if not new:
        return set()
    pruned = read_pruned(store, keyring, records)
    index.mark_removed(row.no for row in new if row.id in pruned)
    return {row.id for row in new if row.id not in pruned}


def sync_segments(store: ObjectStore, keyring: KeyRing, index: Index) -> list[str]:
    """Merge segments this machine has not seen; the keys of segments that could not be read.

    A damaged segment is not fatal: its packs show up as orphans and their directories are read instead.
    """
    for left in reversed(range(_LISTINGS)):
        try:
            return _sync_listed(store, keyring, index)
        except ObjectNotFound:
            # Merged into another one between the listing and now: that one is listed by now.
            if not left:
                raise
    raise AssertionError("unreachable")


def _sync_listed(store: ObjectStore, keyring: KeyRing, index: Index) -> list[str]:
    known = index.segments()
    damaged: list[str] = []
    for info in layout.list_complete(store, layout.INDEX):
        segment = layout.parse_segment_key(info.key)
        if segment in known:
            continue
        try:
            sealed = store.get(info.key)
            facts = [complete(store, keyring, fact) for fact in decode_segment(keyring, info.key, sealed)]
        except (CorruptObject, StoreError) as error:
            if isinstance(error, StoreError) and error.code != "store.unreadable":
                raise
            # Not learned, so tried again next time: a wrong reading must not become this machine's lasting view.
            damaged.append(info.key)
            continue
        index.apply(segment, facts)
    return damaged


def complete(store: ObjectStore, keyring: KeyRing, fact: PackFacts) -> PackFacts:
    """The facts with the directory that the segment does not repeat.

    A pack that is gone or damaged keeps none: the index then knows that it should be there and not what it holds.
    """
    if fact.directory:
        return fact
    header = PackHeader(kind=fact.kind, epoch=fact.epoch, repository=keyring.repository, salt=fact.salt)
    try:
        whole = replace(fact, directory=read_trailer(store, fact.name, fact.size, header, keyring))
        whole.blocks()
    except (ObjectNotFound, IntegrityError):
        return fact
    return whole


def find_facts(store: ObjectStore, keyring: KeyRing, segments: Iterable[str], pack: PackId) -> PackFacts | None:
    """What a segment says of one pack; reads these segments until it is found. For a pack that cannot say it itself."""
    for key in segments:
        try:
            facts = decode_segment(keyring, key, store.get(key))
        except (IntegrityError, StoreError):
            continue
        for fact in facts:
            if fact.id == pack:
                # The segment may leave the directory to the pack; its row is enough to read the trailer by.
                return complete(store, keyring, fact)
    return None


def read_directories(store: ObjectStore, keyring: KeyRing, index: Index, rows: Sequence[PackRow]) -> set[int]:
    """Ask once more for the directories of packs that are there: what was unreadable once may be back.

    Returns the numbers of those that the index knows now.
    """
    found: dict[int, PackFacts] = {}
    for row in rows:
        fact = PackFacts(
            id=row.id,
            size=row.size,
            kind=row.kind,
            units=row.units,
            epoch=row.epoch,
            salt=row.salt,
            directory=b"",
            repeated=False,
        )
        whole = complete(store, keyring, fact)
        if whole.directory:
            found[row.no] = whole
    if found:
        index.learn(list(found.values()))
    return set(found)
