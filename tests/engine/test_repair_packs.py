"""Good bytes from wherever they are: other copies, a mirror, a copy with other keys; nothing is overwritten or deleted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from dedupstore.chunking.params import ChunkerParams
from dedupstore.engine import repair_sink
from dedupstore.repo import layout
from dedupstore.repo.segment import PackFacts
from dedupstore.storage.memory import MemoryStore
from dedupstore.types import Kind
from tests.support.damaging import DATA, check, chunk_of, content_of, flip, flip_block, flip_file
from tests.support.pack_layouts import LAYOUTS, Scene, build
from tests.support.pruning import forget, prune
from tests.support.repairing import (
    break_blocks,
    break_trailer,
    cut,
    found_damaged,
    lose,
    repair,
    whole_and_pruned,
)
from tests.support.replicating import run_copy, run_mirror
from tests.support.repositories import SMALL, new_repository, open_repository, take
from tests.support.scenes import store_of


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return build(LAYOUTS["full"], tmp_path_factory.mktemp("repair packs") / "tree")


@pytest.fixture(scope="module")
def mirrored(scene: Scene) -> dict[str, bytes]:
    mirror = MemoryStore("memory:mirror")
    run_mirror(scene.store(), mirror)
    return dict(mirror.objects)


@pytest.fixture(scope="module")
def copied(scene: Scene) -> dict[str, bytes]:
    """Into a repository with other keys, which would cut files otherwise."""
    copy = MemoryStore("memory:copy")
    new_repository(copy, options=replace(SMALL, chunker=ChunkerParams.for_average(8192))).close()
    run_copy(scene.store(), copy)
    return dict(copy.objects)


@pytest.fixture
def mirror(mirrored: dict[str, bytes]) -> MemoryStore:
    return store_of(mirrored)


@pytest.fixture
def copy(copied: dict[str, bytes]) -> MemoryStore:
    return store_of(copied)


@pytest.fixture
def store(scene: Scene) -> Iterator[MemoryStore]:
    """Whatever a test does, no object that was there is changed or gone at its end, but by its own hands or a prune's."""
    store = scene.store()
    yield store
    changed = [key for key, data in store.objects.items() if key in scene.objects and scene.objects[key] != data]
    assert all(key.startswith("packs/") for key in changed), changed


Damage = Callable[[MemoryStore, PackFacts], None]


DAMAGES = [lose, cut, break_blocks, break_trailer]
PACKS = ["a b c", "d", "B C e", "manifests 0", "manifests 1"]


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("pack", PACKS)
def test_a_mirror_mends_whatever_happened_to_a_pack(
    store: MemoryStore, mirror: MemoryStore, scene: Scene, pack: str, damage: Damage
) -> None:
    damage(store, scene.packs[pack])
    found_damaged(store)
    before = dict(store.objects)

    planned = repair(store, mirror=mirror, dry_run=True)

    assert store.objects == before
    done = repair(store, mirror=mirror)
    assert (done.packs, done.chunks, done.lost) == (planned.packs, planned.chunks, 0)
    assert done.packs == (damage is lose)
    assert {key: store.objects[key] for key in before} == before
    again = repair(store, mirror=mirror)
    assert (again.packs, again.chunks, again.exit_code) == (0, 0, 0)
    whole_and_pruned(store, scene)


@pytest.mark.parametrize(
    "damage", [lose, break_trailer, *(pytest.param(one, marks=pytest.mark.slow) for one in (cut, break_blocks))]
)
@pytest.mark.parametrize("pack", PACKS)
def test_a_copy_with_other_keys_mends_whatever_happened_to_a_pack(
    store: MemoryStore, copy: MemoryStore, scene: Scene, pack: str, damage: Damage
) -> None:
    damage(store, scene.packs[pack])
    found_damaged(store)
    before = dict(store.objects)

    planned = repair(store, copy=copy, dry_run=True)
    assert store.objects == before
    done = repair(store, copy=copy)

    assert (done.packs, done.lost, done.exit_code) == (0, 0, 0)
    assert done.chunks == planned.chunks
    assert {key: store.objects[key] for key in before} == before
    whole_and_pruned(store, scene)


