"""What a workload is: data, steps that every tool takes in turn, and limits that the figures must keep."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import Enum

from benchmarks.data import Bench, DataSet
from benchmarks.subject import Subject, files
from benchmarks.tools import Action

DEDUPLICATING = ("dedup", "restic", "borg", "borg-zstd")
MEGABYTE = 1_000_000


class Figure(Enum):
    """What is measured of a step; the value names the field of a sample."""

    WALL = "wall_seconds"
    ADDED = "added_bytes"
    STORED = "stored_bytes"
    MEMORY = "peak_rss_bytes"
    RATE = "bytes_per_second"
    REQUESTS = "requests"
    WAIT = "longest_wait_seconds"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One action of each tool on what `arrange` has put in place. Steps of a workload share a repository."""

    name: str
    title: str
    action: Action
    tools: tuple[str, ...] = DEDUPLICATING
    arrange: Callable[[Subject], None] = lambda subject: None
    samples: int = 1
    """How often the command runs in each repetition; more than once for the very short ones."""
    shown: bool = True
    """False for steps that only prepare the next one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """dedup's figure must be at most `factor` times that of the peer, or at most (at least) a fixed value."""

    step: str | None
    """None stands for every step: the largest figure counts."""
    figure: Figure
    peer: str | None = None
    factor: float = 1.0
    value: float | None = None
    at_least: bool = False
    peer_figure: Figure | None = None
    """Which of the peer's figures counts; the same one unless told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One group of bars in the chart."""

    step: str
    figure: Figure
    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """A table of steps over one data set.

    `prepare` makes the data once; later calls only find them. `open` puts around them what the tools need while they run.
    """

    name: str
    title: str
    prepare: Callable[[Bench], DataSet]
    steps: tuple[Step, ...]
    limits: tuple[Limit, ...]
    panels: tuple[Panel, ...] = ()
    open: Callable[[Bench, DataSet], AbstractContextManager[Subject]] = files


def show(number: int) -> Callable[[Subject], None]:
    """Arranges for a version of the data, counted from zero."""
    return lambda subject: subject.show(number)


MEMORY_LIMIT = Limit(step=None, figure=Figure.MEMORY, value=300 * MEGABYTE)
