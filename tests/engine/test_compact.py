"""Merged index segments say what the small ones said, and what is said nowhere else never goes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from dedupstore.engine.compact import MANY, compact_segments
from dedupstore.engine.prune_survey import survey
from dedupstore.errors import StoreError
from dedupstore.repo import layout
from dedupstore.repo.gcplan import Plan, put_plan
from dedupstore.repo.pack_name import PackName
from dedupstore.repo.repository import Repository
from dedupstore.repo.segment import PackFacts, decode_segment, encode_segment
from dedupstore.storage.memory import MemoryStore
from dedupstore.types import SnapshotId
from tests.support.faults import Fault, FaultPlan, FaultyStore, Step
from tests.support.pruning import NOW, assert_sound, check, forget, plan, prune
from tests.support.repositories import (
    SMALL,
    chunk_locations,
    files_below,
    new_repository,
    open_repository,
    random_bytes,
    segment_facts,
    take,
)

Files = dict[bytes, bytes]


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "tree").mkdir()
    return tmp_path / "tree"


@pytest.fixture
def repository(store: MemoryStore, tree: Path) -> Iterator[Repository]:
    """Packs too large to count as small, so that only segments are many."""
    with new_repository(store, options=replace(SMALL, pack_bytes=16 << 10)) as made:
        yield made


def many(repository: Repository, tree: Path, count: int = MANY) -> dict[SnapshotId, Files]:
    taken = {}
    for number in range(count):
        (tree / "file").write_bytes(random_bytes(f"file {number}", 12_000))
        snapshot = take(repository, tree).snapshot
        assert snapshot is not None
        taken[snapshot.id] = files_below(tree)
    return taken


def segments(store: MemoryStore) -> list[str]:
    return [row.key for row in layout.list_complete(store, layout.INDEX)]


def test_many_small_segments_become_one_two_prunes_later(
    repository: Repository, store: MemoryStore, tree: Path
) -> None:
    taken = many(repository, tree)
    before = chunk_locations(repository)
    old = segments(store)

    first = compact_segments(repository)
    merged = set(segments(store)) - set(old)
    second = compact_segments(repository)

    assert (first, second) == (0, len(old))
    assert set(segments(store)) == merged and len(merged) == 1
    assert chunk_locations(repository) == before
    assert compact_segments(repository) == 0
    assert set(segments(store)) == merged
    with open_repository(store) as fresh:
        assert_sound(fresh, taken)


class Locked(FaultyStore):
    """Deletes nothing that is there by now."""

    def delete(self, key: str) -> None:
        raise StoreError("it is locked", code="store.locked")


def test_locked_segments_stay_and_keep_no_others_from_being_merged(
    repository: Repository, store: MemoryStore, tree: Path
) -> None:
    taken = many(repository, tree)
    compact_segments(repository)
    old = segments(store)
    repository.store = Locked(store)
    taken |= many(repository, tree)

    gone = compact_segments(repository)

    assert gone == 0
    assert set(old) < set(segments(store))
    assert len(segments(store)) == len(old) + MANY + 1
    repository.store = store
    assert_sound(repository, taken)


def test_a_segment_that_speaks_of_pruned_packs_only_goes(
    repository: Repository, store: MemoryStore, tree: Path
) -> None:
    taken = many(repository, tree, 4)
    count = len(segments(store))
    for snapshot in repository.catalog.snapshots().snapshots[:3]:
        forget(repository, snapshot)
        del taken[snapshot.id]

    prune(repository)

    listed = {PackName.parse(row.key).id for row in layout.list_complete(store, layout.PACKS)}
    assert len(segments(store)) < count
    for key in segments(store):
        facts = decode_segment(repository.keyring, key, store.get(key))
        assert {fact.id for fact in facts} & listed
    assert_sound(repository, taken)
    with open_repository(store) as fresh:
        assert fresh.look().whole


def test_of_two_segments_that_say_the_same_one_stays(repository: Repository, store: MemoryStore, tree: Path) -> None:
    """Whoever looks first or second: it is the greater one."""
    many(repository, tree, 1)
    facts = list(segment_facts(repository))
    for _ in range(3):
        _, key, sealed = encode_segment(repository.keyring, [replace(fact, repeated=True) for fact in facts])
        store.put(key, [sealed])
    greatest = max(segments(store), key=lambda key: (len(store.objects[key]), key))

    compact_segments(repository)

    assert segments(store) == [greatest]


@pytest.mark.parametrize("fault", [Fault.FAIL_BEFORE, Fault.FAIL_AFTER], ids=lambda fault: fault.name.lower())
def test_compaction_stopped_anywhere_loses_no_entry(
    repository: Repository, store: MemoryStore, tree: Path, fault: Fault
) -> None:
    many(repository, tree)
    before = chunk_locations(repository)
    objects = dict(store.objects)

    for at in range(80):
        fresh = MemoryStore()
        fresh.objects = dict(objects)
        faulty = FaultyStore(fresh)
        with open_repository(faulty) as other:
            faulty.plan = FaultPlan(fault=fault, at=at, times=None)
            for _ in range(2):
                with suppress(StoreError):
                    compact_segments(other)
            faulty.plan = None
            assert chunk_locations(other) == before
        if not faulty.fired:
            break
    else:
        raise AssertionError("the fault always struck: it never got to the end")
    assert at > MANY


def test_a_merged_segment_may_be_gone_before_it_is_read_back(
    repository: Repository, store: MemoryStore, tree: Path
) -> None:
    """Another prune has merged more, and found that this one says nothing new."""
    taken = many(repository, tree)

    def strike(step: Step) -> None:
        if step.done and step.verb == "put" and step.key.startswith(layout.INDEX):
            with open_repository(store) as other:
                _, key, sealed = encode_segment(other.keyring, list(segment_facts(other)))
                store.put(key, [sealed])
            store.delete(step.key)

    with open_repository(FaultyStore(store, hook=strike)) as beside:
        assert compact_segments(beside) == 0

    assert_sound(repository, taken)


def test_a_segment_that_lies_is_not_merged(repository: Repository, store: MemoryStore, tree: Path) -> None:
    many(repository, tree)
    fact: PackFacts = next(segment_facts(repository))
    _, key, sealed = encode_segment(repository.keyring, [replace(fact, salt=bytes(24), repeated=True)])
    store.put(key, [sealed])
    keys = segments(store)

    compact_segments(repository)
    compact_segments(repository)

    assert segments(store) == keys


def test_a_look_while_segments_are_merged_finds_everything(
    repository: Repository, store: MemoryStore, tree: Path
) -> None:
    taken = many(repository, tree)
    compact_segments(repository)

    for act in (lambda other: other.look(), check):
        fresh = MemoryStore()
        fresh.objects = dict(store.objects)
        acted: list[Step] = []

        def hook(step: Step, fresh: MemoryStore = fresh, acted: list[Step] = acted) -> None:
            if step.verb == "get" and step.key.startswith("index/") and not acted:
                acted.append(step)
                with open_repository(fresh) as another:
                    assert compact_segments(another) >= MANY

        faulty = FaultyStore(fresh, hook=hook)
        with open_repository(faulty) as other:
            act(other)  # type: ignore[no-untyped-call]  # one of several functions, by parameter
            assert acted
            assert other.look().whole and not other.look().orphans
            assert_sound(other, taken)


def _at(store: MemoryStore, when: Callable[[Step], bool], act: Callable[[], None]) -> FaultyStore:
    done: list[Step] = []

    def hook(step: Step) -> None:
        if not done and when(step):
            done.append(step)
            act()

    return FaultyStore(store, hook=hook)


def test_a_pack_indexed_after_the_plans_were_listed_is_not_safe(
    repository: Repository, store: MemoryStore, tree: Path
) -> None:
    """It may be condemned by a plan that this look has not seen."""
    many(repository, tree, 1)
    with open_repository(store) as other:
        before = {row.id for row in other.index.packs()} | {
            PackName.parse(row.key).id for row in layout.list_complete(store, layout.PACKS)
        }

    def store_and_condemn() -> None:
        with open_repository(store) as another:
            (tree / "file").write_bytes(random_bytes("something else", 12_000))
            take(another, tree)
            new = {row.id for row in another.index.packs()} - before
            plan_ = Plan(packs=tuple(sorted(new)), roots=(), creator="another host", time_ns=1)
            put_plan(store, another.keyring, plan_)

    faulty = _at(store, lambda step: step.done and step.verb == "list" and step.key == layout.GC, store_and_condemn)
    with open_repository(faulty) as fresh:
        seen = survey(fresh)

        assert {fresh.index.pack(no).id for no in seen.safe} == before
        assert {fresh.index.pack(no).id for no in seen.present} > before


def test_a_plan_is_made_of_what_is_there_when_it_is_made(
    repository: Repository, store: MemoryStore, tree: Path
) -> None:
    taken = many(repository, tree, 2)

    assert plan(repository, NOW).choices == ()
    assert_sound(repository, taken)
