"""What a person waits for: the help, and the list of twenty snapshots with the default key derivation."""

from benchmarks.data import Bench, DataSet, prepare
from benchmarks.generate import make_tree
from benchmarks.tools import Action
from benchmarks.workloads.base import MEMORY_LIMIT, Figure, Limit, Step, Workload, show

FILES = 20
TOOLS = ("dedup", "restic", "borg")


def prepare_few_files(bench: Bench) -> DataSet:
    """A directory of a few small files; its size has no part in the figures."""
    return prepare(bench, "startup", "tree", FILES, lambda root: make_tree(root, files=FILES))


STARTUP = Workload(
    name="startup",
    title="Start-up",
    prepare=prepare_few_files,
    steps=(
        Step(
            name="fill",
            title="a snapshot of a few files",
            action=Action.SNAPSHOT,
            tools=TOOLS,
            arrange=show(0),
            samples=20,
            shown=False,
        ),
        Step(name="help", title="--help", action=Action.HELP, tools=TOOLS, samples=5),
        Step(name="list", title="list of 20 snapshots", action=Action.LIST, tools=TOOLS, samples=5),
    ),
    limits=(
        Limit(step="help", figure=Figure.WALL, value=0.1),
        Limit(step="list", figure=Figure.WALL, value=0.3),
        MEMORY_LIMIT,
    ),
)
