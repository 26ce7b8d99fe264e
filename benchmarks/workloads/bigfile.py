"""One large file of mixed contents."""

from benchmarks.data import Bench, DataSet, prepare
from benchmarks.generate import MIB, make_mixed_file
from benchmarks.subject import Subject
from benchmarks.tools import Action
from benchmarks.workloads.base import DEDUPLICATING, MEMORY_LIMIT, Figure, Limit, Panel, Step, Workload, show

FULL = 2_500_000_000
SMALL = 24 * MIB


def prepare_file(bench: Bench) -> DataSet:
    """The file; it has one version, which a step may touch."""
    size = FULL if bench.full else SMALL
    return prepare(bench, "bigfile", "mixed.bin", size, lambda root: make_mixed_file(root, size=size))


BIG_FILE = Workload(
    name="bigfile",
    title="2.5 GB mixed file",
    prepare=prepare_file,
    steps=(
        Step(
            name="first",
            title="first snapshot",
            action=Action.SNAPSHOT,
            tools=(*DEDUPLICATING, "tar"),
            arrange=show(0),
        ),
        Step(name="touched", title="touched and read again", action=Action.SNAPSHOT, arrange=Subject.touch),
        Step(name="restore", title="restore", action=Action.RESTORE, tools=(*DEDUPLICATING, "cp")),
        Step(name="check", title="check, all data read", action=Action.CHECK),
    ),
    limits=(
        Limit(step="first", figure=Figure.WALL, peer="borg", factor=0.6),
        Limit(step="touched", figure=Figure.RATE, value=2e9, at_least=True),
        Limit(step="touched", figure=Figure.WALL, peer="restic", factor=0.4),
        Limit(step="restore", figure=Figure.WALL, peer="restic", factor=0.6),
        Limit(step="check", figure=Figure.WALL, peer="restic", factor=0.5),
        MEMORY_LIMIT,
    ),
    panels=(
        Panel(step="first", figure=Figure.WALL, title="2.5 GB file, first snapshot"),
        Panel(step="touched", figure=Figure.WALL, title="2.5 GB file, touched"),
        Panel(step="restore", figure=Figure.WALL, title="2.5 GB file, restore"),
        Panel(step="check", figure=Figure.WALL, title="2.5 GB file, check all data"),
    ),
)
