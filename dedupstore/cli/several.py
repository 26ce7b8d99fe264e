"""Progress of several snapshots at once, shown as one."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections.abc import Iterator

from dedupstore.events import Finding, Listener, Progress

_SUMS = ("files_done", "bytes_done", "bytes_stored", "errors")


class Several:
    """Adds up what several threads tell, and passes it on one at a time."""

    def __init__(self, onward: Listener) -> None:
        self._onward = onward
        self._lock = threading.Lock()
        self._done = Progress()
        self._running: list[_One] = []

    @contextlib.contextmanager
    def watching(self) -> Iterator[Listener]:
        """A listener for one of them; what it told last stays in the sums."""
        one = _One(self)
        with self._lock:
            self._running.append(one)
        try:
            yield one
        finally:
            with self._lock:
                self._running.remove(one)
                _add(self._done, one.last)

    def progress(self, one: _One, progress: Progress) -> None:
        with self._lock:
            one.last = dataclasses.replace(progress)
            merged = Progress(phase=progress.phase, current=progress.current)
            _add(merged, self._done)
            for each in self._running:
                _add(merged, each.last)
            self._onward.progress(merged)

    def finding(self, finding: Finding) -> None:
        with self._lock:
            self._onward.finding(finding)


class _One:
    def __init__(self, several: Several) -> None:
        self._several = several
        self.last = Progress()

    def progress(self, progress: Progress) -> None:
        self._several.progress(self, progress)

    def finding(self, finding: Finding) -> None:
        self._several.finding(finding)


def _add(total: Progress, progress: Progress) -> None:
    for name in _SUMS:
        setattr(total, name, getattr(total, name) + getattr(progress, name))
