"""Which directories changed since the last barrier, and making those changes durable.

A new name in a directory survives a power cut only after an fsync of that directory. The descriptor
used for it must have been opened *before* the change: the kernel reports a failed write-back only to
descriptors that were open when it happened (fsyncgate, and bupstash's store).
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from dedupstore.storage.system import UNSUPPORTED, System

_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC

SYNCS = 8
"""Directories synced at a time: each sync makes the disk empty its cache, and the disk does so once for all that wait."""


class _Directory:
    """An open directory: who uses its descriptor right now, and how many of its changes are durable."""

    __slots__ = ("changes", "descriptor", "durable", "path", "users")

    def __init__(self, path: str, descriptor: int) -> None:
        self.path = path
        self.descriptor = descriptor
        self.users = 0
        self.changes = 0
        self.durable = 0

    @property
    def dirty(self) -> bool:
        return self.durable < self.changes


class ChangedDirectories:
    """Directories with changes that are not durable yet. Safe from many threads."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._open: dict[str, _Directory] = {}
        self._lock = threading.Lock()
        self._one_barrier = threading.Lock()
        self._failure: OSError | None = None
        self.weak = False
        """True once a file system refused to fsync a directory: it promises nothing about names."""

    @contextmanager
    def changing(self, paths: Sequence[str], *, create: bool) -> Iterator[None]:
        """Hold `paths`, outermost first, while names in them change; leaving it normally marks them changed.

        With `create`, missing ones are made, except the first: it is the store's root, and an
        unmounted disk must not be filled.
        """
        held: list[_Directory] = []
        try:
            for path in paths:
                held.append(self._hold(path, create=create and bool(held)))
            yield
            with self._lock:
                for directory in held:
                    directory.changes += 1
        finally:
            self._release(held)

    def barrier(self) -> None:
        """Fsync every changed directory. Raises OSError, and then on every later call too.

        A second fsync of the same directory would report success without having written anything.
        """
        # A second caller must not return while the first still waits for the disk.
        with self._one_barrier:
            if self._failure is not None:
                raise OSError(self._failure.errno, self._failure.strerror)
            with self._lock:
                changed = [directory for directory in self._open.values() if directory.dirty]
                for directory in changed:
                    directory.users += 1
            try:
                self._sync_all(changed)
            finally:
                self._release(changed)

    def close(self) -> None:
        """Close all descriptors; changes since the last barrier stay without a promise."""
        with self._lock:
            for directory in self._open.values():
                with suppress(OSError):
                    self._system.close(directory.descriptor)
            self._open.clear()

    def _hold(self, path: str, *, create: bool) -> _Directory:
        with self._lock:
            directory = self._open.get(path)
            if directory is None:
                directory = _Directory(path, self._opened(path, create=create))
                self._open[path] = directory
            directory.users += 1
            return directory

    def _opened(self, path: str, *, create: bool) -> int:
        try:
            return self._system.open(path, _OPEN_DIRECTORY)
        except FileNotFoundError:
            if not create:
                raise
        with suppress(FileExistsError):
            self._system.mkdir(path, 0o700)
        return self._system.open(path, _OPEN_DIRECTORY)

    def _sync_all(self, changed: Sequence[_Directory]) -> None:
        waiting = deque(changed)
        failures: list[BaseException] = []

        def work() -> None:
            while not failures:
                try:
                    directory = waiting.popleft()
                except IndexError:
                    return
                try:
                    self._sync(directory)
                except BaseException as error:
                    failures.append(error)

        # A few are not worth a thread: a snapshot ends with barriers of two or three.
        helpers = [threading.Thread(target=work, name="sync") for _ in range(SYNCS - 1 if len(changed) >= SYNCS else 0)]
        for helper in helpers:
            helper.start()
        work()
        # However it ends: nobody closes a descriptor that one of them still syncs.
        for helper in helpers:
            helper.join()
        if failures:
            raise failures[0]

    def _sync(self, directory: _Directory) -> None:
        # Read first: a change made while the fsync runs belongs to the next barrier.
        changes = directory.changes
        try:
            self._system.fsync(directory.descriptor)
        except OSError as error:
            if error.errno not in UNSUPPORTED:
                self._failure = error
                raise
            self.weak = True
        directory.durable = changes

    def _release(self, held: Sequence[_Directory]) -> None:
        with self._lock:
            for directory in held:
                directory.users -= 1
                if not directory.users and not directory.dirty and self._open.get(directory.path) is directory:
                    del self._open[directory.path]
                    with suppress(OSError):
                        self._system.close(directory.descriptor)
