"""How fast the chunker cuts, beside PyPI's pyfastcdc in the same run on the same bytes.

    python -m benchmarks.chunker [--mebibytes 256] [--rounds 5]

Rounds alternate between the cutters and the best of each counts, so a busy machine hurts all alike.
"""

from __future__ import annotations

import argparse
import importlib
import os
import time
from collections.abc import Callable
from typing import NamedTuple

from dedupstore.chunking import kernel, reference
from dedupstore.chunking.params import ChunkerParams
from dedupstore.units import KIB, MIB

TABLE = os.urandom(reference.TABLE_SIZE)


class Cutter(NamedTuple):
    name: str
    chunks_of: Callable[[bytes], int]


def ours(average: int, page_size: int = 0) -> list[Cutter]:
    """One cutter for each path of the kernel, or the reference where there is no kernel."""
    rule = ChunkerParams.for_average(average).rule(page_size)

    def cutter(name: str, gear: kernel.Gear) -> Cutter:
        return Cutter(name, lambda data: len(gear.cuts(data, len(data), rule, True)))

    if kernel.implementation() == "python":
        return [cutter("reference", reference.Gear(TABLE))]
    suffix = f", pages of {page_size}" if page_size else ""
    module = importlib.import_module("dedupstore.chunking._gear")
    paths = module.PATHS[:1] if page_size else module.PATHS
    return [cutter(f"kernel {path}{suffix}", module.Gear(TABLE, path=path)) for path in paths]


def pyfastcdc(average: int) -> list[Cutter]:
    try:
        module = importlib.import_module("pyfastcdc")
    except ImportError:
        return []
    peer = module.FastCDC(average)
    return [Cutter("pyfastcdc", lambda data: sum(1 for _ in peer.cut_buf(data)))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--mebibytes", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    data = os.urandom(options.mebibytes * MIB)
    for average in (16 * KIB, 64 * KIB, MIB):
        cutters = ours(average) + ours(average, 4096) + pyfastcdc(average)
        best = dict.fromkeys(cutters, float("inf"))
        counts = dict.fromkeys(cutters, 0)
        for _ in range(options.rounds):
            for cutter in cutters:
                start = time.perf_counter()
                counts[cutter] = cutter.chunks_of(data)
                best[cutter] = min(best[cutter], time.perf_counter() - start)
        print(f"average {average // KIB} KiB")
        for cutter in cutters:
            speed = len(data) / best[cutter] / 1e9
            print(f"  {cutter.name:30} {speed:6.2f} GB/s   mean chunk {len(data) / counts[cutter] / KIB:8.1f} KiB")


if __name__ == "__main__":
    main()
