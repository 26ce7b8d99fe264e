"""Taking one snapshot: look at the store, walk the source, store what is new, commit (W1 to W6)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from dedupstore.cancel import CancelToken
from dedupstore.codec.crypto import random_bytes
from dedupstore.engine.allocator import keep_freed_memory
from dedupstore.engine.archive import Archiver, WalkSettings
from dedupstore.engine.content import ContentStore
from dedupstore.engine.directory_cache import DirectoryCache
from dedupstore.engine.previous import READ_FROM, read_from
from dedupstore.engine.roots import archive_roots
from dedupstore.engine.sink import ChunkSink, DrySink
from dedupstore.engine.streams import StreamArchive
from dedupstore.engine.tally import Pace, Tally
from dedupstore.errors import CacheError
from dedupstore.events import Finding, Listener
from dedupstore.model.snapshot import Snapshot, Statistics
from dedupstore.repo.repository import Repository
from dedupstore.repo.view import View
from dedupstore.repo.writer import WriterTotals
from dedupstore.sources.base import NamedStream
from dedupstore.sources.exclude import Excluder
from dedupstore.sources.roots import Root
from dedupstore.types import ChunkId, Kind, SnapshotId


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotPlan:
    """Everything that says what to snapshot and how to call it. Exactly one of `roots` and `streams` is given."""

    source: str
    kind: str
    host: str
    user: str
    tool: str
    roots: Sequence[Root] = ()
    streams: Iterable[NamedStream] | None = None
    origins: tuple[tuple[bytes, bytes], ...] = ()
    """Of streams that stand for files: their names and the paths of those."""
    excluder: Excluder
    tags: tuple[str, ...] = ()
    note: str = ""
    trigger: str = "manual"
    time_ns: int | None = None
    """The logical time; None: when the run begins."""
    run: bytes | None = None
    details: tuple[tuple[str, str], ...] = ()
    found: Callable[[], tuple[tuple[str, str], ...]] = tuple
    """More of them, which the source knows once it was read."""
    began_ns: int | None = None
    """When streams that are open already began: what they hold may be as old as that."""
    pace: Pace | None = None
    dry_run: bool = False
    skip_if_unchanged: bool = False
    force: bool = False
    level: int = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotResult:
    """What became of a plan. `snapshot` is None on a dry run; with `unchanged` it is the parent."""

    snapshot: Snapshot | None
    parent: Snapshot | None
    statistics: Statistics
    findings: Sequence[Finding]
    unchanged: bool = False
    seconds: float = 0.0
    rolled_back: bool = False
    """Whether storage shows an older state than this machine has seen."""


@dataclass(slots=True)
class _Run:
    repository: Repository
    plan: SnapshotPlan
    listener: Listener
    cancel: CancelToken
    view: View
    parent: Snapshot | None
    start_ns: int
    tally: Tally = field(init=False)

    def __post_init__(self) -> None:
        self.tally = Tally(self.listener, pace=self.plan.pace)


def take_snapshot(
    repository: Repository, plan: SnapshotPlan, *, listener: Listener, cancel: CancelToken
) -> SnapshotResult:
    """Store one source. Returns only when the snapshot is committed and durable, or nothing was to be done.

    Raises SourceFailed when the source as a whole cannot be read, RepositoryError for any trouble with the
    store: then no snapshot exists, and what was stored already is used by the next run.
    """
    began = repository.clock.monotonic()
    keep_freed_memory()
    try:
        result = _attempt(repository, plan, listener, cancel)
    except CacheError:
        if plan.streams is not None:
            # A stream cannot be read twice; whoever opened it may start again.
            raise
        # The local view is no reason to be without a snapshot: once more, with a temporary one.
        repository.drop_index(to_temporary=True)
        result = _attempt(repository, plan, listener, cancel)
    return replace(result, seconds=repository.clock.monotonic() - began)


def _attempt(repository: Repository, plan: SnapshotPlan, listener: Listener, cancel: CancelToken) -> SnapshotResult:
    listing = repository.catalog.snapshots(cached=True)
    parent = newest(listing.snapshots, plan.source, plan.host)
    view = repository.look()
    if view.lost and repository.is_ahead():
        # The repository was put back to an earlier state. Else each snapshot of this machine would look for the losses.
        repository.drop_index()
        view = repository.look()
    if parent is not None and view.pruned and not repository.catalog.has_root(parent.id):
        # Forgotten and pruned between the two lines above: nothing vouches for its chunks any more. A root that is
        # still there after the look does: all its chunks were in usable packs when that was taken.
        parent = None
    began_ns = repository.clock.now_ns() if plan.began_ns is None else plan.began_ns
    run = _Run(repository, plan, listener, cancel, view, parent, began_ns)
    result = _dry(run) if plan.dry_run else _real(run)
    return replace(result, rolled_back=bool(listing.withheld or listing.returned))


def newest(snapshots: Sequence[Snapshot], source: str, host: str) -> Snapshot | None:
    """The parent of the next snapshot: the newest complete one of the same source and host."""
    for snapshot in reversed(snapshots):
        if snapshot.source == source and snapshot.host == host:
            return snapshot
    return None


def _dry(run: _Run) -> SnapshotResult:
    sink = DrySink(run.repository.keyring, run.repository.index, run.view)
    _archive(run, sink, remember=False)
    totals = WriterTotals(chunks=sink.chunks, raw=sink.raw)
    return SnapshotResult(
        snapshot=None, parent=run.parent, statistics=_statistics(run.tally, totals), findings=run.tally.findings
    )


def _real(run: _Run) -> SnapshotResult:
    repository, plan = run.repository, run.plan
    with repository.writer(run.view, level=plan.level) as writer:
        root, remember = _archive(run, writer, remember=True)
        # Asked last: what was forgotten while the source was read is no snapshot of it any more.
        if _is_unchanged(run, root) and run.parent is not None and repository.catalog.has_commit(run.parent.id):
            return SnapshotResult(
                snapshot=run.parent,
                parent=run.parent,
                statistics=_statistics(run.tally, writer.totals),
                findings=run.tally.findings,
                unchanged=True,
            )
        run.tally.progress.phase = "commit"
        run.listener.progress(run.tally.progress)
        writer.finish()
        snapshot = _record(run, root, _statistics(run.tally, writer.totals))
        repository.committer().commit(writer, snapshot)
        remember()
    return SnapshotResult(
        snapshot=snapshot, parent=run.parent, statistics=snapshot.statistics, findings=run.tally.findings
    )


def _is_unchanged(run: _Run, root: ChunkId) -> bool:
    return run.plan.skip_if_unchanged and run.parent is not None and run.parent.root == root


def _archive(run: _Run, sink: ChunkSink, *, remember: bool) -> tuple[ChunkId, Callable[[], None]]:
    """The root manifest of the plan's source, and what to call once its chunks are durable."""
    repository, plan, tally = run.repository, run.plan, run.tally
    tally.progress.phase = "store"
    content = ContentStore(sink, repository.chunker(), run.cancel, tally.read)
    parent_root = run.parent.root if run.parent is not None else None
    if plan.streams is not None:
        archive = StreamArchive(
            sink=sink, load=repository.reader.load_manifest, read=partial(repository.reader.read, Kind.DATA),
            content=content, tally=tally, start_ns=run.start_ns,
        )  # fmt: skip
        return archive.store(plan.streams, parent_root), lambda: None
    cache = DirectoryCache(repository.index, repository.keyring.cache_key(), plan.source, enabled=remember)
    archiver = Archiver(
        sink=sink,
        load=repository.reader.load_manifest,
        content=content,
        cache=cache,
        settings=WalkSettings(
            excluder=plan.excluder,
            parent_read_ns=read_from(run.parent) if run.parent is not None else 0,
            force=plan.force,
        ),
        tally=tally,
        clock=repository.clock,
        cancel=run.cancel,
    )
    try:
        root = archive_roots(archiver, plan.roots, parent_root)
    finally:
        cache.flush()
    return root, cache.flush


