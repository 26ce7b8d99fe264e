"""The list of snapshots: records under `roots/`, made real by markers under `commits/`.

A record without a marker is a run that was not finished: a garbage collection root, never shown as a snapshot.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, field, replace

from dedupstore.codec.claims import ObjectType
from dedupstore.codec.hashing import digest
from dedupstore.errors import CorruptObject, IntegrityError, ObjectNotFound, Refused, StoreError
from dedupstore.model.mark import Mark
from dedupstore.model.snapshot import Commit, Snapshot
from dedupstore.repo import layout
from dedupstore.repo.keyring import KeyRing
from dedupstore.repo.marks import MarkBook, put_mark, read_marks
from dedupstore.repo.record_cache import RecordCache
from dedupstore.repo.watch import Watch, unexplained
from dedupstore.storage.base import ObjectInfo, ObjectStore
from dedupstore.types import SnapshotId

UNDO_WINDOW_SECONDS = 7 * 24 * 3600
"""How long the root of a forgotten snapshot stays, by default: as long as forgetting can be undone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """All complete snapshots, oldest first, and what is wrong with the others."""

    snapshots: tuple[Snapshot, ...]
    damaged: tuple[tuple[SnapshotId, str], ...]
    """Ids whose record or marker is missing or does not open, with the reason."""
    uncommitted: tuple[SnapshotId, ...]
    """Records without a commit marker: runs that were stopped, and snapshots that were forgotten."""

    made_ns: Mapping[SnapshotId, int] = field(default_factory=dict)
    """When each snapshot was committed, which need not be the time it stands for."""

    withheld: frozenset[SnapshotId] = frozenset()
    """Seen before by this machine, and gone without having been forgotten."""

    returned: frozenset[SnapshotId] = frozenset()
    """There again, although this machine has seen them go."""


