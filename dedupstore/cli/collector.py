"""The collector of reference cycles, paced for a program that starts, does one thing and ends.

At Python's own pace it examines the newest objects whenever there are 700 more, and at exit all of them several
times. While a command loads and once it is done there is hardly any garbage to be found: a list of snapshots pays
20 ms of processor time for 50 such passes and the exit, `--help` 8 ms.
"""

from __future__ import annotations

import atexit
import gc
from collections.abc import Iterator
from contextlib import contextmanager

NEW_OBJECTS = 50_000
"""A command that loads makes fewer. Garbage of that many is a few megabytes, which work on many files does not notice."""

# What is left when the interpreter ends goes with the process. No file waits for the collector: `with` closes them.
atexit.register(gc.freeze)


@contextmanager
def unhurried() -> Iterator[None]:
    """While inside, the newest objects are examined only when there are `NEW_OBJECTS` more."""
    before = gc.get_threshold()
    gc.set_threshold(NEW_OBJECTS, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
