"""The next directory of the walk, looked at by a second thread while the files of this one are stored.

Looking, reading, cutting and naming leave Python alone; what the walk does with each entry is Python. One after the other they
keep a processor waiting. So while the walk stores what is in one directory, this thread opens the one that
comes next, and reads and names its small files: one directory ahead, and never more than `CONTENT_BYTES` of it.

It is only done where most files have to be read anyway. What it finds is what the walk would have found by coming a
little earlier: a directory is taken over with its descriptor, its names and the time when they were read.
"""

from __future__ import annotations

import os
import stat as modes
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from dedupstore.engine.items import LOOKED_AT_ONCE, Looked, Place, look
from dedupstore.engine.small_contents import Named
from dedupstore.errors import SourceFailed
from dedupstore.sources.base import SourceFileError
from dedupstore.sources.exclude import Excluder
from dedupstore.sources.filesystem import open_directory, stat_entries
from dedupstore.sources.many_names import Item

CONTENT_BYTES = 4 << 20
"""How much of a directory is read ahead; what is left is read when it is its turn."""

MAX_NAMES = LOOKED_AT_ONCE
"""A directory of more names is opened and listed ahead, and no more than that."""

Read = Callable[[int, list[Item]], "list[Named | None]"]
"""Reads and names small files; called by the second thread."""


@dataclass(slots=True)
class LookAhead:
    """Used by the thread of one walk. `wanted` says whether it is worth while; the walk sets it as it goes."""

    read: Read
    now_ns: Callable[[], int]
    excluder: Excluder
    small_bytes: int
    wanted: bool = False
    _threads: ThreadPoolExecutor | None = None
    _place: Place | None = None
    _name: bytes = b""
    _future: Future[Looked | None] | None = None

    def expect(self, place: Place) -> None:
        """Look at the directory that is entered next after what is in `place`: the first below it, or the next beside it
        or beside one above.
        """
        if not self.wanted or self._future is not None:
            return
        above: Place | None = place
        while above is not None and above.upcoming == []:
            above = above.above
        if above is None or above.fd < 0 or not above.upcoming:
            return
        name, stat = above.upcoming[-1]
        if self._threads is None:
            self._threads = ThreadPoolExecutor(1, thread_name_prefix="look-ahead")
        self._place, self._name = above, name
        # The walk may close its own while this one is at work.
        self._future = self._threads.submit(self._look, os.dup(above.fd), name, stat, above.device)

    def take(self, place: Place, name: bytes) -> Looked | None:
        """What was found in a directory if it is the expected one; its descriptor belongs to the caller then."""
        if self._future is None:
            return None
        future, self._future = self._future, None
        looked = future.result()
        if looked is not None and (self._place is not place or self._name != name):
            os.close(looked.fd)
            return None
        return looked

    def close(self) -> None:
        """Wait for the thread and drop what nobody took."""
        future, self._future = self._future, None
        threads, self._threads = self._threads, None
        if threads is not None:
            # Not cancelled: the descriptor that it was given has to be closed.
            threads.shutdown(wait=True)
        if future is not None and future.exception() is None:
            looked = future.result()
            if looked is not None:
                os.close(looked.fd)

    def _look(self, dir_fd: int, name: bytes, expected: os.stat_result, device: int) -> Looked | None:
        """None where anything is in the way: the walk will meet it too, and tell."""
        try:
            fd = open_directory(name, dir_fd=dir_fd, expected=expected)
        except (SourceFileError, SourceFailed, OSError):
            return None
        finally:
            os.close(dir_fd)
        try:
            looked = look(fd, device, self.excluder, self.now_ns)
            self._look_closer(looked)
        except BaseException as error:
            os.close(fd)
            if isinstance(error, (SourceFileError, SourceFailed, OSError)):
                return None
            raise
        return looked

    def _look_closer(self, looked: Looked) -> None:
        if len(looked.names) > MAX_NAMES:
            return
        failed: list[tuple[bytes, SourceFileError]] = []
        found = stat_entries(looked.names, looked.fd, lambda name, error: failed.append((name, error)))
        looked.found, looked.failed = found, failed
        if self.excluder.active:
            # What is excluded is never read.
            return
        small: list[Item] = []
        size = 0
        for item in found:
            stat = item[1]
            if modes.S_ISDIR(stat.st_mode):
                # It is entered before what follows it: nothing is to wait in memory meanwhile.
                break
            if modes.S_ISREG(stat.st_mode) and stat.st_size <= self.small_bytes:
                size += stat.st_size
                if size > CONTENT_BYTES:
                    break
                small.append(item)
        for (name, _), named in zip(small, self.read(looked.fd, small), strict=True):
            if named is not None:
                looked.contents[name] = named
