"""Counts and findings of one archive run."""

from __future__ import annotations

import os
import stat as modes
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from dedupstore.events import Finding, Listener, Progress
from dedupstore.model.entry import Entry
from dedupstore.sources.base import SourceFileError
from dedupstore.units import printable

SMALL_STEPS = 64
"""Progress is told after this many small files, not after each."""

Pace = Callable[[int], None]
"""Is told how many bytes of the source were read, and returns when more may be."""


@dataclass(slots=True)
class Tally:
    """What was seen, read and left out so far. Sizes in bytes."""

    listener: Listener
    progress: Progress = field(default_factory=Progress)
    findings: list[Finding] = field(default_factory=list)
    files_new: int = 0
    files_changed: int = 0
    files_unchanged: int = 0
    files_removed: int = 0
    directories: int = 0
    others: int = 0
    bytes_total: int = 0
    bytes_read: int = 0
    bytes_new: int = 0
    pace: Pace | None = None
    _steps: int = 0

    @property
    def files(self) -> int:
        return self.files_new + self.files_changed + self.files_unchanged

    def failed(self, path: bytes, error: SourceFileError) -> None:
        """One file or directory is missing from this snapshot, or not as it should be."""
        finding = Finding(code=error.code, message=f"{printable(path)}: {error.message}", path=path)
        self.findings.append(finding)
        self.progress.errors += 1
        self.listener.finding(finding)

    def note(self, code: str, path: bytes, message: str) -> None:
        """Something about one file that is worth knowing; it is stored all the same."""
        finding = Finding(code=code, message=f"{printable(path)}: {message}", path=path, severity="note")
        self.findings.append(finding)
        self.listener.finding(finding)

    def read(self, count: int) -> None:
        self.bytes_read += count
        self.progress.bytes_done += count
        if self.pace is not None:
            self.pace(count)
        if count > 1 << 20:
            self.listener.progress(self.progress)

    def stored(self, path: bytes, entry: Entry, before: Entry | None, new_bytes: int) -> None:
        """A file was read and stored; `new_bytes` of it were not in the repository.

        One that was read because its times could not be trusted, and turned out to be as it was, is unchanged.
        """
        if before is not None and _alike(entry, before):
            self.files_unchanged += 1
        elif before is not None:
            self.files_changed += 1
        else:
            self.files_new += 1
        self.bytes_total += entry.size
        self.bytes_new += new_bytes
        self._step(path)

    def other(self) -> None:
        """A link, pipe or device."""
        self.others += 1

    def unchanged(self, stat: os.stat_result) -> None:
        if modes.S_ISREG(stat.st_mode):
            self.files_unchanged += 1
            self.bytes_total += stat.st_size
            self.progress.bytes_done += stat.st_size
            self._step(b"")
        else:
            self.others += 1

    def same_directory(self, items: Iterable[tuple[bytes, os.stat_result]]) -> None:
        """A directory was taken over as a whole."""
        files = size = others = 0
        for _, stat in items:
            mode = stat.st_mode & 0o170000
            if mode == modes.S_IFREG:
                files += 1
                size += stat.st_size
            elif mode != modes.S_IFDIR:
                others += 1
        self.files_unchanged += files
        self.others += others
        self.bytes_total += size
        self.directories += 1
        self.progress.files_done += files
        self.progress.bytes_done += size
        self.listener.progress(self.progress)

    def directory(self) -> None:
        self.directories += 1

    def removed(self, count: int) -> None:
        self.files_removed += count

    def _step(self, path: bytes) -> None:
        progress = self.progress
        progress.files_done += 1
        if path:
            progress.current = path
        self._steps += 1
        if self._steps >= SMALL_STEPS:
            self._steps = 0
            self.listener.progress(progress)


def _alike(entry: Entry, before: Entry) -> bool:
    return (
        entry.content == before.content
        and entry.pages == before.pages
        and entry.size == before.size
        and entry.holes == before.holes
        and entry.mtime == before.mtime
        and entry.mode == before.mode
        and (entry.uid, entry.gid) == (before.uid, before.gid)
    )
