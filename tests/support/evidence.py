"""What the tests went through, for the report at the end of a run: states explored, faults injected, kills survived.

The tools that inject and explore count here themselves, so no test has to think of it.
"""

from __future__ import annotations

from collections import Counter

FAULTS = "faults injected into store operations"
CRASHES = "crash states of recorded disks"
PROTOCOL = "states of the protocol model"
STEPS = "steps of the state machine"
KILLS = "processes killed"
STOPS = "processes stopped and continued"
ACTIONS = "snapshots, prunes, checks, restores and more, of many processes"

ORDER = (PROTOCOL, STEPS, FAULTS, CRASHES, KILLS, STOPS, ACTIONS)

counts: Counter[str] = Counter()


def count(what: str, many: int = 1) -> None:
    counts[what] += many


def report() -> list[str]:
    """One line each, of what was counted at all."""
    return [f"{counts[what]:>10,} {what}".replace(",", " ") for what in ORDER if counts[what]]
