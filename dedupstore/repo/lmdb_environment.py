"""One LMDB environment: opened once per process, checked before it is trusted, dropped when it is not.

What LMDB does not do for us, and what is done instead:
* A truncated file kills the process (SIGBUS): the size is compared with the last page before anything is read.
* A flipped page header can kill a *writing* process (SIGSEGV): a cache whose last two users were killed is dropped.
* It is written without fsync: cache_folder.py knows after a power loss. One SIGKILL harms nothing.
* One environment must not be opened twice in a process: openers of one folder share it.
* It must not be used across fork: a child gets an error, not a corrupt file.
* What was looked at stays mapped and counts as memory of the process: from time to time it is unmapped.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, TypeVar

import lmdb

from dedupstore.codec.crypto import Cipher
from dedupstore.errors import CacheError, CorruptObject
from dedupstore.repo import cache_folder, mapped_pages
from dedupstore.repo import index_values as values
from dedupstore.repo.cache_folder import LastWrites, WritingMark
from dedupstore.repo.index_values import CacheDamaged
from dedupstore.repo.temporary_folder import TemporaryFolder
from dedupstore.types import RepositoryId

Row = TypeVar("Row")


class Schema(NamedTuple):
    """What an environment holds. Another `mark` means another meaning: the environment is dropped and built anew."""

    mark: bytes
    databases: tuple[str, ...]
    """The first is the one that a read transaction looks into unless it is told another; `meta` is among them."""


INDEX = Schema(
    b"dedupstore index 1 ",
    ("chunks", "copies", "packs", "pack_ids", "blocks", "segments", "directories", "verified", "meta"),
)
LOOKS_PER_LIMIT = 256
"""Look-ups until it is asked how much is mapped: 16 MB at the worst, for the kernel maps 16 pages at once."""

_MAP_SIZES = (1 << 40, 1 << 36, 1 << 33, 1 << 31)
_DAMAGE = (
    lmdb.CorruptedError,
    lmdb.PageNotFoundError,
    lmdb.InvalidError,
    lmdb.VersionMismatchError,
    lmdb.IncompatibleError,
    lmdb.NotFoundError,
    lmdb.BadValsizeError,
)

_shared: dict[str, LmdbEnvironment] = {}
open_lock = threading.Lock()


class LmdbEnvironment:
    """One LMDB environment of this process, shared by everyone who has its folder open."""

    def __init__(
        self, folder: Path, repository: RepositoryId, key: bytes, *, schema: Schema = INDEX,
        temporary: TemporaryFolder | None = None,
    ) -> None:  # fmt: skip
        self.folder = folder
        self._schema = schema
        self.cipher = Cipher(key)
        self.users = 0
        self._temporary = temporary
        self._identity = schema.mark + repository
        self._write_lock = threading.Lock()
        self._mark: WritingMark | None = None
        self._pid = os.getpid()
        cache_folder.secure_folder(folder)
        if cache_folder.is_marked_damaged(folder):
            raise values.damaged("it was found damaged before")
        left_by_others = cache_folder.last_writes(folder)
        if left_by_others is LastWrites.LOST:
            raise values.damaged("the machine went down before it was on disk")
        if left_by_others is LastWrites.IN_KERNEL and cache_folder.killed_twice(folder):
            raise values.damaged("the last two processes that wrote to it were killed")
        self._lmdb = self._open()
        try:
            self._check_size()
            self._lmdb.reader_check()
            if left_by_others is LastWrites.IN_KERNEL:
                self._lmdb.sync(True)
                cache_folder.forget_marks(folder)
            self.dbs = self._open_databases()
            self.check_identity(self.cipher)
        except (lmdb.Error, CacheError) as exc:
            self._close(synced=False)
            raise self.failure(exc) from exc

    def begin_read(self) -> lmdb.Transaction[bytes]:
        self._check_process()
        return self._lmdb.begin(db=self.dbs[self._schema.databases[0]])

    @contextmanager
    def writing(self) -> Iterator[lmdb.Transaction[bytes]]:
        """A write transaction, committed on leaving, given up on an error."""
        self._check_process()
        try:
            with self._write_lock:
                if self._mark is None and self._temporary is None:
                    self._mark = WritingMark(self.folder)
                with self._lmdb.begin(write=True) as writer:
                    yield writer
        except (lmdb.Error, CacheDamaged) as exc:
            raise self.failure(exc) from exc

    def limit_mapped(self) -> None:
        """Unmap what environments have mapped when that is too much. For a user of this one, who stays one meanwhile.

        All of them: that of one repository would else be unmapped again and again because of that of another.
        """
        if mapped_pages.mapped_bytes() > mapped_pages.MAX_BYTES:
            # None is closed meanwhile: its addresses could be somebody else's by then.
            with open_lock:
                for folder in {self.folder, *(environment.folder for environment in _shared.values())}:
                    mapped_pages.unmap_pages(folder / "data.mdb")

    def in_parts(self, rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
        """Few enough at a time that what they map can be unmapped in between: keys of chunks lie all over the file."""
        for start in range(0, len(rows), LOOKS_PER_LIMIT):
            yield rows[start : start + LOOKS_PER_LIMIT]
            self.limit_mapped()

    def release(self) -> None:
        """One user less; the last one syncs and closes. Never raises: a cache must not fail work that is done."""
        self.users -= 1
        if self.users > 0 or os.getpid() != self._pid:
            return
        if _shared.get(str(self.folder)) is self:
            del _shared[str(self.folder)]
        try:
            if self._mark is not None:
                self._lmdb.sync(True)
            synced = True
        except lmdb.Error:
            # A full disk, at the end of work that needs this cache no more: the mark that stays tells the next boot.
            synced = False
        self._close(synced=synced)
        if self._temporary is not None:
            self._temporary.remove()

    def _close(self, *, synced: bool) -> None:
        self._lmdb.close()
        if self._mark is not None:
            self._mark.release(synced=synced)
            if synced:
                cache_folder.ended_well(self.folder)

    def failure(self, error: Exception) -> CacheError:
        """The error to raise; after damage the folder is marked, so that the next opener drops it."""
        if isinstance(error, _DAMAGE):
            error = values.damaged(str(error))
        if isinstance(error, CacheDamaged):
            cache_folder.mark_damaged(self.folder)
        if isinstance(error, CacheError):
            return error
        return CacheError(
            f"the local index in {self.folder} cannot be used", why=str(error), hints=["is its disk full?"]
        )

    def check_identity(self, cipher: Cipher) -> None:
        with self._lmdb.begin(db=self.dbs["meta"]) as reader:
            sealed = reader.get(b"identity")
        try:
            if sealed is None or cipher.decrypt(sealed, b"identity") != self._identity:
                raise values.damaged("it belongs to another repository or another version of dedup")
        except CorruptObject as exc:
            raise values.damaged("it was written under another key") from exc

    def _open(self) -> lmdb.Environment:
        for name in ("data.mdb", "lock.mdb"):
            # LMDB would call it a failing disk, and say so in each run.
            path = self.folder / name
            if path.exists() and not path.is_file():
                raise values.damaged(f"its {name} is no file")
        for map_size in _MAP_SIZES:
            try:
                return lmdb.open(
                    str(self.folder),
                    map_size=map_size,
                    max_dbs=len(self._schema.databases),
                    mode=0o600,
                    sync=False,
                    metasync=False,
                    readahead=False,
                    max_readers=512,
                )
            except lmdb.MemoryError:
                # A limit on address space (ulimit -v): a smaller map will do for most repositories.
                continue
            except lmdb.Error as exc:
                raise self.failure(exc) from exc
        raise CacheError(f"no address space to map the local index in {self.folder}", hints=["ulimit -v unlimited"])

    def _check_size(self) -> None:
        """Reading a page behind the end of the file would kill the process, not raise."""
        needed = (self._lmdb.info()["last_pgno"] + 1) * self._lmdb.stat()["psize"]
        if os.stat(self.folder / "data.mdb").st_size < needed:
            raise values.damaged("its file is cut short")

    def _open_databases(self) -> dict[str, lmdb._Database]:
        try:
            return {name: self._lmdb.open_db(name.encode("ascii"), create=False) for name in self._schema.databases}
        except lmdb.NotFoundError:
            if self._lmdb.stat()["entries"]:
                raise
        with self.writing() as writer:
            dbs = {name: self._lmdb.open_db(name.encode("ascii"), txn=writer) for name in self._schema.databases}
            writer.put(b"identity", self.cipher.encrypt(self._identity, b"identity"), db=dbs["meta"])
        return dbs

    def _check_process(self) -> None:
        if os.getpid() != self._pid:
            raise CacheError("the local index was opened before a fork", hints=["open it again in this process"])


def share(folder: Path, repository: RepositoryId, key: bytes, *, schema: Schema = INDEX) -> LmdbEnvironment:
    environment = _shared.get(str(folder))
    if environment is None:
        environment = LmdbEnvironment(folder, repository, key, schema=schema)
        _shared[str(folder)] = environment
    else:
        environment.check_identity(Cipher(key))
    environment.users += 1
    return environment


def make_temporary(
    folder: TemporaryFolder, repository: RepositoryId, key: bytes, *, schema: Schema = INDEX
) -> LmdbEnvironment:
    """A new one in a folder that goes with its last user."""
    try:
        environment = LmdbEnvironment(folder.path, repository, key, schema=schema, temporary=folder)
    except BaseException:
        folder.remove()
        raise
    _shared[str(folder.path)] = environment
    environment.users += 1
    return environment


def drop(folder: Path) -> None:
    _shared.pop(str(folder), None)
    cache_folder.drop_folder(folder)


def forget_after_fork(kept: list[object]) -> None:
    """In a forked child: no environment is open any more; the parent's are moved to `kept`, never to be closed here."""
    global open_lock
    open_lock = threading.Lock()
    kept.extend(_shared.values())
    _shared.clear()
