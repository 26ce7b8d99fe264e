"""Databases in which one row in a hundred changed: an SQL dump and an SQLite file."""

from dataclasses import asdict

from benchmarks.data import Bench, DataSet, prepare
from benchmarks.rows import Counts, make_dump, make_sqlite
from benchmarks.tools import Action
from benchmarks.workloads.base import DEDUPLICATING, MEMORY_LIMIT, Figure, Limit, Panel, Step, Workload, show

FULL_DUMP = Counts(users=19_000, posts=49_500, comments=267_000)
FULL_SQLITE = Counts(users=19_400, posts=44_600, comments=238_000)
SMALL = Counts(users=600, posts=1_600, comments=8_000)


def prepare_dump(bench: Bench) -> DataSet:
    """The dump before and after the change, 170 MB each."""
    counts = FULL_DUMP if bench.full else SMALL
    return prepare(bench, "sql", "blog.sql", asdict(counts), lambda root: make_dump(root, counts=counts))


def prepare_sqlite(bench: Bench) -> DataSet:
    """The SQLite file before and after the change, 176 MB each."""
    counts = FULL_SQLITE if bench.full else SMALL
    return prepare(bench, "sqlite", "blog.db", asdict(counts), lambda root: make_sqlite(root, counts=counts))


STEPS = (
    Step(
        name="first",
        title="first snapshot",
        action=Action.SNAPSHOT,
        tools=(*DEDUPLICATING, "tar"),
        arrange=show(0),
    ),
    Step(name="changed", title="1 % of the rows changed", action=Action.SNAPSHOT, arrange=show(1)),
    Step(name="restore", title="restore of the changed one", action=Action.RESTORE),
)
LIMITS = (
    Limit(step="changed", figure=Figure.ADDED, peer="restic", factor=1 / 40),
    MEMORY_LIMIT,
)

DUMP = Workload(
    name="sql",
    title="SQL dump",
    prepare=prepare_dump,
    steps=STEPS,
    limits=LIMITS,
    panels=(Panel(step="changed", figure=Figure.ADDED, title="SQL dump, 1 % changed: added"),),
)
SQLITE = Workload(
    name="sqlite",
    title="SQLite file",
    prepare=prepare_sqlite,
    steps=STEPS,
    limits=LIMITS,
    panels=(Panel(step="changed", figure=Figure.ADDED, title="SQLite file, 1 % changed: added"),),
)
