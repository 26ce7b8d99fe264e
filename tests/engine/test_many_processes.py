"""Writers, pruners without any waiting time, checkers, restorers and mirrors at one repository, killed and stopped at random.

What was acknowledged restores, as long as nobody forgot it; no check in between finds anything; nothing needs a repair.
"""

from __future__ import annotations

import random
import signal
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from dedupstore.repo import layout
from dedupstore.storage.local import LocalStore
from tests.support import evidence
from tests.support.crowd_process import Child, Crowd, Ended
from tests.support.pruning import assert_comes_to_rest, assert_rebuilds, check
from tests.support.repositories import assert_restores, new_repository, open_repository
from tests.support.scenes import OPTIONS

SLOTS = {
    "writer": ["w0", "w1", "w2", "w3"], "forgetter": ["f0"], "undoer": ["u0"], "pruner": ["p0", "p1", "p2"],
    "checker": ["c0"], "restorer": ["r0", "r1"], "mirrorer": ["m0"],
}  # fmt: skip
WEIGHTS = {"writer": 8, "forgetter": 3, "undoer": 1, "pruner": 5, "checker": 1, "restorer": 3, "mirrorer": 1}
AT_ONCE = 6

EXCUSES = {
    "mirrorer": {"mirror.would_empty"},
    "writer": {"snapshot.chunks_lost"},
    "forgetter": {"refused.changed_meanwhile"},
    "undoer": {"snapshot.undo_too_late", "snapshot.not_forgotten"},
    "pruner": {"prune.restart", "prune.unreadable"},
}
"""What may fail because others were faster, and is right again at the next try."""


@dataclass
class Crowded:
    """A repository and what is known of it: acknowledged, and perhaps forgotten."""

    folder: Path
    acknowledged: set[str] = field(default_factory=set)
    going: set[str] = field(default_factory=set)
    ended: Counter[str] = field(default_factory=Counter)
    complaints: list[str] = field(default_factory=list)

    def note(self, ended: Ended) -> None:
        evidence.count(evidence.ACTIONS)
        self.ended[ended.role] += 1
        killed = ended.status == -signal.SIGKILL
        if killed:
            evidence.count(evidence.KILLS)
        elif ended.status:
            self.complaints.append(f"{ended.role} ended with status {ended.status}")
        for words in ended.said:
            if "done" in words:
                self.acknowledged.add(words["done"])
            self.going.update(words.get("going", ()))
            if words.get("found") or words.get("right") is False or words.get("mirrored", 0) not in (0, 3):
                self.complaints.append(f"{ended.role}: {ended.said}")
            if "failed" in words and words["failed"] not in EXCUSES.get(ended.role, ()):
                self.complaints.append(f"{ended.role}: {words}")


def live(crowded: Crowded, actions: int, seed: int) -> None:
    """So many things are done, a few at a time, some killed, some stopped for longer than others need."""
    chooser = random.Random(seed)
    stopped: dict[int, int] = {}
    with Crowd(crowded.folder) as crowd:
        for number in range(actions):
            while len(crowd.running) >= AT_ONCE:
                wake(crowd, stopped, number)
                crowded.note(crowd.wait())
            role = chooser.choices(list(WEIGHTS), weights=list(WEIGHTS.values()))[0]
            # Everybody may run twice on one machine, but a tree has one writer.
            free = [slot for slot in SLOTS[role] if (role, slot) not in crowd.running.values()]
            if free:
                for ended in crowd.start(role, chooser.choice(free), chooser.getrandbits(32)):
                    crowded.note(ended)
            for pid in list(crowd.running):
                if chooser.random() < 0.06:
                    crowd.signal(pid, signal.SIGKILL)
                elif pid not in stopped and chooser.random() < 0.06:
                    crowd.signal(pid, signal.SIGSTOP)
                    evidence.count(evidence.STOPS)
                    stopped[pid] = number + chooser.randrange(2, 40)
        while crowd.running:
            wake(crowd, stopped, actions + 40)
            crowded.note(crowd.wait())


def wake(crowd: Crowd, stopped: dict[int, int], number: int) -> None:
    """Continue those whose time has come, or all when nobody else is left to wait for."""
    everyone = crowd.running.keys() <= stopped.keys()
    for pid, until in list(stopped.items()):
        if everyone or number >= until or pid not in crowd.running:
            crowd.signal(pid, signal.SIGCONT)
            del stopped[pid]


def assert_all_is_well(crowded: Crowded) -> None:
    state = Child(crowded.folder, "", random.Random(), -1).state
    with open_repository(LocalStore(str(crowded.folder / "store"))) as repository:
        listing = repository.catalog.snapshots()
        assert not listing.damaged
        there = {snapshot.id.hex() for snapshot in listing.snapshots}
        assert crowded.acknowledged - crowded.going <= there
        for snapshot in listing.snapshots:
            assert_restores(repository, snapshot, state(snapshot.note))
        assert not [finding for finding in check(repository).findings if finding.severity != "note"]
        assert_rebuilds(repository)
        assert_comes_to_rest(repository)
        for snapshot in listing.snapshots:
            assert_restores(repository, snapshot, state(snapshot.note))
        assert not [finding for finding in check(repository).findings if finding.severity != "note"]
    if (crowded.folder / "mirror" / layout.FORMAT_KEY).exists():
        with open_repository(LocalStore(str(crowded.folder / "mirror"))) as repository:
            for snapshot in repository.catalog.snapshots().snapshots:
                assert_restores(repository, snapshot, state(snapshot.note))
    assert not crowded.complaints, "\n".join(crowded.complaints)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_crowd_of_killed_and_stopped_processes_loses_nothing_that_was_promised(tmp_path: Path, seed: int) -> None:
    (tmp_path / "states").mkdir()
    new_repository(LocalStore.create(str(tmp_path / "store")), options=OPTIONS).close()
    crowded = Crowded(tmp_path)

    live(crowded, actions=250, seed=seed)

    assert len(crowded.acknowledged) > 20
    assert all(crowded.ended[role] for role in WEIGHTS)
    assert_all_is_well(crowded)
