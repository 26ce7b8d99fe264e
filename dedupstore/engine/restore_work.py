"""What the worker threads of a restore do: decode a block once, hand its chunks to the files that need them.

Writing small files one call at a time, the workers would fight over the interpreter at each of five short system
calls a file (measured: twice as slow as one thread that writes them all); so a block's files are written by one call.
"""

from __future__ import annotations

import errno
import threading
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import cast

from dedupstore.codec.hashing import digest
from dedupstore.engine.link_groups import link_key
from dedupstore.engine.restore_early import EarlyPieces
from dedupstore.engine.restore_job import WRONG_HASH, FileJob
from dedupstore.engine.restore_links import LinkTable
from dedupstore.engine.restore_plan import Block, Reader, Use
from dedupstore.engine.restore_sink import Sink, Whole
from dedupstore.engine.target import Folder
from dedupstore.errors import DedupError, IntegrityError, ObjectNotFound, TargetFailed
from dedupstore.events import Finding
from dedupstore.model.entry import Entry
from dedupstore.types import BlockChunks, Data, Kind
from dedupstore.units import printable

MAX_HELD_BYTES = 8 << 20
MAX_HELD_FILES = 1024
"""Small files of one block held until they are written by one call: memory, and how long a call keeps from stopping.

A chunk may be written to any number of files, so a block says nothing about the bytes it becomes.
"""

MAX_RUN_BYTES = 4 << 20
"""Adjacent pieces of a large file written by one call; chunks may repeat, so a run may be longer than its block."""

MAX_EARLY_BYTES = 64 << 20
"""Pieces of large files kept until the hash of their file gets to them; beyond it they are read a second time."""

# After these no other file will fare better.
_FATAL = frozenset(
    (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ENODEV, errno.EMFILE, errno.ENFILE, errno.ENOMEM)
)


class _Run:
    """Pieces of one file that follow each other there; `parts` are as few views of the block as they can be."""

    __slots__ = ("job", "start", "end", "chunks", "parts", "_raw", "_first", "_last")

    def __init__(self, use: Use, raw: memoryview, span: tuple[int, int]) -> None:
        self.job = cast(FileJob, use.job)
        self.start = use.offset
        self.end = use.offset + use.length
        self.chunks = [use.chunk]
        self.parts: list[memoryview] = []
        self._raw = raw
        self._first, self._last = span

    def takes(self, use: Use) -> bool:
        return self.job is use.job and self.end == use.offset and self.end - self.start < MAX_RUN_BYTES

    def add(self, use: Use, span: tuple[int, int]) -> None:
        if span[0] == self._last:
            self._last = span[1]
        else:
            self.close()
            self._first, self._last = span
        self.chunks.append(use.chunk)
        self.end += use.length

    def close(self) -> None:
        """What was added since the last view becomes one; to be called when all pieces are there."""
        self.parts.append(self._raw[self._first : self._last])


