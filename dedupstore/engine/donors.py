"""Where a repair gets good bytes from: a mirror, chunk by chunk under the same ids, or a copy, file by file under others.

Nothing that comes from there is believed: every chunk is compared with the id it has to have here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from dedupstore.cancel import CancelToken
from dedupstore.codec.crypto import random_bytes
from dedupstore.engine.copy_data import DataCopy
from dedupstore.engine.copy_memory import CopyMemory
from dedupstore.engine.copy_tree import TreeCopy
from dedupstore.engine.damage import UNREADABLE
from dedupstore.engine.foreign_chunks import ForeignChunks
from dedupstore.engine.origin import origin_of
from dedupstore.engine.repair_sink import RepairSink
from dedupstore.errors import IntegrityError, ObjectNotFound, StoreError, StoreGone
from dedupstore.events import NullListener, Progress
from dedupstore.model.entry import Entry
from dedupstore.model.snapshot import Snapshot
from dedupstore.model.tree import ContentWriter, read_content, read_tree
from dedupstore.repo.index import PackRow
from dedupstore.repo.lmdb_index import LmdbIndex, temporary_index
from dedupstore.repo.proof import prove
from dedupstore.repo.reader import ChunkReader
from dedupstore.repo.repository import Repository
from dedupstore.repo.view import read_directories, refresh
from dedupstore.storage.base import ObjectStore
from dedupstore.types import ChunkId, Kind, SnapshotId


class MirrorDonor:
    """The same repository at another place: same keys, same packs. Close it."""

    def __init__(self, repository: Repository, mirror: ObjectStore) -> None:
        self.url = mirror.url
        self._repository = repository
        self._store = mirror
        self._reader: ChunkReader | None = None
        self._own_index: LmdbIndex | None = None
        self._own_reader: ChunkReader | None = None

    def close(self) -> None:
        if self._own_index is not None:
            self._own_index.close()
        self._store.close()

    def pack(self, row: PackRow) -> bytes | None:
        """All bytes of a pack, proven by its name; None when the mirror does not have them."""
        try:
            data = self._store.get(row.name.key)
            prove(row.name.key, data, self._repository.id)
        except StoreGone:
            raise
        except (IntegrityError, StoreError):
            return None
        return data if len(data) == row.size else None

    def learn(self, row: PackRow) -> bool:
        """Learn what a pack holds from the mirror's copy of it; whether that is known now."""
        if row.known:
            return True
        repository = self._repository
        return row.no in read_directories(self._store, repository.keyring, repository.index, [row])

    def read(self, kind: Kind, chunk: ChunkId) -> bytes | None:
        """A chunk, from wherever it lies in the mirror; None when it cannot be had."""
        for own in (False, True):
            try:
                reader = self._reader_of_its_own() if own else self._reader_by_ours()
                return reader.read(kind, chunk)
            except StoreGone:
                raise
            except (IntegrityError, StoreError):
                continue
        return None

    def _reader_by_ours(self) -> ChunkReader:
        """By this index: packs have the same names there, so what it says of a place is true there as well.

        Made when first needed, for a dry run may have turned to another index since.
        """
        if self._reader is None:
            self._reader = ChunkReader(self._store, self._repository.keyring, self._repository.index)
        return self._reader

    def _reader_of_its_own(self) -> ChunkReader:
        """What the mirror's own segments say: it may have packs that are long pruned here. Read when first needed."""
        if self._own_reader is None:
            keyring = self._repository.keyring
            self._own_index = temporary_index(self._repository.id, keyring.cache_key())
            view = refresh(self._store, keyring, self._own_index)
            self._own_reader = ChunkReader(self._store, keyring, self._own_index, usable=view.present)
        return self._own_reader


class CopyDonor:
    """A repository with other keys that has copies of snapshots of this one, or that this one has copies of."""

    def __init__(self, repository: Repository, other: Repository, cancel: CancelToken) -> None:
        self.url = other.store.url
        self._repository = repository
        self._other = other
        self._cancel = cancel
        other.look()
        snapshots = other.catalog.snapshots().snapshots
        self._roots = {origin_of(snapshot, other.id): snapshot.root for snapshot in snapshots}
        self._run = SnapshotId(random_bytes(16))

    def close(self) -> None:
        self._other.close()

    def root(self, snapshot: Snapshot) -> ChunkId | None:
        """What the top directory of a snapshot is called there; None where it was not copied."""
        return self._roots.get(origin_of(snapshot, self._repository.id))

    def entries(self, tree: ChunkId) -> dict[bytes, Entry]:
        """A directory there by name; empty when it cannot be read."""
        try:
            return {entry.name: entry for entry in read_tree(self._other.reader.load_manifest, tree)}
        except StoreGone:
            raise
        except UNREADABLE:
            return {}

    def mend_file(self, sink: RepairSink, there: Entry, here: Entry) -> bool:
        """Store what is lacking of a file's content and of its list of chunks; whether it came out the same as here."""
        reader = self._other.reader
        references = ContentWriter(lambda data, first: sink.save(Kind.MANIFEST, data))
        try:
            for chunk, _ in read_content(reader.load_manifest, there):
                self._cancel.check()
                data = reader.read(Kind.DATA, chunk)
                references.add(sink.save(Kind.DATA, data), len(data))
        except StoreGone:
            raise
        except UNREADABLE:
            return False
        made = replace(there, content=b"", pages=None)
        references.finish(made)
        return (made.content, made.pages) == (here.content, here.pages)

    def mend_directory(self, sink: RepairSink, there: ChunkId, here: ChunkId) -> bool:
        """Store what is lacking of a directory and all below it; whether its manifest came out the same as here."""
        key = self._repository.keyring.cache_key()
        memory = CopyMemory(self._repository.index, key, self._other.id, self._other.index)
        try:
            with ForeignChunks(self._other, sink.digest) as foreign:
                data = DataCopy(
                    self._other, sink, memory, self._run, _nothing, foreign, NullListener(), self._cancel, Progress()
                )  # fmt: skip
                data.run(there)
            tree = TreeCopy(
                self._other.reader.load_manifest, _no_previous, sink, memory, self._run, _nothing, self._cancel
            )  # fmt: skip
            return tree.run(there, None) == here
        except (IntegrityError, ObjectNotFound):
            return False
        finally:
            memory.flush()


@dataclass(slots=True)
class There:
    """A directory of this repository as a copy has it; looked for only when something here is damaged."""

    donor: CopyDonor
    find: Callable[[], ChunkId | None]
    _entries: dict[bytes, Entry] | None = None

    def tree(self) -> ChunkId | None:
        return self.find()

    def entry(self, name: bytes) -> Entry | None:
        if self._entries is None:
            tree = self.find()
            self._entries = self.donor.entries(tree) if tree is not None else {}
        return self._entries.get(name)

    def below(self, name: bytes) -> There:
        def find() -> ChunkId | None:
            entry = self.entry(name)
            return entry.tree if entry is not None else None

        return There(self.donor, find)


def _nothing(tree: ChunkId) -> ChunkId | None:
    return None


def _no_previous(chunk: ChunkId) -> bytes:
    raise AssertionError("nothing resembles what is mended")
