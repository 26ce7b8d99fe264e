"""Which objects the snapshots need, how long each of them is locked, and locks that end later.

A lock is given to an object when it is put. A later snapshot that uses it again does not make it longer, so that what
today's snapshot needs may be free to be deleted tomorrow: locks have to be extended.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import NamedTuple

from dedupstore.cancel import CancelToken
from dedupstore.codec.block import BASED
from dedupstore.engine.liveness import Marker
from dedupstore.errors import CorruptObject, DedupError, IntegrityError, ObjectNotFound, Refused, StoreError
from dedupstore.events import Finding, Listener, Progress
from dedupstore.repo import layout
from dedupstore.repo.index import Location
from dedupstore.repo.lock_memory import LockMemory
from dedupstore.repo.pack_name import PackName
from dedupstore.repo.parity import parse_parity_key
from dedupstore.repo.repository import Repository
from dedupstore.storage.base import shows_past
from dedupstore.storage.versions import Lock, Version, Versions, versions_of
from dedupstore.types import ChunkId, PackId, SnapshotId

_AHEAD = 256

_ASKED = 16
"""Locks asked for at a time. No listing tells them, so each costs a round trip, and nothing else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Needed:
    """What the snapshots need. `packs` is None when that cannot be told: then every pack is."""

    snapshots: frozenset[SnapshotId]
    packs: frozenset[PackId] | None

    def includes(self, key: str) -> bool:
        """Whether an object is needed. What others left there, records of prunes and of forgotten snapshots are not."""
        if key == layout.FORMAT_KEY or key in layout.SENTINELS or key == layout.PARITY_SWITCH:
            return True
        folder = key.partition("/")[0] + "/"
        try:
            if folder == layout.PACKS:
                pack = PackName.parse(key).id
                return self.packs is None or pack in self.packs
            if folder == layout.PARITY:
                pack = parse_parity_key(key)
                return self.packs is None or pack in self.packs
            if folder in (layout.ROOTS, layout.COMMITS):
                return layout.parse_id_key(key, folder) in self.snapshots
            if folder == layout.MARKS:
                return layout.parse_mark_key(key)[0] in self.snapshots
        except CorruptObject:
            return False
        return folder in (layout.CONFIG, layout.KEYS, layout.INDEX)


@dataclass(slots=True, kw_only=True)
class LockReport:
    """What was found. Sizes in bytes, times in nanoseconds since the epoch."""

    snapshots: int
    needed: int = 0
    """Versions of needed objects: one for each, unless somebody else wrote over it."""

    needed_bytes: int = 0
    remembered: int = 0
    """Those of them that were not asked for, because an earlier answer still tells enough."""

    short: int = 0
    """Those whose lock ends before it should."""

    unlocked: int = 0
    """Those of them that are not locked at all."""

    first_end_ns: int | None = None
    """When the first of the locks that were in force ends, or ended, as it was found."""

    extended: int = 0
    hidden: list[str] = field(default_factory=list)
    """Needed objects that somebody has deleted so that their versions are still there."""

    findings: tuple[Finding, ...] = ()


class Term(NamedTuple):
    """Locks that end before `short_ns` are extended to `until_ns`; None: they are only counted."""

    short_ns: int
    until_ns: int | None


class SeenBlocks:
    """A set of blocks: one bit each, by pack. A repository of 10 TB has millions of them."""

    def __init__(self) -> None:
        self._packs: dict[int, bytearray] = {}

    def add(self, pack_no: int, block_no: int) -> bool:
        """Whether the block is new to the set."""
        bits = self._packs.setdefault(pack_no, bytearray())
        byte, bit = divmod(block_no, 8)
        if byte >= len(bits):
            bits.extend(bytes(byte + 1 - len(bits)))
        if bits[byte] >> bit & 1:
            return False
        bits[byte] |= 1 << bit
        return True


def find_needed(
    repository: Repository, snapshots: frozenset[SnapshotId], *, listener: Listener, cancel: CancelToken
) -> tuple[Needed, list[Finding]]:
    """What these snapshots need, bases of deltas included: each place where it lies, for any of them may be read.

    A snapshot that cannot be walked to its end makes every pack needed: the rest of it may be the one thing that is left.
    """
    index = repository.index
    packs: set[int] = set()
    looked = SeenBlocks()

    def on_chunk(chunk: ChunkId, at: Location) -> None:
        for copy in index.find_all(chunk):
            packs.add(copy.pack_no)
            if not looked.add(copy.pack_no, copy.block_no):
                continue
            block = index.block(copy.pack_no, copy.block_no)
            if block.codec in BASED:
                packs.update(base.pack_no for each in block.bases for base in index.find_all(each))

    try:
        present = set(repository.look().present)
        Marker(repository, present, on_chunk, listener, cancel).mark(snapshots)
    except (IntegrityError, ObjectNotFound) as error:
        message = (
            f"what the snapshots need cannot be told, so every pack counts ({error.in_one_line}); try: dedup check"
        )
        return Needed(snapshots=snapshots, packs=None), [Finding(code="locks.all_packs", message=message)]
    return Needed(snapshots=snapshots, packs=frozenset(index.pack(no).id for no in packs)), []