def test_everything_at_once_is_mended_by_a_copy_of_a_copy(store: MemoryStore, copy: MemoryStore, scene: Scene) -> None:
    second = MemoryStore("memory:second")
    new_repository(second).close()
    run_copy(copy, second)
    for pack in PACKS:
        break_blocks(store, scene.packs[pack])
    found_damaged(store)

    assert repair(store, copy=second).exit_code == 0

    whole_and_pruned(store, scene)


@pytest.mark.parametrize("replica", ["mirror", "copy"])
def test_whatever_is_mended_is_not_held_in_memory(
    store: MemoryStore, mirror: MemoryStore, copy: MemoryStore, scene: Scene, replica: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Every manifest is read again from the pack it was put into."""
    monkeypatch.setattr(repair_sink, "HELD_BYTES", 0)
    for pack in PACKS:
        break_blocks(store, scene.packs[pack])
    found_damaged(store)
    donor = {"mirror": mirror, "copy": copy}[replica]

    planned = repair(store, dry_run=True, **{replica: donor})  # type: ignore[arg-type]
    done = repair(store, **{replica: donor})  # type: ignore[arg-type]

    assert (done.lost, done.chunks) == (0, planned.chunks)
    whole_and_pruned(store, scene)


def test_a_copy_is_mended_by_what_it_is_a_copy_of(copy: MemoryStore, scene: Scene) -> None:
    for key in [key for key in copy.objects if key.startswith("packs/") and key[-3:-1] in (".d", ".m")]:
        flip(copy, key, 100)
    found_damaged(copy)

    assert repair(copy, copy=scene.store()).exit_code == 0

    with open_repository(copy) as repository:
        assert check(repository).exit_code == 0
        prune(repository)
        assert [one for one in check(repository).findings if one.severity != "note"] == []


def test_what_is_whole_elsewhere_in_the_repository_needs_no_replica(store: MemoryStore, scene: Scene) -> None:
    """Wrongly recorded, or put back by hand: it can be read, and is stored again so that all may rely on it."""
    with open_repository(store) as repository:
        fact = flip_file(store, repository, scene, "a")
    found_damaged(store)
    store.objects[fact.name.key] = scene.objects[fact.name.key]

    done = repair(store)

    assert (done.chunks, done.chunk_bytes, done.exit_code) == (1, len(content_of("a")), 0)
    whole_and_pruned(store, scene)


def test_what_nobody_has_is_told_and_all_else_is_mended(store: MemoryStore, scene: Scene) -> None:
    with open_repository(store) as repository:
        fact = flip_file(store, repository, scene, "a")
        flip_file(store, repository, scene, "c")
    found_damaged(store)
    helpless = repair(store)
    assert (helpless.chunks, helpless.lost, helpless.exit_code) == (0, 2, 4)
    assert {finding.path for finding in helpless.findings} == {b"tree/a", b"tree/c"}
    mirror = store_of(scene.objects)
    flip_block(mirror, fact, 0)

    partly = repair(store, mirror=mirror)

    assert (partly.chunks, partly.lost) == (1, 1)
    with open_repository(store) as repository:
        left = check(repository)
        assert [file.path for file in left.damage.files] == [b"tree/a"]
        assert repository.reader.read(Kind.DATA, chunk_of(repository, "c")) == content_of("c")
    assert repair(store, mirror=store_of(scene.objects)).exit_code == 0
    whole_and_pruned(store, scene)


@pytest.mark.parametrize("pack", ["a b c", "manifests 1"])
def test_a_damaged_copy_gives_what_it_has(store: MemoryStore, copy: MemoryStore, scene: Scene, pack: str) -> None:
    break_blocks(store, scene.packs[pack])
    found_damaged(store)
    for key in [key for key in copy.objects if key.startswith("packs/") and ".m" in key]:
        copy.objects[key] = bytes(len(copy.objects[key]))

    report = repair(store, copy=copy)

    assert report.exit_code == 4 and report.lost
    with open_repository(store) as repository:
        assert check(repository).exit_code == 4
    assert repair(store, mirror=store_of(scene.objects)).exit_code == 0
    whole_and_pruned(store, scene)


def test_a_mirror_that_is_older_than_a_prune_still_helps(tmp_path: Path) -> None:
    """What is damaged lies in a pack that the mirror never had; the chunk lies in one that is pruned here."""
    scene = build(LAYOUTS["full"], tmp_path / "tree")
    store = scene.store()
    mirror = scene.store()
    with open_repository(store) as repository:
        forget(repository, repository.catalog.get(scene.snapshots[0]))
        with repository.writer(repository.look()) as writer:
            for name in ("B", "C", "e"):
                writer.store_again(Kind.DATA, chunk_of(repository, name), content_of(name))
        del store.objects[scene.packs["B C e"].name.key]
        assert check(repository, DATA).exit_code == 4
        prune(repository)
        (fresh,) = {
            repository.index.pack(at.pack_no)
            for at in repository.index.find_all(chunk_of(repository, "e"))
            if repository.index.pack(at.pack_no).name.key in store.objects
        }
        flip(store, fresh.name.key, 300)
        assert check(repository).exit_code == 4

    assert repair(store, mirror=mirror).exit_code == 0

    with open_repository(store) as repository:
        assert check(repository).exit_code == 0


def test_a_copy_that_has_none_of_our_snapshots_mends_nothing(store: MemoryStore, scene: Scene, tmp_path: Path) -> None:
    stranger = MemoryStore("memory:stranger")
    (tmp_path / "other").mkdir()
    with new_repository(stranger) as repository:
        take(repository, tmp_path / "other")
    break_blocks(store, scene.packs["d"])
    found_damaged(store)

    assert repair(store, copy=stranger).lost == 1

    assert repair(store, mirror=store_of(scene.objects)).exit_code == 0
    whole_and_pruned(store, scene)


def test_damage_no_check_has_found_is_mended_where_it_is_met(
    store: MemoryStore, mirror: MemoryStore, scene: Scene
) -> None:
    """Directories are read by a repair, so what is wrong with them shows."""
    break_blocks(store, scene.packs["manifests 0"])

    assert repair(store, mirror=mirror).chunks > 0

    with open_repository(store) as repository:
        assert check(repository).exit_code == 4, "a new finding, though nothing is lost by it"
        assert check(repository).damage.files_total == 0
    whole_and_pruned(store, scene)


@pytest.mark.parametrize("dry_run", [False, True])
def test_what_only_damaged_segments_describe_is_not_stored_again(
    store: MemoryStore, mirror: MemoryStore, scene: Scene, dry_run: bool
) -> None:
    """By a machine that has never read them: the packs say themselves what they hold, and one of them is damaged."""
    with open_repository(store) as repository:
        flip_file(store, repository, scene, "a")
    found_damaged(store)
    segments = [key for key in store.objects if key.startswith(layout.INDEX) and key not in layout.SENTINELS]
    good = {key: store.objects[key] for key in segments}
    for key in segments:
        flip(store, key, -3)

    report = repair(store, mirror=mirror, dry_run=dry_run)

    assert (report.chunks, report.chunk_bytes, report.lost) == (1, len(content_of("a")), 0)
    store.objects |= good
    assert repair(store, mirror=mirror).chunks == dry_run
    whole_and_pruned(store, scene)


def test_a_repository_that_is_whole_is_not_touched(store: MemoryStore, mirror: MemoryStore, scene: Scene) -> None:
    before = dict(store.objects)

    report = repair(store, mirror=mirror)

    assert (report.packs, report.chunks, report.exit_code) == (0, 0, 0)
    assert store.objects == before
