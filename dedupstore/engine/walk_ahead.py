"""A walk for soundness in a thread of its own, beside the reading of the data.

The walk is Python and uses one core at most; hashing and decompressing use the others. It judges by what was known
when it began: its answer counts only when nothing was found since that it did not know.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from dedupstore.engine.health import Health
from dedupstore.engine.sound_walk import SoundWalk
from dedupstore.model.snapshot import Snapshot
from dedupstore.model.tree import Load
from dedupstore.threads import RightOfWay

POLL_SECONDS = 0.5
"""How often who waits for the answer looks up: whether to stop, and to say that work goes on."""


class _Stopped(Exception):
    """Nobody wants the answer any more."""


class WalkAhead:
    """Begins at once. `stop` it in any case: what it reads from must outlive it.

    `load` and `health.index` are used from its thread; `health` must be its own.
    """

    def __init__(self, snapshots: Sequence[Snapshot], load: Load, health: Health, first: RightOfWay) -> None:
        self.snapshots = snapshots
        self._walk = SoundWalk(load, health, self._on_directory)
        self._first = first
        self._sound = False
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="check-structure", daemon=True)
        self._thread.start()

    def outcome(self, meanwhile: Callable[[], None]) -> SoundWalk | None:
        """The walk, when it found everything sound; None otherwise, for whatever reason. Waits for it.

        `meanwhile` is called now and then by the calling thread and may raise: the walk then goes on.
        """
        while self._thread.is_alive():
            meanwhile()
            self._thread.join(POLL_SECONDS)
        return self._walk if self._sound else None

    def abandon(self) -> None:
        """Its answer is not wanted; it ends soon."""
        self._stopping.set()

    def stop(self) -> None:
        """Return when it has ended."""
        self.abandon()
        self._thread.join()

    def _on_directory(self) -> None:
        if self._stopping.is_set():
            raise _Stopped
        self._first.give_way()

    def _run(self) -> None:
        try:
            self._sound = self._walk.sound(self.snapshots)
        except BaseException:
            # Not lost: whoever gets no answer walks again, in the open, and meets the same.
            self._sound = False
