"""Memory of blocks and packs is used again instead of being given back to the kernel after each one.

The C library maps every large piece of memory anew, or returns the end of its heap as soon as it is free. Each page of
it then costs a page fault and is filled with zeros: for blocks of 2 MiB that is up to a third of all CPU time.
"""

from __future__ import annotations

import ctypes
from functools import cache

LARGEST_KEPT_BYTES = 64 << 20
"""Larger pieces go back at once: a pack is 32 MiB, a block 2 MiB."""

KEEP_FREE_BYTES = 256 << 20
"""So much may lie unused at the end of the heap; a restore or a check does not come to need half of it."""

# malloc.h
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8


@cache
def keep_freed_memory() -> bool:
    """For the rest of the process. Call it before threads start; False where the C library has no such setting.

    One arena for all threads: memory that one thread freed is the next one's. They take turns at the interpreter
    anyway wherever they allocate often.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    mallopt(_M_ARENA_MAX, 1)
    # Trimming only with the first: the library would never adapt its threshold again and map every block.
    return bool(mallopt(_M_MMAP_THRESHOLD, LARGEST_KEPT_BYTES) and mallopt(_M_TRIM_THRESHOLD, KEEP_FREE_BYTES))