class Work:
    """State shared by the restoring thread and its workers. Findings wait in `told` for the former to pass on."""

    def __init__(self, reader: Reader, sink: Sink, links: LinkTable, *, verify: bool) -> None:
        self.told: deque[Finding] = deque()
        self.stop = threading.Event()
        self.open: set[FileJob] = set()
        """Files of several chunks that are not finished yet."""

        self.early = EarlyPieces(MAX_EARLY_BYTES)
        self.files = 0
        self.bytes_done = 0
        self._reader = reader
        self._sink = sink
        self._links = links
        self._verify = verify
        self._lock = threading.Lock()

    def run_blocks(self, blocks: Sequence[tuple[Block, Sequence[Use]]]) -> None:
        """`run_block` for blocks that are read together."""
        if self.stop.is_set():
            return
        try:
            with self._reader.fetched(Kind.DATA, [block for block, _ in blocks]):
                for block, uses in blocks:
                    self.run_block(*block, uses)
        except BaseException:
            self.stop.set()
            raise

    def run_block(self, pack_no: int, block_no: int, uses: Sequence[Use]) -> None:
        """Decode one block, write the pieces of large files and, in as few calls as can be, all its small files."""
        if self.stop.is_set():
            return
        try:
            block, lost = self._decode(pack_no, block_no, uses)
            self._write_large([use for use in uses if use.job is not None], block, lost)
            self._write_small([use for use in uses if use.job is None], block, lost)
        except BaseException:
            self.stop.set()
            raise

    def count(self, files: int, done: int) -> None:
        with self._lock:
            self.files += files
            self.bytes_done += done

    def put_empty(self, folder: Folder, entry: Entry) -> None:
        if self._put(folder, entry, b""):
            self.count(1, 0)

    def finish(self, job: FileJob) -> None:
        """All pieces of a file were dealt with: make it visible, unless one failed."""
        self.open.discard(job)
        if job.failed:
            return
        path = job.folder.child_path(job.entry.name)
        try:
            identity = job.finish()
            if identity is not None and job.entry.link_group:
                self._links.settle(link_key(job.entry), identity)
            self.count(1, 0)
        except IntegrityError as exc:
            job.abandon()
            self.damaged(path, exc.message)
        except OSError as exc:
            job.abandon()
            self.trouble(exc, path)

    def fail(self, job: FileJob, reason: str) -> None:
        """Give up a file whose content cannot be had; told once."""
        if not job.failed:
            job.abandon()
            self.damaged(job.folder.child_path(job.entry.name), reason)

    def damaged(self, path: bytes, reason: str, *, code: str = "restore.chunk_damaged") -> None:
        self.told.append(Finding(code=code, message=f"not restored: {reason}", path=path, severity="error"))

    def trouble(self, exc: OSError, path: bytes, what: str = "not restored") -> None:
        """A name that could not be made is a finding; raises TargetFailed when the target as a whole is at fault."""
        reason = exc.strerror or str(exc)
        if exc.errno == errno.ENOTEMPTY:
            reason = "a directory that is not empty is in its place; --delete replaces it"
        if exc.errno in _FATAL:
            hints = ["make room and run it again: finished files are kept"] if exc.errno == errno.ENOSPC else []
            raise TargetFailed(f"cannot write {printable(path)}", why=reason, hints=hints) from exc
        self.told.append(Finding(code="restore.not_written", message=f"{what}: {reason}", path=path))

    def _decode(self, pack_no: int, block_no: int, uses: Sequence[Use]) -> tuple[BlockChunks, Mapping[int, str]]:
        """The chunks that can be had, and of the others, by position, the reason."""
        wanted = {use.position: use.chunk for use in uses}
        wanted.update((position, chunk) for use in uses if use.rest for position, chunk, _ in use.rest)
        try:
            return self._reader.read_block(Kind.DATA, pack_no, block_no, wanted), {}
        except (IntegrityError, ObjectNotFound):
            # One bad chunk spoils a block, not its neighbours; and another pack may hold a good copy.
            chunks: list[bytes] = []
            spans: dict[int, tuple[int, int]] = {}
            lost: dict[int, str] = {}
            end = 0
            for position, chunk in wanted.items():
                try:
                    chunks.append(self._reader.read(Kind.DATA, chunk))
                except (IntegrityError, ObjectNotFound) as exc:
                    lost[position] = exc.message
                    continue
                spans[position] = (end, end + len(chunks[-1]))
                end += len(chunks[-1])
            return BlockChunks(memoryview(b"".join(chunks)), spans), lost

    def _write_large(self, uses: Iterable[Use], block: BlockChunks, lost: Mapping[int, str]) -> None:
        """Pieces of files that are larger than one block, or lie in several."""
        done = 0
        run: _Run | None = None
        for use in uses:
            span = self._find(use, block, lost)
            if span is None:
                continue
            if run is not None and run.takes(use):
                run.add(use, span)
                continue
            if run is not None:
                done += self._write(run)
            run = _Run(use, block.raw, span)
        if run is not None:
            done += self._write(run)
        self.count(0, done)

    def _write_small(self, uses: Iterable[Use], block: BlockChunks, lost: Mapping[int, str]) -> None:
        held = 0
        small: list[Whole] = []
        for use in uses:
            whole = self._whole(use, block, lost)
            if whole is not None:
                small.append(whole)
                held += len(whole.data)
                if held >= MAX_HELD_BYTES or len(small) >= MAX_HELD_FILES:
                    self._put_many(small)
                    small, held = [], 0
        self._put_many(small)

    def _whole(self, use: Use, block: BlockChunks, lost: Mapping[int, str]) -> Whole | None:
        """A small file put together and compared with its manifest; None, and told, when it is not to be had."""
        entry = use.entry
        raw, spans = block
        data: Data
        try:
            start, end = spans[use.position]
            data = raw[start:end]
            right = len(data) == use.length
            if use.rest:
                parts = [data, *(raw[slice(*spans[position])] for position, _, _ in use.rest)]
                right = right and all(len(part) == rest[2] for part, rest in zip(parts[1:], use.rest, strict=True))
                data = b"".join(parts)
        except KeyError as exc:
            self.damaged(use.folder.child_path(entry.name), lost[exc.args[0]])
            return None
        if not right or len(data) != entry.size:
            self.damaged(use.folder.child_path(entry.name), "its content is not as long as its manifest says")
            return None
        if use.rest and self._verify and entry.hash and digest((data,)) != entry.hash:
            self.damaged(use.folder.child_path(entry.name), WRONG_HASH)
            return None
        return Whole(use.folder, entry, data)

    def _put_many(self, small: list[Whole]) -> None:
        if not small or self.stop.is_set():
            return
        plain = [whole for whole in small if not whole.entry.link_group]
        failures = self._sink.put_many(plain)
        done = sum(len(whole.data) for whole in plain) - sum(len(whole.data) for whole, _ in failures)
        self.count(len(plain) - len(failures), done)
        for whole, exc in failures:
            self.trouble(exc, whole.folder.child_path(whole.entry.name))
        if len(plain) == len(small):
            return
        for whole in small:
            if whole.entry.link_group and self._put(*whole):
                self.count(1, len(whole.data))

    def _put(self, folder: Folder, entry: Entry, data: Data) -> bool:
        try:
            identity = self._sink.put(folder, entry, data)
        except OSError as exc:
            self.trouble(exc, folder.child_path(entry.name))
            return False
        if identity is not None and entry.link_group:
            self._links.settle(link_key(entry), identity)
        return True

    def _find(self, use: Use, block: BlockChunks, lost: Mapping[int, str]) -> tuple[int, int] | None:
        """Where a piece lies in the decoded block; None, and its file given up, when it is not to be had."""
        span = block.spans.get(use.position)
        if span is not None and span[1] - span[0] == use.length:
            return span
        job = cast(FileJob, use.job)
        self.fail(job, lost.get(use.position, "a chunk is not as long as its manifest says"))
        self._arrived(job, 1)
        return None

    def _write(self, run: _Run) -> int:
        """Write adjacent pieces; the last ones finish the file. How many bytes were written."""
        job = run.job
        run.close()
        written = 0
        if self.stop.is_set():
            return 0
        try:
            if not job.failed:
                job.write(run.start, run.chunks, run.parts)
                written = run.end - run.start
        except OSError as exc:
            if not job.failed:
                job.abandon()
                self.trouble(exc, job.folder.child_path(job.entry.name))
        except DedupError as exc:
            if not isinstance(exc, IntegrityError | ObjectNotFound):
                raise
            self.fail(job, exc.message)
        self._arrived(job, len(run.chunks))
        return written

    def _arrived(self, job: FileJob, pieces: int) -> None:
        if job.arrived(pieces):
            self.finish(job)
