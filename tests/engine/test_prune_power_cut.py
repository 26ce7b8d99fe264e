"""Power cuts during a prune: deletions and new names that were not synced are lost or kept one by one."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from dedupstore.storage.local import LocalStore
from dedupstore.types import SnapshotId
from tests.support.crash import CrashSimulator, DiskTree, Operation, RecordingSystem, durability_faults, read_tree
from tests.support.pruning import assert_sound, forget, prune
from tests.support.repositories import SMALL, files_below, new_repository, open_repository, random_bytes, take

OPTIONS = replace(SMALL, pack_bytes=48 << 10)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """A prune on a recorded disk, and what it had to keep."""

    root: str
    operations: list[Operation]
    before: DiskTree
    kept: dict[SnapshotId, dict[bytes, bytes]]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    folder = tmp_path_factory.mktemp("power")
    tree, root = folder / "tree", str(folder / "store")
    tree.mkdir()
    with new_repository(LocalStore.create(root), options=OPTIONS) as repository:
        for number in range(12):
            (tree / f"f{number:02}").write_bytes(random_bytes(f"power {number}", 7_000))
        forget(repository, take(repository, tree).snapshot)
        for number in range(0, 12, 2):
            (tree / f"f{number:02}").write_bytes(random_bytes(f"other {number}", 7_000))
        last = take(repository, tree).snapshot
        assert last is not None
    before, recorder = read_tree(root), RecordingSystem()
    with open_repository(LocalStore(root, system=recorder)) as repository:
        report = prune(repository)
        assert report.bytes_moved > 0 and report.packs_deleted > 1
    recorder.acknowledge("pruned")
    kept = {last.id: files_below(tree)}
    return Recorded(root=root, operations=recorder.operations, before=before, kept=kept)


def survive(recorded: Recorded, *, random_subsets: int) -> int:
    count = 0
    simulator = CrashSimulator(recorded.operations, recorded.root, recorded.before)
    for state in simulator.states(random_subsets=random_subsets, seed=1):
        with open_repository(state.store()) as repository:
            assert_sound(repository, recorded.kept)
            prune(repository)
            assert_sound(repository, recorded.kept)
        count += 1
    return count


def test_a_prune_survives_a_power_cut_at_any_file_operation(recorded: Recorded) -> None:
    assert survive(recorded, random_subsets=20) > 8


def test_nothing_is_promised_before_it_is_durable(recorded: Recorded) -> None:
    assert durability_faults(recorded.operations, recorded.root) == []
