"""A mirror against a plain copy: `python -m benchmarks.mirroring TREE`.

A repository of TREE is copied by `dedup mirror --init`, which compares every object with its name and returns when all
of it is durable; and by `cp -a` followed by `sync` of everything it wrote, so that it has the same to do: not of the file
system, which would wait for what others have written, nor of nothing, which would end before a byte is on the disk. They
take turns, each into an empty place on the same disk, with the repository in the page cache. Prints one JSON row.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from benchmarks.bounded_memory import Runs
from benchmarks.measure import read_all, settle, size_of
from benchmarks.standalone import Row, add_options, measure
from benchmarks.tools import in_turn

LEAST_SHARE = 0.8
"""Of the speed of the copy."""


def run(tree: Path, rounds: int, work: Path) -> Row:
    runs = Runs(work, synthetic=False)
    source, target = runs.place.repository, work / "target"
    runs.command("snapshot", str(tree), "-r", str(source), "--progress", "none")
    mirror = (*runs.program, "mirror", "-r", str(source), "--to", str(target), "--init", "--progress", "none")
    sync = ("find", str(target), "-exec", "sync", "{}", "+")
    copy = in_turn(("cp", "-a", str(source), str(target)), sync)
    seconds: dict[str, list[float]] = {"mirror": [], "copy": []}
    commands = {"mirror": mirror, "copy": copy}
    for number in range(rounds):
        for name in list(commands)[:: -1 if number % 2 else 1]:
            settle(0.5)
            read_all(source)
            figures = runs.start(commands[name])
            seconds[name].append(float(str(figures["wall_seconds"])))
            if size_of(target) != size_of(source):
                raise SystemExit(f"{name} did not copy everything")
            shutil.rmtree(target)
    # The fastest of each: what slows them down here is other work on the same disk.
    share = min(seconds["copy"]) / min(seconds["mirror"])
    return {
        "benchmark": "mirror",
        "tree": tree.name,
        "bytes": size_of(source)[1],
        "seconds": seconds,
        "share_of_copy": round(share, 2),
        "kept": share >= LEAST_SHARE,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure a mirror against a plain copy.")
    parser.add_argument("tree", type=Path)
    parser.add_argument("--rounds", type=int, default=4)
    add_options(parser)
    arguments = parser.parse_args()
    return measure(arguments, lambda work: [run(arguments.tree.resolve(), arguments.rounds, work)])


if __name__ == "__main__":
    sys.exit(main())
