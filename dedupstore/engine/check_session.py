"""What all checks of one run share: the inventory, the index they judge by, verdicts, counts and findings."""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import partial
from typing import NamedTuple

from dedupstore.cancel import CancelToken
from dedupstore.codec.hashing import digest
from dedupstore.engine.blame import bad_copies
from dedupstore.engine.check_options import CheckOptions, Counts, Coverage, Damage, Level
from dedupstore.engine.health import Health
from dedupstore.engine.inventory import Inventory, take_inventory
from dedupstore.engine.twice import twice
from dedupstore.engine.walk_ahead import WalkAhead
from dedupstore.errors import CorruptObject, DedupError, IntegrityError, ObjectNotFound, StoreError, StoreGone
from dedupstore.events import Finding, Listener, Progress
from dedupstore.model.snapshot import Snapshot
from dedupstore.repo import layout
from dedupstore.repo.badlist import KnownBad, read_bad
from dedupstore.repo.gcplan import read_condemned, read_pruned
from dedupstore.repo.index import Index, PackRow
from dedupstore.repo.lmdb_index import LmdbIndex, temporary_index
from dedupstore.repo.pack_name import PackName
from dedupstore.repo.reader import ChunkReader
from dedupstore.repo.repository import Repository
from dedupstore.repo.segment import PackFacts, decode_segment, read_facts
from dedupstore.repo.view import complete, find_facts
from dedupstore.threads import RightOfWay
from dedupstore.types import ChunkId, Kind, PackId, SegmentId, SnapshotId

MAX_FINDINGS = 10_000
AHEAD_CACHE_BYTES = 16 << 20
"""Decoded manifest blocks that a walk ahead keeps; the data's have a cache of their own."""
_LOOKS = 4
"""How often everything is listed while others merge segments."""


class Description(NamedTuple):
    """What a segment, or a pack itself, says of a pack: as hashes, because there may be many."""

    facts: bytes
    directory: bytes
    """Empty when the segment does not repeat the directory."""

    @classmethod
    def of(cls, fact: PackFacts) -> Description:
        numbers = b"%d %d %d %d " % (fact.kind, fact.units, fact.size, fact.epoch)
        directory = digest([fact.directory])[:16] if fact.repeated else b""
        return cls(digest([numbers, fact.salt])[:16], directory)

    def agrees(self, other: Description) -> bool:
        """No contradiction: what one does not say, the other may say as it likes."""
        silent = not self.directory or not other.directory
        return self.facts == other.facts and (silent or self.directory == other.directory)


