"""Stores again what is damaged or lost and still to be had: from other copies here, from a mirror, from a copy.

Packs that are gone are put back as they were; all else goes into new packs. Nothing is deleted or overwritten: a
damaged pack stays until a prune takes it away. What is stored belongs to snapshots that exist, so it needs no root of
its own, and a repair that is stopped anywhere leaves what any stopped run leaves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from dedupstore.cancel import CancelToken
from dedupstore.engine.damage import UNREADABLE
from dedupstore.engine.donors import CopyDonor, MirrorDonor, There
from dedupstore.engine.health import Health, Marks
from dedupstore.engine.parity import MendingStore
from dedupstore.engine.repair_sink import RepairSink
from dedupstore.engine.undescribed import look_at_all
from dedupstore.errors import CorruptChunk, ObjectNotFound, StoreGone
from dedupstore.events import Finding, Listener, Progress
from dedupstore.model.entry import DIRECTORY, FILE, Entry
from dedupstore.model.snapshot import Snapshot
from dedupstore.model.tree import read_content, read_tree
from dedupstore.repo.config import Operation, require_features
from dedupstore.repo.index import PackRow
from dedupstore.repo.reader import ChunkReader
from dedupstore.repo.repository import Repository
from dedupstore.repo.view import View, read_directories
from dedupstore.types import ChunkId, Kind
from dedupstore.units import printable, short_id

MAX_FINDINGS = 1000


@dataclass(slots=True, kw_only=True)
class PacksReport:
    """What a repair did, or would do (`dry_run`). Sizes in bytes."""

    packs: int = 0
    """Lost packs that were put back as they were."""

    pack_bytes: int = 0
    chunks: int = 0
    chunk_bytes: int = 0
    """Chunks stored again, and their size before compression."""

    lost: int = 0
    """Files and directories of which something is nowhere to be had."""

    findings: Sequence[Finding] = ()
    dry_run: bool = False

    @property
    def exit_code(self) -> int:
        return 4 if self.lost else 0


def repair_packs(
    repository: Repository, *, mirror: MirrorDonor | None = None, copy: CopyDonor | None = None, dry_run: bool = False,
    listener: Listener, cancel: CancelToken,
) -> PacksReport:  # fmt: skip
    """Mend everything that snapshots need and that cannot be read, as far as checks have found it, and as can be.

    Raises StoreError for trouble with the repository itself, Interrupted; run again, it goes on from there.
    """
    require_features(repository.config, Operation.WRITE)
    report = PacksReport(dry_run=dry_run)
    view = look_at_all(repository, dry_run=dry_run)
    if _learn_by_parity(repository):
        view = repository.look()
    put_back = _put_back(repository, view, mirror, report, cancel) if mirror is not None and view.lost else []
    if put_back and not dry_run:
        view = repository.look()
    # On a dry run these are not here, and are looked at as if they were.
    returning = {row.no for row in put_back if mirror is not None and mirror.learn(row)} if dry_run else set()
    health = Health(repository.index, set(view.present) | returning, view.bad)
    # Without its orphans, of which some cannot say what they hold: a dry run writes nothing, and indexes nothing either.
    with repository.writer(replace(view, orphans=()) if dry_run else view) as writer:
        sink = RepairSink(writer, health, dry_run=dry_run)
        work = _Mending(repository, sink, mirror, copy, bool(returning), listener, cancel)
        work.run()
    report.chunks, report.chunk_bytes = sink.chunks, sink.raw
    report.lost, report.findings = work.lost, tuple(work.findings)
    return report


def _learn_by_parity(repository: Repository) -> bool:
    """Learn what packs hold whose own directory is damaged, where parity mends it; whether anything was learned."""
    unknown = [row for row in repository.index.packs() if not row.known]
    mending = MendingStore(repository.store)
    return bool(unknown and read_directories(mending, repository.keyring, repository.index, unknown))


def _put_back(
    repository: Repository, view: View, mirror: MirrorDonor, report: PacksReport, cancel: CancelToken
) -> list[PackRow]:
    """Lost packs from a mirror, under their own names. What a prune removed or condemned meanwhile stays away."""
    again = repository.look()
    lost = view.lost & again.lost - again.condemned
    done = []
    for row in [row for row in repository.index.packs() if row.id in lost]:
        cancel.check()
        if _is_there(repository, row):
            # Cut or overwritten: its name is taken, and what it held goes into new packs.
            continue
        data = mirror.pack(row)
        if data is None:
            continue
        if not report.dry_run:
            repository.store.put(row.name.key, [data])
        report.packs += 1
        report.pack_bytes += len(data)
        done.append(row)
    if done and not report.dry_run:
        repository.store.barrier()
    return done


def _is_there(repository: Repository, row: PackRow) -> bool:
    try:
        repository.store.head(row.name.key)
    except ObjectNotFound:
        return False
    return True


class _Mending:
    """One walk over all snapshots; whatever it cannot read it stores again if anybody has it."""

    def __init__(
        self, repository: Repository, sink: RepairSink, mirror: MirrorDonor | None, copy: CopyDonor | None,
        returns: bool, listener: Listener, cancel: CancelToken,
    ) -> None:  # fmt: skip
        self.lost = 0
        self.findings: list[Finding] = []
        self._repository = repository
        self._sink = sink
        self._mirror = mirror
        self._copy = copy
        self._returns = returns
        """Whether packs are looked at as if they were here: what they give is not stored again."""

        self._listener = listener
        self._cancel = cancel
        self._marks = Marks(repository.index)
        self._mended = ChunkReader(MendingStore(repository.store), repository.keyring, repository.index)
        self._told: set[tuple[str, str, bytes]] = set()
        self._progress = Progress(phase="repair packs")

    def run(self) -> None:
        snapshots = list(self._repository.catalog.snapshots().snapshots)
        # Those that a copy has come first: what others share with them is then mended by way of them.
        snapshots.sort(key=lambda snapshot: self._there(snapshot) is None)
        for snapshot in snapshots:
            self._walk(snapshot)

    def _there(self, snapshot: Snapshot) -> There | None:
        if self._copy is None:
            return None
        root = self._copy.root(snapshot)
        return There(self._copy, lambda: root) if root is not None else None

    def _walk(self, snapshot: Snapshot) -> None:
        stack = [(snapshot.root, b"", self._there(snapshot))]
        while stack:
            tree, path, there = stack.pop()
            if not self._marks.add(tree):
                continue
            self._cancel.check()
            for entry in self._entries(tree, there, path, snapshot):
                if entry.kind == DIRECTORY and entry.tree is not None:
                    below = there.below(entry.name) if there is not None else None
                    stack.append((entry.tree, path + entry.name + b"/", below))
                elif entry.kind == FILE:
                    self._file(entry, there, path + entry.name, snapshot)
            self._sink.checkpoint()
            self._progress.bytes_done = self._sink.raw
            self._listener.progress(self._progress)

    def _entries(self, tree: ChunkId, there: There | None, path: bytes, snapshot: Snapshot) -> list[Entry]:
        try:
            return list(read_tree(self._load, tree))
        except StoreGone:
            raise
        except UNREADABLE:
            found = there.tree() if there is not None else None
            if there is not None and found is not None and there.donor.mend_directory(self._sink, found, tree):
                return list(read_tree(self._load, tree))
        self._tell(path.rstrip(b"/"), snapshot)
        return []

    def _file(self, entry: Entry, there: There | None, path: bytes, snapshot: Snapshot) -> None:
        self._progress.files_done += 1
        whole = True
        try:
            for chunk, _ in read_content(self._load, entry):
                whole &= self._has(chunk)
        except StoreGone:
            raise
        except UNREADABLE:
            whole = False
        if whole:
            return
        other = there.entry(entry.name) if there is not None else None
        if there is None or other is None or not there.donor.mend_file(self._sink, other, entry):
            self._tell(path, snapshot)

    def _load(self, chunk: ChunkId) -> bytes:
        """A manifest; one that counts as lost here is stored again on the way."""
        known = self._sink.manifests.get(chunk)
        if known is not None:
            return known
        data = self._fetch(Kind.MANIFEST, chunk)
        if data is None:
            raise CorruptChunk(f"manifest {chunk.hex()[:16]} cannot be had")
        # Also when it was readable after all: what nobody may rely on has to be stored again.
        self._sink.save_as(Kind.MANIFEST, chunk, data)
        return data

    def _has(self, chunk: ChunkId) -> bool:
        if self._sink.has(chunk):
            return True
        data = self._fetch(Kind.DATA, chunk)
        if data is not None:
            self._sink.save_as(Kind.DATA, chunk, data)
        return data is not None

    def _fetch(self, kind: Kind, chunk: ChunkId) -> bytes | None:
        try:
            return self._repository.reader.read(kind, chunk)
        except StoreGone:
            raise
        except UNREADABLE:
            found = self._by_parity(kind, chunk)
            if found is None and self._mirror is not None:
                found = self._mirror.read(kind, chunk)
            if not (found is not None and self._returns and self._sink.has(chunk)):
                self._sink.distrust(chunk)
            return found

    def _by_parity(self, kind: Kind, chunk: ChunkId) -> bytes | None:
        try:
            return self._mended.read(kind, chunk)
        except StoreGone:
            raise
        except UNREADABLE:
            return None

    def _tell(self, path: bytes, snapshot: Snapshot) -> None:
        name = (snapshot.source, snapshot.host, path)
        if name in self._told:
            return
        self._told.add(name)
        self.lost += 1
        self._progress.errors += 1
        if len(self.findings) < MAX_FINDINGS:
            finding = Finding(
                code="repair.still_lost",
                message=f"{printable(path) or '/'} of snapshot {short_id(snapshot.id)} cannot be mended: what is damaged "
                "is nowhere to be had",
                path=path,
                severity="error",
            )
            self.findings.append(finding)
            self._listener.finding(finding)
