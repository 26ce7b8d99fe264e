"""Copies in a repository with other keys: the same files, byte for byte, small, resumable, and nothing wrong among them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dedupstore.cancel import CancelToken
from dedupstore.chunking.params import ChunkerParams
from dedupstore.engine import copy_data
from dedupstore.engine.copy import copy_snapshots
from dedupstore.engine.origin import REPOSITORY, SNAPSHOT
from dedupstore.errors import Refused
from dedupstore.events import Collector, NullListener
from dedupstore.model.tree import read_tree
from dedupstore.storage.memory import MemoryStore
from dedupstore.units import format_id
from tests.support.faults import FaultyStore, Step
from tests.support.replicating import (
    History,
    assert_copied,
    check_clean,
    empty_objects,
    fresh,
    make_history,
    run_copy,
    run_mirror,
)
from tests.support.repositories import (
    SMALL,
    files_below,
    make_tree,
    new_repository,
    open_repository,
    take,
)


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> History:
    return make_history(tmp_path_factory.mktemp("copy"))


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> History:
    """Two snapshots, for what is done at every single operation."""
    return make_history(tmp_path_factory.mktemp("short"), snapshots=2)


@pytest.fixture(scope="module")
def empty() -> dict[str, bytes]:
    return empty_objects()


@pytest.fixture
def target(empty: dict[str, bytes]) -> MemoryStore:
    return fresh(empty)


def size_of(store: MemoryStore) -> int:
    return sum(map(len, store.objects.values()))


def test_copies_restore_the_same_files_and_say_what_their_originals_said(history: History, target: MemoryStore) -> None:
    source = history.store()

    result = run_copy(source, target)

    assert result.exit_code == 0 and len(result.copied) == 3 and not result.findings
    assert_copied(target, history, list(history.states))
    assert source.objects == history.objects
    with open_repository(source) as here, open_repository(target) as there:
        originals, copies = here.catalog.snapshots().snapshots, there.catalog.snapshots().snapshots
        for number, (original, copy) in enumerate(zip(originals, copies, strict=True)):
            assert dict(copy.details) == {REPOSITORY: here.id.hex(), SNAPSHOT: format_id(original.id)}
            assert copy.id != original.id and copy.root != original.root
            assert copy.parent == (copies[number - 1].id if number else None)
            assert replace(
                copy, id=original.id, root=original.root, parent=original.parent, details=original.details
            ) == original  # fmt: skip


def test_a_second_run_copies_nothing_and_reads_no_data(history: History, target: MemoryStore, tmp_path: Path) -> None:
    source = history.store()
    run_copy(source, target, cache=tmp_path / "cache")
    before = dict(target.objects)
    counting = FaultyStore(source)

    result = run_copy(counting, target, cache=tmp_path / "cache")

    assert not result.copied and len(result.present) == 3
    assert target.objects == before


def test_a_copy_in_many_small_windows_is_the_same_copy(
    history: History, target: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copy_data, "MAX_WINDOW_CHUNKS", 5)

    run_copy(history.store(), target)

    assert_copied(target, history, list(history.states))


def test_only_chosen_snapshots_are_copied_in_any_order(history: History, target: MemoryStore) -> None:
    ids = list(history.states)
    source = history.store()

    run_copy(source, target, 2)
    assert_copied(target, history, ids[2:])
    run_copy(source, target, 0)
    assert_copied(target, history, [ids[0], ids[2]])
    run_copy(source, target)
    assert_copied(target, history, ids)


def test_a_copy_of_many_increments_stays_as_small_as_the_original(tmp_path: Path) -> None:
    history = make_history(tmp_path, snapshots=10)
    source, target = history.store(), MemoryStore("memory:target")
    new_repository(target).close()

    run_copy(source, target)

    assert size_of(target) <= size_of(source) * 1.1
    assert_copied(target, history, list(history.states))


def test_unchanged_directories_are_found_again_without_being_read(history: History, target: MemoryStore) -> None:
    """The second snapshot is read where it differs, and nowhere else."""
    source = history.store()
    with open_repository(source) as here, open_repository(target) as there:
        snapshots = here.catalog.snapshots().snapshots
        copy_snapshots(here, there, snapshots[:1], listener=NullListener(), cancel=CancelToken())
        copied = {entry.tree for entry in read_tree(here.reader.load_manifest, snapshots[0].root)}
        seen = Collector()
        loaded = []
        here._reader = reader = _Recorder(here.reader, loaded)  # type: ignore[assignment]  # a stand-in

        copy_snapshots(here, there, snapshots[1:2], listener=seen, cancel=CancelToken())

        assert loaded and not copied & set(loaded)
        assert reader is here.reader
    assert_copied(target, history, list(history.states)[:2])


class _Recorder:
    """A reader that notes the manifests it was asked for."""

    def __init__(self, inner: object, loaded: list[object]) -> None:
        self._inner = inner
        self._loaded = loaded

    def load_manifest(self, chunk: object) -> object:
        self._loaded.append(chunk)
        return self._inner.load_manifest(chunk)  # type: ignore[attr-defined]  # of whichever reader it stands in for

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)


def test_a_repository_is_not_copied_into_itself_nor_into_its_mirror(history: History) -> None:
    source, mirror = history.store(), MemoryStore("memory:mirror")
    run_mirror(source, mirror)

    for store in (source, mirror):
        before = dict(store.objects)
        with pytest.raises(Refused) as raised:
            run_copy(source, store)
        assert raised.value.code == "copy.same_repository"
        assert store.objects == before


def test_a_copy_of_a_copy_is_a_copy_of_the_original_and_nothing_comes_twice(
    history: History, target: MemoryStore
) -> None:
    source, third = history.store(), MemoryStore("memory:third")
    new_repository(third).close()
    run_copy(source, target)
    run_copy(target, third)

    assert_copied(third, history, list(history.states))
    assert not run_copy(source, third).copied
    assert not run_copy(third, source).copied
    assert source.objects.keys() == history.objects.keys()


def test_chunks_of_other_sizes_are_taken_as_they_are_and_that_is_said(history: History) -> None:
    source, coarse = history.store(), MemoryStore("memory:coarse")
    new_repository(coarse, options=replace(SMALL, chunker=ChunkerParams.for_average(16384))).close()
    large, fine = MemoryStore("memory:large"), MemoryStore("memory:fine")
    new_repository(large, options=replace(SMALL, chunker=ChunkerParams.for_average(65536))).close()
    new_repository(fine).close()
    with open_repository(large) as repository:
        taken = take(repository, history.tree).snapshot
        assert taken is not None

    result = run_copy(source, coarse)
    run_copy(large, fine)

    assert [finding.code for finding in result.findings] == ["copy.other_chunks"] and result.exit_code == 0
    assert_copied(coarse, history, list(history.states))
    states = {taken.id: files_below(history.tree)}
    assert_copied(fine, History({}, history.tree, states), [taken.id])


def test_snapshots_of_the_target_itself_stay_and_follow_the_copies(history: History, target: MemoryStore) -> None:
    """A snapshot of the same files into the target has the copy for a parent: it stores small deltas where cuts differ."""
    run_copy(history.store(), target)
    before = size_of(target)

    with open_repository(target) as repository:
        taken = take(repository, history.tree).snapshot
        assert taken is not None and taken.parent == repository.catalog.snapshots().snapshots[-2].id

    assert size_of(target) - before < 40_000
    check_clean(target)


def test_two_copies_at_once_both_end_well_and_each_snapshot_comes_once(short: History, empty: dict[str, bytes]) -> None:
    """A whole second copy runs between any two operations of the first, up to the moment of its last marker."""
    source = short.store()
    total, at, doubles = 1, 0, 0
    while at < total:
        store = fresh(empty)

        def second(step: Step, at: int = at, store: MemoryStore = store) -> None:
            if step.number == at and not step.done:
                run_copy(source, store)

        faulty = FaultyStore(store, hook=second)
        run_copy(source, faulty)
        assert_copied(store, short)
        with open_repository(store) as repository:
            found = len(repository.catalog.snapshots().snapshots)
        assert found in (2, 3)
        doubles += found - 2
        total = faulty.operations
        at += 5
    # Only between the last look at the markers and the own marker can another run be overlooked.
    assert doubles < total // 5


def test_a_snapshot_of_a_large_directory_and_a_long_file_is_copied_page_by_page(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    for number in range(5000):
        (tree / f"{number:05d}").touch()
    (tree / "long").write_bytes(make_tree(tmp_path / "other", scale=20).joinpath("noise.bin").read_bytes())
    source, target = MemoryStore("memory:source"), MemoryStore("memory:target")
    new_repository(target).close()
    with new_repository(source) as repository:
        taken = take(repository, tree).snapshot
        assert taken is not None
    history = History(dict(source.objects), tree, {taken.id: files_below(tree)})

    run_copy(source, target)

    assert_copied(target, history, [taken.id])