def _record(run: _Run, root: ChunkId, statistics: Statistics) -> Snapshot:
    plan, repository = run.plan, run.repository
    details = (*plan.details, *plan.found())
    return Snapshot(
        id=SnapshotId(random_bytes(16)),
        run=plan.run or random_bytes(16),
        source=plan.source,
        kind=plan.kind,
        trigger=plan.trigger,
        host=plan.host,
        user=plan.user,
        start_ns=plan.time_ns if plan.time_ns is not None else run.start_ns,
        end_ns=max(repository.clock.now_ns(), run.start_ns),
        root=root,
        parent=run.parent.id if run.parent is not None else None,
        tags=plan.tags,
        note=plan.note,
        origins=plan.origins or tuple((entry.name, entry.path) for entry in plan.roots),
        chunker=tuple(repository.config.chunker[name] for name in sorted(repository.config.chunker)),
        tool=plan.tool,
        statistics=statistics,
        details=details if plan.time_ns is None else (*details, (READ_FROM, str(run.start_ns))),
    )


def _statistics(tally: Tally, totals: WriterTotals) -> Statistics:
    return Statistics(
        files=tally.files,
        directories=tally.directories,
        others=tally.others,
        files_new=tally.files_new,
        files_changed=tally.files_changed,
        files_unchanged=tally.files_unchanged,
        files_removed=tally.files_removed,
        bytes_total=tally.bytes_total,
        bytes_read=tally.bytes_read,
        bytes_new=totals.raw,
        bytes_stored=totals.stored,
        chunks_new=totals.chunks,
        errors=sum(finding.severity != "note" for finding in tally.findings),
    )
