"""The index in LMDB: on disk, mapped, of bounded memory; this machine's view and never the truth.

One environment per repository id under the user's cache folder. The databases:

| db | key | value (index_values.py) |
|---|---|---|
| chunks | first 19 bytes of the chunk id | location |
| copies | the same, pack no u32, block no u16 | location, for second copies only |
| packs, pack_ids | pack no u32; pack id | pack row; number |
| blocks | pack no u32, block no u16 | block |
| segments | segment id | number of packs |
| directories | 20 bytes the caller chooses | sealed |
| verified | pack no u32 | number (time in ns) |
| meta | "identity" | sealed: schema and repository id |

What LMDB does not do for us, and what is done instead (more of it in lmdb_environment.py):
* It has no checksums: a flipped bit gives a wrong value. Every value carries a check or is sealed.
* A read transaction pins every page freed after it began: the one each index holds ends with every write.
* A transaction of 8 192 sorted keys is as fast as a bigger one and needs 32 MB at most.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Self

import lmdb

from dedupstore.errors import CacheError, CorruptObject
from dedupstore.repo import cache_folder, lmdb_environment
from dedupstore.repo import index_values as values
from dedupstore.repo.directory import BlockRecord
from dedupstore.repo.index import BlockInfo, IndexCounts, Location, PackRow
from dedupstore.repo.index_values import CacheDamaged
from dedupstore.repo.segment import PackFacts
from dedupstore.repo.temporary_folder import TemporaryFolder
from dedupstore.types import ChunkId, PackId, RepositoryId, SegmentId

KEYS_PER_TRANSACTION = 8_192
CHUNKS_PER_MERGE = 100_000
"""How many chunks are sorted together: some 10 MB of Python objects."""


def open_index(path: Path, repository: RepositoryId, key: bytes, place: str = "") -> LmdbIndex:
    """The index of `repository` under the cache folder `path`, sealed under `key` (`KeyRing.cache_key()`).

    `place`: where the repository lies. A mirror, which may be behind and is checked by itself, has another index.
    A damaged one, one of another schema or one under another key is dropped and comes back empty: apply all
    segments. Raises CacheError when the disk does not allow any (then use `temporary_index`), Refused when
    the folder is not safely ours.
    """
    cache_folder.secure_folder(path)
    folder = cache_folder.index_folder(path, repository, place)
    with lmdb_environment.open_lock:
        try:
            return LmdbIndex(lmdb_environment.share(folder, repository, key))
        except CacheDamaged:
            lmdb_environment.drop(folder)
            return LmdbIndex(lmdb_environment.share(folder, repository, key))


def temporary_index(repository: RepositoryId, key: bytes, parent: Path | None = None) -> LmdbIndex:
    """An empty index in a new folder under `parent` (or the system's), deleted when closed."""
    folder = TemporaryFolder(parent)
    with lmdb_environment.open_lock:
        return LmdbIndex(lmdb_environment.make_temporary(folder, repository, key))


def drop_index(path: Path, repository: RepositoryId, place: str = "") -> None:
    """Forget everything learned about `repository`; whoever has it open keeps what he has."""
    with lmdb_environment.open_lock:
        lmdb_environment.drop(cache_folder.index_folder(path, repository, place))


class LmdbIndex:
    """See `Index` for what the methods promise."""

    def __init__(self, environment: lmdb_environment.LmdbEnvironment) -> None:
        self._environment = environment
        self._cipher = environment.cipher
        self._lock = threading.Lock()
        self._reader: lmdb.Transaction[bytes] | None = None
        self._get: Callable[[bytes], bytes | None] | None = None
        self._copied = False
        """Whether any chunk has a second location, as the read transaction sees it: most repositories have none."""
        self._closed = False
        self._looks = 0
        _indexes.add(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def folder(self) -> Path:
        return self._environment.folder

    # Reading

    def find(self, identifier: ChunkId) -> Location | None:
        """The hot path: once per chunk met."""
        try:
            with self._lock:
                value = (self._get or self._begin())(identifier[: values.KEY_BYTES])
                self._count_look()
            return None if value is None else values.location(identifier, value)
        except (lmdb.Error, CacheDamaged) as exc:
            raise self._environment.failure(exc) from exc

    def find_all(self, identifier: ChunkId) -> list[Location]:
        key = identifier[: values.KEY_BYTES]
        with self._reading() as reader:
            first = reader.get(key)
            if first is None:
                return []
            found = [values.location(identifier, first)]
            if not self._copied:
                return found
            with reader.cursor(self._environment.dbs["copies"]) as cursor:
                present = cursor.set_range(key)
                while present and cursor.key().startswith(key):
                    found.append(values.location(identifier, cursor.value()))
                    present = cursor.next()
            return found

    def block(self, pack_no: int, block_no: int) -> BlockInfo:
        key = values.place_key(pack_no, block_no)
        with self._reading() as reader:
            value = reader.get(key, db=self._environment.dbs["blocks"])
            if value is None:
                raise values.damaged(f"block {block_no} of pack {pack_no} is not in it")
            return values.decode_block(self._open(b"block" + key, value))

    def blocks(self, pack_no: int) -> list[BlockInfo]:
        prefix = values.pack_key(pack_no)
        found: list[BlockInfo] = []
        with self._reading() as reader, reader.cursor(self._environment.dbs["blocks"]) as cursor:
            present = cursor.set_range(prefix)
            while present and cursor.key().startswith(prefix):
                found.append(values.decode_block(self._open(b"block" + cursor.key(), cursor.value())))
                present = cursor.next()
        return found

    def pack(self, pack_no: int) -> PackRow:
        with self._reading() as reader:
            value = reader.get(values.pack_key(pack_no), db=self._environment.dbs["packs"])
            if value is None:
                raise values.damaged(f"pack {pack_no} is not in it")
            return values.decode_pack(pack_no, value)[0]

    def packs(self) -> Iterator[PackRow]:
        start = 0
        while rows := self._packs_from(start, 1024):
            yield from rows
            start = rows[-1].no + 1

    def pack_no(self, identifier: PackId) -> int | None:
        with self._reading() as reader:
            value = reader.get(identifier, db=self._environment.dbs["pack_ids"])
            return None if value is None else values.decode_number(identifier, value)

    def segments(self) -> set[SegmentId]:
        self.refresh()
        found = set()
        with self._reading() as reader, reader.cursor(self._environment.dbs["segments"]) as cursor:
            for key, value in cursor:
                values.decode_number(key, value)
                found.add(SegmentId(key))
        return found

    def get_directory(self, key: bytes) -> bytes | None:
        with self._reading() as reader:
            value = reader.get(key, db=self._environment.dbs["directories"])
            return None if value is None else self._open(b"directory" + key, value)

    def last_verified(self, pack_no: int) -> int | None:
        key = values.pack_key(pack_no)
        with self._reading() as reader:
            value = reader.get(key, db=self._environment.dbs["verified"])
            return None if value is None else values.decode_number(key, value)

    def counts(self) -> IndexCounts:
        with self._reading() as reader:
            dbs = self._environment.dbs
            names = ("chunks", "copies", "packs", "blocks", "segments", "directories")
            return IndexCounts(**{name: reader.stat(dbs[name])["entries"] for name in names})

    # Learning

    def apply(self, segment: SegmentId, facts: Sequence[PackFacts]) -> None:
        """One transaction a step, not one in all: a kill between them leaves true facts, the segment not yet learned."""
        if segment in self.segments():
            return
        self.learn(facts)
        with self._writing() as writer:
            writer.put(segment, values.encode_number(segment, len(facts)), db=self._environment.dbs["segments"])

    def learn(self, facts: Sequence[PackFacts]) -> None:
        group: list[tuple[PackFacts, list[BlockRecord]]] = []
        chunks = 0
        for fact in facts:
            blocks = fact.blocks()
            group.append((fact, blocks))
            chunks += sum(len(block.ids) for block in blocks)
            if chunks >= CHUNKS_PER_MERGE:
                self._merge(group)
                group, chunks = [], 0
        self._merge(group)

    def put_directories(self, items: Iterable[tuple[bytes, bytes]]) -> None:
        sealed = ((key, self._cipher.encrypt(value, b"directory" + key)) for key, value in items)
        self._put_all("directories", sealed)

    def mark_removed(self, pack_nos: Iterable[int]) -> None:
        rows = [self.pack(pack_no)._replace(removed=True) for pack_no in pack_nos]
        self._put_all("packs", ((values.pack_key(row.no), values.encode_pack(row, merged=row.known)) for row in rows))

    def mark_verified(self, pack_nos: Iterable[int], time_ns: int) -> None:
        keys = (values.pack_key(pack_no) for pack_no in pack_nos)
        self._put_all("verified", ((key, values.encode_number(key, time_ns)) for key in keys))

    def refresh(self) -> None:
        with self._lock:
            self._end()

    def close(self) -> None:
        """Sync what was learned and let go. Closing twice is no error, and no failure of the cache is one here."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._end()
        _indexes.discard(self)
        with lmdb_environment.open_lock:
            self._environment.release()

    def _merge(self, group: list[tuple[PackFacts, list[BlockRecord]]]) -> None:
        with self._writing() as writer:
            news = self._number_packs(writer, group)
            with writer.cursor(self._environment.dbs["blocks"]) as cursor:
                cursor.putmulti([item for row, blocks in news for item in self._block_items(row.no, blocks)])
        entries = sorted(entry for row, blocks in news for entry in values.location_entries(row.no, blocks))
        for start in range(0, len(entries), KEYS_PER_TRANSACTION):
            self._merge_entries(entries[start : start + KEYS_PER_TRANSACTION])
        items = [(values.pack_key(row.no), values.encode_pack(row, merged=row.known)) for row, _ in news]
        self._put_all("packs", items)

    def _number_packs(
        self, writer: lmdb.Transaction[bytes], group: list[tuple[PackFacts, list[BlockRecord]]]
    ) -> list[tuple[PackRow, list[BlockRecord]]]:
        """Give a number to every pack that has none; returns the packs whose chunks are not all in."""
        dbs = self._environment.dbs
        with writer.cursor(dbs["packs"]) as cursor:
            next_no = values.pack_no_of(cursor.key()) + 1 if cursor.last() else 0
        news = []
        for fact, blocks in group:
            known = writer.get(fact.id, db=dbs["pack_ids"])
            no = next_no if known is None else values.decode_number(fact.id, known)
            key = values.pack_key(no)
            held = bool(fact.directory)
            row = PackRow(no, fact.id, fact.size, fact.kind, fact.units, fact.epoch, fact.salt, held)
            if known is None:
                next_no += 1
                writer.put(fact.id, values.encode_number(fact.id, no), db=dbs["pack_ids"])
                writer.put(key, values.encode_pack(row, merged=False), db=dbs["packs"])
            else:
                value = writer.get(key, db=dbs["packs"])
                if value is None:
                    raise values.damaged(f"pack {no} is not in it")
                if values.decode_pack(no, value)[1]:
                    continue
            news.append((row, blocks))
        return sorted(news, key=lambda item: item[0].no)

    def _block_items(self, pack_no: int, blocks: list[BlockRecord]) -> Iterator[tuple[bytes, bytes]]:
        for block_no, block in enumerate(blocks):
            key = values.place_key(pack_no, block_no)
            yield key, self._cipher.encrypt(values.encode_block(block), b"block" + key)

    def _merge_entries(self, entries: list[bytes]) -> None:
        dbs = self._environment.dbs
        keys = [entry[: values.KEY_BYTES] for entry in entries]
        with self._writing() as writer, writer.cursor(dbs["chunks"]) as chunks:
            known: dict[bytes, bytes] = {}
            for part in self._environment.in_parts(keys):
                known.update(chunks.getmulti(part))
            fresh = []
            copies = []
            for key, entry in zip(keys, entries, strict=True):
                value = entry[values.ENTRY_VALUE]
                held = known.setdefault(key, value)
                if held is value:
                    fresh.append((key, value))
                elif held != value:
                    copies.append((key + entry[values.ENTRY_PLACE], value))
            for items in self._environment.in_parts(fresh):
                chunks.putmulti(items)
            if copies:
                with writer.cursor(dbs["copies"]) as cursor:
                    cursor.putmulti(copies)

    def _put_all(self, name: str, items: Iterable[tuple[bytes, bytes]]) -> None:
        remaining = iter(items)
        while batch := sorted(islice(remaining, KEYS_PER_TRANSACTION)):
            with self._writing() as writer, writer.cursor(self._environment.dbs[name]) as cursor:
                for part in self._environment.in_parts(batch):
                    cursor.putmulti(part)

    def _packs_from(self, start: int, count: int) -> list[PackRow]:
        rows: list[PackRow] = []
        with self._reading() as reader, reader.cursor(self._environment.dbs["packs"]) as cursor:
            present = cursor.set_range(values.pack_key(start))
            while present and len(rows) < count:
                rows.append(values.decode_pack(values.pack_no_of(cursor.key()), cursor.value())[0])
                present = cursor.next()
        return rows

    def _open(self, aad: bytes, value: bytes) -> bytes:
        try:
            return self._cipher.decrypt(value, aad)
        except CorruptObject as exc:
            raise values.damaged("a sealed value fails its check") from exc

    # Transactions

    def _begin(self) -> Callable[[bytes], bytes | None]:
        """Start this index's read transaction; called with the lock held."""
        if self._closed:
            raise CacheError("the local index is closed")
        self._reader = self._environment.begin_read()
        self._copied = self._reader.stat(self._environment.dbs["copies"])["entries"] > 0
        self._get = self._reader.get
        return self._get

    def _count_look(self) -> None:
        self._looks += 1
        if not self._looks % lmdb_environment.LOOKS_PER_LIMIT:
            self._environment.limit_mapped()

    def _end(self) -> None:
        reader, self._reader, self._get = self._reader, None, None
        if reader is not None:
            reader.abort()

    @contextmanager
    def _reading(self) -> Iterator[lmdb.Transaction[bytes]]:
        try:
            with self._lock:
                if self._reader is None:
                    self._begin()
                assert self._reader is not None
                self._count_look()
                yield self._reader
        except (lmdb.Error, CacheDamaged) as exc:
            raise self._environment.failure(exc) from exc

    @contextmanager
    def _writing(self) -> Iterator[lmdb.Transaction[bytes]]:
        self.refresh()
        if self._closed:
            raise CacheError("the local index is closed")
        with self._environment.writing() as writer:
            yield writer
        self.refresh()
        self._environment.limit_mapped()

    def forget_after_fork(self) -> None:
        """In a forked child: neither the lock nor the transaction is ours to touch; every call now fails."""
        self._lock = threading.Lock()
        _orphans.append(self._reader)
        self._reader = self._get = None


_indexes: weakref.WeakSet[LmdbIndex] = weakref.WeakSet()


_orphans: list[object] = []
"""What a forked child must never let Python finalize: the transactions and environments are its parent's."""


def _after_fork() -> None:
    for index in list(_indexes):
        index.forget_after_fork()
    lmdb_environment.forget_after_fork(_orphans)


os.register_at_fork(after_in_child=_after_fork)
