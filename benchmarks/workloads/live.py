"""An SQLite database of 1 GB that two programs write to, fifty times a second each, while it is saved."""

from __future__ import annotations

from dataclasses import asdict

from benchmarks.data import Bench, DataSet, prepare
from benchmarks.live import Live, live, make_shop
from benchmarks.shop import ShopCounts
from benchmarks.subject import Subject
from benchmarks.tools import Action
from benchmarks.workloads.base import MEMORY_LIMIT, Figure, Limit, Panel, Step, Workload, show

FULL = ShopCounts(orders=680_000)
SMALL = ShopCounts(orders=2_000)
TOOLS = ("dedup", "restic", "bare")


def prepare_shop(bench: Bench) -> DataSet:
    """The shop before and after a day."""
    counts = FULL if bench.full else SMALL
    return prepare(bench, "sqlite-live", "shop.db", asdict(counts), lambda root: make_shop(root, counts=counts))


def lock(number: int) -> Step:
    """The version once more, with a journal that lets nobody write while somebody reads."""

    def arrange(subject: Subject) -> None:
        assert isinstance(subject, Live)
        subject.lock(number)

    return Step(name="locked", title="again, rollback journal", action=Action.SNAPSHOT, tools=TOOLS, arrange=arrange)


SQLITE_LIVE = Workload(
    name="sqlite-live",
    title="SQLite in use, 1 GB",
    prepare=prepare_shop,
    open=live,
    steps=(
        Step(name="first", title="first snapshot", action=Action.SNAPSHOT, tools=TOOLS, arrange=show(0)),
        Step(name="changed", title="1 % of the rows changed", action=Action.SNAPSHOT, tools=TOOLS, arrange=show(1)),
        lock(1),
    ),
    limits=(
        Limit(step="changed", figure=Figure.ADDED, peer="restic", factor=1 / 30),
        Limit(step="changed", figure=Figure.WAIT, peer="bare", peer_figure=Figure.WALL),
        Limit(step="locked", figure=Figure.WAIT, peer="bare", peer_figure=Figure.WALL),
        MEMORY_LIMIT,
    ),
    panels=(Panel(step="changed", figure=Figure.ADDED, title="SQLite in use, 1 % changed: added"),),
)
