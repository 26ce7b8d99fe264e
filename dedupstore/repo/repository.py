"""An open repository: its store, keys, config, catalog, and, once needed, its index, reader and writer."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from dedupstore.chunking.chunker import Chunker
from dedupstore.chunking.params import ChunkerParams
from dedupstore.clock import Clock
from dedupstore.codec.hashing import derive_bytes
from dedupstore.errors import CacheError, IntegrityError, ObjectNotFound, Refused
from dedupstore.events import Finding
from dedupstore.repo import layout
from dedupstore.repo.catalog import Catalog
from dedupstore.repo.commit import SnapshotCommitter
from dedupstore.repo.config import (
    MARKS_FEATURE,
    Features,
    Operation,
    RepositoryConfig,
    put_config,
    require_features,
    require_sizes,
)
from dedupstore.repo.keyring import KeyRing
from dedupstore.repo.keys import SlotInfo, create_slot
from dedupstore.repo.lmdb_index import LmdbIndex, drop_index, open_index, temporary_index
from dedupstore.repo.lmdb_versions import VersionTable, open_versions, temporary_versions
from dedupstore.repo.opening import open_keys
from dedupstore.repo.pack_cache import PackCache
from dedupstore.repo.parity import keeps_parity
from dedupstore.repo.reader import ChunkReader
from dedupstore.repo.segment import PackFacts, read_facts
from dedupstore.repo.slot_header import KdfCost
from dedupstore.repo.slots import DEFAULT_COST, Secret
from dedupstore.repo.view import View, refresh
from dedupstore.repo.writer import ChunkWriter, WriterSettings
from dedupstore.storage.base import ObjectStore, is_remote, listing_delay_seconds, place_of, shows_past
from dedupstore.types import RepositoryId

GEAR_CONTEXT = b"dedupstore/v1/gear64"
GEAR_TABLE_BYTES = 2048


@dataclass(frozen=True, slots=True, kw_only=True)
class InitOptions:
    """What is fixed when a repository is made (the chunker), and what may differ later."""

    chunker: ChunkerParams
    block_bytes: int = WriterSettings().full_block
    delta_block_bytes: int = WriterSettings().delta_block
    pack_bytes: int = WriterSettings().data_pack
    cost: KdfCost = DEFAULT_COST
    allow_weak: bool = False
    label: str = "passphrase"


@dataclass(slots=True)
class Repository:
    """A repository whose keys are open. Close it, or use it as a context manager."""

    store: ObjectStore
    keyring: KeyRing
    config: RepositoryConfig
    catalog: Catalog
    clock: Clock
    cache_path: Path | None
    config_number: int = 1
    on_note: Callable[[Finding], None] = field(default=lambda finding: None)
    sleep: Callable[[float], None] = time.sleep
    kept_bytes: int = 0
    """How much of the packs this machine keeps where storage is far away; 0 for who wants to know what storage has."""

    _index: LmdbIndex | None = None
    _reader: ChunkReader | None = None
    _versions: VersionTable | None = None
    _to_temporary: bool = False

    @classmethod
    def create(
        cls, store: ObjectStore, secret: Secret, options: InitOptions, *, clock: Clock, cache_path: Path | None
    ) -> tuple[Repository, SlotInfo]:
        """Make an empty repository in an empty store. `FORMAT` comes last: a half-made one is not a repository.

        What an interrupted `create` left behind is taken away: run it again, and nothing more is needed.
        """
        _clear_unfinished(store)
        repository = RepositoryId(uuid.uuid4().bytes)
        keyring = KeyRing.generate(repository)
        for key in layout.SENTINELS:
            store.put(key, [layout.SENTINEL_BODY])
        # Before anything else: an init that is run again trusts listings only where the sentinels are.
        store.barrier()
        config = RepositoryConfig(
            repository=repository,
            created_ns=clock.now_ns(),
            chunker=options.chunker.to_dict(),
            block_bytes=options.block_bytes,
            delta_block_bytes=options.delta_block_bytes,
            pack_bytes=options.pack_bytes,
            features=Features(gc=(MARKS_FEATURE,)),
        )
        put_config(store, keyring, config, number=1)
        slot = create_slot(
            store,
            keyring,
            secret,
            created_ns=clock.now_ns(),
            cost=options.cost,
            label=options.label,
            allow_weak=options.allow_weak,
            first=True,
        )
        store.barrier()
        store.put(layout.FORMAT_KEY, [layout.format_text(repository)])
        store.barrier()
        made = cls(store, keyring, config, Catalog(store, keyring, marks_expected=True), clock, cache_path)
        return made, slot

    @classmethod
    def open(
        cls,
        store: ObjectStore,
        secret: Secret,
        *,
        clock: Clock,
        cache_path: Path | None,
        repository: RepositoryId | None = None,
        operation: Operation = Operation.READ,
        allow_weak: bool = False,
    ) -> Repository:
        """Open by a secret. Raises RepositoryNotFound, WrongPassphrase, RepositoryTooNew, CorruptObject.

        `repository` where the caller has identified it just now.
        """
        found = open_keys(store, secret, repository=repository, operation=operation, allow_weak=allow_weak)
        return cls(store, found.keyring, found.config, found.catalog, clock, cache_path, found.config_number)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        if self._index is not None:
            self._index.close()
            self._index = None
        self._close_versions()
        self.store.close()

    @property
    def id(self) -> RepositoryId:
        return self.keyring.repository

    @property
    def index(self) -> LmdbIndex:
        """This machine's view; opened when first asked for, in a temporary place when the cache cannot be used."""
        if self._index is None:
            key = self.keyring.cache_key()
            try:
                if self.cache_path is None:
                    self._index = temporary_index(self.id, key)
                else:
                    self._index = open_index(self.cache_path, self.id, key, self._index_place)
            except CacheError as error:
                self.on_note(
                    Finding(
                        code="cache.temporary",
                        message=f"the cache cannot be used ({error.in_one_line}); working without it takes longer",
                        severity="note",
                    )
                )
                self._index = temporary_index(self.id, key)
        return self._index

    @property
    def _index_place(self) -> str:
        # What it was at any time has one index together: whoever looks for the right time names many.
        return "the past" if shows_past(self.store) else place_of(self.store)

    @property
    def versions(self) -> VersionTable:
        """This machine's table of paths; opened when first asked for. engine/versions.py brings it up to date."""
        if self._versions is None:
            key = self.keyring.cache_key()
            # What failed once may be a full disk: the second try is made elsewhere.
            if self.cache_path is None or self._to_temporary:
                self._versions = temporary_versions(self.id, key)
            else:
                self._versions = open_versions(self.cache_path, self.id, key)
        return self._versions

    def _close_versions(self) -> None:
        if self._versions is not None:
            self._versions.close()
            self._versions = None

    @property
    def reader(self) -> ChunkReader:
        if self._reader is None:
            kept = None
            if self.kept_bytes and self.cache_path and is_remote(self.store) and not shows_past(self.store):
                kept = PackCache(self.cache_path, self.id, self.kept_bytes)
            self._reader = ChunkReader(self.store, self.keyring, self.index, kept=kept)
        return self._reader

    def drop_index(self, *, to_temporary: bool = False) -> None:
        """Forget this machine's view; the next use builds it anew from the segments."""
        if self._index is not None:
            self._index.close()
        self._index = self._reader = None
        self._close_versions()
        self._to_temporary = to_temporary
        if to_temporary:
            self._index = temporary_index(self.id, self.keyring.cache_key())
        elif self.cache_path is not None:
            drop_index(self.cache_path, self.id, self._index_place)

    def look(self) -> View:
        """A fresh view of what may be used (protocol steps W1 and W5)."""
        view = refresh(self.store, self.keyring, self.index)
        self.reader.avoid(view.gone, view.bad)
        if self.reader.kept is not None:
            self.reader.kept.forget(self.index.pack(number).id for number in view.gone)
        return view

    def is_ahead(self) -> bool:
        """Whether this machine's index has learned from segments that are not there any more: merged, or never heard of."""
        listed = layout.list_complete(self.store, layout.INDEX)
        return not self.index.segments() <= {layout.parse_segment_key(row.key) for row in listed}

    def chunker(self) -> Chunker:
        table = derive_bytes(self.keyring.chunker_key(), GEAR_CONTEXT, GEAR_TABLE_BYTES)
        return Chunker(ChunkerParams.from_dict(self.config.chunker), table)

    def writer(self, view: View, *, level: int = 3, threads: int | None = None) -> ChunkWriter:
        """A writer that judges by `view`; packs an interrupted run left without a segment are indexed first."""
        require_features(self.config, Operation.WRITE)
        require_sizes(self.config)
        settings = WriterSettings(
            full_block=self.config.block_bytes,
            delta_block=self.config.delta_block_bytes,
            data_pack=self.config.pack_bytes,
            level=level,
            parity=keeps_parity(self.store),
            threads=threads or max(1, min(os.cpu_count() or 1, 8)),
        )
        writer = ChunkWriter(self.store, self.keyring, self.index, self.reader, view, settings)
        orphans = self._orphan_facts(view)
        if orphans:
            writer.adopt(orphans)
        return writer

    def committer(self) -> SnapshotCommitter:
        return SnapshotCommitter(self.catalog, self.index, self.reader, self.look, self.clock, self.settle)

    def settle(self) -> None:
        """Return once every listing shows what was put and deleted before: at once, but for stores that lag behind."""
        delay = listing_delay_seconds(self.store)
        if delay:
            self.on_note(
                Finding(
                    code="store.settling",
                    message=f"waiting {delay:.0f} s, because listings of {self.store.url} may lag behind",
                    severity="note",
                )
            )
            self.sleep(delay)

    def _orphan_facts(self, view: View) -> list[PackFacts]:
        facts: list[PackFacts] = []
        for name, size in view.orphans:
            try:
                facts.append(read_facts(self.store, self.keyring, name, size))
            except (ObjectNotFound, IntegrityError):
                # Another client's pack may go at any moment; only a pack that is read is used.
                continue
        return facts


def _clear_unfinished(store: ObjectStore) -> None:
    """Delete the config and slots of an init that never got to `FORMAT`; anything else there is Refused."""
    leftovers = [row.key for row in store.list("") if row.key not in layout.SENTINELS]
    if not leftovers:
        return
    unfinished = all(key.startswith((layout.CONFIG, layout.KEYS)) for key in leftovers)
    if not unfinished or not _is_proven_empty(store):
        raise Refused(
            f"{store.url} is not empty",
            why="a repository or something else is there already",
            hints=["choose another place; nothing was changed"],
            code="repo.exists",
        )
    for key in leftovers:
        store.delete(key)
    store.barrier()


def _is_proven_empty(store: ObjectStore) -> bool:
    """Keys are deleted on the strength of this: complete listings show no data, and FORMAT is asked for by name."""
    others = [prefix for prefix in layout.PREFIXES if prefix not in (layout.CONFIG, layout.KEYS, layout.MARKS)]
    if any(layout.list_complete(store, prefix) for prefix in others) or layout.list_if_there(store, layout.MARKS):
        return False
    try:
        store.head(layout.FORMAT_KEY)
    except ObjectNotFound:
        return True
    return False
