"""The protocol of snapshots and prunes in every interleaving; and that no rule of it can be left out.

The world is small: one or two chunks, a base or two, up to six processes. Each row is explored completely. A row of
MUST_FAIL leaves one rule out, and has to lose a chunk: a rule whose absence harms nobody would be none, and a model in
which nothing can go wrong would prove nothing.
"""

from __future__ import annotations

import re

import pytest

from tests.protocol.pruners import Checker, Forgetter, Marker, Sweeper
from tests.protocol.world import Exploration, Process, State, World, explore
from tests.protocol.writers import HastyWriter, Writer
from tests.support import evidence

FAST = """
delta | | pb, pc | 2
delta | | any | 1 | root is gone
one pack | | all, any | 1
copies | | pc, pf | 2
two bases | | pa p1, pb p2 | 1
deep | | pb, pa | 2
crossed | | pb, pc | 2
blocks | | pb, pc | 1
blocks | d | pb, pc | 1
delta | c/b | pb, pc | 1
delta | c | pb, pc | 1 | root is gone
delta | c/b | pb, pc | 1 | all forgotten
deep | c | pb, pc | 1 | all forgotten
flat | c/b! | pb, pc | 1
flat | bc/b | pb | 1 | all forgotten; root is gone
flat | c, c | pc | 1 | all forgotten; root is gone
flat | d/b | pb, w0 | 1 | root is gone
delta | c/b | all | 1 | all forgotten; root is gone
flat | c/b! | pb, pc | 1 | roots last
shared | hasty c | pb | 1
shared | hasty b | pb | 1
shared | hasty c | all | 1
flat | hasty b | pb | 1 | acknowledged
flat | hasty b | pb | 1 | acknowledged; pruned before
shared | hasty c | pb | 1 | acknowledged; pruned before
shared | hasty c | pb | 1 | pruned by a later record
flat | hasty b | pb | 1 | acknowledged; pruned by a later record; pruned before
twice | | any | 1 | rotten p2; known
copies | | pb, pc | 2 | rotten pf; known
base twice | | pb, pB | 2 | rotten pB; known
twice | c | p1, p2 | 1 | all forgotten; root is gone; rotten p2
base twice | c | pb | 1 | all forgotten; root is gone; rotten pB
twice | hasty c | p1 | 1 | rotten p2
twice | hasty b | p1 | 1 | all forgotten; root is gone; rotten pb
base twice | hasty b | pb | 1 | acknowledged; rotten pB
"""

SLOW = """
delta | | all, all | 2
delta | | any, any | 2 | root is gone
delta | | pb, pc | 3 | root is gone
one pack | | all, any | 2
two bases | | pa p1, pb p2 | 2
blocks | | pb, pc | 2
shared | hasty c | pb, all | 1 | acknowledged
shared | hasty c | pb, pm | 1 | pruned by a later record; pruned before
copies | | any, any | 1
two bases | | any, any | 1
delta | c | pb, pc | 2 | root is gone
delta | d/b | pb, w0 | 2 | root is gone
delta | c/b | all | 2 | all forgotten; root is gone
flat | c/b! | pb, pc | 2
flat | c/b! | pb, pc w0 | 2 | root is gone
flat | c/b!, c | pb, pc | 1 | all forgotten; root is gone
shared | hasty c | pb | 2 | acknowledged; pruned before
shared | hasty c, hasty b | pb | 1 | acknowledged
flat | hasty b, c/b! | pb | 1 | acknowledged
copies | | any, any | 1 | rotten pf; known
base twice | c/b | pb, pB | 1 | rotten pB
twice | hasty c | p1, p2 | 1 | acknowledged; rotten p2; known
"""

MUST_FAIL = """
delta | c | pb | 1 | all forgotten; no look at W5
delta | c | all | 1 | all forgotten; look before root
delta | c | all | 1 | all forgotten; no LIST packs at W5
delta | c | pb | 1 | all forgotten; bases do not count
deep | c | pb | 1 | all forgotten; bases of bases count
flat | d/b | pb, w0 | 1 | no second look
delta | c | pb, pc | 1 | all forgotten; no second look
delta | c | all | 1 | all forgotten; names are used again
delta | | pb | 1 | bases may go
delta | | pb, pc | 2 | only safe packs depend
deep | | pb | 1 | a base may be a delta
crossed | | pb, pc | 1 | a base may be a delta; chains of deltas
deep | | pb | 1 | a base may become a delta
flat | | pb, pc | 2 | new references
copies | | pc, pf | 2 | only own plans
copies | | pc, pf | 2 | no LIST packs at E3
flat | c/b! | pb, pc | 2 | root is gone; gc before index
delta | | pb, pc | 2 | no second index
flat | c/b! | pb, pc w0 | 2 | root is gone; moved without bases
flat | c/b! | pb, pc w0 | 2 | root is gone; moved though unindexed
delta | c | all, all | 1 | all forgotten; root is gone; unindexed packs are passed over
delta | c | all | 1 | all forgotten; plan first
delta | c | all | 2 | all forgotten; plans are taken back
shared | hasty c | pb | 1 | pruned is as good as never
flat | hasty b | pb | 1 | pruned before; packs may go
flat | hasty b | pb | 1 | acknowledged; pruned before; parent not looked at again
shared | hasty c | pb | 1 | pruned by a later record; the first prune is like any
twice | | p1 | 1 | rotten p2; known; bad copies count at E4
base twice | | pb | 1 | rotten pB; known; bad copies count at E4
twice | c | p1 | 1 | all forgotten; root is gone; rotten p2; bad copies count at W5
twice | hasty b | p1 | 1 | all forgotten; root is gone; rotten pb; the short cut goes past damage
"""

