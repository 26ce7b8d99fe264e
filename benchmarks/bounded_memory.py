"""What commands need in a repository of many chunks: `python -m benchmarks.bounded_memory [--chunks 10M]`.

The repository is a synthetic one (synthetic.py). Every command runs as a process of its own, on its defaults, and its
peak is what the kernel says: `ru_maxrss`, mapped pages of the local index included. Prints one JSON row a command.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.index import parse_count
from benchmarks.measure import Pipeline, run_pipeline, size_of
from benchmarks.standalone import Row, add_options, measure
from benchmarks.synthetic import BLOCK_BYTES, PACK_BYTES, fill
from benchmarks.tools import PASSPHRASE, Dedup, Place, base_environment, dedup_program
from dedupstore.chunking.params import ChunkerParams
from dedupstore.clock import SystemClock
from dedupstore.repo.config import Operation
from dedupstore.repo.repository import InitOptions, Repository
from dedupstore.repo.slots import Secret
from dedupstore.storage.registry import create_store, open_store
from dedupstore.types import SnapshotId
from dedupstore.units import format_id

LIMIT_BYTES = 512_000_000
TIMEOUT_SECONDS = 4 * 3600.0
STEPS = ("check", "restore", "snapshot", "again", "prune", "check-data", "copy")


class Runs:
    """Commands over one repository: for what `fill` makes, or, unless `synthetic`, an ordinary one."""

    def __init__(self, work: Path, *, synthetic: bool = True) -> None:
        self.place = Place(root=work)
        self.place.clear()
        self._tool = Dedup(dedup_program())
        self.program = self._tool.program
        self._environment = base_environment(self.place) | dict(self._tool.environment(self.place))
        self._environment["DEDUP_TO_PASSPHRASE"] = PASSPHRASE
        self._copies = work / "copies"
        if synthetic:
            self._init(self.place.repository)
        else:
            self.command("init", "-r", str(self.place.repository), "--no-input")

    def open(self, operation: Operation) -> Repository:
        """The repository, for code of this process."""
        store = open_store(str(self.place.repository))
        secret = Secret.passphrase(PASSPHRASE)
        return Repository.open(store, secret, clock=SystemClock(), cache_path=None, operation=operation)

    def fill(self, chunks: int) -> SnapshotId:
        """Fill the repository, and make an empty one to copy to; the first of two snapshots."""
        self._init(self._copies)
        with self.open(Operation.WRITE) as repository:
            return fill(repository, chunks)[0].id

    def _init(self, place: Path) -> None:
        """As `dedup init`, but with blocks and packs that are full at as many chunks as real ones are."""
        options = InitOptions(
            chunker=ChunkerParams.for_average(64 << 10), block_bytes=BLOCK_BYTES, pack_bytes=PACK_BYTES
        )
        store, secret = create_store(str(place)), Secret.passphrase(PASSPHRASE)
        Repository.create(store, secret, options, clock=SystemClock(), cache_path=None)[0].close()

    def measure(self, step: str, first: SnapshotId) -> Row:
        repository = ("-r", str(self.place.repository))
        quiet = (*repository, "--progress", "none")
        restored = str(self.place.target)
        if step == "prune":
            # Not measured: it looks at records alone.
            self.command("forget", format_id(first), *repository, "--yes")
        arguments = {
            "check": ("check", *quiet),
            "restore": ("restore", "--snapshot", format_id(first), *quiet, "--to", restored),
            "snapshot": ("snapshot", restored, *quiet),
            "again": ("snapshot", restored, *quiet),
            "prune": ("prune", *quiet, "--grace", "0", "--undo-window", "0"),
            "check-data": ("check", "--read-data", *quiet),
            "copy": ("copy", *quiet, "--to", str(self._copies)),
        }[step]
        return self.command(*arguments)

    def command(self, *arguments: str) -> Row:
        """Run dedup; what it used. Raises CommandFailed."""
        return self.start((*self.program, *arguments))

    def start(self, argv: tuple[str, ...]) -> Row:
        """As `command`, for any program."""
        usage = run_pipeline(
            Pipeline(commands=(argv,), cwd=self.place.root),
            environment=self._environment,
            log=self.place.log,
            timeout_seconds=TIMEOUT_SECONDS,
        )
        return {
            "peak_rss_bytes": usage.peak_rss_bytes,
            "wall_seconds": round(usage.wall_seconds, 3),
            "processor_seconds": round(usage.user_seconds + usage.system_seconds, 1),
        }


def run(chunks: int, work: Path, steps: list[str]) -> Iterator[Row]:
    """One row a step, each with whether it kept within the limit."""
    runs = Runs(work)
    began = time.perf_counter()
    first = runs.fill(chunks)
    files, length = size_of(runs.place.repository)
    print(f"{files} objects, {length / 1e6:.0f} MB, made in {time.perf_counter() - began:.0f} s", file=sys.stderr)
    for step in STEPS:
        if step in steps:
            figures = runs.measure(step, first)
            kept = int(str(figures["peak_rss_bytes"])) <= LIMIT_BYTES
            yield {"benchmark": "bounded memory", "chunks": chunks, "step": step, **figures, "kept": kept}


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure the memory of commands in a repository of many chunks.")
    parser.add_argument("--chunks", type=parse_count, default=10_000_000, help="such as 100k or 10M (default)")
    parser.add_argument("--only", default=",".join(STEPS), help="steps, separated by commas: %(default)s")
    add_options(parser)
    arguments = parser.parse_args()
    return measure(arguments, lambda work: run(arguments.chunks, work, arguments.only.split(",")))


if __name__ == "__main__":
    sys.exit(main())
