"""Old packs under new keys: everything restores, stopped and raced at every operation, and the old key opens nothing."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from dedupstore.cancel import CancelToken
from dedupstore.codec.block import Codec
from dedupstore.codec.claims import peek_epoch
from dedupstore.engine.prune_plan import DAY_NS, PruneOptions, Reason
from dedupstore.engine.rekey import RekeyReport, execute_rekey, old_keys, plan_rekey
from dedupstore.errors import CorruptObject, DedupError, IntegrityError, Refused
from dedupstore.events import NullListener
from dedupstore.repo import layout
from dedupstore.repo.keyring import KeyRing
from dedupstore.repo.pack import read_pack_directory
from dedupstore.repo.pack_name import PackName
from dedupstore.repo.repository import Repository
from dedupstore.storage.memory import MemoryStore
from dedupstore.types import SnapshotId
from tests.support.faults import Fault, FaultPlan, FaultyStore, Step
from tests.support.pruning import assert_rebuilds, assert_sound, check, forget, pack_bytes, plans, prune
from tests.support.repositories import (
    SMALL,
    entries_of,
    files_below,
    new_repository,
    open_repository,
    random_bytes,
    take,
    text_bytes,
)
from tests.support.rotating import NEW_SECRET, open_by, rotate

Files = dict[bytes, bytes]
OPTIONS = replace(SMALL, pack_bytes=48 << 10, delta_block_bytes=4 << 10)


@dataclass
class Scene:
    """A store whose keys were rotated after two snapshots, with delta blocks between them."""

    objects: dict[str, bytes]
    tree: Path
    kept: dict[SnapshotId, Files]
    old: KeyRing
    """What somebody has who copied a slot before the rotation, and knows its passphrase."""

    def store(self) -> MemoryStore:
        store = MemoryStore()
        store.objects = dict(self.objects)
        return store


def change(tree: Path, day: int) -> None:
    rows = text_bytes(1, 1_200).splitlines(keepends=True)
    rows[day * 7] = b"changed on day %d\n" % day
    (tree / "dump.sql").write_bytes(b"".join(rows))
    (tree / "noise").write_bytes(random_bytes(f"noise {day // 2}", 20_000))


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    tree = tmp_path_factory.mktemp("rekey") / "tree"
    tree.mkdir()
    store = MemoryStore()
    kept: dict[SnapshotId, Files] = {}
    with new_repository(store, options=OPTIONS) as repository:
        old = repository.keyring
        for day in range(1, 4):
            change(tree, day)
            taken = take(repository, tree).snapshot
            assert taken is not None
            kept[taken.id] = files_below(tree)
        rotate(repository)
    return Scene(dict(store.objects), tree, kept, old)


def rekey(repository: Repository, *, max_repack: int | None = None, step_bytes: int = 40_000) -> RekeyReport:
    """By default in several steps."""
    return execute_rekey(
        repository, max_repack=max_repack, listener=NullListener(), cancel=CancelToken(), step_bytes=step_bytes
    )


def pack_epochs(repository: Repository) -> set[int]:
    """Read from the packs themselves."""
    store, keyring = repository.store, repository.keyring
    rows = layout.list_complete(store, layout.PACKS)
    return {read_pack_directory(store, PackName.parse(row.key), row.size, keyring)[0].epoch for row in rows}


def contents(repository: Repository) -> tuple[set[bytes], int]:
    """The ids of all chunks in packs, and how many blocks are deltas."""
    store, keyring = repository.store, repository.keyring
    found: set[bytes] = set()
    deltas = 0
    for row in layout.list_complete(store, layout.PACKS):
        for block in read_pack_directory(store, PackName.parse(row.key), row.size, keyring)[1]:
            found.update(block.ids)
            deltas += block.codec == Codec.DELTA
    return found, deltas


def assert_ends(store: MemoryStore, kept: dict[SnapshotId, Files]) -> None:
    """Nothing was lost; the next rekey ends what was begun, and leaves nothing under the old keys."""
    with open_repository(store) as repository:
        assert_sound(repository, kept)
        rekey(repository)
        assert_sound(repository, kept)
        assert pack_epochs(repository) == {repository.keyring.epoch}
        assert plans(store) == []


def test_everything_lies_under_the_new_keys_with_the_same_chunks_and_deltas(scene: Scene) -> None:
    store = scene.store()
    with open_repository(store) as repository:
        chunks, deltas = contents(repository)
        size = pack_bytes(store)
        assert deltas > 0 and pack_epochs(repository) == {1}

        report = rekey(repository)

        assert report.steps > 1 and report.packs_deleted > 3
        assert contents(repository) == (chunks, deltas)
        assert pack_epochs(repository) == {2}
        assert pack_bytes(store) < size * 1.3
        assert_sound(repository, scene.kept)
        assert_rebuilds(repository)
        left = old_keys(repository)
        assert (left.packs, left.bytes, left.segments, left.snapshots) == (0, 0, 0, 3)
        assert rekey(repository).steps == 0


def test_the_old_key_opens_no_pack_and_no_segment_any_more(scene: Scene) -> None:
    store = scene.store()
    with open_repository(store) as repository:
        rekey(repository)

    for row in layout.list_complete(store, layout.PACKS):
        with pytest.raises(CorruptObject) as caught:
            read_pack_directory(store, PackName.parse(row.key), row.size, scene.old)
        assert "no key for epoch 2" in caught.value.why
    assert {peek_epoch(store.get(row.key)) for row in layout.list_complete(store, layout.INDEX)} == {2}


def test_before_any_rotation_there_is_nothing_to_do(tmp_path: Path) -> None:
    store = MemoryStore()
    tree = tmp_path / "tree"
    tree.mkdir()
    change(tree, 1)
    with new_repository(store) as repository:
        take(repository, tree)
        before = dict(store.objects)

        assert rekey(repository).steps == 0
        assert store.objects == before


def test_a_bound_is_kept_and_the_next_run_goes_on(scene: Scene) -> None:
    store = scene.store()
    with open_repository(store) as repository:
        steps = 0
        before = old_keys_after_look(repository)
        while before:
            report = rekey(repository, max_repack=30_000)
            assert 0 < report.bytes_written < 30_000 + OPTIONS.pack_bytes * 2
            assert_sound(repository, scene.kept)
            left = old_keys(repository).packs
            assert left < before
            before = left
            steps += 1
        assert steps > 1


def old_keys_after_look(repository: Repository) -> int:
    repository.look()
    return old_keys(repository).packs


def test_a_plan_is_only_looked_at_on_a_dry_run(scene: Scene) -> None:
    store = scene.store()
    with open_repository(store) as repository:
        before = dict(store.objects)

        planned = plan_rekey(repository, max_repack=None, listener=NullListener(), cancel=CancelToken())

        assert {choice.reason for choice in planned.choices} == {Reason.OLD_KEY}
        assert planned.bytes_moving > 0
        assert store.objects == before


def test_forgotten_snapshots_can_be_brought_back_as_before_and_other_plans_wait(scene: Scene) -> None:
    store = scene.store()
    with open_repository(store) as repository:
        snapshots = repository.catalog.snapshots().snapshots
        forget(repository, snapshots[0])
        prune(repository, PruneOptions(grace_ns=DAY_NS))
        waiting = plans(store)
        rekey(repository)

        assert plans(store) == waiting
        assert layout.root_key(snapshots[0].id) in store.objects
        assert layout.forgotten_key(snapshots[0].id) in store.objects
        assert_sound(repository, {key: files for key, files in scene.kept.items() if key != snapshots[0].id})


def test_a_store_that_dies_at_any_operation_loses_nothing_and_the_next_rekey_ends_it(scene: Scene) -> None:
    """At each fifth; at every one, and whatever else may go wrong, is tried by test_every_fault.py."""
    struck = 0
    for at in itertools.count(0, 5):
        store = scene.store()
        faulty = FaultyStore(store)
        with open_repository(faulty) as repository:
            faulty.plan = FaultPlan(fault=Fault.FAIL_BEFORE, at=at, times=None)
            with suppress(DedupError):
                rekey(repository)
        assert_ends(store, scene.kept)
        if not faulty.fired:
            break
        struck += 1
    assert struck > 8


def test_a_record_that_is_not_found_once_costs_nothing(scene: Scene) -> None:
    """Storage says of a snapshot's record that it is not there, at each time it is asked for."""
    for at in itertools.count():
        store = scene.store()
        faulty = FaultyStore(store)
        with open_repository(faulty) as repository:
            faulty.plan = FaultPlan(fault=Fault.NOT_FOUND, at=at, verb="get", below=layout.ROOTS)
            with suppress(IntegrityError):
                rekey(repository, step_bytes=1 << 40)
        assert_ends(store, scene.kept)
        if not faulty.fired:
            break
    assert at > 5


