"""A process that copies or mirrors, and kills itself before or after one operation on the target.

Usage: python -m tests.support.replica_process copy|mirror SOURCE TARGET CACHE NUMBER before|after
Prints how many operations there were, when it lives to the end.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from dedupstore.storage.local import LocalStore
from tests.support.faults import FaultyStore, Step
from tests.support.replicating import run_copy, run_mirror

ROOT = Path(__file__).parents[2]


def run_killed(way: str, source: Path, target: Path, cache: Path, number: int, moment: str) -> int | None:
    """How many operations there were; None when it was killed."""
    command = [sys.executable, "-m", "tests.support.replica_process", way, source, target, cache, str(number), moment]
    ended = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    if ended.returncode == -signal.SIGKILL:
        return None
    assert ended.returncode == 0
    return int(ended.stdout)


def main() -> None:
    way, source, target, cache, number, moment = sys.argv[1:]

    def die(step: Step) -> None:
        if step.number == int(number) and step.done == (moment == "after"):
            os.kill(os.getpid(), signal.SIGKILL)

    store = FaultyStore(LocalStore(target), hook=die)
    if way == "mirror":
        run_mirror(LocalStore(source), store)
    else:
        run_copy(LocalStore(source), store, cache=Path(cache))
    sys.stdout.write(str(store.operations))


if __name__ == "__main__":
    main()
