"""Rebuilds what can be rebuilt from packs alone: index segments and sentinels. Nothing is deleted or overwritten.

Packs are the truth; segments only say again what their trailers say. A damaged segment stays where it is: once others
say all it said, it harms nobody.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice

from dedupstore.cancel import CancelToken
from dedupstore.engine.check_session import Description
from dedupstore.engine.inventory import Inventory, take_inventory
from dedupstore.engine.twice import twice
from dedupstore.errors import CorruptObject, IntegrityError, ObjectNotFound, StoreError, StoreGone
from dedupstore.events import Finding, Listener, Progress
from dedupstore.repo import layout
from dedupstore.repo.config import Operation, require_features
from dedupstore.repo.pack_name import PackName
from dedupstore.repo.repository import Repository
from dedupstore.repo.segment import PackFacts, decode_segment, encode_segment, read_facts
from dedupstore.types import PackId

SEGMENT_PACKS = 64
SEGMENT_BYTES = 4 << 20
READS_AT_A_TIME = 8
_AHEAD = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class RepairReport:
    """What a repair of the index did, or would do (`dry_run`)."""

    packs: int
    """Packs in the store."""

    packs_indexed: int
    """Packs that no readable segment described, and a new one does."""

    packs_unreadable: int
    segments_damaged: int
    segments_written: int
    sentinels_restored: tuple[str, ...]
    findings: tuple[Finding, ...]
    dry_run: bool

    @property
    def exit_code(self) -> int:
        return 4 if any(finding.severity == "error" for finding in self.findings) else 0


def repair_index(
    repository: Repository, *, dry_run: bool = False, listener: Listener, cancel: CancelToken
) -> RepairReport:
    """Describe every pack in a segment, reading the header and trailer of each. May run beside snapshots.

    Also puts back missing sentinels. Running it twice writes nothing the second time.
    """
    require_features(repository.config, Operation.WRITE)
    return _Repair(repository, listener, cancel, dry_run=dry_run).run()


class _Repair:
    def __init__(self, repository: Repository, listener: Listener, cancel: CancelToken, *, dry_run: bool) -> None:
        self._repository = repository
        self._listener = listener
        self._cancel = cancel
        self._dry_run = dry_run
        self._findings: list[Finding] = []
        self._progress = Progress(phase="repair index")
        self._segments_damaged = 0
        self._segments_written = 0

    def run(self) -> RepairReport:
        sentinels = self._restore_sentinels()
        inventory = take_inventory(self._repository.store, marks_expected=self._repository.catalog.marks_expected)
        described = self._read_segments(inventory)
        waiting: list[PackFacts] = []
        size = indexed = unreadable = 0
        self._progress.files_total = len(inventory.packs)
        for name, facts in self._trailers(list(inventory.packs.values())):
            self._progress.files_done += 1
            self._listener.progress(self._progress)
            if facts is None:
                unreadable += 1
            elif not self._is_described(name, facts, described):
                indexed += 1
                waiting.append(facts)
                size += len(facts.directory)
                if len(waiting) >= SEGMENT_PACKS or size >= SEGMENT_BYTES:
                    self._write(waiting)
                    waiting, size = [], 0
        if waiting:
            self._write(waiting)
        if indexed and not self._dry_run:
            # Built anew from the segments, so that this machine, too, sees what every other one will.
            self._repository.drop_index()
        return RepairReport(
            packs=len(inventory.packs),
            packs_indexed=indexed,
            packs_unreadable=unreadable,
            segments_damaged=self._segments_damaged,
            segments_written=self._segments_written,
            sentinels_restored=sentinels,
            findings=tuple(self._findings),
            dry_run=self._dry_run,
        )

    def _restore_sentinels(self) -> tuple[str, ...]:
        store = self._repository.store
        missing = []
        for key in self._sentinels():
            try:
                store.head(key)
            except ObjectNotFound:
                missing.append(key)
                self._tell(
                    "repair.sentinel", f"{key} was missing: the listing could not be told from a cut one", "note"
                )
                if not self._dry_run:
                    store.put(key, [layout.SENTINEL_BODY])
        if missing and not self._dry_run:
            store.barrier()
        return tuple(missing)

    def _sentinels(self) -> tuple[str, ...]:
        """Those that have to be there: a repository from before marks has none for them until there is one."""
        if not self._repository.catalog.marks_expected and not any(self._repository.store.list(layout.MARKS)):
            return tuple(key for key in layout.SENTINELS if key not in layout.MARKS_SENTINELS)
        return layout.SENTINELS

    def _read_segment(self, key: str) -> Sequence[PackFacts]:
        return decode_segment(self._repository.keyring, key, self._repository.store.get(key))

    def _read_segments(self, inventory: Inventory) -> dict[PackId, set[Description]]:
        """Everything that readable segments say of each pack."""
        described: dict[PackId, set[Description]] = {}
        for key in inventory.segments:
            self._cancel.check()
            try:
                facts = twice(partial(self._read_segment, key))
            except StoreGone:
                raise
            except (CorruptObject, StoreError) as exc:
                self._segments_damaged += 1
                self._tell("repair.segment_damaged", f"{exc.message}; what it said is said again", "note")
                continue
            for fact in facts:
                described.setdefault(fact.id, set()).add(Description.of(fact))
        return described

    def _is_described(self, name: PackName, facts: PackFacts, described: dict[PackId, set[Description]]) -> bool:
        truth = Description.of(facts)
        said = described.get(name.id, set())
        if not all(truth.agrees(one) for one in said):
            self._tell("repair.segment_contradicts", f"a segment describes {name.key} differently than the pack itself")
        return any(truth.agrees(one) for one in said)

    def _trailers(self, packs: Sequence[tuple[PackName, int]]) -> Iterator[tuple[PackName, PackFacts | None]]:
        """Read headers and trailers, several at a time, in order. None for a pack that cannot be described."""
        remaining = iter(packs)
        with ThreadPoolExecutor(READS_AT_A_TIME, thread_name_prefix="trailer") as pool:
            while batch := list(islice(remaining, _AHEAD)):
                self._cancel.check()
                for (name, _), result in zip(batch, pool.map(self._describe, batch), strict=True):
                    if isinstance(result, PackFacts):
                        yield name, result
                    else:
                        self._tell("repair.pack_unreadable", f"{result.message}: {result.why}")
                        yield name, None

    def _describe(self, pack: tuple[PackName, int]) -> PackFacts | IntegrityError | StoreError:
        name, size = pack
        try:
            return twice(lambda: read_facts(self._repository.store, self._repository.keyring, name, size))
        except StoreGone:
            raise
        except (IntegrityError, StoreError) as exc:
            return exc

    def _write(self, facts: Sequence[PackFacts]) -> None:
        self._segments_written += 1
        if self._dry_run:
            return
        store = self._repository.store
        _, key, sealed = encode_segment(self._repository.keyring, facts)
        store.put(key, [sealed])
        store.barrier()

    def _tell(self, code: str, message: str, severity: str = "error") -> None:
        finding = Finding(code=code, message=message, severity=severity)
        self._findings.append(finding)
        self._listener.finding(finding)
