"""Real processes: killed at any moment, and two at once in one repository."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import pytest

from dedupstore.cancel import CancelToken
from dedupstore.engine.check import check_repository
from dedupstore.engine.check_options import CheckOptions, DataShare
from dedupstore.events import NullListener
from dedupstore.storage.local import LocalStore
from tests.support.repositories import (
    assert_restores,
    files_below,
    make_tree,
    mutate_tree,
    new_repository,
    open_repository,
    take,
)
from tests.support.snapshot_process import SnapshotProcess


@dataclass(slots=True)
class Place:
    """A repository on disk, and what each acknowledged snapshot held."""

    folder: Path
    promised: dict[str, dict[bytes, bytes]] = field(default_factory=dict)

    @property
    def store(self) -> Path:
        return self.folder / "store"

    def writer(self, source: str) -> SnapshotProcess:
        return SnapshotProcess(self.store, self.folder / f"cache-{source}", self.folder / source, source)

    def note(self, answer: str, tree: Path) -> None:
        if answer.startswith("done "):
            self.promised[answer.removeprefix("done ")] = files_below(tree)

    def assert_kept(self, *, unpromised: int = 0) -> None:
        """Everything promised restores; at most so many more were committed; the deepest check finds nothing."""
        with open_repository(LocalStore(str(self.store))) as repository:
            listing = repository.catalog.snapshots()
            assert not listing.damaged
            found = {snapshot.id.hex(): snapshot for snapshot in listing.snapshots}
            assert self.promised.keys() <= found.keys()
            assert len(found) - len(self.promised) <= unpromised
            for name, expected in self.promised.items():
                assert_restores(repository, found[name], expected)
            options = CheckOptions(read_data=DataShare())
            report = check_repository(repository, options, listener=NullListener(), cancel=CancelToken())
            assert report.exit_code == 0, report.findings


@pytest.fixture
def place(tmp_path: Path) -> Place:
    new_repository(LocalStore.create(str(tmp_path / "store"))).close()
    return Place(tmp_path)


def kill_often(place: Place, orders: Iterable[str]) -> int:
    """Run by each order while the tree goes on changing; how many runs were killed."""
    tree = make_tree(place.folder / "site")
    killed = 0
    with place.writer("site") as writer:
        for number, order in enumerate(orders):
            answer = writer.run(order)
            place.note(answer, tree)
            assert answer == "killed" or answer.startswith("done "), answer
            killed += answer == "killed"
            mutate_tree(tree, number)
            if number % 8 == 7:
                place.assert_kept(unpromised=killed)
        answer = writer.run()
        assert answer.startswith("done "), answer
        place.note(answer, tree)
    place.assert_kept(unpromised=killed)
    return killed


def random_moments(count: int, seed: int) -> Iterator[str]:
    """From "just started" to "nearly always through": a snapshot of the tree takes some 50 ms on a fast machine."""
    chooser = random.Random(seed)
    for _ in range(count):
        yield f"run {chooser.uniform(0.001, 0.25)}"


def test_kills_at_random_moments_lose_nothing_promised_and_need_no_repair(place: Place) -> None:
    """How many of them strike is the machine's affair; the next test does not leave it to chance."""
    kill_often(place, random_moments(16, seed=1))


def test_kills_at_any_file_call_lose_nothing_promised_and_need_no_repair(place: Place) -> None:
    """A snapshot makes more than 500 calls: the 256 folders of packs are listed twice."""
    assert kill_often(place, [f"call {number}" for number in range(0, 496, 31)]) == 16


@pytest.mark.slow
def test_many_kills_lose_nothing_promised(place: Place) -> None:
    kill_often(place, chain(random_moments(60, seed=2), (f"call {number}" for number in range(0, 700, 7))))


@pytest.mark.parametrize(("order", "everything"), [("put index/ 0", True), ("put packs/ 2", False)])
def test_what_a_killed_run_stored_is_used_by_the_next(place: Place, order: str, everything: bool) -> None:
    """Without the cache too: its packs are adopted from the store alone."""
    tree = make_tree(place.folder / "site", scale=4)
    with place.writer("site") as writer:
        assert writer.run(order) == "killed"
    shutil.rmtree(place.folder / "cache-site")

    with open_repository(LocalStore(str(place.store))) as repository:
        result = take(repository, tree)

        new, all_chunks = result.statistics.chunks_new, repository.index.counts().chunks
        assert new == 0 if everything else 0 < new < all_chunks
        assert_restores(repository, result.snapshot, files_below(tree))


def test_two_processes_write_into_one_repository_at_once(place: Place) -> None:
    """Different hosts and sources, much of the content the same, each with its own cache."""
    trees = {name: make_tree(place.folder / name, seed=7) for name in ("alpha", "beta")}
    with ExitStack() as stack:
        writers = {name: stack.enter_context(place.writer(name)) for name in trees}
        for number in range(6):
            for writer in writers.values():
                writer.start()
            for name, writer in writers.items():
                answer = writer.answer()
                assert answer.startswith("done "), answer
                place.note(answer, trees[name])
            for offset, tree in enumerate(trees.values()):
                mutate_tree(tree, 10 * number + offset)

    place.assert_kept()
    assert len(place.promised) == 12


def test_two_processes_may_share_a_cache(place: Place) -> None:
    make_tree(place.folder / "alpha", seed=7)
    make_tree(place.folder / "beta", seed=8)
    with ExitStack() as stack:
        writers = {
            name: stack.enter_context(SnapshotProcess(place.store, place.folder / "cache", place.folder / name, name))
            for name in ("alpha", "beta")
        }
        for number in range(4):
            for writer in writers.values():
                writer.start()
            for name, writer in writers.items():
                answer = writer.answer()
                assert answer.startswith("done "), answer
                place.note(answer, place.folder / name)
            mutate_tree(place.folder / "alpha", number)

    place.assert_kept()
