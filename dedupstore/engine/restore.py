"""Restore: walk the manifest tree, decode each block once, verify every byte, then give it its name.

The calling thread walks, compares, and makes directories and links; worker threads decode blocks and write
files. At most two windows of work (see restore_plan.py) exist at a time. Directories get their metadata when
everything in them is done, deepest first. Run again after an interruption, it keeps what is finished.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait

from dedupstore.cancel import CancelToken
from dedupstore.engine.allocator import keep_freed_memory
from dedupstore.engine.directory_sink import DirectorySink
from dedupstore.engine.link_groups import link_key, restored_key
from dedupstore.engine.restore_job import FileJob
from dedupstore.engine.restore_links import LinkTable
from dedupstore.engine.restore_options import (
    Action,
    Overwrite,
    RestoreOptions,
    RestorePlan,
    RestoreResult,
    Tally,
    Visit,
)
from dedupstore.engine.restore_plan import (
    FIRST_WINDOW_BYTES,
    FIRST_WINDOW_FILES,
    Link,
    Reader,
    Use,
    Window,
)
from dedupstore.engine.restore_sink import NullSink, Sink
from dedupstore.engine.restore_walk import Met, Step, TreeWalk, select
from dedupstore.engine.restore_work import Work
from dedupstore.engine.target import Folder
from dedupstore.errors import CorruptObject, IntegrityError, ObjectNotFound
from dedupstore.events import Finding, Listener, Progress
from dedupstore.model.entry import FILE, Entry
from dedupstore.model.snapshot import Snapshot
from dedupstore.model.tree import read_content
from dedupstore.threads import BriskSwitching
from dedupstore.types import ChunkId

MAX_FINDINGS = 10_000
"""Findings kept with the result; all of them go to the listener."""

_WAIT_SECONDS = 0.1

Started = tuple[Window, list[Future[None]]]
"""A window with what the workers are doing for it."""


def restore(
    reader: Reader, snapshot: Snapshot, options: RestoreOptions, *, listener: Listener, cancel: CancelToken
) -> RestoreResult:
    """Restore a snapshot, or parts of it, into a directory or to where it came from.

    A file that cannot be restored is a finding. Raises NothingMatches for a path that is not in the snapshot,
    TargetFailed when the target cannot be written any more, Interrupted when stopped; no partial file is left
    then, and finished ones stay.
    """
    sink = DirectorySink(reader, snapshot, options)
    try:
        work = _Restore(reader, snapshot, options, sink, listener, cancel)
        sink.open_places()
        return work.run(sink.metadata.dropped)
    finally:
        sink.close()


def drill(
    reader: Reader, snapshot: Snapshot, options: RestoreOptions, *, listener: Listener, cancel: CancelToken
) -> RestoreResult:
    """Do everything a restore does, verification included, but write nothing."""
    return _Restore(reader, snapshot, options, NullSink(reader), listener, cancel).run({})


def plan_restore(
    reader: Reader, snapshot: Snapshot, options: RestoreOptions, *, listener: Listener, cancel: CancelToken,
    visit: Visit | None = None,
) -> RestorePlan:  # fmt: skip
    """What `restore` would do, found by comparing only; writes nothing, not even the target directory."""
    sink = DirectorySink(reader, snapshot, options, dry=True)
    try:
        return _Restore(reader, snapshot, options, sink, listener, cancel, visit).plan()
    finally:
        sink.close()


class _Restore:
    def __init__(
        self, reader: Reader, snapshot: Snapshot, options: RestoreOptions, sink: Sink, listener: Listener,
        cancel: CancelToken, visit: Visit | None = None,
    ) -> None:  # fmt: skip
        selection = select(reader.load_manifest, snapshot.root, options.paths)
        self._reader = reader
        self._options = options
        self._sink = sink
        self._listener = listener
        self._cancel = cancel
        self._visit = visit
        self._tally = Tally()
        self._findings: list[Finding] = []
        self._worst = {"error": 0, "warning": 0, "note": 0}
        self._links = LinkTable()
        self._work = Work(reader, sink, self._links, verify=options.verify)
        self._walk = TreeWalk(
            reader.load_manifest, snapshot.root, sink.place, selection=selection, filter=options.filter,
            on_damage=lambda path, reason: self._work.damaged(path, reason, code="restore.directory_damaged"),
        )  # fmt: skip
        self._window = Window(FIRST_WINDOW_FILES, FIRST_WINDOW_BYTES)
        self._running: Started | None = None
        self._workers = options.workers or max(2, os.cpu_count() or 2, reader.requests_at_a_time)
        self._progress = Progress(phase="restore")
        self._kept_files = self._kept_bytes = 0
        if not options.paths and options.filter is None:
            self._progress.files_total = snapshot.statistics.files
            self._progress.bytes_total = snapshot.statistics.bytes_total

    def run(self, dropped: Mapping[str, int]) -> RestoreResult:
        keep_freed_memory()
        try:
            with BriskSwitching(), ThreadPoolExecutor(self._workers, thread_name_prefix="restore") as self._pool:
                try:
                    self._run()
                except BaseException:
                    self._work.stop.set()
                    raise
        finally:
            for job in list(self._work.open):
                job.abandon()
            self._links.close()
            self._tell()
        tally = self._tally
        return RestoreResult(
            actions=dict(tally.actions), files=self._work.files, directories=tally.directories, links=tally.links,
            others=tally.others, bytes_written=self._work.bytes_done, dropped=dict(dropped),
            findings=tuple(self._findings), findings_total=sum(self._worst.values()),
            exit_code=4 if self._worst["error"] else 3 if self._worst["warning"] else 0,
        )  # fmt: skip

    def _run(self) -> None:
        for met in self._walk:
            self._cancel.check()
            if met.step is Step.LEAF:
                self._leaf(met.folder, met.entry)
            elif met.step is Step.ENTER:
                self._enter(met)
            else:
                self._window.left.append(met)
            if self._window.full:
                self._submit()
        self._submit()
        if self._running is not None:
            self._settle(*self._running)

    def plan(self) -> RestorePlan:
        self._progress.phase = "plan"
        try:
            for met in self._walk:
                self._cancel.check()
                self._plan_step(met)
                self._tell()
        finally:
            self._links.close()
        tally = self._tally
        return RestorePlan(
            actions=dict(tally.actions), files=tally.files, directories=tally.directories, links=tally.links,
            others=tally.others, bytes_to_write=tally.bytes_to_write, findings=tuple(self._findings),
        )  # fmt: skip

    def _plan_step(self, met: Met) -> None:
        folder, entry = met.folder, met.entry
        try:
            if met.step is Step.LEAVE:
                for name in self._sink.extras(met):
                    self._count(Action.DELETE, folder.child_path(name))
                return
            if met.step is Step.ENTER:
                self._enter(met)
                return
            action = self._sink.decide(folder, entry)
            self._count(action, folder.child_path(entry.name))
            self._count_leaf(entry, action)
        except OSError as exc:
            self._work.trouble(exc, folder.child_path(entry.name))

    def _enter(self, met: Met) -> None:
        folder = met.folder
        try:
            action = self._sink.enter(folder, met.entry, whole=met.whole)
        except OSError as exc:
            self._walk.skip()
            self._work.trouble(exc, folder.path)
            return
        self._count(action, folder.path)
        if action is Action.SKIP:
            self._walk.skip()
        else:
            self._tally.directories += 1

    def _leaf(self, folder: Folder, entry: Entry) -> None:
        group = restored_key(entry, special=self._options.special)
        if group and self._links.knows(group):
            action = self._sink.decide(folder, entry)
            self._tally.actions[action] += 1
            if action is not Action.SKIP and not (action is Action.KEEP and self._options.overwrite is Overwrite.NEVER):
                self._tally.links += 1
                self._window.links.append(Link(folder, entry))
                self._window.files += 1
            return
        try:
            action = self._sink.decide(folder, entry)
            self._tally.actions[action] += 1
            if action is Action.SKIP:
                return
            if group:
                self._links.claim(group, folder, entry.name)
            if action is Action.REPLACE:
                self._sink.clear(folder, entry)
            if action in (Action.KEEP, Action.METADATA):
                self._stay(folder, entry, action)
            elif entry.kind == FILE:
                self._file(folder, entry)
            elif self._sink.make(folder, entry, replace=action is Action.REPLACE):
                self._tally.others += 1
                self._first(folder, entry)
        except OSError as exc:
            self._work.trouble(exc, folder.child_path(entry.name))

    def _stay(self, folder: Folder, entry: Entry, action: Action) -> None:
        if action is Action.METADATA:
            self._sink.refresh(folder, entry)
        if entry.kind == FILE:
            self._kept_files += 1
            self._kept_bytes += entry.size
        self._first(folder, entry)

    def _first(self, folder: Folder, entry: Entry) -> None:
        """A name is in place; if it belongs to a group, further names are linked to it."""
        group = restored_key(entry, special=self._options.special)
        identity = self._sink.identity(folder, entry) if group else None
        if identity is not None:
            self._links.settle(group, identity)

    def _file(self, folder: Folder, entry: Entry) -> None:
        # The total counts files with their holes.
        self._kept_bytes += entry.size - entry.data_size
        window = self._window
        window.files += 1
        if entry.size == 0:
            self._work.put_empty(folder, entry)
        elif len(entry.content) == 32 and not entry.holes:
            chunk = ChunkId(entry.content)
            try:
                place = self._reader.locate(chunk)
            except IntegrityError as exc:
                self._work.damaged(folder.child_path(entry.name), exc.message)
                return
            window.add(place, Use(place.position, chunk, folder, entry, None, 0, entry.size))
        elif not window.add_small(self._reader, folder, entry):
            self._pieces(folder, entry)

    def _pieces(self, folder: Folder, entry: Entry) -> None:
        job = FileJob(self._sink, folder, entry, self._work.early, verify=self._options.verify)
        self._work.open.add(job)
        locate, size = self._reader.locate, entry.data_size
        position = announced = 0
        try:
            for chunk, length in read_content(self._reader.load_manifest, entry):
                if position + length > size:
                    raise CorruptObject("a content list is longer than its file")
                place = locate(chunk)
                self._window.add(place, Use(place.position, chunk, folder, entry, job, position, length))
                position += length
                announced += 1
                if self._window.full:
                    job.expect(announced)
                    announced = 0
                    self._submit()
                    if job.failed:
                        break
        except (IntegrityError, ObjectNotFound) as exc:
            self._work.fail(job, exc.message)
        job.expect(announced)
        if job.listed():
            self._work.finish(job)

    def _submit(self) -> None:
        """Start the window just gathered, then settle the one before: the workers never wait for the next."""
        window, self._window = self._window, self._window.next()
        run, blocks = self._work.run_blocks, window.blocks
        started = [
            self._pool.submit(run, [(block, blocks[block]) for block in near]) for near in self._reader.runs(blocks)
        ]
        window.blocks = {}
        before, self._running = self._running, (window, started)
        if before is not None:
            self._settle(*before)

    def _settle(self, window: Window, started: list[Future[None]]) -> None:
        """Wait for a window's work, then do what had to come after it: links, extras, metadata of directories."""
        left = set(started)
        while left:
            # Not woken for every block: the interpreter is busy with the next one.
            done, left = wait(left, _WAIT_SECONDS, FIRST_EXCEPTION)
            for future in done:
                future.result()
            self._tell()
            self._cancel.check()
        for folder, entry in window.links:
            self._link(folder, entry)
        for met in window.left:
            self._leave(met)
        self._tell()
        self._cancel.check()

    def _link(self, folder: Folder, entry: Entry) -> None:
        path = folder.child_path(entry.name)
        first = self._links.find(restored_key(entry, special=self._options.special))
        if first.identity is None:
            message = "not restored: neither was the file it is a hard link to"
            self._work.told.append(Finding(code="restore.link_lost", message=message, path=path))
            return
        try:
            self._sink.clear(folder, entry)
            self._sink.link(folder, entry, first)
            if entry.kind == FILE:
                self._kept_files += 1
                self._kept_bytes += entry.size
        except OSError as exc:
            self._work.trouble(exc, path)

    def _leave(self, met: Met) -> None:
        folder = met.folder
        try:
            for name in self._sink.extras(met):
                self._delete(folder, name)
            self._sink.leave(met)
        except OSError as exc:
            self._work.trouble(exc, folder.path, "its owner, mode and times were not restored")

    def _delete(self, folder: Folder, name: bytes) -> None:
        try:
            self._sink.delete(folder, name)
            self._count(Action.DELETE, folder.child_path(name))
        except OSError as exc:
            self._work.trouble(exc, folder.child_path(name), "not deleted")

    def _count(self, action: Action, path: bytes) -> None:
        self._tally.actions[action] += 1
        if self._visit is not None and action not in (Action.KEEP, Action.SKIP):
            self._visit(action, path)

    def _count_leaf(self, entry: Entry, action: Action) -> None:
        tally = self._tally
        if entry.kind != FILE:
            tally.others += 1
        elif (group := link_key(entry)) and self._links.knows(group):
            tally.links += 1
        else:
            tally.files += 1
            if action in (Action.CREATE, Action.REPLACE):
                tally.bytes_to_write += entry.data_size
            if group and action is not Action.SKIP:
                self._links.claim(group, Folder(None, b""), entry.name)

    def _tell(self) -> None:
        """Pass on what the workers found, and how far they are."""
        told = self._work.told
        while told:
            finding = told.popleft()
            self._worst[finding.severity] += 1
            if len(self._findings) < MAX_FINDINGS:
                self._findings.append(finding)
            self._listener.finding(finding)
        progress = self._progress
        progress.files_done = self._work.files + self._kept_files
        progress.bytes_done = self._work.bytes_done + self._kept_bytes
        progress.errors = self._worst["error"] + self._worst["warning"]
        self._listener.progress(progress)
