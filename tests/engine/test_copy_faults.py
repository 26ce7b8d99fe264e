"""Copies from and to stores that fail, lie, fill up or are pruned meanwhile: what is damaged is left out, nothing wrong gets in."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from dedupstore.cancel import CancelToken
from dedupstore.engine.copy import copy_snapshots
from dedupstore.errors import CacheError, IncompleteListing, Interrupted, RepositoryError, StoreError
from dedupstore.events import Collector, NullListener, Progress
from dedupstore.model.snapshot import Snapshot
from dedupstore.model.tree import read_content
from dedupstore.repo import layout
from dedupstore.repo.lmdb_index import LmdbIndex
from dedupstore.repo.repository import Repository
from dedupstore.storage.memory import MemoryStore
from dedupstore.types import ChunkId, Kind
from tests.support.faults import Fault, FaultPlan, FaultyStore, Step, every_fault
from tests.support.replicating import (
    History,
    assert_copied,
    empty_objects,
    fresh,
    make_history,
    run_copy,
)
from tests.support.repositories import (
    assert_restores,
    entries_of,
    new_repository,
    open_repository,
    segment_facts,
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
        there._index = _BreakingIndex(there.index, left)  # type: ignore[assignment]  # a stand-in
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
