"""What benchmarks that are no workload of a run share: a folder to work in, and rows that can stand alone."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from benchmarks.machine import about_this_run

Row = dict[str, object]


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--work", type=Path, help="where everything happens (default: a temporary folder)")
    parser.add_argument("--results", type=Path, help="append the rows to this JSON-lines file")


def measure(options: argparse.Namespace, run: Callable[[Path], Iterable[Row]]) -> int:
    """Print each row as soon as it is measured, with date, commit and machine; 1 when one is not `kept`."""
    work = Path(tempfile.mkdtemp(prefix="dedup-benchmark-", dir=options.work))
    about = about_this_run()
    kept = True
    try:
        for row in run(work):
            line = json.dumps({**row, **about})
            print(line, flush=True)
            kept = kept and bool(row["kept"])
            if options.results is not None:
                with options.results.open("a", encoding="utf-8") as file:
                    file.write(line + os.linesep)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return 0 if kept else 1
