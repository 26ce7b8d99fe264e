"""Parity of whole repositories: made later on, mirrored, read packs through, dropped when its pack is gone."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from dedupstore.cancel import CancelToken
from dedupstore.codec.hashing import digest
from dedupstore.engine.parity_kept import ParityReport
from dedupstore.engine.twice import twice
from dedupstore.errors import CorruptObject, IntegrityError, ObjectNotFound, StoreError, StoreGone
from dedupstore.events import Finding, Listener, Progress
from dedupstore.repo import layout
from dedupstore.repo.config import Operation, require_features
from dedupstore.repo.pack_name import PackName
from dedupstore.repo.parity import (
    keeps_parity,
    listed_parity,
    make_parity,
    mend_pack,
    parity_key,
)
from dedupstore.storage.base import ObjectInfo, ObjectStore
from dedupstore.types import Data, Span

if TYPE_CHECKING:
    from dedupstore.repo.repository import Repository

_HELD_PACKS = 2


def make_all_parity(repository: Repository, *, dry_run: bool, listener: Listener, cancel: CancelToken) -> ParityReport:
    """From now on every new pack gets parity; make that of the packs that lack it. Stopped, the next run goes on.

    Only of packs that their names prove: parity of damage would be worse than none.
    """
    require_features(repository.config, Operation.WRITE)
    store = repository.store
    if not dry_run and not keeps_parity(store):
        store.put(layout.PARITY_SWITCH, [layout.SENTINEL_BODY])
        store.barrier()
    there = listed_parity(store)
    names = [(PackName.parse(row.key), row.size) for row in layout.list_complete(store, layout.PACKS)]
    lacking = [(name, size) for name, size in names if name.id not in there]
    report = ParityReport(packs=len(names), dry_run=dry_run)
    progress = Progress(phase="parity", files_total=len(lacking), bytes_total=sum(size for _, size in lacking))
    findings: list[Finding] = []
    for name, size in lacking:
        cancel.check()
        data = None if dry_run else _read(store, name, findings, listener)
        if dry_run or data is not None:
            parity = make_parity(name.id, [data]) if data is not None else b""
            report.made += 1
            report.made_bytes += len(parity)
            if data is not None:
                store.put(parity_key(name.id), [parity])
        progress.files_done += 1
        progress.bytes_done += size
        listener.progress(progress)
    if not dry_run:
        store.barrier()
    report.findings = tuple(findings)
    return report


def _read(store: ObjectStore, name: PackName, findings: list[Finding], listener: Listener) -> bytes | None:
    def read() -> bytes:
        data = store.get(name.key)
        if digest([data]) != name.id:
            raise CorruptObject("its bytes do not have the hash in its name")
        return data

    try:
        return twice(read)
    except (StoreGone, ObjectNotFound) as error:
        if isinstance(error, StoreGone):
            raise
        # Pruned since the listing.
        return None
    except (IntegrityError, StoreError) as error:
        findings.append(
            Finding(
                code="repair.parity_refused",
                message=f"pack {name.id.hex()[:16]} gets no parity: {error.why or error.message}",
                severity="error",
            )
        )
        listener.finding(findings[-1])
        return None


class MendingStore:
    """A store whose packs are read as they were: where one is damaged, mended by its parity, in memory. For readers."""

    def __init__(self, inner: ObjectStore) -> None:
        self._inner = inner
        self._whole: OrderedDict[str, bytes | CorruptObject] = OrderedDict()

    @property
    def url(self) -> str:
        return self._inner.url

    def get(self, key: str, span: Span | None = None) -> bytes:
        """Raises CorruptObject for a pack that cannot be mended."""
        if not key.startswith(layout.PACKS):
            return self._inner.get(key, span)
        whole = self._whole.get(key)
        if whole is None:
            whole = self._whole[key] = self._mended(PackName.parse(key))
            # A failure is remembered as well: it is asked for every chunk of that pack.
            if sum(isinstance(held, bytes) for held in self._whole.values()) > _HELD_PACKS:
                oldest = next(held for held, data in self._whole.items() if isinstance(data, bytes))
                del self._whole[oldest]
        if isinstance(whole, CorruptObject):
            raise whole
        return whole if span is None else whole[span.start : span.end]

    def _mended(self, name: PackName) -> bytes | CorruptObject:
        data = self._inner.get(name.key)
        if digest([data]) == name.id:
            return data
        try:
            return mend_pack(name.id, data, self._inner.get(parity_key(name.id)))
        except CorruptObject as error:
            return error

    def head(self, key: str) -> int:
        return self._inner.head(key)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        return self._inner.list(prefix)

    def put(self, key: str, parts: Sequence[Data]) -> None:
        raise AssertionError("only read through")

    def delete(self, key: str) -> None:
        raise AssertionError("only read through")

    def barrier(self) -> None:
        pass

    def close(self) -> None:
        pass
