"""The write order of a snapshot (W1 to W6), and what other hosts may do between its steps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dedupstore.cancel import CancelToken
from dedupstore.codec.claims import ObjectType
from dedupstore.engine.check import check_repository
from dedupstore.engine.check_options import CheckOptions, DataShare
from dedupstore.errors import RepositoryError
from dedupstore.events import NullListener
from dedupstore.repo import layout
from dedupstore.repo.gcplan import Done, Plan, put_done
from dedupstore.repo.pack_name import PackName
from dedupstore.repo.repository import Repository
from dedupstore.storage.base import ObjectStore
from dedupstore.storage.memory import MemoryStore
from dedupstore.types import Kind, PackId
from tests.support.faults import FaultyStore, Step
from tests.support.recording import Call, RecordingStore, assert_barrier_between, outline, positions
from tests.support.repositories import (
    assert_restores,
    chunk_locations,
    files_below,
    make_tree,
    mutate_tree,
    new_repository,
    open_repository,
    segment_facts,
    take,
)


def puts(folder: str) -> Callable[[Call], bool]:
    return lambda call: call.verb == "put" and call.folder == folder


def lists(prefix: str) -> Callable[[Call], bool]:
    return lambda call: call.verb == "list" and call.key == prefix


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return make_tree(tmp_path / "tree")


@pytest.fixture
def store(tree: Path) -> MemoryStore:
    """Holds two snapshots, the second with delta blocks; the tree is as in the second."""
    store = MemoryStore()
    with new_repository(store) as repository:
        take(repository, tree)
        mutate_tree(tree, 1)
        take(repository, tree)
    return store


def assert_clean(store: ObjectStore) -> None:
    with open_repository(store) as repository:
        options = CheckOptions(read_data=DataShare())
        report = check_repository(repository, options, listener=NullListener(), cancel=CancelToken())
        assert report.exit_code == 0, report.findings


# The order of writes


def test_packs_then_segment_then_root_then_a_fresh_look_then_the_marker(store: MemoryStore, tree: Path) -> None:
    mutate_tree(tree, 2)
    recording = RecordingStore(store)
    with open_repository(recording) as repository:
        take(repository, tree)
    calls = recording.calls

    assert_barrier_between(calls, puts("packs"), puts("index"))
    assert_barrier_between(calls, puts("index"), puts("roots"))
    assert_barrier_between(calls, puts("roots"), puts("commits"))
    assert outline(calls)[-2:] == ["put commits", "barrier"]
    (root,) = positions(calls, puts("roots"))
    (commit,) = positions(calls, puts("commits"))
    plans = [at for at in positions(calls, lists("gc/")) if root < at < commit]
    packs = [at for at in positions(calls, lists("packs/")) if root < at < commit]
    assert plans and packs and plans[-1] < packs[-1]
    barrier = next(at for at in positions(calls, lambda call: call.verb == "barrier") if at > root)
    assert barrier < plans[0], "the root must be visible before the look that relies on it"
    assert calls[-1].verb == "head" and calls[-1].folder == "roots"


def test_the_first_look_comes_before_anything_is_written(store: MemoryStore, tree: Path) -> None:
    mutate_tree(tree, 2)
    recording = RecordingStore(store)
    with open_repository(recording) as repository:
        take(repository, tree)
    calls = recording.calls

    first_put = positions(calls, lambda call: call.verb == "put")[0]
    gc, index, packs = (positions(calls, lists(prefix))[0] for prefix in ("gc/", "index/", "packs/"))
    assert gc < index < packs < first_put


def test_a_snapshot_never_deletes_and_never_writes_a_name_twice(store: MemoryStore, tree: Path) -> None:
    before = set(store.objects)
    mutate_tree(tree, 2)
    recording = RecordingStore(store)
    with open_repository(recording) as repository:
        take(repository, tree)

    written = [call.key for call in recording.calls if call.verb == "put"]
    assert not [call for call in recording.calls if call.verb == "delete"]
    assert len(set(written)) == len(written)
    assert not before & set(written)


def test_an_init_writes_format_last_and_behind_a_barrier(tmp_path: Path) -> None:
    recording = RecordingStore(MemoryStore())

    new_repository(recording).close()

    wrote = [call for call in recording.calls if call.verb == "put"]
    assert wrote[-1].key == layout.FORMAT_KEY
    assert_barrier_between(
        recording.calls,
        lambda call: call.verb == "put" and call.key != layout.FORMAT_KEY,
        lambda call: call.verb == "put" and call.key == layout.FORMAT_KEY,
    )
    assert recording.calls[-1].verb == "barrier"


# Between the steps: a prune on another host


def condemn(repository: Repository, store: MemoryStore, packs: list[PackId], *, number: int = 0) -> str:
    """A plan that became visible this very moment."""
    plan = Plan(packs=tuple(packs), roots=(), creator="another host", time_ns=1)
    key = layout.plan_key(number.to_bytes(16, "big"))
    store.objects[key] = repository.keyring.seal(ObjectType.PLAN, key, plan.encode())
    return key


def pack_names(store: MemoryStore) -> list[PackName]:
    return [PackName.parse(row.key) for row in layout.list_complete(store, layout.PACKS)]


def when(verb: str, prefix: str, act: Callable[[], None]) -> Callable[[Step], None]:
    """Act once, before the first operation of this kind."""
    done: list[Step] = []

    def hook(step: Step) -> None:
        if not done and not step.done and step.verb == verb and step.key.startswith(prefix):
            done.append(step)
            act()

    return hook


def run_with(store: MemoryStore, tree: Path, step: tuple[str, str], act: Callable[[Repository], None]) -> Repository:
    """A snapshot during which `act` happens before its first operation of the kind `step`."""
    holder: list[Repository] = []
    faulty = FaultyStore(store, hook=when(*step, lambda: act(holder[0])))
    with open_repository(store) as helper:
        holder.append(helper)
        with open_repository(faulty) as repository:
            take(repository, tree)
        return helper


MOMENTS = [("put", "packs/"), ("put", "index/"), ("put", "roots/"), ("barrier", ""), ("list", "packs/")]


@pytest.mark.parametrize("moment", MOMENTS, ids=lambda moment: f"{moment[0]} {moment[1]}")
@pytest.mark.parametrize("which", ["all", "data", "manifests", "first"])
def test_packs_condemned_while_a_snapshot_uses_them_are_stored_again(
    store: MemoryStore, tree: Path, moment: tuple[str, str], which: str
) -> None:
    """Whatever is condemned, and whenever before W5: after the plan is carried out the snapshot is whole."""
    mutate_tree(tree, 2)
    with open_repository(store) as helper:
        helper.look()
        names = [row.name for row in helper.index.packs()]
        data = [name for name in names if name.kind is Kind.DATA]
        chosen = {
            "all": names, "data": data, "first": data[:1], "manifests": [n for n in names if n.kind is Kind.MANIFEST],
        }[which]  # fmt: skip

        def act(repository: Repository) -> None:
            condemn(repository, store, [name.id for name in chosen])

        run_with(store, tree, moment, act)

        for name in chosen:
            del store.objects[name.key]
        with open_repository(store) as again:
            newest = again.catalog.snapshots().snapshots[-1]
            assert_restores(again, newest, files_below(tree))


def test_a_snapshot_of_nothing_new_is_rescued_from_condemned_packs(store: MemoryStore, tree: Path) -> None:
    """Nothing changed, so everything it refers to lies in the packs that go."""
    names = pack_names(store)

    run_with(
        store, tree, ("put", "roots/"), lambda repository: _nothing(condemn(repository, store, [n.id for n in names]))
    )

    for name in names:
        del store.objects[name.key]
    with open_repository(store) as again:
        assert_restores(again, again.catalog.snapshots().snapshots[-1], files_below(tree))


def test_losing_only_the_bases_of_delta_chunks_counts_as_losing_the_chunks(store: MemoryStore, tree: Path) -> None:
    with open_repository(store) as helper:
        bases = {base for fact in segment_facts(helper) for block in fact.blocks() for base in block.bases}
        assert bases
        full = {place[0] for place in chunk_locations(helper) if place[4] in bases}
        names = [name for name in pack_names(store) if name.id in full]

        run_with(store, tree, ("put", "roots/"), lambda repository: _nothing(condemn(repository, store, list(full))))

        for name in names:
            del store.objects[name.key]
        with open_repository(store) as again:
            assert_restores(again, again.catalog.snapshots().snapshots[-1], files_below(tree))


@pytest.mark.parametrize("moment", MOMENTS[:3], ids=lambda moment: f"{moment[0]} {moment[1]}")
def test_packs_deleted_under_a_snapshot_make_it_fail_or_whole_never_wrong(
    store: MemoryStore, tree: Path, moment: tuple[str, str]
) -> None:
    mutate_tree(tree, 2)
    before = set(store.objects)
    names = pack_names(store)

    def act(repository: Repository) -> None:
        key = condemn(repository, store, [name.id for name in names])
        for name in names:
            del store.objects[name.key]
        del store.objects[key]

    failed = False
    try:
        run_with(store, tree, moment, act)
    except RepositoryError:
        failed = True

    committed = [key for key in store.objects if key.startswith(layout.COMMITS) and key not in before]
    assert bool(committed) is not failed
    with open_repository(store) as again:
        assert_restores(again, take(again, tree).snapshot, files_below(tree))


def test_a_snapshot_beginning_after_a_plan_does_not_count_on_its_packs(store: MemoryStore, tree: Path) -> None:
    names = pack_names(store)
    with open_repository(store) as repository:
        condemn(repository, store, [name.id for name in names])

        result = take(repository, tree)

        assert result.statistics.chunks_new > 0
    for name in names:
        del store.objects[name.key]
    with open_repository(store) as again:
        assert_restores(again, result.snapshot, files_below(tree))


def test_a_plan_that_cannot_be_read_stops_the_snapshot(store: MemoryStore, tree: Path) -> None:
    store.objects[layout.plan_key(bytes(16))] = b"torn"
    with open_repository(store) as repository, pytest.raises(RepositoryError):
        take(repository, tree)


def test_a_root_deleted_before_the_marker_is_no_success(store: MemoryStore, tree: Path) -> None:
    mutate_tree(tree, 2)

    def act(repository: Repository) -> None:
        for key in [key for key in store.objects if key.startswith(layout.ROOTS) and key not in layout.SENTINELS]:
            del store.objects[key]

    with pytest.raises(RepositoryError, match="root"):
        run_with(store, tree, ("put", "commits/"), act)


def test_what_a_prune_moves_during_a_check_is_no_damage(tmp_path: Path) -> None:
    """All packs are condemned, their content stored again elsewhere, and deleted, between two listings of the check."""
    tree, store = make_tree(tmp_path / "tree"), MemoryStore()
    with new_repository(store) as repository:
        take(repository, tree)
    names = pack_names(store)

    def prune() -> None:
        with open_repository(store) as other:
            plan = condemn(other, store, [name.id for name in names])
            take(other, tree)
            for name in names:
                del store.objects[name.key]
            put_done(store, other.keyring, Done(packs=tuple(name.id for name in names), creator="test", time_ns=2))
            del store.objects[plan]

    for moment in (("list", "gc/"), ("list", "index/"), ("list", "packs/"), ("get", "packs/")):
        fresh = MemoryStore()
        fresh.objects, before = store.objects, dict(store.objects)
        faulty = FaultyStore(fresh)
        with open_repository(faulty) as repository:
            faulty._hook = when(*moment, prune)
            options = CheckOptions(read_data=DataShare())
            report = check_repository(repository, options, listener=NullListener(), cancel=CancelToken())
        assert report.exit_code == 0, (moment, report.findings)
        store.objects = before


def _nothing(value: object) -> None:
    """Drops the value of an expression used for what it does."""
