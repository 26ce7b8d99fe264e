"""What explains that a snapshot is not there any more, at every moment of a forget and a prune."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest

from dedupstore.engine.prune_roots import list_roots
from dedupstore.errors import DedupError, Refused
from dedupstore.model.snapshot import Snapshot
from dedupstore.repo import layout
from dedupstore.repo.gcplan import Done, read_expired
from dedupstore.repo.repository import Repository
from dedupstore.repo.watch import require_all, what_differs
from dedupstore.storage.memory import MemoryStore
from dedupstore.types import PackId, SnapshotId
from tests.support.faults import Fault, FaultPlan, FaultyStore, Step
from tests.support.pruning import assert_sound, forget, prune
from tests.support.repositories import files_below, new_repository, open_repository, take, text_bytes


class Seen:
    """A memory that has seen what it is told, and forgets nothing."""

    def __init__(self, *seen: SnapshotId, gone: tuple[SnapshotId, ...] = ()) -> None:
        self.seen = frozenset(seen)
        self.gone = frozenset(gone)
        self.alarms: list[tuple[frozenset[SnapshotId], frozenset[SnapshotId]]] = []
        self.made: list[SnapshotId] = []

    def listed(
        self, commits: frozenset[SnapshotId], withheld: frozenset[SnapshotId], returned: frozenset[SnapshotId]
    ) -> None:
        if withheld or returned:
            self.alarms.append((withheld, returned))

    def committed(self, snapshot: SnapshotId) -> None:
        self.made.append(snapshot)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "file").write_bytes(text_bytes(1, 900))
    return tree


def two_snapshots(store: MemoryStore, tree: Path) -> tuple[Snapshot, Snapshot]:
    with new_repository(store) as repository:
        first = take(repository, tree).snapshot
        (tree / "file").write_bytes(text_bytes(2, 900))
        second = take(repository, tree).snapshot
    assert first is not None and second is not None
    return first, second


def open_watched(store: MemoryStore | FaultyStore, *seen: SnapshotId, gone: tuple[SnapshotId, ...] = ()) -> Repository:
    repository = open_repository(store)
    repository.catalog.watch = Seen(*seen, gone=gone)
    return repository


def test_a_record_of_a_prune_names_packs_and_roots_and_older_ones_stay_as_they_were() -> None:
    both = Done(packs=(PackId(b"p" * 32),), creator="test", time_ns=5, roots=(SnapshotId(b"s" * 16),))
    packs = Done(packs=(PackId(b"p" * 32),), creator="test", time_ns=5)

    assert Done.decode(both.encode()) == both
    assert Done.decode(packs.encode()) == packs
    assert b"roots" not in packs.encode()


def test_a_missing_snapshot_is_withheld_and_a_forgotten_one_is_not(tree: Path) -> None:
    store = MemoryStore()
    first, second = two_snapshots(store, tree)
    with open_repository(store) as repository:
        forget(repository, first)
    with open_watched(store, first.id, second.id) as repository:
        assert repository.catalog.snapshots().withheld == frozenset()
        del store.objects[layout.commit_key(second.id)]
        assert repository.catalog.snapshots().withheld == {second.id}
        with pytest.raises(Refused, match="older state"):
            prune(repository)


def test_a_snapshot_that_went_never_comes_back(tree: Path) -> None:
    store = MemoryStore()
    first, second = two_snapshots(store, tree)

    with open_watched(store, second.id, gone=(first.id,)) as repository:
        listing = repository.catalog.snapshots()

        assert (listing.withheld, listing.returned) == (frozenset(), {first.id})
        with pytest.raises(Refused) as caught:
            list_roots(repository)
    assert caught.value.code == "repo.rolled_back"
    assert "there again" in caught.value.why


def test_what_is_made_here_is_seen(tree: Path) -> None:
    store = MemoryStore()
    two_snapshots(store, tree)
    with open_watched(store) as repository:
        taken = take(repository, tree).snapshot

        assert taken is not None
        assert isinstance(repository.catalog.watch, Seen)
        assert repository.catalog.watch.made == [taken.id]


def test_nothing_is_asked_of_the_store_unless_something_is_missing(tree: Path) -> None:
    store = MemoryStore()
    first, second = two_snapshots(store, tree)
    counts = []
    for seen in ((), (first.id, second.id)):
        faulty = FaultyStore(store)
        with open_watched(faulty, *seen) as repository:
            repository.catalog.snapshots()
        counts.append(faulty.operations)

    assert counts[0] == counts[1]


@pytest.mark.parametrize("fault", [Fault.FAIL_BEFORE, Fault.FAIL_AFTER])
def test_a_prune_stopped_anywhere_leaves_an_explanation(tree: Path, fault: Fault) -> None:
    objects: dict[str, bytes] = {}
    made = MemoryStore()
    first, second = two_snapshots(made, tree)
    with open_repository(made) as repository:
        forget(repository, first)
    objects |= made.objects
    kept = {second.id: files_below(tree)}
    at = 0
    while True:
        store = MemoryStore()
        store.objects = dict(objects)
        faulty = FaultyStore(store)
        with open_watched(faulty, first.id, second.id) as repository:
            faulty.plan = FaultPlan(fault=fault, at=at, times=None)
            with suppress(DedupError):
                prune(repository)
        with open_watched(store, first.id, second.id) as repository:
            assert_sound(repository, kept)
            prune(repository)
            assert_sound(repository, kept)
            assert layout.list_complete(store, layout.FORGOTTEN) == []
            rows = [row.key for row in layout.list_complete(store, layout.GC)]
            assert first.id in read_expired(store, repository.keyring, rows)
            assert isinstance(repository.catalog.watch, Seen)
            assert repository.catalog.watch.alarms == []
        if not faulty.fired:
            break
        at += 1
    assert at > 10


def test_a_look_between_any_two_steps_of_a_prune_raises_no_alarm(tree: Path) -> None:
    store = MemoryStore()
    first, second = two_snapshots(store, tree)
    with open_repository(store) as repository:
        forget(repository, first)
    looks: list[frozenset[SnapshotId]] = []

    def look(step: Step) -> None:
        if not step.done:
            with open_watched(store, first.id, second.id) as other:
                list_roots(other)
                looks.append(other.catalog.snapshots().withheld)

    with open_repository(FaultyStore(store, hook=look)) as repository:
        prune(repository)

    assert len(looks) > 10
    assert set(looks) == {frozenset()}


def test_on_a_full_disk_the_marker_goes_on_explaining(tree: Path) -> None:
    store = MemoryStore()
    first, second = two_snapshots(store, tree)
    with open_repository(store) as repository:
        forget(repository, first)
    faulty = FaultyStore(store)
    with open_repository(faulty) as repository:
        faulty.plan = FaultPlan(fault=Fault.FULL, at=0, times=1, below=layout.GC)
        prune(repository)

    with open_watched(store, first.id, second.id) as repository:
        assert layout.forgotten_key(first.id) in store.objects
        assert layout.root_key(first.id) not in store.objects
        prune(repository)
        assert layout.forgotten_key(first.id) not in store.objects
        assert_sound(repository, {second.id: files_below(tree)})


def test_many_are_not_all_named() -> None:
    many = frozenset(SnapshotId(bytes([number]) * 16) for number in range(9))

    assert "9 snapshots" in what_differs(many, frozenset())
    assert what_differs(many, frozenset()).count(",") == 6
    assert what_differs(frozenset(), frozenset()) == ""
    require_all(MemoryStore(), frozenset(), frozenset())
