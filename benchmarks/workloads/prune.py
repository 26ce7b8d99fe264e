"""Ten versions of the Linux tree, of which the five older ones are forgotten and their space is freed."""

from benchmarks.data import Bench
from benchmarks.releases import Releases, prepare_releases
from benchmarks.tools import KEPT, Action
from benchmarks.workloads.base import MEMORY_LIMIT, Figure, Limit, Panel, Step, Workload, show
from benchmarks.workloads.tree import prepare_tree

VERSIONS = 10
TOOLS = ("dedup", "restic", "borg")
FRESH = "dedup-fresh"
"""dedup once more, in a repository that has only ever seen the versions that are kept."""


def prepare_versions(bench: Bench) -> Releases:
    """Ten versions between the two of the `tree` workload."""
    return prepare_releases(bench, "releases", prepare_tree(bench), VERSIONS)


def _snapshot(number: int) -> Step:
    return Step(
        name=f"version-{number}",
        title=f"snapshot of version {number}",
        action=Action.SNAPSHOT,
        tools=(*TOOLS, FRESH) if number >= VERSIONS - KEPT else TOOLS,
        arrange=show(number),
        shown=False,
    )


PRUNE = Workload(
    name="prune",
    title="Ten versions of the Linux tree",
    prepare=prepare_versions,
    steps=(
        *(_snapshot(number) for number in range(VERSIONS)),
        Step(name="prune", title="forget five of ten, and prune", action=Action.PRUNE, tools=(*TOOLS, FRESH)),
        Step(name="again", title="prune with nothing to do", action=Action.PRUNE, tools=TOOLS),
        Step(name="restore", title="restore of the newest", action=Action.RESTORE, tools=(*TOOLS, FRESH)),
        Step(name="check", title="check, all data read", action=Action.CHECK, tools=(*TOOLS, FRESH)),
    ),
    limits=(
        Limit(step="prune", figure=Figure.WALL, peer="restic", factor=0.5),
        Limit(step="prune", figure=Figure.WALL, peer="borg", factor=0.5),
        Limit(step="prune", figure=Figure.STORED, peer=FRESH, factor=1.05),
        MEMORY_LIMIT,
    ),
    panels=(
        Panel(step="prune", figure=Figure.WALL, title="Five of ten snapshots dropped"),
        Panel(step="prune", figure=Figure.STORED, title="Five of ten snapshots dropped, bytes left"),
    ),
)
