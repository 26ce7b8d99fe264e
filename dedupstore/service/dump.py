"""A part of a snapshot as one archive, to a file or to whoever reads it."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from dedupstore.cancel import CancelToken
from dedupstore.engine.dump import Archive, Dumped, dump
from dedupstore.engine.dump_tar import TarArchive
from dedupstore.engine.dump_zip import ZipArchive
from dedupstore.errors import IntegrityError
from dedupstore.events import Collector, Finding, Listener
from dedupstore.service.access import Access
from dedupstore.service.new_file import new_file
from dedupstore.service.opened import open_repository
from dedupstore.service.records import SnapshotInfo, snapshot_info
from dedupstore.service.selection import Selection, choose

if TYPE_CHECKING:
    # The interpreter's own name for "anything that holds bytes" is newer than the oldest interpreter we run on.
    from _typeshed import ReadableBuffer

FORMATS: dict[str, Callable[[IO[bytes]], Archive]] = {"tar": TarArchive, "zip": ZipArchive}

_BUFFER_BYTES = 1 << 20
_WARNINGS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    selection: Selection
    path: bytes
    format: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    snapshot: SnapshotInfo
    files: int
    directories: int
    others: int
    bytes: int
    findings: tuple[Finding, ...]

    @property
    def exit_code(self) -> int:
        return _WARNINGS if self.findings else 0


class _Sink(io.RawIOBase):
    """Hands on what is written, until it is `broken`: then what is still buffered goes nowhere."""

    def __init__(self, write: Callable[[bytes], None]) -> None:
        super().__init__()
        self._write = write
        self.broken = False

    def writable(self) -> bool:
        return True

    def write(self, data: ReadableBuffer, /) -> int:
        whole = bytes(data)
        if not self.broken:
            self._write(whole)
        return len(whole)


def to_reader(
    request: Request, access: Access, write: Callable[[bytes], None], listener: Listener, cancel: CancelToken
) -> Outcome:
    """Hand the archive to `write` as it comes into being. Raises IntegrityError `dump.damaged`: what was written is no
    whole archive, and whoever reads it to its end notices."""
    collector = Collector(listener)
    sink = _Sink(write)
    stream = io.BufferedWriter(sink, _BUFFER_BYTES)
    archive: Archive | None = None
    try:
        with open_repository(access) as repository:
            snapshot = choose(repository.catalog, request.selection, note=repository.on_note)
            repository.look()
            archive = FORMATS[request.format](stream)
            done = dump(repository, snapshot.root, request.path, archive, collector, cancel)
        stream.flush()
    except IntegrityError:
        stream.flush()
        raise
    finally:
        # Whatever closes from here on, or is collected, writes the end of the archive to nowhere.
        sink.broken = True
        if archive is not None:
            archive.close()
        stream.close()
    return _outcome(snapshot_info(snapshot), done, collector)


def to_file(
    request: Request, access: Access, target: Path, listener: Listener, cancel: CancelToken
) -> Outcome:  # fmt: skip
    """Write the archive to a new file, which has another name until it is whole.

    Raises Refused when the file exists, TargetFailed when it cannot be written.
    """
    with new_file(target) as write:
        return to_reader(request, access, write, listener, cancel)


def _outcome(snapshot: SnapshotInfo, done: Dumped, collector: Collector) -> Outcome:
    return Outcome(
        snapshot=snapshot,
        files=done.files,
        directories=done.directories,
        others=done.others,
        bytes=done.data_bytes,
        findings=tuple(collector.findings),
    )
