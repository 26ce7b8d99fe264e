"""Keeps what is mapped of an LMDB file from counting as this process's memory without end.

LMDB maps its file, and every page that was ever looked at stays mapped: with random keys that is soon the whole file,
870 MB for 10 M chunks. The pages belong to the kernel's cache and can be dropped under pressure; but a limit on the memory
of a service or a container counts them, and so does everybody who looks. Unmapping costs a minor fault a page when it is
looked at again, no reading.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from functools import cache
from pathlib import Path

MAX_BYTES = 96 << 20
"""So much may be mapped of files by the whole process, its libraries (some 30 MB) among them."""


def mapped_bytes() -> int:
    """How much is resident of files that are mapped; 0 where the kernel does not say."""
    try:
        with open("/proc/self/statm", "rb", buffering=0) as file:
            return int(file.read(256).split()[2]) * mmap.PAGESIZE
    except (OSError, IndexError, ValueError):
        return 0


def unmap_pages(path: Path) -> bool:
    """Let the kernel have the mapped pages of an open file back; whether that was possible.

    Its mapping must stay while this runs: afterwards the addresses may be somebody else's. Pages must not be changed
    through the mapping, as LMDB does not unless it is told to.
    """
    advise = _madvise()
    place = _mapping(os.path.realpath(path)) if advise is not None else None
    if advise is None or place is None:
        return False
    start, end = place
    try:
        length = min(end - start, -(-os.stat(path).st_size // mmap.PAGESIZE) * mmap.PAGESIZE)
    except OSError:
        return False
    return bool(advise(ctypes.c_void_p(start), ctypes.c_size_t(length), mmap.MADV_DONTNEED) == 0)


def _mapping(path: str) -> tuple[int, int] | None:
    """Where a file is mapped for reading alone."""
    wanted = os.fsencode(path)
    try:
        with open("/proc/self/maps", "rb") as lines:
            for line in lines:
                fields = line.rstrip(b"\n").split(None, 5)
                if len(fields) == 6 and fields[5] == wanted and fields[1].startswith(b"r-"):
                    start, _, end = fields[0].partition(b"-")
                    return int(start, 16), int(end, 16)
    except (OSError, ValueError):
        pass
    return None


@cache
def _madvise() -> ctypes._NamedFuncPointer | None:
    try:
        return ctypes.CDLL(None).madvise
    except (AttributeError, OSError, TypeError):
        return None
