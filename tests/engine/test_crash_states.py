"""Power cuts: every state a disk may be left in by a real init and a real snapshot, replayed from recorded file calls."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from dedupstore.cancel import CancelToken
from dedupstore.engine.check import check_repository
from dedupstore.engine.check_options import CheckOptions, DataShare
from dedupstore.events import NullListener
from dedupstore.repo import layout
from dedupstore.storage.local import LocalStore
from dedupstore.storage.memory import MemoryStore
from tests.support.crash import CrashSimulator, DiskTree, Operation, RecordingSystem, durability_faults, read_tree
from tests.support.repositories import (
    assert_restores,
    files_below,
    make_tree,
    mutate_tree,
    new_repository,
    open_repository,
    random_bytes,
    take,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """A snapshot taken on a recorded disk that held one before."""

    root: str
    operations: list[Operation]
    before: DiskTree
    tree: Path
    first: dict[bytes, bytes]
    second: dict[bytes, bytes]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    folder = tmp_path_factory.mktemp("states")
    tree, root = make_tree(folder / "tree"), str(folder / "store")
    with new_repository(LocalStore.create(root)) as repository:
        take(repository, tree)
    first, before = files_below(tree), read_tree(root)
    mutate_tree(tree, 1)
    (tree / "more").write_bytes(random_bytes("more", 700_000))
    recorder = RecordingSystem()
    with open_repository(LocalStore(root, system=recorder)) as repository:
        take(repository, tree)
    recorder.acknowledge("second")
    return Recorded(
        root=root, operations=recorder.operations, before=before, tree=tree, first=first, second=files_below(tree)
    )


def assert_survived(store: MemoryStore, recorded: Recorded, acknowledged: tuple[str, ...]) -> None:
    """What was promised is there; what is there is right."""
    with open_repository(store) as repository:
        listing = repository.catalog.snapshots()
        assert not listing.damaged
        assert len(listing.snapshots) >= 1 + len(acknowledged)
        for snapshot, expected in zip(listing.snapshots, (recorded.first, recorded.second), strict=False):
            assert_restores(repository, snapshot, expected)


def assert_goes_on(store: MemoryStore, recorded: Recorded) -> None:
    """The next run needs no help, and the deepest check finds nothing."""
    with open_repository(store) as repository:
        assert_restores(repository, take(repository, recorded.tree).snapshot, recorded.second)
        options = CheckOptions(read_data=DataShare())
        report = check_repository(repository, options, listener=NullListener(), cancel=CancelToken())
        assert report.exit_code == 0, report.findings


def survive(recorded: Recorded, *, every: int, random_subsets: int, go_on_every: int) -> int:
    simulator = CrashSimulator(recorded.operations, recorded.root, recorded.before)
    count = 0
    for state in simulator.states(every=every, random_subsets=random_subsets, seed=1):
        store = state.store()
        assert_survived(store, recorded, state.acknowledged)
        if count % go_on_every == 0:
            assert_goes_on(store, recorded)
        count += 1
    return count


def test_a_snapshot_survives_a_power_cut_at_any_file_operation(recorded: Recorded) -> None:
    assert survive(recorded, every=1, random_subsets=2, go_on_every=2) > 10


@pytest.mark.slow
def test_a_snapshot_survives_any_subset_of_unsynced_operations(recorded: Recorded) -> None:
    assert survive(recorded, every=1, random_subsets=100, go_on_every=1) > 10


def test_no_name_appears_before_its_bytes_and_nothing_is_promised_before_its_name(recorded: Recorded) -> None:
    assert durability_faults(recorded.operations, recorded.root) == []


def test_an_init_cut_off_by_a_power_cut_can_be_run_again(tmp_path: Path) -> None:
    root, tree = str(tmp_path / "store"), make_tree(tmp_path / "tree")
    LocalStore.create(root).close()
    before, recorder = read_tree(root), RecordingSystem()
    new_repository(LocalStore(root, system=recorder)).close()
    recorder.acknowledge("repository")

    finished = again = 0
    for state in CrashSimulator(recorder.operations, root, before).states(every=4):
        crashed = state.store()
        if layout.FORMAT_KEY in crashed.objects:
            finished += 1
        else:
            assert "repository" not in state.acknowledged
            new_repository(crashed).close()
            again += 1
        with open_repository(crashed) as repository:
            repository.look()
    assert finished and again

    with open_repository(LocalStore(root)) as repository:
        assert_restores(repository, take(repository, tree).snapshot, files_below(tree))
