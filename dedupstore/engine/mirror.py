"""The same repository at another place: its objects as they are, proven by their names, no key needed.

The target is a valid repository at every moment and shows no snapshot whose packs are not there: sentinels, key slots
and configs, FORMAT; then packs, segments, records, marks, and markers last, with a barrier between each. Nothing is
overwritten. The plans of the source's garbage collection are about the source's own packs and stay there; its records of
what was pruned come along, after the segments.

Packs are listed again until no segment came or went meanwhile, and all of them were copied: no listing of many folders is of
one moment, and what a prune moves meanwhile may be missing in both places.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass

from dedupstore.cancel import CancelToken
from dedupstore.engine.allocator import keep_freed_memory
from dedupstore.engine.mirror_plan import (
    MirrorOptions,
    MirrorPlan,
    Sizes,
    conflicts,
    done_records,
    listed,
    require_unpruned,
)
from dedupstore.engine.transfers import in_parallel
from dedupstore.engine.twice import twice
from dedupstore.errors import (
    CorruptObject,
    IncompleteListing,
    IntegrityError,
    ObjectNotFound,
    RepositoryError,
    RepositoryTooNew,
    StoreError,
    StoreGone,
)
from dedupstore.events import Collector, Finding, Listener, Progress
from dedupstore.repo import layout
from dedupstore.repo.proof import PROVEN, prove, proving
from dedupstore.storage.base import ObjectInfo, ObjectStore, PieceStore
from dedupstore.types import Data
from dedupstore.units import format_number

_MAX_ROUNDS = 16


@dataclass(slots=True, kw_only=True)
class MirrorResult:
    """What a mirror did. Sizes in bytes."""

    objects: int = 0
    size: int = 0
    snapshots: int = 0
    """Snapshots that the target shows now and did not before."""

    held: int = 0
    """Snapshots not shown because an object they may need could not be copied."""

    deleted: int = 0
    deleted_size: int = 0
    findings: Sequence[Finding] = ()

    @property
    def exit_code(self) -> int:
        severities = {finding.severity for finding in self.findings}
        return 4 if "error" in severities else 3 if "warning" in severities else 0


def mirror(
    source: ObjectStore, target: ObjectStore, plan: MirrorPlan, options: MirrorOptions, *, listener: Listener,
    cancel: CancelToken,
) -> MirrorResult:  # fmt: skip
    """Carry a plan out. An object of the source that its name disproves is a finding, and no new snapshot is shown.

    Raises StoreError for trouble with the target, Interrupted when stopped: run again, it goes on from there.
    """
    keep_freed_memory()
    return _Mirror(source, target, plan, options, listener, cancel).run()


class _Mirror:
    def __init__(
        self, source: ObjectStore, target: ObjectStore, plan: MirrorPlan, options: MirrorOptions, listener: Listener,
        cancel: CancelToken,
    ) -> None:  # fmt: skip
        self._source = source
        self._target = target
        self._pieces: tuple[PieceStore, PieceStore] | None = None
        if isinstance(source, PieceStore) and isinstance(target, PieceStore):
            self._pieces = source, target
        self._plan = plan
        self._options = options
        self._found = Collector(listener)
        self._cancel = cancel
        self._progress = Progress(phase="mirror", files_total=plan.objects, bytes_total=plan.size)
        self._result = MirrorResult()
        self._lacking: set[str] = set()
        """What snapshots may need and could not be copied because it is damaged."""

        self._gone: set[str] = set()
        """What was listed in this round and is not there any more."""

    def run(self) -> MirrorResult:
        self._found.progress(self._progress)
        if self._plan.marks_lost:
            self._found.finding(_marks_lost(self._source))
        self._begin()
        self._copy_data()
        if self._lacking and not self._options.despite_damage:
            self._result.held = len(self._plan.snapshots)
            self._mark(set(listed(self._target, layout.ROOTS)))
            if self._plan.snapshots:
                self._hold()
        else:
            self._show()
            if self._options.delete and not self._lacking:
                self._delete()
        self._result.findings = tuple(self._found.findings)
        return self._result

    def _begin(self) -> None:
        """What makes the target a repository, in the order of `init`."""
        plan = self._plan
        sentinels = [key for key in layout.SENTINELS if key not in layout.MARKS_SENTINELS] if plan.fresh else []
        if plan.marks_begin:
            # Before any mark, and durable: a listing of marks without them is never taken for a whole one.
            sentinels += layout.MARKS_SENTINELS
        if sentinels:
            self._put_sentinels(sentinels)
        if plan.heads:
            # Slots first: a config of a new epoch is opened by the slots made for it.
            heads = self._copy(sorted(plan.heads, key=lambda row: not row.key.startswith(layout.KEYS)))
            self._target.barrier()
            if plan.fresh:
                self._require_head(heads)
        if plan.fresh:
            self._target.put(layout.FORMAT_KEY, [layout.format_text(plan.repository)])
            self._target.barrier()

    def _put_sentinels(self, keys: Sequence[str]) -> None:
        def put(row: ObjectInfo) -> None:
            self._target.put(row.key, [layout.SENTINEL_BODY])

        rows = [ObjectInfo(key, len(layout.SENTINEL_BODY)) for key in keys]
        in_parallel(rows, put, lambda row, error: None, self._cancel)
        self._target.barrier()

    def _require_head(self, copied: set[str]) -> None:
        """A repository that nothing opens must not come about."""
        there = copied | {row.key for prefix in (layout.KEYS, layout.CONFIG) for row in self._target.list(prefix)}
        for prefix, what in ((layout.KEYS, "key slot"), (layout.CONFIG, "config")):
            if not any(key.startswith(prefix) and key not in layout.SENTINELS for key in there):
                raise CorruptObject(
                    f"no {what} of {self._source.url} can be copied",
                    why="each of them is damaged, and without one nothing opens the mirror",
                )

    def _copy_data(self) -> None:
        """Packs, then the segments that were listed before them, then the records of prunes listed before those.

        A record says of a pack: what was needed of it lies elsewhere, indexed. So the record is listed first here, and
        put last there. One that came while packs were listed or copied may explain what they lacked: then all is listed
        again. So it is when a listed pack or segment is gone before it is read: then what it held or said is in another
        one. And so it is when a segment came or went while packs were listed: that of a pack that was moved meanwhile comes
        before the old one goes. Packs that come without a segment are no pack's new place yet.
        """
        there = listed(self._target, layout.PACKS)
        done = done_records(self._source)
        for _ in range(_MAX_ROUNDS):
            self._gone.clear()
            segments = listed(self._source, layout.INDEX)
            packs = listed(self._source, layout.PACKS)
            at_rest = listed(self._source, layout.INDEX) == segments
            missing = [
                ObjectInfo(key, size)
                for key, size in packs.items()
                if key not in there and key not in self._lacking
            ]  # fmt: skip
            # Those of full size first: begun last, one of them would be copied alone in the end.
            missing.sort(key=lambda row: row.size, reverse=True)
            copied = self._copy(missing)
            there.update((row.key, row.size) for row in missing if row.key in copied)
            before, done = done, done_records(self._source)
            if not at_rest or done != before or self._gone:
                continue
            self._compare(packs, there)
            self._target.barrier()
            if self._lacking and not self._options.despite_damage:
                # A segment names all its packs: with one of them missing the mirror would look damaged itself.
                return
            if self._copy_segments(segments):
                break
        else:
            raise StoreError(
                f"{self._source.url} does not come to rest", why=f"it was changed during each of {_MAX_ROUNDS} listings",
                hints=["run it again; what was copied is kept"],
            )  # fmt: skip
        known = done_records(self._target)
        self._copy([ObjectInfo(key, size) for key, size in done.items() if key not in known])
        self._target.barrier()

    def _copy_segments(self, segments: Sizes) -> bool:
        """Whether none of them is gone."""
        described = listed(self._target, layout.INDEX)
        self._compare(segments, described)
        self._copy([ObjectInfo(key, size) for key, size in segments.items() if key not in described])
        self._target.barrier()
        return not self._gone

    def _compare(self, source: Sizes, target: Sizes) -> None:
        for finding in conflicts(source, target):
            key = finding.message.partition(" ")[0]
            if key not in self._lacking:
                self._lacking.add(key)
                self._found.finding(finding)

    def _show(self) -> None:
        """Records, then what protects them, then the markers that make them snapshots."""
        plan = self._plan
        roots = self._copy(plan.roots)
        self._target.barrier()
        # Published, then looked, as every writer does: a prune there has seen the records, or is seen here.
        require_unpruned(self._source, self._target)
        there = roots | set(listed(self._target, layout.ROOTS))
        self._mark(there)
        ready = [row for row in plan.snapshots if _root_of(row.key) in there]
        shown = self._copy(ready)
        self._target.barrier()
        self._result.snapshots = len(shown)
        self._result.held = len(plan.snapshots) - len(shown)

    def _mark(self, roots: Set[str]) -> None:
        """Marks of snapshots whose record is there: without one a forget there would sweep them."""
        ready = [row for row in self._plan.marks if _root_of_mark(row.key) in roots]
        if ready:
            self._copy(ready)
            self._target.barrier()

    def _delete(self) -> None:
        """Markers first, packs and slots last: at no moment a snapshot without its packs."""
        plan = self._plan
        self._copy(plan.forgotten)
        self._target.barrier()
        group = ""
        for row in plan.delete:
            self._cancel.check()
            prefix = row.key[: row.key.index("/") + 1]
            if prefix != group:
                self._target.barrier()
                group = prefix
            self._target.delete(row.key)
            self._result.deleted += 1
            self._result.deleted_size += row.size
        self._target.barrier()

    def _copy(self, rows: Sequence[ObjectInfo]) -> set[str]:
        """Copy objects, several at a time; the names of those that are in the target now."""
        copied: set[str] = set()

        def settle(row: ObjectInfo, error: RepositoryError | None) -> None:
            if error is None:
                copied.add(row.key)
                self._result.objects += 1
                self._result.size += row.size
            elif isinstance(error, ObjectNotFound):
                self._gone.add(row.key)
            else:
                self._progress.errors += 1
                self._miss(row.key, error)
            self._progress.files_done += 1
            self._progress.bytes_done += row.size
            self._found.progress(self._progress)

        in_pieces = self._pieces is not None and all(row.key.startswith(PROVEN) for row in rows)
        in_parallel(rows, self._transfer, settle, self._cancel, in_pieces=in_pieces)
        return copied

    def _miss(self, key: str, error: RepositoryError) -> None:
        """Tell of an object that could not be copied, and hold back what may need it.

        Not for a segment: its packs are there, and whoever repairs the index leaves the damaged one where it is.
        """
        described = key.startswith(layout.INDEX)
        if key.startswith((layout.PACKS, layout.CONFIG)):
            self._lacking.add(key)
        self._found.finding(
            Finding(
                code="mirror.segment_damaged" if described else "mirror.source_damaged",
                message=error.in_one_line,
                severity="warning" if described else "error",
            )
        )

    def _transfer(self, row: ObjectInfo) -> RepositoryError | None:
        """Copy one object; None, or why the source does not give it."""
        if self._pieces is not None and row.key.startswith(PROVEN):
            # Once more where it fails, as `twice` does.
            return _carry(row.key, *self._pieces) and _carry(row.key, *self._pieces)
        try:
            data = twice(lambda: self._read(row.key))
        except (StoreGone, IncompleteListing):
            raise
        except (IntegrityError, StoreError, RepositoryTooNew) as error:
            # One bad sector must not keep the other objects here; gone is what was pruned or forgotten meanwhile.
            return error
        self._target.put(row.key, [data])
        return None

    def _read(self, key: str) -> bytes:
        data = self._source.get(key)
        prove(key, data, self._plan.repository)
        if not key.startswith(PROVEN) and self._source.get(key) != data:
            raise CorruptObject(f"{key} is not read alike twice", why="a flaky disk or line")
        return data

    def _hold(self) -> None:
        self._found.finding(
            Finding(
                code="mirror.held",
                message=f"not shown in the mirror: {format_number(len(self._plan.snapshots), 'new snapshot')}, to which "
                "what could not be copied may belong; --despite-damage shows them all the same",
                severity="error",
            )
        )


def _carry(key: str, source: PieceStore, target: PieceStore) -> RepositoryError | None:
    """Copy one object without ever holding it whole: it gets its name there when all of it is proven.

    None, or why the source does not give it. Raises what is wrong with the target, and StoreGone of either.
    """
    failed: list[RepositoryError] = []

    def read() -> Iterator[Data]:
        try:
            yield from proving(key, source.get_pieces(key))
        except (IntegrityError, StoreError) as error:
            failed.append(error)
            raise

    try:
        target.put_pieces(key, read)
    except (IntegrityError, StoreError) as error:
        if isinstance(error, StoreGone) or error not in failed:
            raise
        # One bad sector must not keep the other objects here; gone is what was pruned meanwhile.
        return error
    return None


def _root_of(commit: str) -> str:
    return layout.ROOTS + commit.removeprefix(layout.COMMITS)


def _root_of_mark(mark: str) -> str:
    return layout.root_key(layout.parse_mark_key(mark)[0])


def _marks_lost(source: ObjectStore) -> Finding:
    return Finding(
        code="mirror.marks_lost",
        message=f"{layout.MARKS} is gone from {source.url}, and the mirror has marks: they stay, see dedup check",
        severity="warning",
    )
