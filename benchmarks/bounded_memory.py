"""What commands need in a repository of many chunks: `python -m benchmarks.bounded_memory [--chunks 10M]`.

The repository is a synthetic one (synthetic.py). Every command runs as a process of its own, on its defaults, and its
peak is what the kernel says: `ru_maxrss`, mapped pages of the local index included. Prints one JSON row a command.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.index import parse_count
from benchmarks.machine import commit, describe_machine
from benchmarks.measure import Pipeline, run_pipeline, size_of
from benchmarks.synthetic import fill
from benchmarks.tools import PASSPHRASE, Dedup, Place, base_environment, dedup_program
from dedupstore.clock import SystemClock
from dedupstore.repo.config import Operation
from dedupstore.repo.repository import Repository
from dedupstore.repo.slots import Secret
from dedupstore.storage.registry import open_store
from dedupstore.types import SnapshotId
from dedupstore.units import format_id

LIMIT_BYTES = 512_000_000
TIMEOUT_SECONDS = 4 * 3600.0
STEPS = ("check", "restore", "snapshot", "again", "prune", "check-data", "copy")


class Runs:
    """Commands over one synthetic repository."""

    def __init__(self, work: Path) -> None:
        self.place = Place(root=work)
        self.place.clear()
        self._tool = Dedup(dedup_program())
        self._environment = base_environment(self.place) | dict(self._tool.environment(self.place))
        self._environment["DEDUP_TO_PASSPHRASE"] = PASSPHRASE
        self._copies = work / "copies"

    def fill(self, chunks: int) -> SnapshotId:
        """Make the repository, and an empty one to copy to; the first of two snapshots."""
        self._run("init", "-r", str(self.place.repository), "--no-input")
        self._run("init", "-r", str(self._copies), "--no-input")
        store = open_store(str(self.place.repository))
        secret = Secret.passphrase(PASSPHRASE)
        with Repository.open(
            store, secret, clock=SystemClock(), cache_path=None, operation=Operation.WRITE
        ) as repository:
            return fill(repository, chunks)[0].id

    def measure(self, step: str, first: SnapshotId) -> dict[str, object]:
        repository = ("-r", str(self.place.repository))
        quiet = (*repository, "--progress", "none")
        restored = str(self.place.target)
        if step == "prune":
            # Not measured: it looks at records alone.
            self._run("forget", format_id(first), *repository, "--yes")
        arguments = {
            "check": ("check", *quiet),
            "restore": ("restore", "--snapshot", format_id(first), *quiet, "--to", restored),
            "snapshot": ("snapshot", restored, *quiet),
            "again": ("snapshot", restored, *quiet),
            "prune": ("prune", *quiet, "--grace", "0", "--undo-window", "0"),
            "check-data": ("check", "--read-data", *quiet),
            "copy": ("copy", *quiet, "--to", str(self._copies)),
        }[step]
        return self._run(*arguments)

    def _run(self, *arguments: str) -> dict[str, object]:
        argv = (*self._tool.program, *arguments)
        usage = run_pipeline(
            Pipeline(commands=(argv,), cwd=self.place.root),
            environment=self._environment,
            log=self.place.log,
            timeout_seconds=TIMEOUT_SECONDS,
        )
        return {
            "peak_rss_bytes": usage.peak_rss_bytes,
            "wall_seconds": round(usage.wall_seconds, 1),
            "processor_seconds": round(usage.user_seconds + usage.system_seconds, 1),
        }


def run(chunks: int, work: Path, steps: list[str]) -> Iterator[dict[str, object]]:
    """One row a step, each with whether it kept within the limit."""
    runs = Runs(work)
    began = time.perf_counter()
    first = runs.fill(chunks)
    files, length = size_of(runs.place.repository)
    print(f"{files} objects, {length / 1e6:.0f} MB, made in {time.perf_counter() - began:.0f} s", file=sys.stderr)
    about = {"date": datetime.now(UTC).date().isoformat(), "commit": commit(), **describe_machine()}
    for step in STEPS:
        if step in steps:
            figures = runs.measure(step, first)
            kept = int(str(figures["peak_rss_bytes"])) <= LIMIT_BYTES
            yield {"benchmark": "bounded memory", "chunks": chunks, "step": step, **figures, "kept": kept, **about}


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure the memory of commands in a repository of many chunks.")
    parser.add_argument("--chunks", type=parse_count, default=10_000_000, help="such as 100k or 10M (default)")
    parser.add_argument("--only", default=",".join(STEPS), help="steps, separated by commas: %(default)s")
    parser.add_argument("--work", type=Path, help="where everything happens (default: a temporary folder)")
    parser.add_argument("--results", type=Path, help="append the rows to this JSON-lines file")
    arguments = parser.parse_args()
    work = Path(tempfile.mkdtemp(prefix="dedup-benchmark-", dir=arguments.work))
    kept = True
    try:
        for row in run(arguments.chunks, work, arguments.only.split(",")):
            line = json.dumps(row)
            print(line, flush=True)
            kept = kept and bool(row["kept"])
            if arguments.results is not None:
                with arguments.results.open("a", encoding="utf-8") as file:
                    file.write(line + os.linesep)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
