"""The collector of reference cycles, paced for a program that starts, does one thing and ends.

At Python's own pace it examines the newest objects after every 700 more, and at exit all of them several times.
While a command loads and after it is done that finds nothing worth having: for a list of snapshots 50 passes
and the exit together take 25 ms, as long as all that is done with the snapshots.
"""

from __future__ import annotations

import atexit
import gc
from collections.abc import Iterator
from contextlib import contextmanager

NEW_OBJECTS = 50_000
"""How many more objects there are before the newest are examined. A command that loads makes fewer; garbage of that
many is a few megabytes."""

# What is left when the interpreter ends goes with the process. Files are closed by then: `with` closes them.
atexit.register(gc.freeze)


@contextmanager
def unhurried() -> Iterator[None]:
    """Examine objects rarely in here."""
    before = gc.get_threshold()
    gc.set_threshold(NEW_OBJECTS, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
