"""How fast a tree is read through a mount: `python -m benchmarks.mount TREE [--rounds 3]`, as root.

Stores the tree with dedup and, when it is there, restic; mounts, reads every file once by `tar`, unmounts; the tools take
turns. Prints one JSON row: seconds a round by tool, and whether dedup was at least as fast.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.standalone import Row, add_options, measure

DEDUP = os.environ.get("DEDUP") or str(Path(sys.executable).with_name("dedup"))
PATIENCE_SECONDS = 600


def commands(tool: str, tree: Path, mountpoint: Path) -> tuple[list[list[str]], list[str], Path]:
    """What stores the tree, what mounts it, and where the tree is then."""
    if tool == "dedup":
        dedup = shlex.split(DEDUP)
        store = [[*dedup, "snapshot", str(tree), "--source", "tree", "--init", "-q"]]
        return store, [*dedup, "mount", str(mountpoint), "--source", "tree"], mountpoint / tree.name
    store = [["restic", "init", "-q"], ["restic", "backup", "-q", str(tree)]]
    return store, ["restic", "mount", str(mountpoint)], mountpoint / "snapshots" / "latest" / tree.relative_to("/")


def read_mounted(mount: list[str], mountpoint: Path, place: Path, environment: dict[str, str]) -> tuple[float, int]:
    """Seconds and bytes of one reading."""
    log = mountpoint.with_suffix(".log")
    with log.open("w") as stream:
        process = subprocess.Popen(mount, env=environment, stdout=stream, stderr=stream)
    try:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not os.path.ismount(mountpoint):
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"{mount[0]} does not mount: {log.read_text(errors='replace')[-500:]}")
            time.sleep(0.05)
        started = time.perf_counter()
        count = 0
        with subprocess.Popen(["tar", "-cf", "-", "-C", str(place), "."], stdout=subprocess.PIPE) as reader:
            assert reader.stdout is not None
            while block := reader.stdout.read(1 << 20):
                count += len(block)
        seconds = time.perf_counter() - started
        if reader.returncode:
            raise SystemExit(f"the tree mounted by {mount[0]} could not be read")
        return seconds, count
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=PATIENCE_SECONDS)


def run(tree: Path, rounds: int, work: Path) -> Row:
    tools = [tool for tool in ("dedup", "restic") if tool == "dedup" or shutil.which("restic")]
    mountpoint = work / "mnt"
    mountpoint.mkdir()
    environment = os.environ | {
        "HOME": str(work), "DEDUP_REPO": str(work / "dedup"), "DEDUP_PASSPHRASE": "benchmark-of-mounts",
        "DEDUP_CACHE_DIR": str(work / "cache"), "RESTIC_REPOSITORY": str(work / "restic"),
        "RESTIC_PASSWORD": "benchmark-of-mounts", "RESTIC_CACHE_DIR": str(work / "restic-cache"),
    }  # fmt: skip
    for tool in tools:
        for command in commands(tool, tree, mountpoint)[0]:
            subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL, cwd=work)
    seconds: dict[str, list[float]] = {tool: [] for tool in tools}
    sizes = set()
    for number in range(rounds):
        for tool in tools[number % len(tools) :] + tools[: number % len(tools)]:
            _, mount, place = commands(tool, tree, mountpoint)
            took, count = read_mounted(mount, mountpoint, place, environment)
            seconds[tool].append(round(took, 2))
            sizes.add(count)
    if len(sizes) != 1:
        raise SystemExit(f"the tools gave trees of different sizes: {sorted(sizes)}")
    # The fastest of each: what slows them down here is other work on the same machine.
    kept = "restic" not in seconds or min(seconds["dedup"]) <= min(seconds["restic"])
    return {"benchmark": "mount", "tree": tree.name, "bytes": sizes.pop(), "seconds": seconds, "kept": kept}


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure reading through a mount.")
    parser.add_argument("tree", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    add_options(parser)
    arguments = parser.parse_args()
    return measure(arguments, lambda work: [run(arguments.tree.resolve(), arguments.rounds, work)])


if __name__ == "__main__":
    sys.exit(main())
