"""A process that keeps its freed memory touches the same pages again."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import resource
from dedupstore.engine.allocator import keep_freed_memory

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

kept = keep_freed_memory()
for size in (2, 33):
    bytes(bytearray(size << 20))
before = faults()
for _ in range(10):
    bytes(bytearray(33 << 20))
    bytes(bytearray(2 << 20))
print(int(kept), faults() - before)
"""


def test_large_pieces_of_memory_are_used_again() -> None:
    done = subprocess.run((sys.executable, "-c", PROGRAM), capture_output=True, text=True, check=True)

    kept, faults = map(int, done.stdout.split())
    if not kept:
        pytest.skip("the C library has no such setting")
    # Pages of 4 KiB: 70 MiB ten times would be 179 200.
    assert faults < 20_000
