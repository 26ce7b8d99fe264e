"""New files of a local store, in `tmp/`: durable before they get a name, thrown away when anything goes wrong."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress

from dedupstore.storage.system import FULL, System, write_all
from dedupstore.types import Data

Fill = Callable[[], Iterable[Sequence[Data]]]
"""Gives the bytes of a file, some pieces at a time; asked once more when a sync has failed."""

_LIFETIME_NS = 24 * 3600 * 10**9
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class _SyncFailed(OSError):
    """The file's bytes may or may not be on disk, and asking again would not tell."""


class TemporaryFiles:
    """Files of random names in one folder, which is made when it is missing and `require_content` does not object.

    OSError for trouble with the disk; what `fill` raises passes through, and no file stays. Safe from many threads.
    """

    def __init__(self, system: System, folder: str, require_content: Callable[[], None]) -> None:
        self._system = system
        self._folder = folder
        self._require_content = require_content

    def write(self, fill: Fill) -> tuple[str, int]:
        """The path of a new file that durably holds what `fill` gives, and its length in bytes."""
        try:
            return self._write_once(fill)
        except _SyncFailed as failure:
            if failure.errno in FULL:
                raise
            # The kernel has dropped the failed pages: only where the bytes came from they are still whole.
            return self._write_once(fill)

    def discard(self, path: str) -> None:
        """Remove a file. What cannot be removed is swept another day; it must not hide how the put itself went."""
        with suppress(OSError):
            self._system.unlink(path)

    def sweep(self, now_ns: int) -> int:
        """Remove what is older than a day; say how many files. Raises FileNotFoundError when there is no folder."""
        swept = 0
        with self._system.scandir(self._folder) as found:
            for entry in found:
                with suppress(FileNotFoundError):
                    age_ns = now_ns - entry.stat(follow_symlinks=False).st_mtime_ns
                    if entry.is_file(follow_symlinks=False) and age_ns > _LIFETIME_NS:
                        self._system.unlink(entry.path)
                        swept += 1
        return swept

    def _write_once(self, fill: Fill) -> tuple[str, int]:
        path = f"{self._folder}/{self._system.token()}"
        descriptor = self._create(path)
        opened = True
        size = 0
        try:
            for pieces in fill():
                views = [view for view in (memoryview(piece).cast("B") for piece in pieces) if view.nbytes]
                write_all(self._system, descriptor, views)
                size += sum(view.nbytes for view in views)
            try:
                self._system.fdatasync(descriptor)
                # A failed close has closed all the same; network file systems report lost writes here.
                opened = False
                self._system.close(descriptor)
            except OSError as error:
                raise _SyncFailed(error.errno, error.strerror) from error
        except BaseException:
            if opened:
                with suppress(OSError):
                    self._system.close(descriptor)
            self.discard(path)
            raise
        return path, size

    def _create(self, path: str) -> int:
        try:
            return self._system.open(path, _CREATE)
        except FileNotFoundError:
            pass
        # A store is created with this folder, but tools that copy repositories drop empty ones.
        self._require_content()
        with suppress(FileExistsError):
            self._system.mkdir(self._folder, 0o700)
        return self._system.open(path, _CREATE)