MUST_OCCUR = (
    "all is there", "stored again deltas", "stored again in full", "all is safe", "E5 GET: gone", "E4 moves full c",
    "E4 moves full b$", r"E4 moves .*delta\(b\)", "E4 nothing moves", "not all indexed", "W5 untouched",
    "W5 stores again", "W5 gives up", "PUT bad",
)  # fmt: skip


def run(row: str) -> Exploration:
    """`scene | writers | markers | sweepers | options`; a writer is WANT/BASES, with `!` if it crashes before W4."""
    scene, writers, markers, sweepers, *rest = (part.strip() for part in row.split("|"))
    options = frozenset(part.strip() for part in (rest[0] if rest else "").split(";") if part.strip())
    world = World(scene, options)
    processes: list[tuple[str, Process]] = []
    if world.snapshots[0]:
        processes.append(("forget", Forgetter(world)))
    if world.rotten and "known" not in options:
        processes.append(("check", Checker(world)))
    for number, spec in enumerate(filter(None, (part.strip() for part in writers.split(",")))):
        if spec.startswith("hasty "):
            processes.append((f"writer {number}", HastyWriter(world, f"w{number}", spec.removeprefix("hasty "))))
        else:
            want, _, bases = spec.rstrip("!").partition("/")
            writer = Writer(world, f"w{number}", want, bases, crashes=spec.endswith("!"))
            processes.append((f"writer {number}", writer))
    condemning = [part.strip() for part in markers.split(",")]
    processes += [(f"marker {number}", Marker(world, number, packs)) for number, packs in enumerate(condemning)]
    alike_from = len(processes)
    processes += [("sweeper", Sweeper(world))] * int(sweepers)
    roots = bool(world.snapshots[0]) | bool(world.snapshots[1]) << 1
    start = State(
        packs=world.at_first,
        born=world.at_first,
        index=world.at_first,
        roots=roots,
        acked=roots if "acknowledged" in options else roots & 2,
        done=PRUNED_LONG_AGO if "pruned before" in options else 0,
        plans=(None,) * len(condemning),
        bad=world.rotten if "known" in options else 0,
        locals=tuple(process.start for _, process in processes),  # type: ignore[attr-defined]
    )
    found = explore(world, start, processes, alike_from=alike_from)
    evidence.count(evidence.PROTOCOL, found.states)
    return found


def rows(table: str) -> list[str]:
    return [line for line in table.splitlines() if line]


PRUNED_LONG_AGO = 1 << 60
"""A pack of which nothing is left but a record."""

occurred: dict[str, set[str]] = {}
"""By row: the labels of what happened in it, as far as this process has run it."""


@pytest.mark.parametrize("row", rows(FAST))
def test_no_interleaving_loses_a_chunk(row: str) -> None:
    found = run(row)

    occurred[row] = set(found.labels)
    assert not found.lost, "\n".join(found.trace)
    assert found.states > 50


@pytest.mark.slow
@pytest.mark.parametrize("row", rows(SLOW))
def test_no_interleaving_of_many_loses_a_chunk(row: str) -> None:
    found = run(row)

    assert not found.lost, "\n".join(found.trace)
    assert found.states > 1_000


@pytest.mark.parametrize("row", rows(MUST_FAIL))
def test_no_rule_can_be_left_out(row: str) -> None:
    found = run(row)

    assert found.lost, f"{found.states} states, and nothing was lost"


def test_everything_that_can_happen_does_in_these_worlds() -> None:
    """Else the rows above would prove nothing about it. Takes the labels of those that ran here, and runs the others."""
    missing = list(MUST_OCCUR)
    for row in sorted(rows(FAST), key=lambda row: row not in occurred):
        labels = occurred[row] if row in occurred else run(row).labels
        missing = [text for text in missing if not any(re.search(text, label) for label in labels)]
        if not missing:
            break

    assert missing == []
