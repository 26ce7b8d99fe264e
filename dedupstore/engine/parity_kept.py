"""Parity that was made already: mirrored, verified, dropped when its pack is gone. No key is needed for any of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from dedupstore.cancel import CancelToken
from dedupstore.engine.twice import twice
from dedupstore.errors import CorruptObject, IntegrityError, ObjectNotFound, StoreError, StoreGone
from dedupstore.events import Finding, Listener
from dedupstore.repo import layout
from dedupstore.repo.pack_name import PackName
from dedupstore.repo.parity import keeps_parity, listed_parity, parity_key, parse_parity_key, prove_parity
from dedupstore.storage.base import ObjectStore
from dedupstore.types import PackId


@dataclass(slots=True, kw_only=True)
class ParityReport:
    """What was made, mirrored or verified. Sizes in bytes."""

    packs: int = 0
    made: int = 0
    made_bytes: int = 0
    findings: Sequence[Finding] = ()
    dry_run: bool = False

    @property
    def exit_code(self) -> int:
        return 4 if any(finding.severity == "error" for finding in self.findings) else 0


def drop_parity(store: ObjectStore, cancel: CancelToken) -> tuple[int, int]:
    """Delete parity whose pack is gone; how many objects and bytes. Run again, it goes on.

    Parity is listed before packs, and put after its pack: what is not in the later listing was there and went.
    """
    there = listed_parity(store)
    if not there:
        return 0, 0
    packs = {PackName.parse(row.key).id for row in layout.list_complete(store, layout.PACKS)}
    gone = {pack: size for pack, size in there.items() if pack not in packs}
    for pack in sorted(gone):
        cancel.check()
        store.delete(parity_key(pack))
    if gone:
        store.barrier()
    return len(gone), sum(gone.values())


def mirror_parity(
    source: ObjectStore, target: ObjectStore, *, delete: bool, listener: Listener, cancel: CancelToken
) -> ParityReport:
    """Bring the parity of packs that the target has, proven; with `delete`, drop that of packs it has no more."""
    report = ParityReport()
    findings: list[Finding] = []
    if keeps_parity(source) and not keeps_parity(target):
        target.put(layout.PARITY_SWITCH, [layout.SENTINEL_BODY])
        target.barrier()
    known = listed_parity(target)
    lacking = sorted(listed_parity(source).keys() - known.keys())
    packs = {PackName.parse(row.key).id for row in layout.list_complete(target, layout.PACKS)} if lacking else set()
    for pack in lacking:
        if pack not in packs:
            continue
        cancel.check()
        try:
            data = twice(partial(_proven, source, pack))
        except StoreGone:
            raise
        except ObjectNotFound:
            continue
        except (IntegrityError, StoreError) as error:
            findings.append(Finding(code="check.parity_damaged", message=error.message))
            listener.finding(findings[-1])
            continue
        target.put(parity_key(pack), [data])
        report.made += 1
        report.made_bytes += len(data)
    target.barrier()
    if delete:
        drop_parity(target, cancel)
    report.findings = tuple(findings)
    return report


def damaged_parity(store: ObjectStore, cancel: CancelToken) -> Iterator[Finding]:
    """Read all parity; a finding for each object that is not what was written."""
    for pack in sorted(listed_parity(store)):
        cancel.check()
        try:
            twice(partial(_proven, store, pack))
        except StoreGone:
            raise
        except ObjectNotFound:
            continue
        except (IntegrityError, StoreError) as error:
            yield Finding(code="check.parity_damaged", message=error.message)


def _proven(store: ObjectStore, pack: PackId) -> bytes:
    data = store.get(parity_key(pack))
    prove_parity(pack, data)
    return data


def foreign_parity(store: ObjectStore) -> Iterator[str]:
    """Names below `parity/` that do not belong there."""
    for row in store.list(layout.PARITY):
        if row.key != layout.PARITY_SWITCH:
            try:
                parse_parity_key(row.key)
            except CorruptObject:
                yield row.key
