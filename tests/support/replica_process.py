"""A process that copies, mirrors or repairs, and kills itself before or after one operation on the target.

Usage: python -m tests.support.replica_process copy|mirror|packs|snapshots|parity SOURCE TARGET CACHE NUMBER before|after
The last three repair TARGET, the packs from the mirror SOURCE.
Prints how many operations there were, when it lives to the end.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from dedupstore.cancel import CancelToken
from dedupstore.engine.donors import MirrorDonor
from dedupstore.engine.parity import make_all_parity
from dedupstore.engine.repair_packs import repair_packs
from dedupstore.engine.repair_snapshots import repair_snapshots
from dedupstore.events import NullListener
from dedupstore.storage.base import ObjectStore
from dedupstore.storage.local import LocalStore
from tests.support.faults import FaultyStore, Step
from tests.support.replicating import run_copy, run_mirror
from tests.support.repositories import open_repository

ROOT = Path(__file__).parents[2]


def run_killed(way: str, source: Path, target: Path, cache: Path, number: int, moment: str) -> int | None:
    """How many operations there were; None when it was killed."""
    command = [sys.executable, "-m", "tests.support.replica_process", way, source, target, cache, str(number), moment]
    ended = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    if ended.returncode == -signal.SIGKILL:
        return None
    assert ended.returncode == 0
    return int(ended.stdout)


def run_repair(way: str, mirror: ObjectStore, store: ObjectStore) -> None:
    with open_repository(store) as repository:
        if way == "packs":
            donor = MirrorDonor(repository, mirror)
            repair_packs(repository, mirror=donor, listener=NullListener(), cancel=CancelToken())
            donor.close()
        elif way == "snapshots":
            repair_snapshots(repository, listener=NullListener(), cancel=CancelToken())
        else:
            make_all_parity(repository, dry_run=False, listener=NullListener(), cancel=CancelToken())


def main() -> None:
    way, source, target, cache, number, moment = sys.argv[1:]

    def die(step: Step) -> None:
        if step.number == int(number) and step.done == (moment == "after"):
            os.kill(os.getpid(), signal.SIGKILL)

    store = FaultyStore(LocalStore(target), hook=die)
    if way == "mirror":
        run_mirror(LocalStore(source), store)
    elif way == "copy":
        run_copy(LocalStore(source), store, cache=Path(cache))
    else:
        run_repair(way, LocalStore(source), store)
    sys.stdout.write(str(store.operations))


if __name__ == "__main__":
    main()
