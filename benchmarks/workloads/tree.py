"""A Linux source tree, and the same directory one release later."""

from pathlib import Path

from benchmarks.data import Bench, DataSet, make_kernels, prepare
from benchmarks.generate import make_tree
from benchmarks.tools import Action
from benchmarks.workloads.base import DEDUPLICATING, MEMORY_LIMIT, Figure, Limit, Panel, Step, Workload, show

SMALL_FILES = 400


def prepare_tree(bench: Bench) -> DataSet:
    """Linux 6.1.170 and 6.1.192; at small scale a made-up tree, which needs no download."""
    if not bench.full:
        return prepare(bench, "tree", "tree", SMALL_FILES, lambda root: make_tree(root, files=SMALL_FILES))

    def make(root: Path) -> tuple[str, ...]:
        return make_kernels(bench.work, root)

    return prepare(bench, "tree", "tree", "linux", make)


TREE = Workload(
    name="tree",
    title="Linux 6.1 source tree",
    prepare=prepare_tree,
    steps=(
        Step(
            name="first",
            title="first snapshot",
            action=Action.SNAPSHOT,
            tools=(*DEDUPLICATING, "tar"),
            arrange=show(0),
        ),
        Step(name="again", title="same tree again, unchanged", action=Action.SNAPSHOT),
        Step(
            name="restore",
            title="restore",
            action=Action.RESTORE,
            tools=(*DEDUPLICATING, "tar", "cp"),
        ),
        Step(name="next", title="next release, other times", action=Action.SNAPSHOT, arrange=show(1)),
        Step(name="restore-next", title="restore of the next release", action=Action.RESTORE),
        Step(name="check", title="check, all data read", action=Action.CHECK),
    ),
    limits=(
        Limit(step="first", figure=Figure.WALL, peer="restic", factor=0.5),
        Limit(step="first", figure=Figure.WALL, peer="borg", factor=0.4),
        Limit(step="first", figure=Figure.WALL, peer="tar", factor=1.0),
        Limit(step="first", figure=Figure.STORED, peer="tar", factor=1.05),
        Limit(step="again", figure=Figure.WALL, peer="restic", factor=0.3),
        Limit(step="next", figure=Figure.ADDED, peer="restic", factor=1 / 25),
        Limit(step="next", figure=Figure.WALL, peer="restic", factor=0.6),
        Limit(step="restore", figure=Figure.WALL, peer="restic", factor=1.0),
        Limit(step="restore", figure=Figure.WALL, peer="cp", factor=1.3),
        Limit(step="check", figure=Figure.WALL, peer="restic", factor=0.5),
        MEMORY_LIMIT,
    ),
    panels=(
        Panel(step="first", figure=Figure.WALL, title="Linux tree, first snapshot"),
        Panel(step="first", figure=Figure.STORED, title="Linux tree, stored"),
        Panel(step="again", figure=Figure.WALL, title="Linux tree again, unchanged"),
        Panel(step="next", figure=Figure.ADDED, title="Next release, added"),
        Panel(step="next", figure=Figure.WALL, title="Next release"),
        Panel(step="restore", figure=Figure.WALL, title="Linux tree, restore"),
    ),
)