def look_at_locks(
    repository: Repository, term: Term, snapshots: frozenset[SnapshotId], *, listener: Listener, cancel: CancelToken,
    memory: LockMemory | None = None,
) -> LockReport:  # fmt: skip
    """Ask for the lock of everything that these snapshots need, and extend those that end too early.

    `memory`: what is known from there to be locked for long enough is not asked for, and answers are kept there.

    May be stopped anywhere and run again: what is locked for long enough is left as it is. Raises Refused `locks.none`
    where nothing can be locked, `locks.denied` where we may not.
    """
    versions = require_versions(repository)
    needed, findings = find_needed(repository, snapshots, listener=listener, cancel=cancel)
    report = LockReport(snapshots=len(needed.snapshots))
    progress = Progress(phase="locks")

    def settle(version: Version, seen: _Seen) -> None:
        lock = seen.lock
        report.needed += 1
        report.needed_bytes += version.size
        report.extended += seen.extended
        report.remembered += seen.remembered
        if memory is not None and not seen.remembered:
            memory.keep(version, lock)
        if lock is None or lock.until_ns < term.short_ns:
            report.short += 1
        if lock is None:
            report.unlocked += 1
        elif report.first_end_ns is None or lock.until_ns < report.first_end_ns:
            report.first_end_ns = lock.until_ns
        progress.files_done += 1
        progress.bytes_done += version.size
        listener.progress(progress)

    def wanted() -> Iterator[Version]:
        for version in versions.all_of(""):
            if not needed.includes(version.key):
                continue
            if not version.marker:
                yield version
            elif version.newest:
                report.hidden.append(version.key)

    try:
        _in_order(wanted(), lambda version: _see_to(versions, version, term, memory), settle, cancel)
    except StoreError as error:
        if not error.is_denial:
            raise
        raise _denied(error) from error
    if report.hidden:
        findings.append(_hidden(report.hidden, known=shows_past(repository.store)))
    for finding in findings:
        listener.finding(finding)
    report.findings = tuple(findings)
    return report


def require_versions(repository: Repository) -> Versions:
    """Raises Refused where objects cannot be locked."""
    versions = versions_of(repository.store)
    if versions is None or not versions.can_lock():
        raise Refused(
            f"objects cannot be locked at {repository.store.url}",
            why="it is not a bucket that was made with Object Lock",
            hints=["make a bucket with Object Lock, and bring the repository there: dedup mirror --to URL --init"],
            code="locks.none",
        )
    return versions


class _Seen(NamedTuple):
    """The lock of one version as it was found."""

    lock: Lock | None
    extended: bool = False
    remembered: bool = False


def _see_to(versions: Versions, version: Version, term: Term, memory: LockMemory | None) -> _Seen:
    known = None if memory is None else memory.get(version)
    if known is not None and known.until_ns >= term.short_ns:
        return _Seen(known, remembered=True)
    lock = versions.lock_of(version)
    if term.until_ns is None or (lock is not None and lock.until_ns >= term.short_ns):
        return _Seen(lock)
    versions.lock(version, Lock(term.until_ns, "" if lock is None else lock.mode))
    return _Seen(lock, extended=True)


def _in_order(
    rows: Iterator[Version],
    work: Callable[[Version], _Seen],
    settle: Callable[[Version, _Seen], None],
    cancel: CancelToken,
) -> None:
    """`work` in a few threads, `settle` in this one. The first exception ends it all."""
    pending: deque[tuple[Version, Future[_Seen]]] = deque()
    with ThreadPoolExecutor(_ASKED, thread_name_prefix="locks") as pool:
        try:
            for row in rows:
                cancel.check()
                pending.append((row, pool.submit(work, row)))
                if len(pending) >= _AHEAD:
                    version, future = pending.popleft()
                    settle(version, future.result())
            while pending:
                cancel.check()
                version, future = pending.popleft()
                settle(version, future.result())
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _hidden(keys: list[str], *, known: bool) -> Finding:
    """`known`: who asks looks at the time before that."""
    return Finding(
        code="locks.hidden",
        message=f"{len(keys)} objects that snapshots need were deleted, the first {keys[0]}; their versions are still there: "
        "see them with --at-store-time, and docs/storage.md",
        severity="note" if known else "error",
    )


def _denied(error: DedupError) -> Refused:
    return Refused(
        "the storage does not let us lock what snapshots need",
        why=error.in_one_line,
        hints=["the keys need s3:GetObjectRetention, s3:PutObjectRetention and s3:ListBucketVersions"],
        code="locks.denied",
    )
