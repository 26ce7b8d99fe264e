"""A new snapshot without what is lost, beside the damaged one; what is lost is listed, file by file."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from dedupstore.cancel import CancelToken
from dedupstore.engine.donors import MirrorDonor
from dedupstore.engine.repair_packs import repair_packs
from dedupstore.engine.repair_snapshots import REPAIR_OF, SnapshotsReport, repair_snapshots
from dedupstore.errors import RepositoryError, StoreError
from dedupstore.events import NullListener
from dedupstore.model.snapshot import Snapshot
from dedupstore.repo import layout
from dedupstore.storage.base import ObjectStore
from dedupstore.storage.memory import MemoryStore
from dedupstore.units import format_id
from tests.support.damaging import assert_whole, check, flip, flip_file
from tests.support.faults import Fault, FaultPlan, FaultyStore, every_fault
from tests.support.pack_layouts import LAYOUTS, Scene, build
from tests.support.pruning import forget, prune
from tests.support.repositories import assert_restores, files_below, make_tree, new_repository, open_repository, take
from tests.support.scenes import store_of


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return build(LAYOUTS["full"], tmp_path_factory.mktemp("repair snapshots") / "tree")


@pytest.fixture
def store(scene: Scene) -> MemoryStore:
    return scene.store()


def repair(store: ObjectStore, *, dry_run: bool = False) -> SnapshotsReport:
    with open_repository(store) as repository:
        return repair_snapshots(repository, dry_run=dry_run, listener=NullListener(), cancel=CancelToken())


def damage(store: MemoryStore, scene: Scene, *names: str) -> None:
    with open_repository(store) as repository:
        for name in names:
            flip_file(store, repository, scene, name)
        assert check(repository).exit_code == 4


def without(files: dict[bytes, bytes], *names: str) -> dict[bytes, bytes]:
    return {path: content for path, content in files.items() if path not in {b"tree/" + n.encode() for n in names}}


def test_each_damaged_snapshot_gets_one_without_what_is_lost(store: MemoryStore, scene: Scene) -> None:
    damage(store, scene, "a", "C")
    before = dict(store.objects)
    planned = repair(store, dry_run=True)
    assert store.objects == before
    assert [(one.original.id, one.lost, one.repaired) for one in planned.mended] == [
        (scene.snapshots[0], ((b"tree/a", False),), None),
        (scene.snapshots[1], ((b"tree/a", False), (b"tree/c", False)), None),
    ]

    done = repair(store)

    assert (planned.exit_code, done.exit_code) == (3, 3)
    assert [one.lost for one in done.mended] == [one.lost for one in planned.mended]
    assert {finding.path for finding in done.findings} == {b"tree/a", b"tree/c"}
    assert {key: store.objects[key] for key in before} == before
    lost = (("a",), ("a", "c"))
    with open_repository(store) as repository:
        for one, names, expected in zip(done.mended, lost, scene.expected, strict=True):
            made = one.repaired
            assert made is not None
            assert_restores(repository, repository.catalog.get(made.id), without(expected, *names))
            assert dict(made.details)[REPAIR_OF] == format_id(one.original.id)
            assert (made.source, made.host, made.start_ns) == ("site", "host", one.original.start_ns + 1)
            assert made.parent == one.original.id
    again = repair(store)
    assert again.exit_code == 0, "what is lost was told before"
    assert again.mended == [] and [snapshot.id for snapshot in again.known] == list(scene.snapshots)
    with open_repository(store) as repository:
        for identifier in scene.snapshots:
            forget(repository, repository.catalog.get(identifier))
        assert check(repository).exit_code == 0
        prune(repository)
        assert repository.look().whole and check(repository).exit_code == 0


def test_a_snapshot_that_is_whole_is_left_alone(store: MemoryStore, scene: Scene) -> None:
    before = dict(store.objects)
    report = repair(store)
    assert (report.mended, report.exit_code) == ([], 0)
    assert store.objects == before


def test_the_originals_can_still_be_mended_when_a_replica_turns_up(store: MemoryStore, scene: Scene) -> None:
    damage(store, scene, "a")
    repair(store)

    with open_repository(store) as repository:
        donor = MirrorDonor(repository, scene.store())
        assert repair_packs(repository, mirror=donor, listener=NullListener(), cancel=CancelToken()).lost == 0
        donor.close()

    with open_repository(store) as repository:
        assert_whole(repository, scene)


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, bytes], Snapshot, dict[bytes, bytes]]:
    """One snapshot of a tree with directories below directories, each manifest in a block of its own."""
    tree = make_tree(tmp_path_factory.mktemp("deep") / "tree")
    store = MemoryStore()
    with new_repository(store) as repository:
        snapshot = take(repository, tree).snapshot
        assert snapshot is not None
        return dict(store.objects), snapshot, files_below(tree)


def test_a_lost_directory_is_left_out_or_empty_with_all_below_it_and_named(
    deep: tuple[dict[str, bytes], Snapshot, dict[bytes, bytes]], tmp_path: Path
) -> None:
    """A second snapshot has a changed directory, whose new manifest is lost: all else of it is kept."""
    objects, first, files = deep
    store = MemoryStore()
    store.objects = dict(objects)
    tree = make_tree(tmp_path / "tree")
    (tree / "many1" / "added").write_bytes(b"added")
    with open_repository(store) as repository:
        packs = set(store.objects)
        second = take(repository, tree).snapshot
        assert second is not None
        (manifests,) = [key for key in store.objects.keys() - packs if key.startswith("packs/") and ".m" in key]
        del store.objects[manifests]
        assert check(repository).exit_code == 4

    report = repair(store)

    (one,) = report.mended
    assert one.original.id == second.id and one.repaired is None and report.exit_code == 4, "its top directory is lost"
    with open_repository(store) as repository:
        assert_restores(repository, repository.catalog.get(first.id), files)
        forget(repository, second)
        assert check(repository).exit_code == 0


def test_what_is_below_a_directory_that_is_lost_is_named_by_it(scene: Scene, tmp_path: Path) -> None:
    """Its own pack holds the manifest of one subdirectory alone."""
    tree = tmp_path / "tree"
    (tree / "kept").mkdir(parents=True)
    (tree / "kept" / "file").write_bytes(b"kept")
    store = MemoryStore()
    with new_repository(store) as repository:
        take(repository, tree)
        before = set(store.objects)
        (tree / "lost").mkdir()
        (tree / "lost" / "file").write_bytes(b"lost")
        # A run of the subdirectory alone puts its manifest into a pack of its own; the next one refers to it.
        take(repository, tree / "lost", source="other")
        (only,) = [key for key in store.objects.keys() - before if key.startswith("packs/") and ".m" in key]
        whole = take(repository, tree).snapshot
        assert whole is not None
        del store.objects[only]
        assert check(repository).exit_code == 4

    report = repair(store)

    mended = {one.original.source: one for one in report.mended}
    assert mended["site"].lost == ((b"tree/lost", True),)
    with open_repository(store) as repository:
        made = mended["site"].repaired
        assert made is not None
        files = files_below(tree)
        assert_restores(repository, repository.catalog.get(made.id), {b"tree/kept/file": files[b"tree/kept/file"]})
        for snapshot in repository.catalog.snapshots().snapshots:
            if snapshot.id in {one.original.id for one in report.mended}:
                forget(repository, snapshot)
        assert check(repository).exit_code == 0


def test_two_repairs_at_once_make_one_new_snapshot(store: MemoryStore, scene: Scene) -> None:
    """The second begins and ends when the first is about to store its first manifest."""
    damage(store, scene, "a")
    met: list[str] = []

    class Meanwhile(MemoryStore):
        def put(self, key: str, parts: object) -> None:
            if key.startswith("packs/") and not met:
                met.append(key)
                assert repair(store).exit_code == 3
            super().put(key, parts)  # type: ignore[arg-type]

    meanwhile = Meanwhile("memory:meanwhile")
    meanwhile.objects = store.objects

    report = repair(meanwhile)

    assert met and report.exit_code == 3
    with open_repository(store) as repository:
        repaired = [one for one in repository.catalog.snapshots().snapshots if REPAIR_OF in dict(one.details)]
        assert sorted(dict(one.details)[REPAIR_OF] for one in repaired) == sorted(map(format_id, scene.snapshots))
        for identifier in scene.snapshots:
            forget(repository, repository.catalog.get(identifier))
        assert check(repository).exit_code == 0


def test_a_record_that_cannot_be_read_is_named(store: MemoryStore, scene: Scene) -> None:
    flip(store, layout.root_key(scene.snapshots[0]), -3)

    report = repair(store)

    assert report.unreadable == (scene.snapshots[0],) and report.exit_code == 4


@pytest.mark.parametrize("dry_run", [True, False])
def test_what_only_damaged_segments_describe_is_not_lost(store: MemoryStore, scene: Scene, dry_run: bool) -> None:
    damage(store, scene, "a")
    for key in [key for key in store.objects if key.startswith(layout.INDEX) and key not in layout.SENTINELS]:
        flip(store, key, -3)
    before = dict(store.objects)

    report = repair(store, dry_run=dry_run)

    assert [one.lost for one in report.mended] == [((b"tree/a", False),)] * len(scene.snapshots)
    assert (store.objects == before) is dry_run
    with open_repository(store) as repository:
        for one in [one for one in repository.catalog.snapshots().snapshots if REPAIR_OF in dict(one.details)]:
            origin = [format_id(each) for each in scene.snapshots].index(dict(one.details)[REPAIR_OF])
            assert_restores(repository, one, without(scene.expected[origin], "a"))


def test_what_comes_damaged_over_the_line_once_is_not_lost(scene: Scene) -> None:
    """Only once a damaged snapshot is repaired: whatever that one lacks stays away."""
    damaged = scene.store()
    damage(damaged, scene, "a")

    def run(plan: FaultPlan) -> FaultyStore:
        faulty = FaultyStore(store_of(damaged.objects), replace(plan, below=layout.PACKS))
        # It may end the run, and then nothing was committed.
        with suppress(RepositoryError):
            lost = [path for one in repair(faulty).mended for path, _ in one.lost]
            assert lost == [b"tree/a"] * len(scene.snapshots)
        return faulty

    assert every_fault(Fault.FLIPPED, run, verb="get") > 3


@pytest.mark.parametrize("fault", [Fault.FULL, Fault.FAIL_BEFORE, Fault.FAIL_AFTER])
def test_stopped_anywhere_it_leaves_no_half_snapshot_and_goes_on(scene: Scene, fault: Fault) -> None:
    damaged = scene.store()
    damage(damaged, scene, "a")

    def run(plan: FaultPlan) -> FaultyStore:
        inner = MemoryStore("memory:inner")
        inner.objects = dict(damaged.objects)
        faulty = FaultyStore(inner, plan)
        try:
            repair(faulty)
        except StoreError:
            assert faulty.fired
        report = repair(inner)
        assert report.exit_code == (3 if report.mended else 0)
        assert {key: inner.objects[key] for key in damaged.objects} == damaged.objects
        with open_repository(inner) as repository:
            snapshots = repository.catalog.snapshots()
            assert not snapshots.damaged
            repaired = [one for one in snapshots.snapshots if REPAIR_OF in dict(one.details)]
            assert {dict(one.details)[REPAIR_OF] for one in repaired} == {format_id(one) for one in scene.snapshots}
            for one in repaired:
                origin = [format_id(each) for each in scene.snapshots].index(dict(one.details)[REPAIR_OF])
                assert_restores(repository, one, without(scene.expected[origin], "a"))
        return faulty

    assert every_fault(fault, run, verb="put") >= 4
