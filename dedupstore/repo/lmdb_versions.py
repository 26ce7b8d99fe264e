"""The table behind `find` and `history`: what happened to which path in which snapshot. Derived, never the truth.

An LMDB environment of its own beside the index: only those who search pay for it, and losing one does not cost the
other. The databases:

| db | key | value |
|---|---|---|
| events | keyed hash of the path[16], snapshot number u32 | version, sealed |
| paths | block number u32 | paths that were new, NUL between them, in zstd, sealed |
| snapshots | snapshot id | number and base, sealed |
| meta | "identity", "next" | sealed; the next free number |

A path is an event only in those snapshots in which it differs from the snapshot's base, so a hundred snapshots of a
million paths cost what changed. Each step is one transaction that holds events and the names new with them, and the
snapshot's row comes last: a run that is killed leaves events of a number that no snapshot has, and nobody asks for them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import lmdb

from dedupstore.codec.compression import compress, decompress
from dedupstore.codec.hashing import Keyed
from dedupstore.errors import CacheError, CorruptObject
from dedupstore.repo import cache_folder, lmdb_environment
from dedupstore.repo import index_values as values
from dedupstore.repo.index_values import CacheDamaged
from dedupstore.repo.temporary_folder import TemporaryFolder
from dedupstore.repo.versions import EventPlace, IndexedSnapshot, Version
from dedupstore.types import RepositoryId, SnapshotId

SCHEMA = lmdb_environment.Schema(b"dedupstore versions 1 ", ("events", "paths", "snapshots", "meta"))
PATHS_PER_STEP = 8_192
"""How many events one transaction takes: as fast as more, and 2 MB of memory."""

BYTES_PER_STEP = 4 << 20
"""About so many bytes of paths at most, one path more or less: they become one block, which is read as a whole."""

_KEY_BYTES = 16
_NUMBER = struct.Struct(">I")
_SNAPSHOT = struct.Struct(">Ii")
_LENGTH = struct.Struct(">I")


def open_versions(path: Path, repository: RepositoryId, key: bytes) -> VersionTable:
    """The table of `repository` under the cache folder `path`; a damaged one is dropped and comes back empty.

    Raises CacheError when the disk does not allow any (then use `temporary_versions`).
    """
    cache_folder.secure_folder(path)
    folder = _folder(path, repository)
    with lmdb_environment.open_lock:
        try:
            return VersionTable(lmdb_environment.share(folder, repository, key, schema=SCHEMA), key)
        except CacheDamaged:
            lmdb_environment.drop(folder)
            return VersionTable(lmdb_environment.share(folder, repository, key, schema=SCHEMA), key)


def temporary_versions(repository: RepositoryId, key: bytes) -> VersionTable:
    """An empty table in a new folder, deleted when closed."""
    folder = TemporaryFolder()
    with lmdb_environment.open_lock:
        return VersionTable(lmdb_environment.make_temporary(folder, repository, key, schema=SCHEMA), key)


def _folder(path: Path, repository: RepositoryId) -> Path:
    return path / f"{repository.hex()}-paths"


class VersionTable:
    """Every path of every snapshot that was learned. Used by one thread.

    Every method may raise CacheError: the table is damaged or its disk is full. Nothing is lost then; open a new one.
    """

    def __init__(self, environment: lmdb_environment.LmdbEnvironment, key: bytes) -> None:
        self._environment = environment
        self._cipher = environment.cipher
        self.keyed = Keyed(key)
        """Hashes paths and contents: a stolen disk tells none."""

        self._closed = False

    @property
    def folder(self) -> Path:
        return self._environment.folder

    # Reading

    def snapshots(self) -> dict[SnapshotId, IndexedSnapshot]:
        """Those whose paths are all known."""
        found: dict[SnapshotId, IndexedSnapshot] = {}
        with self._reading() as reader, reader.cursor(self._environment.dbs["snapshots"]) as cursor:
            for key, value in cursor:
                number, base = _SNAPSHOT.unpack(self._open(b"snapshot" + key, value))
                identifier = SnapshotId(key)
                found[identifier] = IndexedSnapshot(identifier, number, base)
        return found

    def events(self, paths: Iterable[bytes]) -> Iterator[tuple[bytes, list[EventPlace]]]:
        """Each path with everything that happened to it, by number; an empty list for one never seen."""
        with self._reading() as reader, reader.cursor(self._environment.dbs["events"]) as cursor:
            for path in paths:
                key = self._path_key(path)
                found = []
                present = cursor.set_range(key)
                while present and (at := cursor.key()).startswith(key):
                    version = Version.decode(self._open(b"version" + at, cursor.value()))
                    found.append(EventPlace(_NUMBER.unpack(at[_KEY_BYTES:])[0], version))
                    present = cursor.next()
                yield path, found

    def names(self) -> Iterator[bytes]:
        """Every path ever seen, once, in blocks: NUL before, between and after the paths of each."""
        number = 0
        while True:
            key = _NUMBER.pack(number)
            with self._reading() as reader:
                value = reader.get(key, db=self._environment.dbs["paths"])
            if value is None:
                return
            plain = self._open(b"paths" + key, value)
            try:
                yield decompress(plain[_LENGTH.size :], _LENGTH.unpack_from(plain)[0])
            except (CorruptObject, struct.error) as exc:
                raise self._environment.failure(values.damaged("a block of paths does not open")) from exc
            number += 1

    # Learning

    def begin(self) -> int:
        """A number for a snapshot that is about to be learned; never given twice."""
        with self._environment.writing() as writer:
            number = self._next(writer)
            sealed = self._cipher.encrypt(_NUMBER.pack(number + 1), b"next")
            writer.put(b"next", sealed, db=self._environment.dbs["meta"])
        return number

    def add(self, number: int, items: Sequence[tuple[bytes, Version]]) -> None:
        """Learn what differs in a snapshot, `PATHS_PER_STEP` and `BYTES_PER_STEP` at most; no path twice for one number."""
        suffix = _NUMBER.pack(number)
        dbs = self._environment.dbs
        keyed = [(self._path_key(path), path, version) for path, version in items]
        with self._environment.writing() as writer:
            with writer.cursor(dbs["events"]) as cursor:
                fresh = [path for key, path, _ in keyed if not _present(cursor, key)]
                cursor.putmulti(sorted(self._sealed(key + suffix, version) for key, _, version in keyed))
            if fresh:
                self._add_names(writer, fresh)

    def finish(self, identifier: SnapshotId, number: int, base: int) -> None:
        """From now on the snapshot counts as learned."""
        sealed = self._cipher.encrypt(_SNAPSHOT.pack(number, base), b"snapshot" + identifier)
        with self._environment.writing() as writer:
            writer.put(identifier, sealed, db=self._environment.dbs["snapshots"])

    def clear(self) -> None:
        """Forget everything."""
        with self._environment.writing() as writer:
            for name in ("snapshots", "events", "paths"):
                writer.drop(self._environment.dbs[name], delete=False)

    def close(self) -> None:
        """Closing twice is no error."""
        if not self._closed:
            self._closed = True
            with lmdb_environment.open_lock:
                self._environment.release()

    def _next(self, writer: lmdb.Transaction[bytes]) -> int:
        value = writer.get(b"next", db=self._environment.dbs["meta"])
        if value is None:
            return 0
        number: int = _NUMBER.unpack(self._open(b"next", value))[0]
        return number

    def _sealed(self, key: bytes, version: Version) -> tuple[bytes, bytes]:
        return key, self._cipher.encrypt(version.encode(), b"version" + key)

    def _add_names(self, writer: lmdb.Transaction[bytes], paths: list[bytes]) -> None:
        plain = b"\0" + b"\0".join(paths) + b"\0"
        database = self._environment.dbs["paths"]
        with writer.cursor(database) as cursor:
            number = _NUMBER.unpack(cursor.key())[0] + 1 if cursor.last() else 0
        key = _NUMBER.pack(number)
        value = self._cipher.encrypt(_LENGTH.pack(len(plain)) + compress(plain), b"paths" + key)
        writer.put(key, value, db=database)

    def _path_key(self, path: bytes) -> bytes:
        return self.keyed.digest(b"path\0" + path)[:_KEY_BYTES]

    def _open(self, aad: bytes, value: bytes) -> bytes:
        try:
            return self._cipher.decrypt(value, aad)
        except CorruptObject as exc:
            raise values.damaged("a sealed value fails its check") from exc

    @contextmanager
    def _reading(self) -> Iterator[lmdb.Transaction[bytes]]:
        if self._closed:
            raise CacheError("the table of paths is closed")
        try:
            with self._environment.begin_read() as reader:
                yield reader
        except (lmdb.Error, CacheDamaged, CorruptObject, struct.error) as exc:
            failure = exc if isinstance(exc, (lmdb.Error, CacheDamaged)) else values.damaged(str(exc))
            raise self._environment.failure(failure) from exc


def _present(cursor: lmdb.Cursor[bytes], key: bytes) -> bool:
    return cursor.set_range(key) and cursor.key().startswith(key)