class Catalog:
    """Reads and writes snapshot records of one repository.

    `marks_expected`: the repository has had `marks/` since it was made. `watch`: what this machine has seen of it before.
    `records`: where this machine keeps records, so that they are fetched once; None where fetching costs next to nothing.
    """

    def __init__(self, store: ObjectStore, keyring: KeyRing, *, marks_expected: bool = False) -> None:
        self._store = store
        self._keyring = keyring
        self.marks_expected = marks_expected
        self.watch: Watch | None = None
        self.records: RecordCache | None = None

    @property
    def store(self) -> ObjectStore:
        return self._store

    @property
    def keyring(self) -> KeyRing:
        return self._keyring

    def snapshots(self, *, cached: bool = False) -> Listing:
        """Every snapshot. Damage of one record never hides the others.

        `cached`: a record that this machine has read before need not be fetched again, as long as it is listed. Not for
        who removes anything, or looks for damage.
        """
        known = self.records if cached else None
        root_rows, commit_rows = self._rows(layout.ROOTS), self._rows(layout.COMMITS)
        roots, commits = root_rows.keys(), commit_rows.keys()
        found: list[Snapshot] = []
        made_ns: dict[SnapshotId, int] = {}
        damaged: list[tuple[SnapshotId, str]] = []
        for identifier in commits:
            try:
                for rows_of in (commit_rows, root_rows):
                    if identifier in rows_of:
                        layout.require_record(rows_of[identifier])
                if known is None:
                    snapshot, made_ns[identifier] = self._committed(identifier)
                else:
                    rows = commit_rows[identifier], root_rows.get(identifier)
                    snapshot, made_ns[identifier] = self._kept(known, identifier, *rows)
                found.append(snapshot)
            except (IntegrityError, ObjectNotFound) as error:
                gone = isinstance(error, ObjectNotFound) and not self.has_commit(identifier)
                if gone and self.is_forgotten(identifier):
                    # Since the listing.
                    continue
                damaged.append((identifier, error.in_one_line))
        if known is not None:
            known.forget_others(row.key for rows in (root_rows, commit_rows) for row in rows.values())
            known.save()
        found.sort(key=lambda snapshot: (snapshot.time_ns, snapshot.id))
        withheld, returned = self.missed(commits)
        return Listing(
            snapshots=tuple(found),
            damaged=tuple(sorted(damaged)),
            uncommitted=tuple(sorted(roots - commits)),
            made_ns=made_ns,
            withheld=withheld,
            returned=returned,
        )

    def missed(self, commits: Set[SnapshotId]) -> tuple[frozenset[SnapshotId], frozenset[SnapshotId]]:
        """Snapshots that should be among `commits` and are not, and those that should not be and are.

        Costs nothing unless one that this machine has seen is missing.
        """
        if self.watch is None:
            return frozenset(), frozenset()
        missing, returned = self.watch.seen - commits, self.watch.gone & commits
        withheld = unexplained(self._store, self._keyring, missing) if missing else missing
        self.watch.listed(frozenset(commits), withheld, returned)
        return withheld, returned

    def committed(self) -> set[SnapshotId]:
        """The ids of all complete snapshots, by one listing: cheap enough to be asked again and again."""
        return self._listed(layout.COMMITS)

    def get(self, identifier: SnapshotId) -> Snapshot:
        """One committed snapshot; its record is compared with the hash in its marker."""
        return self._committed(identifier)[0]

    def _committed(self, identifier: SnapshotId) -> tuple[Snapshot, int]:
        """A snapshot and when it was committed."""
        commit = self._read(layout.commit_key(identifier))
        return self._opened(identifier, commit, self._read(layout.root_key(identifier)))

    def _opened(self, identifier: SnapshotId, commit: bytes, root: bytes) -> tuple[Snapshot, int]:
        """The same from the sealed bytes of its marker and of its record. Raises CorruptObject."""
        key, root_key = layout.commit_key(identifier), layout.root_key(identifier)
        marker = Commit.decode(self._keyring.open(ObjectType.COMMIT, key, commit))
        plain = self._keyring.open(ObjectType.ROOT, root_key, root)
        if digest([plain]) != marker.record_hash:
            raise CorruptObject(f"{root_key} is not the record that was committed")
        return _decode(identifier, plain), marker.time_ns

    def _kept(
        self, known: RecordCache, identifier: SnapshotId, commit_row: ObjectInfo, root_row: ObjectInfo | None
    ) -> tuple[Snapshot, int]:
        """The same from what this machine has kept, where that opens; else from the store, and kept from now on."""
        commit, root = known.get(commit_row), known.get(root_row)
        if commit is not None and root is not None:
            try:
                return self._opened(identifier, commit, root)
            except IntegrityError:
                # Whatever is wrong with it: storage is asked before anything is called damaged.
                pass
        commit = self._read(commit_row.key)
        root = self._read(layout.root_key(identifier))
        found = self._opened(identifier, commit, root)
        if root_row is not None:
            known.keep(commit_row, commit)
            known.keep(root_row, root)
        return found

    def get_uncommitted(self, identifier: SnapshotId) -> Snapshot:
        """The record of a run that stored its root and was stopped before its marker."""
        return _decode(identifier, self._record(identifier))

    def marked(self, *, cached: bool = False) -> tuple[Listing, MarkBook]:
        """Every snapshot with the tags and the note it has today, and the marks they come from. `cached`: see `snapshots`."""
        listing, book = self.snapshots(cached=cached), self.marks()
        return replace(listing, snapshots=tuple(map(book.apply, listing.snapshots))), book

    def marks(self) -> MarkBook:
        """What was said of snapshots after they were committed."""
        return read_marks(self._store, self._keyring, expected=self.marks_expected)

    def add_mark(self, snapshot: SnapshotId, mark: Mark) -> None:
        """Say one more thing of a snapshot; durable when this returns. Raises IncompleteListing."""
        put_mark(self._store, self._keyring, self.marks(), snapshot, mark)

    def put_root(self, snapshot: Snapshot) -> bytes:
        """W4: from here on the tree is a garbage collection root. The hash for the marker."""
        plain = snapshot.encode()
        key = layout.root_key(snapshot.id)
        self._put(key, self._keyring.seal(ObjectType.ROOT, key, plain))
        return digest([plain])

    def put_commit(self, identifier: SnapshotId, record_hash: bytes, time_ns: int) -> None:
        """W6: now the snapshot exists. Raises ObjectNotFound when its root has disappeared meanwhile.

        And Refused when it was given up for abandoned: who expires a root marks it first and looks for its marker
        afterwards, so one of the two sees the other, whatever their clocks say.
        """
        key = layout.commit_key(identifier)
        plain = Commit(record_hash=record_hash, time_ns=time_ns).encode()
        self._put(key, self._keyring.seal(ObjectType.COMMIT, key, plain))
        # The mark first: it is taken away after the root is, so that one of the two always tells.
        if self.is_forgotten(identifier):
            raise Refused(
                "the snapshot was given up while it was made",
                why="a prune took it for a run that was abandoned long ago; are the clocks of the machines right?",
                hints=["run it again: what was stored is used"],
                code="snapshot.given_up",
            )
        self._store.head(layout.root_key(identifier))
        if self.records is not None:
            self.records.save()
        if self.watch is not None:
            self.watch.committed(identifier)

    def has_root(self, identifier: SnapshotId) -> bool:
        """Whether the record is there: then what it refers to has not been pruned."""
        return self._is_there(layout.root_key(identifier))

    def has_commit(self, identifier: SnapshotId) -> bool:
        """Whether the commit marker is there."""
        return self._is_there(layout.commit_key(identifier))

    def is_forgotten(self, identifier: SnapshotId) -> bool:
        """Whether a forget marker is there."""
        return self._is_there(layout.forgotten_key(identifier))

    def _is_there(self, key: str) -> bool:
        try:
            self._store.head(key)
        except ObjectNotFound:
            return False
        return True

    def _put(self, key: str, sealed: bytes) -> None:
        self._store.put(key, [sealed])
        self._store.barrier()
        if self.records is not None:
            self.records.keep_own(key, sealed)

    def _listed(self, prefix: str) -> set[SnapshotId]:
        return set(self._rows(prefix))

    def _rows(self, prefix: str) -> dict[SnapshotId, ObjectInfo]:
        rows = layout.list_complete(self._store, prefix)
        return {SnapshotId(layout.parse_id_key(row.key, prefix)): row for row in rows}

    def _record(self, identifier: SnapshotId) -> bytes:
        key = layout.root_key(identifier)
        return self._keyring.open(ObjectType.ROOT, key, self._read(key))

    def _read(self, key: str) -> bytes:
        """The sealed bytes. A record on a bad sector is damage of this one record, not trouble with the store."""
        try:
            return self._store.get(key)
        except StoreError as error:
            if error.code != "store.unreadable":
                raise
            why = f"the disk does not give it: {error.why}"
            raise CorruptObject(f"{key} cannot be read", why=why, hints=error.hints) from error


def _decode(identifier: SnapshotId, plain: bytes) -> Snapshot:
    snapshot = Snapshot.decode(plain)
    if snapshot.id != identifier:
        raise CorruptObject(f"{layout.root_key(identifier)} holds the record of another snapshot")
    return snapshot
