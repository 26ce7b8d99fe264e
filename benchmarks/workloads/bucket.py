"""The Linux tree in a bucket of Ceph's gateway, 20 ms away."""

from __future__ import annotations

from benchmarks.buckets import in_bucket
from benchmarks.tools import Action
from benchmarks.workloads.base import MEMORY_LIMIT, Figure, Limit, Panel, Step, Workload, show
from benchmarks.workloads.tree import prepare_tree

TOOLS = ("dedup", "restic")
MOST_REQUESTS = 25

S3 = Workload(
    name="s3",
    title="Linux 6.1 source tree on S3, 20 ms away",
    prepare=prepare_tree,
    open=in_bucket,
    steps=(
        Step(name="first", title="first snapshot", action=Action.SNAPSHOT, tools=TOOLS, arrange=show(0)),
        Step(name="again", title="same tree again, unchanged", action=Action.SNAPSHOT, tools=TOOLS),
        Step(name="restore", title="restore", action=Action.RESTORE, tools=TOOLS),
        Step(name="next", title="next release, other times", action=Action.SNAPSHOT, tools=TOOLS, arrange=show(1)),
    ),
    limits=(
        Limit(step="first", figure=Figure.WALL, peer="restic", factor=0.7),
        Limit(step="again", figure=Figure.REQUESTS, value=MOST_REQUESTS),
        Limit(step="restore", figure=Figure.WALL, peer="restic", factor=1.0),
        MEMORY_LIMIT,
    ),
    panels=(
        Panel(step="first", figure=Figure.WALL, title="S3, first snapshot"),
        Panel(step="again", figure=Figure.REQUESTS, title="S3, unchanged: requests"),
        Panel(step="restore", figure=Figure.WALL, title="S3, restore"),
    ),
)