def race(scene: Scene, act: Callable[[MemoryStore, dict[SnapshotId, Files]], None], *, every: int) -> int:
    """Rekey with `act` before every so manieth operation; how often it acted."""
    acted: list[int] = []
    for at in itertools.count(0, every):
        store = scene.store()
        kept = dict(scene.kept)

        def hook(step: Step, at: int = at, store: MemoryStore = store, kept: dict[SnapshotId, Files] = kept) -> None:
            if step.number == at and not step.done:
                acted.append(at)
                act(store, kept)

        faulty = FaultyStore(store)
        with open_repository(faulty) as repository:
            faulty.operations = 0
            faulty._hook = hook
            with suppress(Refused):
                rekey(repository)
        assert_ends(store, kept)
        if at not in acted:
            return len(acted)
    raise AssertionError("unreachable")


def test_a_snapshot_between_the_steps_of_a_rekey_is_kept(scene: Scene, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    change(tree, 2)

    def snapshot(store: MemoryStore, kept: dict[SnapshotId, Files]) -> None:
        with open_repository(store) as other:
            taken = take(other, tree).snapshot
            assert taken is not None
            kept[taken.id] = files_below(tree)

    assert race(scene, snapshot, every=7) > 10


def test_a_second_rekey_and_a_prune_between_the_steps_of_the_first(scene: Scene) -> None:
    def both(store: MemoryStore, kept: dict[SnapshotId, Files]) -> None:
        with open_repository(store) as other:
            rekey(other)
        with open_repository(store) as other:
            prune(other)

    assert race(scene, both, every=9) > 6


def test_the_keys_are_rotated_again_between_the_steps(scene: Scene) -> None:
    def again(store: MemoryStore, kept: dict[SnapshotId, Files]) -> None:
        with open_repository(store) as other:
            rotate(other)

    assert race(scene, again, every=11) > 6


def test_a_snapshot_under_the_old_keys_ends_and_the_next_rekey_takes_what_it_wrote(
    scene: Scene, tmp_path: Path
) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    change(tree, 9)
    store = MemoryStore()
    kept: dict[SnapshotId, Files] = {}
    with new_repository(store, options=OPTIONS) as repository:
        first = take(repository, tree).snapshot
        assert first is not None
        kept[first.id] = files_below(tree)
        with open_repository(store) as writer:
            rotate(repository)
            with open_repository(store) as other:
                rekey(other)
            change(tree, 12)
            second = take(writer, tree).snapshot
            assert second is not None
            kept[second.id] = files_below(tree)
    with open_repository(store) as repository:
        assert pack_epochs(repository) == {1, 2}
    assert_ends(store, kept)


def only_copy(repository: Repository) -> tuple[str, int]:
    """A pack with a chunk that the newest snapshot needs and that is nowhere else, and a byte of it."""
    newest = repository.catalog.snapshots().snapshots[-1]
    repository.look()
    entries = dict(entries_of(repository.reader.load_manifest, newest))
    chunk = next(chunk for chunk, _ in entries[b"tree/noise"].inline_references())
    (copy,) = repository.index.find_all(chunk)
    block = repository.index.block(copy.pack_no, copy.block_no)
    return repository.index.pack(copy.pack_no).name.key, block.offset + block.stored // 2


def test_damage_is_told_and_nothing_is_deleted_for_it(scene: Scene) -> None:
    store = scene.store()
    with open_repository(store) as repository:
        key, at = only_copy(repository)
        data = bytearray(store.objects[key])
        data[at] ^= 1
        store.objects[key] = bytes(data)

        with pytest.raises(IntegrityError):
            rekey(repository, step_bytes=1 << 40)

        assert key in store.objects
        damaged = {finding.code for finding in check(repository).findings if finding.severity == "error"}
        assert "check.pack_damaged" in damaged


def test_a_store_that_denies_deleting_is_left_readable_and_says_so(scene: Scene) -> None:
    store = scene.store()
    faulty = FaultyStore(store)
    with open_repository(faulty) as repository:
        faulty.plan = FaultPlan(fault=Fault.READ_ONLY, at=0, verb="delete", times=None)

        with pytest.raises(Refused) as caught:
            rekey(repository)

    assert caught.value.code == "prune.denied"
    assert_ends(store, scene.kept)


def test_another_passphrase_for_the_new_keys_is_all_that_is_needed(scene: Scene) -> None:
    store = scene.store()
    with open_repository(store) as repository:
        rotate(repository, NEW_SECRET)
    with open_by(store, NEW_SECRET) as repository:
        rekey(repository)
        assert pack_epochs(repository) == {3}
        assert_sound(repository, scene.kept)
