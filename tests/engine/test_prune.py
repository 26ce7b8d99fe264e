"""Prune frees what no snapshot needs and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from dedupstore.engine.prune_plan import Reason
from dedupstore.model.snapshot import Snapshot
from dedupstore.repo.repository import Repository
from dedupstore.storage.memory import MemoryStore
from dedupstore.types import Kind, SnapshotId
from tests.support.faults import FaultyStore
from tests.support.pruning import NOW, assert_rebuilds, assert_sound, check, forget, pack_bytes, plan, plans, prune
from tests.support.recording import Call, RecordingStore, assert_barrier_between, positions
from tests.support.repositories import files_below, make_tree, mutate_tree, new_repository, open_repository, take

Files = dict[bytes, bytes]


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return make_tree(tmp_path / "tree")


@pytest.fixture
def repository(store: MemoryStore, tmp_path: Path) -> Iterator[Repository]:
    with new_repository(store, tmp_path / "cache") as made:
        yield made


def series(repository: Repository, tree: Path, count: int) -> list[tuple[Snapshot, Files]]:
    """Snapshots of a tree that changes from day to day, with what each holds."""
    found = []
    for day in range(count):
        if day:
            mutate_tree(tree, day)
        snapshot = take(repository, tree).snapshot
        assert snapshot is not None
        found.append((snapshot, files_below(tree)))
    return found


def contents(taken: list[tuple[Snapshot, Files]]) -> dict[SnapshotId, Files]:
    return {snapshot.id: files for snapshot, files in taken}


def test_nothing_goes_while_every_snapshot_is_kept(repository: Repository, store: MemoryStore, tree: Path) -> None:
    taken = series(repository, tree, 3)
    before = pack_bytes(store)

    report = prune(repository)

    assert (report.packs_deleted, report.bytes_moved) == (0, 0)
    assert pack_bytes(store) == before
    assert_sound(repository, contents(taken))


def test_what_only_a_forgotten_snapshot_used_is_freed(
    repository: Repository, store: MemoryStore, tree: Path, tmp_path: Path
) -> None:
    other = take(repository, make_tree(tmp_path / "other", seed=7), source="other").snapshot
    taken = series(repository, tree, 1)
    before = pack_bytes(store)
    forget(repository, other)

    report = prune(repository)

    assert report.packs_deleted > 0
    assert before - report.bytes_deleted <= pack_bytes(store) <= before - report.bytes_freed < before * 0.6
    assert_sound(repository, contents(taken))
    assert_rebuilds(repository)


@pytest.mark.parametrize("kept", [0, 2, 4])
def test_any_one_of_a_series_survives_the_others(
    repository: Repository, store: MemoryStore, tree: Path, tmp_path: Path, kept: int
) -> None:
    taken = series(repository, tree, 5)
    for number, (snapshot, _) in enumerate(taken):
        if number != kept:
            forget(repository, snapshot)

    prune(repository)

    assert_sound(repository, contents([taken[kept]]))
    with open_repository(store, tmp_path / "another machine") as other:
        assert_sound(other, contents([taken[kept]]))
    assert_rebuilds(repository)


def test_it_comes_to_an_end(repository: Repository, store: MemoryStore, tree: Path) -> None:
    taken = series(repository, tree, 6)
    for snapshot, _ in taken[1::2]:
        forget(repository, snapshot)
    prune(repository)
    prune(repository)
    names = set(store.objects)

    report = prune(repository)

    assert (report.packs_condemned, report.packs_deleted) == (0, 0)
    assert set(store.objects) == names
    assert_sound(repository, contents(taken[::2]))


def test_the_last_snapshot_forgotten_leaves_an_empty_repository(
    repository: Repository, store: MemoryStore, tree: Path
) -> None:
    taken = series(repository, tree, 2)
    for snapshot, _ in taken:
        forget(repository, snapshot)

    prune(repository)

    assert pack_bytes(store) == 0
    assert plans(store) == []
    assert_sound(repository, {})
    assert_sound(repository, contents(series(repository, tree, 1)))


def test_a_snapshot_after_a_prune_adds_nothing_and_looks_at_nothing_twice(
    repository: Repository, store: MemoryStore, tree: Path
) -> None:
    taken = series(repository, tree, 4)
    for snapshot, _ in taken[:3]:
        forget(repository, snapshot)
    prune(repository)
    before = pack_bytes(store)

    again = take(repository, tree)

    assert repository.look().whole
    assert again.snapshot is not None and again.statistics.chunks_new == 0
    assert again.statistics.files_unchanged == taken[3][0].statistics.files
    assert pack_bytes(store) == before
    assert_sound(repository, contents([taken[3], (again.snapshot, files_below(tree))]))


def test_a_plan_says_why_and_changes_nothing(
    repository: Repository, store: MemoryStore, tree: Path, tmp_path: Path
) -> None:
    other = take(repository, make_tree(tmp_path / "other", seed=7), source="other").snapshot
    series(repository, tree, 1)
    forget(repository, other)
    before = dict(store.objects)

    planned = plan(repository)

    assert planned.count(Reason.DEAD) > 0
    assert 0 < planned.bytes_free <= planned.bytes
    assert store.objects == before
    report = prune(repository, NOW)
    assert report.packs_condemned == len(planned.choices)
    assert abs(report.bytes_freed - planned.bytes_free) <= planned.bytes // 10


def test_a_pack_of_which_hardly_anything_is_needed_is_not_called_dead(repository: Repository, tmp_path: Path) -> None:
    """A byte in a block of which all the rest, thousands of times as much, compresses to next to nothing."""
    tree = tmp_path / "small"
    tree.mkdir()
    (tree / "byte").write_bytes(b"x")
    for number in range(3):
        (tree / f"zeros{number}").write_bytes(bytes([number]) * 4_000)
    first = take(repository, tree).snapshot
    for number in range(3):
        (tree / f"zeros{number}").unlink()
    second = take(repository, tree).snapshot
    assert second is not None
    forget(repository, first)

    planned = plan(repository)

    data = [choice for choice in planned.choices if choice.row.kind is Kind.DATA]
    assert [choice.reason for choice in data] == [Reason.SPARSE]
    prune(repository)
    assert_sound(repository, {second.id: files_below(tree)})


def test_a_check_tells_a_pruned_pack_from_a_lost_one(
    repository: Repository, store: MemoryStore, tree: Path, tmp_path: Path
) -> None:
    other = take(repository, make_tree(tmp_path / "other", seed=7), source="other").snapshot
    series(repository, tree, 1)
    forget(repository, other)
    prune(repository)
    lost = max(key for key in store.objects if key.startswith("packs/") and ".d" in key)
    del store.objects[lost]

    report = check(repository)

    codes = [finding.code for finding in report.findings]
    assert codes.count("check.packs_removed") == 1
    assert codes.count("check.pack_missing") == 1
    assert not repository.look().whole


def test_nothing_is_read_from_packs_that_are_gone(
    repository: Repository, store: MemoryStore, tree: Path, tmp_path: Path
) -> None:
    """With an index that knew the chunks there first, in which the old copies are found before the new ones."""
    forget(repository, take(repository, tree).snapshot)
    (tree / "noise.bin").write_bytes(b"nothing of what it was")
    taken = series(repository, tree, 1)
    assert prune(repository).bytes_moved > 0
    asked: list[str] = []
    watched = FaultyStore(store, hook=lambda step: asked.append(step.key) if step.verb == "get" else None)

    with open_repository(watched, tmp_path / "cache") as other:
        assert_sound(other, contents(taken))

    assert [key for key in asked if key not in store.objects] == []
    assert any(key.startswith("packs/") for key in asked)


def test_everything_is_durable_before_anything_rests_on_it(
    repository: Repository, store: MemoryStore, tree: Path
) -> None:
    forget(repository, take(repository, tree).snapshot)
    (tree / "noise.bin").write_bytes(b"nothing of what it was")
    taken = series(repository, tree, 1)
    recording = RecordingStore(store)

    with open_repository(recording) as other:
        prune(other)

    def is_call(verb: str, prefix: str) -> Callable[[Call], bool]:
        return lambda call: call.verb == verb and call.key.startswith(prefix)

    order = [
        is_call("delete", "roots/"), is_call("delete", "forgotten/"), is_call("put", "gc/plan"), is_call("put", "packs/"),
        is_call("put", "index/"), is_call("delete", "packs/"), is_call("put", "gc/done"), is_call("delete", "gc/plan"),
    ]  # fmt: skip
    for earlier, later in pairwise(order):
        assert_barrier_between(recording.calls, earlier, later)
        assert max(positions(recording.calls, earlier)) < max(positions(recording.calls, later))
    assert recording.calls[positions(recording.calls, is_call("delete", "gc/plan"))[-1] :][1].verb == "barrier"
    assert_sound(repository, contents(taken))


def test_looks_are_taken_in_the_order_on_which_everything_rests(
    repository: Repository, store: MemoryStore, tree: Path
) -> None:
    """E1 gc, E2 roots, E3 index, gc, packs, index; then what is needed is walked, moved, and only then deleted."""
    forget(repository, take(repository, tree).snapshot)
    (tree / "noise.bin").write_bytes(b"nothing of what it was")
    series(repository, tree, 1)
    recording = RecordingStore(store)

    with open_repository(recording) as other:
        prune(other)

    calls = recording.calls
    planned = positions(calls, lambda call: call.verb == "put" and call.key.startswith("gc/plan"))[-1]
    deleted = positions(calls, lambda call: call.verb == "delete" and call.key.startswith("packs/"))[0]
    lists = [call.folder for call in calls[planned:deleted] if call.verb == "list"]
    assert lists[:7] == ["gc", "roots", "commits", "index", "gc", "packs", "index"]
