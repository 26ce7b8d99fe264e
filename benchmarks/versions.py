"""How fast `find` and `history` answer, and what their table takes: `python -m benchmarks.versions [--paths 1M]`.

Synthetic: a tree of so many paths, a hundred snapshots, one path in a hundred changed in each; learned as the program
learns them, without reading manifests. Prints one JSON row.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

from benchmarks.index import anonymous_memory_bytes, parse_count, peak_memory_bytes
from benchmarks.machine import describe_machine
from dedupstore.cancel import CancelToken
from dedupstore.engine.find import Wanted, find
from dedupstore.engine.versions import Timeline
from dedupstore.model.snapshot import Snapshot
from dedupstore.repo.lmdb_versions import PATHS_PER_STEP, VersionTable, open_versions
from dedupstore.repo.versions import Version
from dedupstore.types import ChunkId, RepositoryId, SnapshotId

REPOSITORY = RepositoryId(bytes(16))
KEY = bytes(32)
LOOKUPS = 200
WORDS = [
    "image",
    "report",
    "invoice",
    "backup",
    "module",
    "index",
    "session",
    "upload",
    "header",
    "driver",
    "config",
    "kernel",
    "notes",
    "draft",
]
ENDINGS = ("txt", "jpg", "c", "h", "html", "sql", "log", "php")


def path_of(number: int) -> bytes:
    """A path of some 50 bytes; a hundred of them share a directory."""
    folder, rng = number // 100, random.Random(number)
    top = f"srv/site{folder % 10}/{WORDS[folder // 10 % len(WORDS)]}s/{folder // 200:04d}/{folder:06d}"
    return f"{top}/{rng.choice(WORDS)}-{number:07d}.{rng.choice(ENDINGS)}".encode()


def version_of(number: int, round_number: int) -> Version:
    rng = random.Random(number * 1000 + round_number)
    return Version("f", 0o644, 33, 33, rng.randrange(1 << 20), round_number * 10**9, rng.randbytes(8), bytes(4))


def synthetic_snapshot(number: int) -> Snapshot:
    return Snapshot(
        id=SnapshotId(number.to_bytes(16, "big")), run=bytes(16), source="site", kind="files", trigger="schedule",
        host="host", user="user", start_ns=number * 10**12, end_ns=number * 10**12, root=ChunkId(bytes(32)),
    )  # fmt: skip


def learn(table: VersionTable, paths: list[bytes], snapshots: list[Snapshot]) -> tuple[float, int]:
    """Seconds and events."""
    rng = random.Random(1)
    seconds = 0.0
    events = 0
    for position, snapshot in enumerate(snapshots):
        changed = range(len(paths)) if position == 0 else sorted(rng.sample(range(len(paths)), len(paths) // 100))
        number = table.begin()
        for start in range(0, len(changed), PATHS_PER_STEP):
            batch = [(paths[one], version_of(one, position)) for one in changed[start : start + PATHS_PER_STEP]]
            started = time.perf_counter()
            table.add(number, batch)
            seconds += time.perf_counter() - started
            events += len(batch)
        table.finish(snapshot.id, number, number - 1)
    return seconds, events


def timed(work: Callable[[], object]) -> float:
    """Milliseconds."""
    started = time.perf_counter()
    work()
    return round(1000 * (time.perf_counter() - started), 2)


def ask(folder: Path, paths: list[bytes], snapshots: list[Snapshot]) -> dict[str, object]:
    """Each question is put to a table that was just opened, as the command does it."""

    def history(path: bytes) -> None:
        found = with_table(folder, lambda table: list(Timeline(table, snapshots).versions(iter([path]))))
        if not found[0][1]:
            raise SystemExit("a path was not found")

    def search(wanted: Wanted) -> int:
        return with_table(
            folder, lambda table: sum(1 for _ in find(table, Timeline(table, snapshots), wanted, CancelToken()))
        )

    chosen = random.Random(2).sample(paths, min(LOOKUPS, len(paths)))
    lookups = sorted(timed(partial(history, path)) for path in chosen)
    row: dict[str, object] = {
        "history_median_ms": lookups[len(lookups) // 2],
        "history_worst_ms": lookups[-1],
    }
    last = paths[-1].rsplit(b"/", 1)[-1].decode()
    for name, wanted in (
        ("name", Wanted(pattern=last)),
        ("glob", Wanted(pattern=f"*{last[-13:]}")),
        ("ignore_case", Wanted(pattern=f"*{last[-13:].upper()}", ignore_case=True)),
        ("path", Wanted(pattern=f"srv/**/{last}")),
        ("many", Wanted(pattern="invoice-*.sql")),
    ):
        row[f"find_{name}_ms"] = timed(partial(search, wanted))
        row[f"find_{name}_paths"] = search(wanted)
    return row


Answer = TypeVar("Answer")


def with_table(folder: Path, work: Callable[[VersionTable], Answer]) -> Answer:
    table = open_versions(folder, REPOSITORY, KEY)
    try:
        return work(table)
    finally:
        table.close()


def run(count: int, snapshot_count: int, folder: Path) -> dict[str, object]:
    paths = [path_of(number) for number in range(count)]
    snapshots = [synthetic_snapshot(number) for number in range(snapshot_count)]
    before = anonymous_memory_bytes() or 0
    table = open_versions(folder, REPOSITORY, KEY)
    try:
        seconds, events = learn(table, paths, snapshots)
        size = os.stat(table.folder / "data.mdb").st_size
        grown = (anonymous_memory_bytes() or 0) - before
    finally:
        table.close()
    return {
        "benchmark": "versions",
        "paths": count,
        "snapshots": snapshot_count,
        "events": events,
        "events_per_second": round(events / seconds),
        "file_bytes": size,
        "memory_grown_bytes": grown,
        **ask(folder, paths, snapshots),
        "memory_peak_bytes": peak_memory_bytes(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure find and history.")
    parser.add_argument("--paths", type=parse_count, default=1_000_000, help="such as 1M (default)")
    parser.add_argument("--snapshots", type=int, default=100)
    parser.add_argument("--folder", type=Path, help="where to build it (default: a temporary folder)")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="dedup-benchmark-", dir=arguments.folder))
    try:
        print(json.dumps({**run(arguments.paths, arguments.snapshots, folder), **describe_machine()}))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