class Session:
    """One run of a check over one repository. Used by one thread; what others get of it is theirs, or safe to share."""

    def __init__(self, repository: Repository, options: CheckOptions, listener: Listener, cancel: CancelToken) -> None:
        self.repository = repository
        self.options = options
        self.listener = listener
        self.cancel = cancel
        self.counts = Counts()
        self.progress = Progress(phase="check")
        self.findings: list[Finding] = []
        self.severities = {"error": 0, "warning": 0, "note": 0}
        self.damage = Damage()
        self.coverage: Coverage | None = None
        self.complete = True
        self.walked: tuple[SnapshotId, ...] = ()
        """Snapshots whose whole structure was read, damaged or not."""

        self.restored: list[SnapshotId] = []
        """Snapshots that were restored to nowhere without an error."""

        self.inventory: Inventory
        self.condemned: frozenset[PackId]
        self.damaged_segments: list[str]
        self.unread: dict[PackId, str]
        self.described: dict[PackId, Description] | None
        """What segments say of each pack; None when the segments themselves were not read."""

        self.cache_ahead = 0
        """How many packs only this machine's index knows of, which no segment names and no prune accounts for."""

        self.contradictions: set[PackId]
        self.damaged_blocks: dict[PackId, set[int]] = {}
        self.unreadable: set[PackId] = set()
        self.lost: set[PackId] = set()
        """Packs that are not there, or not with their size, and that no prune accounts for."""

        self.known: KnownBad
        """What earlier checks have recorded."""

        self.index: Index
        self.health: Health
        self.reader: ChunkReader
        self._temporary: LmdbIndex | None = None
        self.hashing = RightOfWay()
        self._ahead: WalkAhead | None = None
        self._merged_meanwhile = False
        self.look()

    def close(self) -> None:
        self._end_ahead()
        if self._temporary is not None:
            self._temporary.close()
            self._temporary = None

    # Looking

    def look(self, *, trust_cache: bool = True, with_orphans: bool = False) -> None:
        """List the store (again) and choose the index to judge by.

        This machine's index is used while it says what the listed segments say. `with_orphans`: also index packs that
        only their own trailers describe, to tell lost index from lost data.
        """
        for _ in range(_LOOKS):
            self._merged_meanwhile = False
            self._look(trust_cache=trust_cache, with_orphans=with_orphans)
            if not self._merged_meanwhile:
                break

    def _look(self, *, trust_cache: bool, with_orphans: bool) -> None:
        store = self.repository.store
        self.inventory = take_inventory(store, marks_expected=self.repository.catalog.marks_expected)
        self.condemned = self._read_condemned()
        self.known = read_bad(store, self.repository.keyring, self.inventory.damage)
        segments = {layout.parse_segment_key(key): key for key in self.inventory.segments}
        cached = self.repository.index
        known = cached.segments()
        self.damaged_segments = []
        self.unread = {}
        self.described = None
        self.contradictions = set()
        read_all = self.options.includes(Level.STRUCTURE) or not known <= segments.keys() or not trust_cache
        fresh = None if trust_cache else self._new_index()
        described: dict[PackId, Description] = {}
        for segment, key in segments.items():
            self.cancel.check()
            if read_all or segment not in known:
                self._learn(segment, key, described, [index for index in (cached, fresh) if index is not None])
        if read_all:
            self.described = described
            self.cache_ahead = len(self._unheard_of(cached, described))
            if fresh is None and (
                self.cache_ahead or any(row.id not in described for row in self._rows_present(cached))
            ):
                # It knows packs from segments that are gone: another machine would not find them.
                fresh = self._new_index()
                for segment, key in segments.items():
                    self._learn(segment, key, described, [fresh])
        if with_orphans:
            fresh = fresh or self._new_index()
            self._index_orphans(fresh, described)
        self._use(fresh or cached)

    @property
    def judges_by_cache(self) -> bool:
        return self._temporary is None

    def present(self) -> list[PackRow]:
        """Indexed packs that are listed with the right size, by number."""
        return self._rows_present(self.index)

    def orphans(self) -> list[tuple[PackName, int]]:
        """Listed packs that no readable segment describes."""
        known = {row.id for row in self.index.packs()} if self.described is None else self.described.keys()
        return [entry for pack, entry in self.inventory.packs.items() if pack not in known]

    def facts_of(self, pack: PackId) -> PackFacts | None:
        """What a segment says of one pack; reads segments until it is found."""
        return find_facts(self.repository.store, self.repository.keyring, self.inventory.segments, pack)

    def cached_number(self, row: PackRow) -> int | None:
        """The number of a pack in this machine's index, where verification times are kept."""
        return row.no if self.judges_by_cache else self.repository.index.pack_no(row.id)

    def pruned_since(self) -> bool:
        """Whether a prune was planned or carried out after the inventory: then what is gone may be gone on purpose."""
        rows = layout.list_complete(self.repository.store, layout.GC)
        kinds = [layout.parse_gc_key(row.key)[0] for row in rows]
        return kinds.count("done") > len(self.inventory.removals) or any(
            row.key not in self.inventory.plans for row, kind in zip(rows, kinds, strict=True) if kind == "plan"
        )

    def snapshots(self) -> list[Snapshot]:
        """The snapshots to walk, oldest first; those that cannot be read have been told by another check."""
        found = []
        wanted = self.options.snapshots
        for identifier in self.inventory.commits:
            if wanted and identifier not in wanted:
                continue
            try:
                found.append(twice(partial(self.repository.catalog.get, identifier)))
            except StoreGone:
                raise
            except DedupError:
                continue
        return sorted(found, key=lambda snapshot: (snapshot.time_ns, snapshot.id))

    def load_manifest(self, chunk: ChunkId) -> bytes:
        """Of one that cannot be read, the blocks that are to blame are marked as damaged."""
        try:
            return twice(lambda: self.reader.load_manifest(chunk))
        except IntegrityError:
            for pack_no, block_no in bad_copies(self.reader, self.index, self.health.present, Kind.MANIFEST, chunk):
                self.mark_damaged(self.index.pack(pack_no), [block_no])
            raise

    # Walking ahead

    @property
    def threads(self) -> int:
        """How many threads may work at once, before memory is thought of."""
        return self.options.threads or min(os.cpu_count() or 1, 8)

    def walk_ahead(self) -> None:
        """Begin to look whether the structure is sound, beside what the caller does next.

        Its index is this session's and its store the repository's, which any thread may use; verdicts and reader are
        its own. Without a second thread it would only get in the way.
        """
        if self.threads < 2 or self._known_damage:
            return
        store, keyring = self.repository.store, self.repository.keyring
        present = frozenset(self.health.present)
        reader = ChunkReader(store, keyring, self.index, usable=present, cache_bytes=AHEAD_CACHE_BYTES)

        def load(chunk: ChunkId) -> bytes:
            return twice(lambda: reader.load_manifest(chunk))

        self._end_ahead()
        self._ahead = WalkAhead(self.snapshots(), load, Health(self.index, set(present)), self.hashing)

    def take_ahead(self) -> WalkAhead | None:
        """The walk that began, if all it went by still holds: the same index and packs, and no damage found since."""
        return None if self._known_damage else self._ahead

    @property
    def _known_damage(self) -> bool:
        return bool(self.damaged_blocks or self.unreadable)

    def _end_ahead(self) -> None:
        if self._ahead is not None:
            self._ahead.stop()
            self._ahead = None

    def _distrust_ahead(self) -> None:
        if self._ahead is not None:
            self._ahead.abandon()

    # Telling

    @property
    def known_severity(self) -> str:
        """How bad a damage is that an earlier check has told: no more than what it does to snapshots, which this check
        tells anyway if it walks all of them."""
        walks = self.options.includes(Level.STRUCTURE) and not self.options.snapshots
        return "note" if walks else "warning"

    def report(self, finding: Finding) -> None:
        self.severities[finding.severity] += 1
        self.progress.errors = self.severities["error"]
        if len(self.findings) < MAX_FINDINGS:
            self.findings.append(finding)
        self.listener.finding(finding)

    def mark_damaged(self, row: PackRow, blocks: Iterable[int]) -> None:
        """Remember blocks that cannot be read."""
        self._distrust_ahead()
        numbers = set(blocks)
        self.damaged_blocks.setdefault(row.id, set()).update(numbers)
        self.health.mark_damaged(row.no, numbers)

    def mark_unreadable(self, row: PackRow) -> None:
        """Remember a pack of which nothing can be read."""
        self._distrust_ahead()
        self.unreadable.add(row.id)
        self.health.mark_lost(row.no)

    def step(self, phase: str) -> None:
        self.progress.phase = phase
        self.listener.progress(self.progress)

    def get(self, key: str) -> bytes:
        """A small object, asked for twice before it counts as unreadable."""
        return twice(lambda: self.repository.store.get(key))

    @property
    def verified(self) -> tuple[SnapshotId, ...]:
        """Snapshots that this run has proven restorable."""
        share = self.options.read_data
        read_all = share is not None and share.all and self.complete
        undamaged = set(self.walked) - set(self.damage.snapshots) if read_all else set()
        return tuple(sorted(undamaged | set(self.restored)))

    # Parts of looking

    def _read_condemned(self) -> frozenset[PackId]:
        condemned: set[PackId] = set()
        for key in self.inventory.plans:
            try:
                condemned |= read_condemned(self.repository.store, self.repository.keyring, [key])
            except DedupError:
                # Told by the check of plans; here it only decides how a missing pack is called.
                continue
        return frozenset(condemned)

    def _learn(
        self, segment: SegmentId, key: str, described: dict[PackId, Description], indexes: Iterable[Index]
    ) -> None:
        store, keyring = self.repository.store, self.repository.keyring
        try:
            facts = twice(lambda: decode_segment(keyring, key, store.get(key)))
            for fact in facts:
                said = Description.of(fact)
                if not described.setdefault(fact.id, said).agrees(said):
                    self.contradictions.add(fact.id)
            for index in indexes:
                if segment not in index.segments():
                    # Small packs' directories are in the packs alone: read only for an index that lacks them.
                    index.apply(segment, [self._whole(fact) for fact in facts])
        except (CorruptObject, ObjectNotFound, StoreError) as exc:
            if isinstance(exc, StoreGone):
                raise
            # A segment that went since it was listed was merged into another one, which the next listing shows.
            self._merged_meanwhile |= isinstance(exc, ObjectNotFound)
            if key not in self.damaged_segments:
                self.damaged_segments.append(key)

    def _whole(self, fact: PackFacts) -> PackFacts:
        """The facts with the directory. Trouble with the pack is told as that, and is no damage of its segment."""
        try:
            return twice(lambda: complete(self.repository.store, self.repository.keyring, fact))
        except StoreGone:
            raise
        except StoreError as error:
            self.unread[fact.id] = error.in_one_line
            return fact

    def _rows_present(self, index: Index) -> list[PackRow]:
        listed = self.inventory.packs
        return [row for row in index.packs() if listed.get(row.id) == (row.name, row.size)]

    def _unheard_of(self, index: Index, described: dict[PackId, Description]) -> list[PackRow]:
        there = described.keys() | self.inventory.packs.keys() | self.condemned
        rows = [row for row in index.packs() if not row.removed and row.id not in there]
        pruned = read_pruned(self.repository.store, self.repository.keyring, self.inventory.removals) if rows else ()
        return [row for row in rows if row.id not in pruned]

    def _index_orphans(self, index: Index, described: dict[PackId, Description]) -> None:
        store, keyring = self.repository.store, self.repository.keyring
        for pack, (name, size) in self.inventory.packs.items():
            if pack in described:
                continue
            self.cancel.check()
            try:
                index.apply(SegmentId(digest([b"orphan", pack])), [read_facts(store, keyring, name, size)])
            except (IntegrityError, StoreError):
                continue

    def _new_index(self) -> LmdbIndex:
        self.close()
        self._temporary = temporary_index(self.repository.id, self.repository.keyring.cache_key())
        return self._temporary

    def _use(self, index: Index) -> None:
        self._end_ahead()
        if index is not self._temporary:
            self.close()
        self.index = index
        rows = self.present()
        present = {row.no for row in rows if row.id not in self.unreadable}
        self.counts.packs = len(rows)
        self.health = Health(index, present)
        for row in rows:
            if row.id in self.damaged_blocks:
                self.health.mark_damaged(row.no, self.damaged_blocks[row.id])
        self.reader = ChunkReader(self.repository.store, self.repository.keyring, index, usable=present)
