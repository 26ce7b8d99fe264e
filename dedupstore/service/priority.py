"""Letting others go first: the priority of this process at the processor and at the disk."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable

from dedupstore.events import Finding

IO_CLASSES = {"best-effort": ("-c", "2", "-n", "7"), "idle": ("-c", "3")}
"""What `ionice` calls them; the kindest of the class."""

_PATIENCE_SECONDS = 10.0


def lower(nice: int | None, ionice: str | None, note: Callable[[Finding], None]) -> None:
    """Lower both as far as is asked, never raise them. Call it before any thread is started: threads inherit it.

    What cannot be lowered is a note: a snapshot at full speed is better than none.
    """
    if nice is not None and os.getpriority(os.PRIO_PROCESS, 0) < nice:
        os.setpriority(os.PRIO_PROCESS, 0, nice)
    if ionice is not None:
        command = ["ionice", *IO_CLASSES[ionice], "-p", str(os.getpid())]
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_PATIENCE_SECONDS, check=False
            )
            why = done.stderr.decode("utf-8", "replace").strip() if done.returncode else ""
        except (OSError, subprocess.TimeoutExpired) as error:
            why = str(error)
        if why:
            message = f"the priority at the disk stays as it is: {why}"
            note(Finding(code="priority.not_lowered", message=message, severity="note"))
