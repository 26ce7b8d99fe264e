"""Snapshots of one repository into another with keys of its own: a writer whose source is a repository.

Oldest first, each by the same protocol as any snapshot (W1 to W6), so what is cut short is no snapshot and what was
stored is used by the next run. A snapshot of which something cannot be read is not copied; the others are.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from dedupstore.cancel import CancelToken
from dedupstore.codec.crypto import random_bytes
from dedupstore.engine.allocator import keep_freed_memory
from dedupstore.engine.copy_data import DataCopy
from dedupstore.engine.copy_memory import CopyMemory
from dedupstore.engine.copy_tree import TreeCopy
from dedupstore.engine.foreign_chunks import ForeignChunks
from dedupstore.engine.origin import Origin, copied_record, origin_of
from dedupstore.engine.snapshot import newest
from dedupstore.errors import CacheError, IntegrityError, ObjectNotFound, Refused
from dedupstore.events import Collector, Finding, Listener, Progress
from dedupstore.model.snapshot import Snapshot
from dedupstore.repo import layout
from dedupstore.repo.repository import Repository
from dedupstore.repo.view import View
from dedupstore.repo.writer import ChunkWriter
from dedupstore.types import ChunkId, RepositoryId, SnapshotId
from dedupstore.units import format_id, short_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Copied:
    """One snapshot that was copied. Sizes in bytes: read from the source, and what the target grew by."""

    original: Snapshot
    copy: Snapshot
    read: int
    stored: int


@dataclass(slots=True, kw_only=True)
class CopyResult:
    copied: list[Copied] = field(default_factory=list)
    present: list[Snapshot] = field(default_factory=list)
    """Snapshots of the source that the target has already."""

    failed: list[Snapshot] = field(default_factory=list)
    findings: Sequence[Finding] = ()

    @property
    def exit_code(self) -> int:
        return 4 if self.failed else 0


@dataclass(frozen=True, slots=True)
class _Known:
    """The snapshots of the target, by what they are copies of."""

    snapshots: tuple[Snapshot, ...]
    by_origin: dict[Origin, SnapshotId]


def require_two(source: RepositoryId, target: RepositoryId, target_url: str) -> None:
    """Raises Refused when they are one repository; needs no key."""
    if source == target:
        raise Refused(
            "source and target are the same repository",
            why="they have the same id: one is a mirror of the other, or the same place by another name",
            hints=[f"to keep it up to date: dedup mirror --to {target_url}"],
            code="copy.same_repository",
        )


def split_known(
    source: Repository, target: Repository, chosen: Sequence[Snapshot]
) -> tuple[list[Snapshot], list[Snapshot]]:
    """Those of `chosen` that the target lacks, oldest first, and those it has. Raises Refused for one repository."""
    require_two(source.id, target.id, target.store.url)
    known = _Records(target).refreshed().by_origin
    ordered = sorted(chosen, key=lambda snapshot: (snapshot.time_ns, snapshot.id))
    lacking = [snapshot for snapshot in ordered if origin_of(snapshot, source.id) not in known]
    return lacking, [snapshot for snapshot in ordered if origin_of(snapshot, source.id) in known]


def copy_snapshots(
    source: Repository, target: Repository, chosen: Sequence[Snapshot], *, listener: Listener, cancel: CancelToken,
    level: int = 3,
) -> CopyResult:  # fmt: skip
    """Copy what the target lacks of `chosen`. Raises StoreError for trouble with the target, Interrupted, Refused."""
    lacking, present = split_known(source, target, chosen)
    keep_freed_memory()
    collector = Collector(listener)
    result = CopyResult(present=present)
    if lacking and source.config.chunker != target.config.chunker:
        collector.finding(_other_chunks(source, target))
    run = _Run(source, target, collector, cancel, level)
    for snapshot in lacking:
        run.progress.current = snapshot.source.encode("utf-8", "replace")
        try:
            copied = run.copy(snapshot)
        except CacheError:
            # A local view is no reason to be without a copy: once more, with temporary ones.
            source.drop_index(to_temporary=True)
            target.drop_index(to_temporary=True)
            copied = run.copy(snapshot)
        if isinstance(copied, Copied):
            result.copied.append(copied)
        else:
            (result.failed if copied is None else result.present).append(snapshot)
    result.findings = tuple(collector.findings)
    return result


class _Run:
    def __init__(
        self, source: Repository, target: Repository, listener: Listener, cancel: CancelToken, level: int
    ) -> None:
        self.progress = Progress(phase="copy")
        self._source = source
        self._target = target
        self._listener = listener
        self._cancel = cancel
        self._level = level
        self._known = _Records(target)

    def copy(self, snapshot: Snapshot) -> Copied | SnapshotId | None:
        """Copy one; None when part of it cannot be read, and the id of the copy that somebody else made meanwhile."""
        source, target = self._source, self._target
        source.look()
        view = target.look()
        # After the look: what is forgotten from here on is condemned after it, and W5 will see that.
        known = self._known.refreshed()
        memory = CopyMemory(target.index, target.keyring.cache_key(), source.id, source.index)
        try:
            return self._copy(snapshot, view, known, memory)
        except BaseException:
            # What was read need not be read again. Rows say nothing of what is stored.
            with suppress(CacheError):
                memory.flush()
            raise

    def _copy(self, snapshot: Snapshot, view: View, known: _Known, memory: CopyMemory) -> Copied | SnapshotId | None:
        source, target = self._source, self._target
        identifier = SnapshotId(random_bytes(16))
        with target.writer(view, level=self._level) as writer:
            trusted = _Trust(memory, writer, {each.id for each in known.snapshots})
            with ForeignChunks(source, writer.digest) as foreign:
                data = DataCopy(
                    source, writer, memory, identifier, trusted, foreign, self._listener, self._cancel, self.progress
                )  # fmt: skip
                data.run(snapshot.root)
            if data.failures:
                self._refuse(snapshot, data.failures)
                return None
            previous = newest(known.snapshots, snapshot.source, snapshot.host)
            tree = TreeCopy(
                source.reader.load_manifest, target.reader.load_manifest, writer, memory, identifier, trusted, self._cancel
            )  # fmt: skip
            try:
                root = tree.run(snapshot.root, previous.root if previous is not None else None)
            except (IntegrityError, ObjectNotFound) as error:
                self._listener.finding(
                    Finding(code="copy.directory_damaged", message=f"not copied: {error.message}", severity="error")
                )
                self._refuse(snapshot, 1)
                return None
            writer.finish()
            memory.flush()
            return self._commit(snapshot, identifier, root, writer, data.bytes_read)

    def _commit(
        self, snapshot: Snapshot, identifier: SnapshotId, root: ChunkId, writer: ChunkWriter, read: int
    ) -> Copied | SnapshotId:
        """Publish it, unless another run was faster: the last moment to avoid a second copy of one snapshot."""
        source, target = self._source, self._target
        origin = origin_of(snapshot, source.id)
        known = self._known.refreshed()
        if origin in known.by_origin:
            return known.by_origin[origin]
        parent = known.by_origin.get(Origin(source.id.hex(), format_id(snapshot.parent))) if snapshot.parent else None
        copy = copied_record(snapshot, origin, identifier=identifier, root=root, parent=parent)
        target.committer().commit(writer, copy)
        return Copied(original=snapshot, copy=copy, read=read, stored=writer.totals.stored)

    def _refuse(self, snapshot: Snapshot, failures: int) -> None:
        self._listener.finding(
            Finding(
                code="copy.snapshot_damaged",
                message=f"snapshot {short_id(snapshot.id)} was not copied: {failures} of its files or directories "
                "cannot be read",
                severity="error",
            )
        )


@dataclass(slots=True)
class _Trust:
    """What a directory of the source is called in a committed copy, if it is there with all that is below it."""

    memory: CopyMemory
    writer: ChunkWriter
    committed: set[SnapshotId]

    def __call__(self, tree: ChunkId) -> ChunkId | None:
        # With a pack lost or condemned nothing vouches for what lies below: each chunk is asked for.
        row = self.memory.tree(tree) if self.writer.view.whole else None
        if row is None or row.tree is None or row.snapshot not in self.committed:
            return None
        return row.tree if self.writer.has(row.tree) else None


class _Records:
    """The snapshots of the target; a record is read once, however often it is asked what there is."""

    def __init__(self, target: Repository) -> None:
        self._target = target
        self._snapshots: dict[SnapshotId, Snapshot] = {}

    def refreshed(self) -> _Known:
        """What is committed now. A damaged record counts as none: its snapshot is copied again."""
        found: dict[SnapshotId, Snapshot] = {}
        for row in layout.list_complete(self._target.store, layout.COMMITS):
            identifier = SnapshotId(layout.parse_id_key(row.key, layout.COMMITS))
            try:
                found[identifier] = self._snapshots.get(identifier) or self._target.catalog.get(identifier)
            except (IntegrityError, ObjectNotFound):
                continue
        self._snapshots = found
        ordered = tuple(sorted(found.values(), key=lambda snapshot: (snapshot.time_ns, snapshot.id)))
        return _Known(ordered, {origin_of(snapshot, self._target.id): snapshot.id for snapshot in ordered})


def _other_chunks(source: Repository, target: Repository) -> Finding:
    sizes = [repository.config.chunker.get("average", 0) >> 10 for repository in (source, target)]
    return Finding(
        code="copy.other_chunks",
        message=f"the source cuts files at {sizes[0]} KiB on average and the target at {sizes[1]} KiB: copies keep "
        "the cuts of the source",
        severity="note",
    )
