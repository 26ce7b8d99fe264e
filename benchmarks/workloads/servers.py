"""A shop's database on a PostgreSQL and on a MariaDB server, in which one row in a hundred changed."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from benchmarks.data import Bench, DataSet, prepare
from benchmarks.servers import served_mariadb, served_postgres
from benchmarks.shop import ShopCounts, write_rows
from benchmarks.tools import Action
from benchmarks.workloads.base import MEMORY_LIMIT, Figure, Limit, Panel, Step, Workload, show

FULL_POSTGRES = ShopCounts(orders=740_000)
FULL_MARIADB = ShopCounts(orders=320_000)
SMALL = ShopCounts(orders=2_000)
TOOLS = ("dedup", "restic")


def _prepare(bench: Bench, name: str, full: ShopCounts) -> DataSet:
    counts = full if bench.full else SMALL

    def make(root: Path) -> tuple[str, ...]:
        write_rows(root / "rows", counts)
        return ("rows",)

    return prepare(bench, name, "rows", asdict(counts), make)


def prepare_postgres(bench: Bench) -> DataSet:
    """The rows of a database of 1 GB."""
    return _prepare(bench, "postgres", FULL_POSTGRES)


def prepare_mariadb(bench: Bench) -> DataSet:
    """The rows of a database of 500 MB."""
    return _prepare(bench, "mariadb", FULL_MARIADB)


STEPS = (
    Step(name="first", title="first snapshot", action=Action.SNAPSHOT, tools=(*TOOLS, "bare"), arrange=show(0)),
    Step(
        name="changed", title="1 % of the rows changed", action=Action.SNAPSHOT, tools=(*TOOLS, "bare"), arrange=show(1)
    ),
    Step(name="restore", title="restore as a new database", action=Action.RESTORE, tools=TOOLS),
)


def _limits(part: float) -> tuple[Limit, ...]:
    return (
        Limit(step="changed", figure=Figure.ADDED, peer="restic", factor=part),
        Limit(step="changed", figure=Figure.WALL, peer="bare", factor=1.3),
        MEMORY_LIMIT,
    )


POSTGRES = Workload(
    name="postgres",
    title="PostgreSQL, 1 GB",
    prepare=prepare_postgres,
    open=served_postgres,
    steps=STEPS,
    limits=_limits(1 / 40),
    panels=(
        Panel(step="changed", figure=Figure.ADDED, title="PostgreSQL, 1 % changed: added"),
        Panel(step="changed", figure=Figure.WALL, title="PostgreSQL, 1 % changed"),
    ),
)
MARIADB = Workload(
    name="mariadb",
    title="MariaDB, 500 MB",
    prepare=prepare_mariadb,
    open=served_mariadb,
    steps=STEPS,
    limits=_limits(1 / 20),
    panels=(
        Panel(step="changed", figure=Figure.ADDED, title="MariaDB, 1 % changed: added"),
        Panel(step="changed", figure=Figure.WALL, title="MariaDB, 1 % changed"),
    ),
)
