"""Copies in a repository with other keys: the same files, byte for byte, small, resumable, and nothing wrong among them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from dedupstore.cancel import CancelToken
from dedupstore.chunking.params import ChunkerParams
from dedupstore.engine import copy_data
from dedupstore.engine.copy import copy_snapshots
from dedupstore.engine.origin import REPOSITORY, SNAPSHOT
from dedupstore.errors import CacheError, IncompleteListing, Interrupted, Refused, RepositoryError, StoreError
from dedupstore.events import Collector, NullListener, Progress
from dedupstore.model.snapshot import Snapshot
from dedupstore.model.tree import read_content, read_tree
from dedupstore.repo import layout
from dedupstore.repo.lmdb_index import LmdbIndex
from dedupstore.repo.repository import Repository
from dedupstore.storage.memory import MemoryStore
from dedupstore.types import ChunkId, Kind
from dedupstore.units import format_id
from tests.support.faults import Fault, FaultPlan, FaultyStore, Step, every_fault
from tests.support.replicating import (
    History,
    assert_copied,
    check_clean,
    make_history,
    run_copy,
    run_mirror,
)
from tests.support.repositories import (
    SMALL,
    assert_restores,
    entries_of,
    files_below,
    make_tree,
    new_repository,
    open_repository,
    segment_facts,
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
    """The objects of an empty repository to copy to."""
    store = MemoryStore()
    new_repository(store).close()
    return dict(store.objects)


@pytest.fixture
def target(empty: dict[str, bytes]) -> MemoryStore:
    return fresh(empty)


def fresh(empty: dict[str, bytes]) -> MemoryStore:
    store = MemoryStore("memory:target")
    store.objects = dict(empty)
    return store


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
        here._reader = reader = _Recorder(here.reader, loaded)  # type: ignore[assignment]

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
        return self._inner.load_manifest(chunk)  # type: ignore[attr-defined]

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)


@pytest.mark.parametrize(
    "fault",
    [
        Fault.FLIPPED,
        *(pytest.param(one, marks=pytest.mark.slow) for one in (Fault.TRUNCATED, Fault.NOT_FOUND, Fault.FAIL_BEFORE)),
    ],
)
def test_a_wrong_answer_of_the_source_never_makes_a_wrong_copy(
    short: History, empty: dict[str, bytes], fault: Fault
) -> None:
    source = short.store()

    def run(plan: FaultPlan) -> FaultyStore:
        store = fresh(empty)
        faulty = FaultyStore(source, plan)
        try:
            run_copy(faulty, store)
        except RepositoryError:
            assert faulty.fired
        assert_copied(store, short)
        run_copy(source, store)
        assert_copied(store, short, list(short.states))
        return faulty

    assert every_fault(fault, run, verb="get") > 10


@pytest.mark.parametrize("fault", [Fault.WITHOUT_LAST_PAGE, Fault.EMPTY_LISTING])
def test_a_listing_cut_short_never_looks_like_an_empty_target(
    short: History, empty: dict[str, bytes], fault: Fault
) -> None:
    source = short.store()

    def run(plan: FaultPlan) -> FaultyStore:
        store = fresh(empty)
        faulty = FaultyStore(store, plan)
        try:
            run_copy(source, faulty)
        except IncompleteListing:
            assert faulty.fired
        assert_copied(store, short)
        return faulty

    assert every_fault(fault, run) > 5


def test_a_target_that_fills_up_fails_the_copy_and_goes_on_when_there_is_room(
    short: History, empty: dict[str, bytes]
) -> None:
    source = short.store()

    def run(plan: FaultPlan) -> FaultyStore:
        store = fresh(empty)
        faulty = FaultyStore(store, plan)
        code = ""
        try:
            run_copy(source, faulty)
        except StoreError as error:
            code = error.code
        assert code == ("store.full" if faulty.fired else "")
        assert_copied(store, short)
        run_copy(source, store)
        assert_copied(store, short, list(short.states))
        return faulty

    assert every_fault(Fault.FULL, run, times=None) > 4


def test_a_damaged_chunk_is_named_and_only_the_snapshots_that_need_it_are_left_out(
    history: History, target: MemoryStore
) -> None:
    """What is hit is a chunk of the newest version of a file, and of no other."""
    source = history.store()
    with open_repository(source) as repository:
        repository.look()
        snapshots = repository.catalog.snapshots().snapshots
        only_newest = _dump_chunks(repository, snapshots[2]) - _dump_chunks(repository, snapshots[1])
        place = repository.reader.locate(min(only_newest))
        row = repository.index.pack(place.pack_no)
        at = repository.index.block(place.pack_no, place.block_no).offset + 20
    data = bytearray(source.objects[row.name.key])
    data[at] ^= 1
    source.objects[row.name.key] = bytes(data)

    result = run_copy(source, target)

    assert result.exit_code == 4
    assert [snapshot.id for snapshot in result.failed] == [snapshots[2].id]
    codes = {finding.code for finding in result.findings}
    assert codes == {"copy.chunk_damaged", "copy.snapshot_damaged"}
    assert any(finding.path is not None and finding.path.endswith(b"dump.sql") for finding in result.findings)
    assert_copied(target, history, [snapshot.id for snapshot in snapshots[:2]])
    source.objects = dict(history.objects)
    assert run_copy(source, target).exit_code == 0
    assert_copied(target, history, [snapshot.id for snapshot in snapshots])


def _dump_chunks(repository: Repository, snapshot: Snapshot) -> set[ChunkId]:
    load = repository.reader.load_manifest
    dump = next(entry for path, entry in entries_of(load, snapshot) if path == b"tree/dump.sql")
    return {chunk for chunk, _ in read_content(load, dump)}


def test_chunks_that_a_prune_of_the_source_moves_meanwhile_are_found_where_they_went(
    history: History, target: MemoryStore
) -> None:
    """Just before the first data pack is read, all it holds is stored in another pack, and it is removed."""
    source = history.store()
    moved: list[str] = []

    def evacuate(step: Step) -> None:
        if step.verb == "get" and ".d" in step.key and not step.done and not moved and reading:
            moved.append(step.key)
            with open_repository(source) as repository:
                view = repository.look()
                (row,) = [row for row in repository.index.packs() if row.name.key == step.key]
                (fact,) = [fact for fact in segment_facts(repository) if fact.id == row.id]
                with repository.writer(view) as writer:
                    for chunk in [chunk for block in fact.blocks() for chunk in block.ids]:
                        writer.store_again(Kind.DATA, chunk, repository.reader.read(Kind.DATA, chunk))
            del source.objects[step.key]

    reading: list[bool] = []
    with open_repository(FaultyStore(source, hook=evacuate)) as here, open_repository(target) as there:
        snapshots = here.catalog.snapshots().snapshots
        here.look()
        reading.append(True)

        result = copy_snapshots(here, there, snapshots, listener=NullListener(), cancel=CancelToken())

    assert moved and result.exit_code == 0, result.findings
    assert_copied(target, history, list(history.states))


def test_a_damaged_directory_is_named_and_its_snapshot_left_out(history: History, target: MemoryStore) -> None:
    source = history.store()
    manifests = sorted(
        key for key in source.objects if key.startswith(layout.PACKS) and ".m" in key and key not in layout.SENTINELS
    )
    for key in manifests:
        data = bytearray(source.objects[key])
        data[100] ^= 1
        source.objects[key] = bytes(data)

    result = run_copy(source, target)

    assert result.exit_code == 4 and len(result.failed) == 3 and not result.copied
    assert "copy.directory_damaged" in {finding.code for finding in result.findings}
    assert_copied(target, history, [])


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


def test_an_interrupted_copy_goes_on_where_it_stopped(history: History, target: MemoryStore, tmp_path: Path) -> None:
    source, cache = history.store(), tmp_path / "cache"
    token = CancelToken()

    class Stop(NullListener):
        def progress(self, progress: Progress) -> None:
            if progress.bytes_done > 100_000:
                token.cancel()

    with open_repository(source) as here, open_repository(target, cache) as there:
        with pytest.raises(Interrupted):
            copy_snapshots(here, there, here.catalog.snapshots().snapshots, listener=Stop(), cancel=token)
    assert_copied(target, history)
    other = MemoryStore("memory:other")
    new_repository(other).close()
    whole = run_copy(source, other, 0).copied[0].read

    result = run_copy(source, target, 0, cache=cache)

    assert result.copied[0].read <= whole - 100_000
    assert_copied(target, history, list(history.states)[:1])


def test_a_copy_lost_in_the_target_is_stored_again(history: History, target: MemoryStore, tmp_path: Path) -> None:
    """A pack of the target disappears: the next copy trusts nothing and makes a whole snapshot again."""
    source, cache = history.store(), tmp_path / "cache"
    run_copy(source, target, 0, cache=cache)
    lost = sorted(key for key in target.objects if key.startswith(layout.PACKS) and ".d" in key)[0]
    del target.objects[lost]

    run_copy(source, target, 1, cache=cache)

    with open_repository(target) as repository:
        assert_restores(
            repository, repository.catalog.snapshots().snapshots[-1], history.states[list(history.states)[1]]
        )


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


class _BreakingIndex:
    """An index that takes rows `left` times and is broken from then on."""

    def __init__(self, inner: LmdbIndex, left: int) -> None:
        self._inner = inner
        self._left = left

    def put_directories(self, items: Iterable[tuple[bytes, bytes]]) -> None:
        self._left -= 1
        if self._left < 0:
            raise CacheError("the cache is full", why="injected")
        self._inner.put_directories(items)

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)


@pytest.mark.parametrize("left", [0, 1, 3])
def test_a_cache_that_breaks_costs_time_and_no_copy(
    history: History, target: MemoryStore, tmp_path: Path, left: int
) -> None:
    with open_repository(history.store()) as here, open_repository(target, tmp_path / "cache") as there:
        there._index = _BreakingIndex(there.index, left)  # type: ignore[assignment]
        snapshots = here.catalog.snapshots().snapshots

        result = copy_snapshots(here, there, snapshots, listener=NullListener(), cancel=CancelToken())

        assert result.exit_code == 0 and len(result.copied) == 3
    assert_copied(target, history, list(history.states))


def test_trouble_with_the_target_is_not_taken_for_damage_of_the_source(
    history: History, empty: dict[str, bytes]
) -> None:
    store = fresh(empty)
    faulty = FaultyStore(store, FaultPlan(fault=Fault.FAIL_BEFORE, at=0, verb="put", below=layout.PACKS, times=None))
    found = Collector()

    with open_repository(history.store()) as here, open_repository(faulty) as there, pytest.raises(StoreError):
        copy_snapshots(here, there, here.catalog.snapshots().snapshots, listener=found, cancel=CancelToken())

    assert not found.findings
    assert_copied(store, history, [])
