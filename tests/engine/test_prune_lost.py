"""A pack that is lost while it waits to be deleted is lost, and is not made a pruned one by the prune that meets its plan."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dedupstore.cancel import CancelToken
from dedupstore.engine.prune import execute_prune
from dedupstore.engine.repair_snapshots import repair_snapshots
from dedupstore.errors import IntegrityError
from dedupstore.events import Collector, NullListener
from dedupstore.model.snapshot import Snapshot
from dedupstore.repo.pack_name import PackName
from dedupstore.repo.repository import Repository
from dedupstore.storage.memory import MemoryStore
from dedupstore.types import Kind
from tests.support.mending import mend
from tests.support.pruning import NOW, assert_sound, check, condemn, forget, plan, plans, prune, sweep
from tests.support.repositories import (
    assert_restores,
    files_below,
    make_tree,
    new_repository,
    random_bytes,
    stored_files,
    take,
)


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


def data_packs(repository: Repository) -> list[PackName]:
    repository.look()
    return [row.name for row in repository.index.packs() if row.kind is Kind.DATA]


def test_a_condemned_pack_that_is_lost_with_what_is_needed_stays_missed(
    repository: Repository, store: MemoryStore, tree: Path
) -> None:
    damaged = take(repository, tree).snapshot
    first, second, *_ = data_packs(repository)
    condemn(repository, [first.id, second.id])
    del store.objects[first.key]
    collector = Collector()

    report = execute_prune(repository, plan(repository), NOW, listener=collector, cancel=CancelToken())

    assert (report.packs_lost, report.packs_deleted, plans(store)) == (1, 1, [])
    assert [finding.code for finding in collector.findings] == ["prune.pack_lost"]
    assert repository.look().lost == {first.id}
    assert "check.pack_missing" in {finding.code for finding in check(repository).findings}
    again = take(repository, tree).snapshot
    forget(repository, damaged)
    assert_restores(repository, again, files_below(tree))
    report_after = check(repository)
    assert report_after.damage.files_total == 0
    assert ("check.pack_missing", "note") in {(one.code, one.severity) for one in report_after.findings}
    assert repository.look().lost == {first.id}, "nobody has looked yet whether anything needs it"
    prune(repository)
    assert repository.look().whole
    assert again is not None
    assert_sound(repository, {again.id: files_below(tree)})


def test_a_condemned_pack_that_is_gone_and_that_nobody_needed_is_as_good_as_pruned(
    repository: Repository, store: MemoryStore, tree: Path, tmp_path: Path
) -> None:
    kept = take(repository, tree).snapshot
    before = set(data_packs(repository))
    forget(repository, take(repository, make_tree(tmp_path / "other", seed=7), source="other").snapshot)
    dead = next(pack for pack in data_packs(repository) if pack not in before)
    condemn(repository, [dead.id])
    del store.objects[dead.key]

    report = sweep(repository)

    assert (report.packs_lost, report.plans_done) == (0, 1)
    assert repository.look().whole
    assert kept is not None
    assert_sound(repository, {kept.id: files_below(tree)})


def base_and_delta(repository: Repository, tree: Path) -> tuple[PackName, PackName, Snapshot]:
    """Two packs, the second with noise and with a row that needs the first; the snapshot of both, the only one kept."""
    tree.mkdir()
    rows = bytearray(random_bytes("rows", 40_000))
    (tree / "rows").write_bytes(rows)
    first = take(repository, tree).snapshot
    (base,) = data_packs(repository)
    rows[:20] = b"changed in the second"
    (tree / "rows").write_bytes(rows)
    (tree / "noise").write_bytes(random_bytes("noise", 60_000))
    second = take(repository, tree).snapshot
    (delta,) = set(data_packs(repository)) - {base}
    forget(repository, first)
    assert second is not None
    return base, delta, second


def test_a_delta_that_has_lost_its_base_stops_no_prune(
    repository: Repository, store: MemoryStore, tmp_path: Path
) -> None:
    """Nothing could be moved out of its pack, of which most is not needed any more: so the pack stays as it is."""
    tree = tmp_path / "rows"
    base, sparse, second = base_and_delta(repository, tree)
    (tree / "noise").unlink()
    third = take(repository, tree).snapshot
    forget(repository, second)
    taken_away = store.objects.pop(base.key)

    report = prune(repository)

    assert report.plans_done and not plans(store)
    assert sparse.key in store.objects
    assert third is not None
    store.objects[base.key] = taken_away
    assert prune(repository).bytes_moved > 0
    assert sparse.key not in store.objects
    assert_sound(repository, {third.id: files_below(tree)})


@pytest.mark.parametrize("way", ["repair packs", "the next snapshot", "repair snapshots"])
def test_a_base_that_is_lost_after_its_delta_was_condemned_stops_prune_until_it_is_mended(
    repository: Repository, store: MemoryStore, tmp_path: Path, way: str
) -> None:
    tree = tmp_path / "rows"
    base, delta, damaged = base_and_delta(repository, tree)
    mirror = MemoryStore("memory:mirror")
    mirror.objects = dict(store.objects)
    condemn(repository, [delta.id])
    del store.objects[base.key]
    before = dict(store.objects)

    with pytest.raises(IntegrityError) as stopped:
        sweep(repository)

    assert stopped.value.code == "prune.unmovable"
    assert "delta base" in stopped.value.why
    assert any(hint.endswith(": dedup repair packs") for hint in stopped.value.hints)
    assert store.objects == before, "nothing is lost, and the plan waits"
    assert damaged.id in check(repository).damage.snapshots
    kept = {damaged.id: files_below(tree)}
    if way == "repair packs":
        mend(repository, mirror=mirror)
    else:
        if way == "the next snapshot":
            new = take(repository, tree).snapshot
        else:
            repair_snapshots(repository, listener=NullListener(), cancel=CancelToken())
            new = next(one for one in repository.catalog.snapshots().snapshots if one.id != damaged.id)
        forget(repository, damaged)
        assert new is not None
        kept = {new.id: stored_files(repository, new)}
    assert prune(repository).plans_done and not plans(store)
    assert_sound(repository, kept)
