"""How long a look at what would be forgotten takes: `python -m benchmarks.forgetting [--snapshots 1000]`.

The records are made by the program's own code, one an hour; then `dedup forget --dry-run` runs as a process of its own,
start-up and key derivation included. Prints one JSON row.
"""

from __future__ import annotations

import argparse
import sys
import uuid
from dataclasses import replace
from pathlib import Path
from statistics import median

from benchmarks.bounded_memory import Runs
from benchmarks.standalone import Row, add_options, measure
from benchmarks.synthetic import TIME_NS, fill
from dedupstore.repo.config import Operation
from dedupstore.types import SnapshotId

LIMIT_SECONDS = 1.0
HOUR_NS = 3600 * 10**9
KEEP = ("--keep-hourly", "24", "--keep-daily", "14", "--keep-weekly", "8", "--keep-monthly", "12")


def run(snapshots: int, rounds: int, work: Path) -> Row:
    runs = Runs(work)
    with runs.open(Operation.WRITE) as repository:
        first, second = fill(repository, 1000)
        for number in range(2, snapshots):
            time_ns = TIME_NS + number * HOUR_NS
            identifier = SnapshotId(uuid.uuid4().bytes)
            record = replace(first, id=identifier, start_ns=time_ns, end_ns=time_ns, parent=second.id)
            repository.catalog.put_commit(identifier, repository.catalog.put_root(record), time_ns)
    seconds = []
    for _ in range(rounds):
        figures = runs.command("forget", "-r", str(runs.place.repository), *KEEP, "--dry-run")
        seconds.append(float(str(figures["wall_seconds"])))
    return {
        "benchmark": "forget --dry-run",
        "snapshots": snapshots,
        "seconds": seconds,
        "kept": median(seconds) < LIMIT_SECONDS,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure forget --dry-run over many snapshots.")
    parser.add_argument("--snapshots", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    add_options(parser)
    arguments = parser.parse_args()
    return measure(arguments, lambda work: [run(arguments.snapshots, arguments.rounds, work)])


if __name__ == "__main__":
    sys.exit(main())
