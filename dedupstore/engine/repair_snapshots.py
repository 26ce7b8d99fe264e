"""For each damaged snapshot a new one without what is lost, and a list of that. The damaged ones stay as they are.

A new snapshot like any other (W2 to W6), with the time of the old one and a nanosecond, so that a restore as of that
time takes it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from dedupstore.cancel import CancelToken
from dedupstore.codec.crypto import random_bytes
from dedupstore.engine.damage import UNREADABLE
from dedupstore.engine.health import Health
from dedupstore.engine.origin import REPAIR_OF as REPAIR_OF
from dedupstore.engine.origin import REPOSITORY, SNAPSHOT
from dedupstore.engine.sink import ChunkSink
from dedupstore.engine.twice import twice
from dedupstore.engine.undescribed import look_at_all
from dedupstore.errors import StoreGone
from dedupstore.events import Finding, Listener, Progress
from dedupstore.model.entry import DIRECTORY, FILE, Entry
from dedupstore.model.snapshot import Snapshot
from dedupstore.model.tree import TreeWriter, content_manifests, read_content, read_tree
from dedupstore.repo.config import Operation, require_features
from dedupstore.repo.repository import Repository
from dedupstore.types import ChunkId, Kind, SnapshotId
from dedupstore.units import format_id, printable, short_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Mended:
    """One damaged snapshot, what it lost, and the new one (None on a dry run, or when nothing at all is left)."""

    original: Snapshot
    repaired: Snapshot | None
    lost: tuple[tuple[bytes, bool], ...]
    """Paths, and whether it is a directory with all that was below it."""


@dataclass(slots=True, kw_only=True)
class SnapshotsReport:
    mended: list[Mended] = field(default_factory=list)
    known: list[Snapshot] = field(default_factory=list)
    """Damaged ones that were repaired before."""

    unreadable: tuple[SnapshotId, ...] = ()
    """Snapshots whose record itself is damaged."""

    findings: Sequence[Finding] = ()
    dry_run: bool = False

    @property
    def exit_code(self) -> int:
        """3: snapshots were made, or would be, without what is lost. 4: of one there is nothing left to make it of."""
        if self.unreadable or (any(one.repaired is None for one in self.mended) and not self.dry_run):
            return 4
        return 3 if self.mended else 0


def repair_snapshots(
    repository: Repository, *, dry_run: bool = False, listener: Listener, cancel: CancelToken
) -> SnapshotsReport:
    """Judge by what checks have found; nothing is written for a snapshot that is whole, or was repaired before."""
    require_features(repository.config, Operation.WRITE)
    listing, _ = repository.catalog.marked()
    view = look_at_all(repository, dry_run=dry_run)
    health = Health(repository.index, set(view.present), view.bad)
    report = SnapshotsReport(unreadable=tuple(name for name, _ in listing.damaged), dry_run=dry_run)
    findings: list[Finding] = []
    work = _Rewriting(repository, health, listener, cancel)
    done = _repaired(listing.snapshots)
    for snapshot in listing.snapshots:
        lost = work.look(snapshot)
        if not lost:
            continue
        if format_id(snapshot.id) in done:
            report.known.append(snapshot)
            continue
        repaired = None if dry_run else work.rewrite(snapshot, len(lost))
        report.mended.append(Mended(original=snapshot, repaired=repaired, lost=tuple(lost)))
        for path, directory in lost:
            findings.append(_lost(snapshot, path, directory=directory))
            listener.finding(findings[-1])
    report.findings = tuple(findings)
    return report


def _repaired(snapshots: Sequence[Snapshot]) -> set[str]:
    return {value for snapshot in snapshots for name, value in snapshot.details if name == REPAIR_OF}


@dataclass(slots=True)
class _Frame:
    """A directory being written anew; `entry` is its row in its parent, None for the top."""

    entry: Entry | None
    entries: Iterator[Entry]
    writer: TreeWriter


class _Rewriting:
    def __init__(self, repository: Repository, health: Health, listener: Listener, cancel: CancelToken) -> None:
        self._repository = repository
        self._health = health
        self._listener = listener
        self._cancel = cancel
        self._load = lambda chunk: twice(lambda: repository.reader.load_manifest(chunk))
        self._whole: dict[ChunkId, bool] = {}
        """Directories that were looked through, and whether all below them is whole."""

        self._progress = Progress(phase="repair snapshots")

    def look(self, snapshot: Snapshot) -> list[tuple[bytes, bool]]:
        """What of a snapshot cannot be read: paths, and whether each is a directory."""
        lost: list[tuple[bytes, bool]] = []
        self._look_below(snapshot.root, b"", lost)
        return lost

    def _look_below(self, root: ChunkId, prefix: bytes, lost: list[tuple[bytes, bool]]) -> None:
        """Children are judged before their parents, so that a directory is known to be whole when it is left."""
        stack = [(root, prefix, len(lost), False)]
        while stack:
            tree, path, before, leaving = stack.pop()
            if leaving:
                self._whole[tree] = len(lost) == before
                continue
            if self._whole.get(tree):
                continue
            self._cancel.check()
            stack.append((tree, path, len(lost), True))
            entries, whole = self._entries(tree)
            if not whole:
                lost.append((path.rstrip(b"/"), True))
            for entry in entries:
                if entry.kind == FILE and not self._readable(entry):
                    lost.append((path + entry.name, False))
                elif entry.kind == DIRECTORY and entry.tree is not None and not self._whole.get(entry.tree):
                    stack.append((entry.tree, path + entry.name + b"/", len(lost), False))
            self._listener.progress(self._progress)

    def rewrite(self, snapshot: Snapshot, lost: int) -> Snapshot | None:
        """A new snapshot of what is left, committed; None when nothing is."""
        if not self._entries(snapshot.root)[0]:
            return None
        repository = self._repository
        with repository.writer(repository.look()) as writer:
            root = self._tree(snapshot.root, writer)
            writer.finish()
            made = _record(snapshot, root, lost, writer.totals.raw, writer.totals.stored)
            # The last moment to avoid a second one: another repair may have been faster.
            for other in repository.catalog.snapshots().snapshots:
                if (REPAIR_OF, format_id(snapshot.id)) in other.details:
                    return other
            # Nothing vouches for the tree as a whole: every chunk is looked for.
            repository.committer().commit(writer, made, walk=True)
        return made

    def _tree(self, root: ChunkId, writer: ChunkSink) -> ChunkId:
        """The manifest of a directory without what is lost below it."""

        def frame(tree: ChunkId, entry: Entry | None) -> _Frame:
            made = TreeWriter(lambda data, first: writer.save(Kind.MANIFEST, data))
            return _Frame(entry, iter(self._entries(tree)[0]), made)

        stack = [frame(root, None)]
        while True:
            top = stack[-1]
            below = self._fill(top)
            if below is not None and below.tree is not None:
                stack.append(frame(below.tree, below))
                continue
            made = top.writer.finish()
            stack.pop()
            if top.entry is None:
                return made
            top.entry.tree = made
            stack[-1].writer.add(top.entry)

    def _fill(self, frame: _Frame) -> Entry | None:
        """Add entries up to the first subdirectory that is not whole; None when all are added."""
        self._cancel.check()
        for entry in frame.entries:
            if entry.kind == DIRECTORY and entry.tree is not None and not self._whole.get(entry.tree):
                return entry
            if entry.kind != FILE or self._readable(entry):
                frame.writer.add(entry)
        return None

    def _entries(self, tree: ChunkId) -> tuple[list[Entry], bool]:
        """What can be read of a directory, and whether that is all of it."""
        found: list[Entry] = []
        try:
            if not self._health.usable(tree):
                return found, False
            found.extend(read_tree(self._load, tree))
        except StoreGone:
            raise
        except UNREADABLE:
            return found, False
        return found, True

    def _readable(self, entry: Entry) -> bool:
        usable = self._health.usable
        try:
            return all(usable(chunk) for chunk in content_manifests(self._load, entry)) and all(
                usable(chunk, length) for chunk, length in read_content(self._load, entry)
            )
        except StoreGone:
            raise
        except UNREADABLE:
            return False


def _record(snapshot: Snapshot, root: ChunkId, lost: int, raw: int, stored: int) -> Snapshot:
    # With errors: a forget must not take it for the newest good one, while an older one has all.
    errors = snapshot.statistics.errors + lost
    kept = tuple(pair for pair in snapshot.details if pair[0] not in (REPAIR_OF, REPOSITORY, SNAPSHOT))
    return replace(
        snapshot,
        id=SnapshotId(random_bytes(16)),
        root=root,
        parent=snapshot.id,
        start_ns=snapshot.start_ns + 1,
        details=(*kept, (REPAIR_OF, format_id(snapshot.id))),
        statistics=replace(snapshot.statistics, errors=errors, bytes_read=0, bytes_new=raw, bytes_stored=stored),
    )


def _lost(snapshot: Snapshot, path: bytes, *, directory: bool) -> Finding:
    what = "directory, with what was below it" if directory else "file"
    return Finding(
        code="repair.lost",
        message=f"{printable(path) or '/'} is lost from snapshot {short_id(snapshot.id)} ({what})",
        path=path,
    )
