"""What a workload's tools meet while it runs: the data in place, and where their repositories go."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.data import Bench, DataSet
from benchmarks.measure import assert_same, read_all, size_of
from benchmarks.tools import Database, Job, Place


@dataclass(slots=True)
class Further:
    """What the surroundings have seen of one command, known when it has ended."""

    requests: int = 0
    longest_wait_seconds: float = 0.0


class Subject:
    """Files in a directory and repositories on the disk. Subclasses put a server around one or the other."""

    def __init__(self, bench: Bench, data: DataSet) -> None:
        self.bench = bench
        self.data = data

    @property
    def environment(self) -> Mapping[str, str]:
        """Variables that every tool gets."""
        return {}

    @property
    def database(self) -> Database | None:
        """How to get at the data when they are a database."""
        return None

    def show(self, number: int) -> None:
        """Put a version of the data in place."""
        self.data.show(number)

    def touch(self) -> None:
        self.data.touch()

    def warm(self) -> None:
        """Before every command: let each tool find the same caches, and the data as `show` has left them."""
        read_all(self.data.shown)

    def size(self) -> tuple[int, int]:
        """Files, and bytes of all."""
        return size_of(self.data.shown)

    def place(self, root: Path) -> Place:
        """An empty place for a tool."""
        place = Place(root=root)
        place.clear()
        return place

    def remove(self, place: Place) -> None:
        shutil.rmtree(place.root)

    def stored_bytes(self, place: Place) -> int:
        """The lengths of all that a tool keeps in its repository."""
        return size_of(place.repository)[1]

    def item(self) -> tuple[Path, str]:
        """Where the tools are started, and the name of what they save."""
        return self.data.stage, self.data.item

    def job(self, place: Place, snapshots: int) -> Job:
        stage, item = self.item()
        return Job(place=place, stage=stage, item=item, snapshots=snapshots, database=self.database)

    @contextmanager
    def watch(self) -> Iterator[Further]:
        """Around one command."""
        yield Further()

    @contextmanager
    def restoring(self, place: Place, *, contents: bool) -> Iterator[None]:
        """Around a restore: a target for it, which is compared with the source. Raises CommandFailed."""
        place.target.mkdir()
        yield
        assert_same(self.data.shown, place.target / self.data.item, contents=contents)
        shutil.rmtree(place.target)


@contextmanager
def files(bench: Bench, data: DataSet) -> Iterator[Subject]:
    """What most workloads are."""
    yield Subject(bench, data)
