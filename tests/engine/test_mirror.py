"""A mirror: the same objects, proven by their names; a valid repository at every moment, never more than it shows."""

from __future__ import annotations

from pathlib import Path

import pytest

from dedupstore.cancel import CancelToken
from dedupstore.engine.mirror import mirror
from dedupstore.engine.mirror_plan import MirrorOptions, plan_mirror
from dedupstore.engine.mirror_verify import verify_mirror
from dedupstore.errors import (
    IncompleteListing,
    Interrupted,
    Refused,
    RepositoryError,
    RepositoryNotFound,
    RepositoryTooNew,
    StoreError,
)
from dedupstore.events import NullListener
from dedupstore.repo import layout
from dedupstore.storage.local import LocalStore
from dedupstore.storage.memory import MemoryStore
from tests.support.faults import Fault, FaultPlan, FaultyStore, Step, every_fault
from tests.support.replicating import (
    History,
    assert_mirrored,
    assert_shows_nothing_wrong,
    check_clean,
    make_history,
    packs_of,
    run_mirror,
)
from tests.support.repositories import files_below, new_repository, open_repository, take


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> History:
    return make_history(tmp_path_factory.mktemp("mirror"), snapshots=2)


def _damage(store: MemoryStore, prefix: str, number: int = 0) -> str:
    key = [key for key in sorted(store.objects) if key.startswith(prefix) and key not in layout.SENTINELS][number]
    data = store.objects[key]
    store.objects[key] = data[:-40] + bytes([data[-40] ^ 1]) + data[-39:]
    return key


def test_a_mirror_holds_the_same_objects_and_restores_the_same_files(history: History) -> None:
    source, target = history.store(), MemoryStore("memory:target")

    result = run_mirror(source, target)

    assert result.exit_code == 0 and result.snapshots == 2
    assert target.objects == source.objects
    assert_mirrored(target, history.states, list(history.states))
    assert source.objects == history.objects


def test_a_second_mirror_copies_only_what_is_new(history: History, tmp_path: Path) -> None:
    source, target = history.store(), MemoryStore("memory:target")
    run_mirror(source, target)
    assert run_mirror(source, target).objects == 0
    with open_repository(source) as repository:
        taken = take(repository, history.tree, force=True).snapshot
        assert taken is not None
    before = set(target.objects)

    result = run_mirror(source, target)

    assert result.objects == len(set(target.objects) - before) == len(set(source.objects) - before)
    assert_mirrored(target, {**history.states, taken.id: files_below(history.tree)})
    check_clean(source)


@pytest.mark.parametrize("fault", [Fault.FLIPPED, Fault.TRUNCATED, Fault.NOT_FOUND, Fault.FAIL_BEFORE])
def test_a_wrong_answer_of_the_source_never_gets_into_the_mirror(history: History, fault: Fault) -> None:
    """What was read wrongly once is read again; what is shown is right."""

    def run(plan: FaultPlan) -> FaultyStore:
        source, target = history.store(), MemoryStore("memory:target")
        faulty = FaultyStore(source, plan)
        try:
            run_mirror(faulty, target)
        except RepositoryError:
            assert faulty.fired
        assert_shows_nothing_wrong(target, history)
        run_mirror(source, target)
        assert target.objects == source.objects
        return faulty

    assert every_fault(fault, run, verb="get") > 8


@pytest.mark.parametrize("fault", [Fault.WITHOUT_LAST_PAGE, Fault.EMPTY_LISTING])
def test_a_listing_cut_short_on_either_side_ends_the_mirror(history: History, fault: Fault) -> None:
    def of_source(plan: FaultPlan) -> FaultyStore:
        target = MemoryStore("memory:target")
        faulty = FaultyStore(history.store(), plan)
        try:
            run_mirror(faulty, target, delete=True)
        except IncompleteListing:
            assert faulty.fired
        return faulty

    def of_target(plan: FaultPlan) -> FaultyStore:
        source, target = history.store(), MemoryStore("memory:target")
        run_mirror(source, target)
        before = dict(target.objects)
        faulty = FaultyStore(target, plan)
        try:
            run_mirror(source, faulty, delete=True)
        except IncompleteListing:
            assert faulty.fired
        assert target.objects == before
        return faulty

    assert every_fault(fault, of_source) > 5
    assert every_fault(fault, of_target) > 5


def test_a_mirror_that_fills_up_says_so_and_goes_on_when_there_is_room(history: History) -> None:
    source = history.store()

    def run(plan: FaultPlan) -> FaultyStore:
        target = MemoryStore("memory:target")
        faulty = FaultyStore(target, plan)
        code = ""
        try:
            run_mirror(source, faulty)
        except StoreError as error:
            code = error.code
        assert code == ("store.full" if faulty.fired else "")
        assert_shows_nothing_wrong(target, history)
        run_mirror(source, target)
        assert target.objects == source.objects
        return faulty

    assert every_fault(Fault.FULL, run, times=None) > 20


def test_at_no_moment_a_snapshot_is_shown_whose_objects_are_not_there(history: History) -> None:
    """Judged before and after every single operation, also while a mirror is made smaller."""
    source, target = history.store(), MemoryStore("memory:target")
    needed = packs_of(source)

    def look(step: Step) -> None:
        names = set(target.objects)
        for key in names:
            if key.startswith(layout.COMMITS) and key not in layout.SENTINELS:
                assert layout.ROOTS + key.removeprefix(layout.COMMITS) in names
                assert needed <= names or key not in history_commits

    history_commits = {key for key in source.objects if key.startswith(layout.COMMITS)} - set(layout.SENTINELS)
    run_mirror(source, FaultyStore(target, hook=look))
    for key in sorted(history_commits)[:1]:
        del source.objects[key]
    run_mirror(source, FaultyStore(target, hook=look), delete=True)

    assert_mirrored(target, history.states)


def test_a_damaged_pack_is_named_and_not_copied_and_holds_back_the_snapshots(history: History) -> None:
    source, target = history.store(), MemoryStore("memory:target")
    key = _damage(source, layout.PACKS)

    result = run_mirror(source, target)

    assert result.exit_code == 4 and result.held == 2 and result.snapshots == 0
    assert any(finding.code == "mirror.source_damaged" and key in finding.message for finding in result.findings)
    assert key not in target.objects
    assert_mirrored(target, history.states, [])
    source.objects[key] = history.objects[key]
    assert run_mirror(source, target).exit_code == 0
    assert_mirrored(target, history.states, list(history.states))


def test_new_snapshots_are_shown_despite_damage_when_that_is_asked_for(history: History) -> None:
    source, target = history.store(), MemoryStore("memory:target")
    key = _damage(source, layout.PACKS)

    result = run_mirror(source, target, despite_damage=True)

    assert result.exit_code == 4 and result.snapshots == 2
    assert key not in target.objects


def test_a_pack_that_rotted_in_the_source_after_it_was_mirrored_does_no_harm(history: History) -> None:
    source, target = history.store(), MemoryStore("memory:target")
    run_mirror(source, target)
    key = _damage(source, layout.PACKS)

    assert run_mirror(source, target).exit_code == 0
    assert target.objects[key] == history.objects[key]
    assert_mirrored(target, history.states, list(history.states))


@pytest.mark.parametrize("prefix", [layout.KEYS, layout.INDEX, layout.ROOTS])
def test_other_damaged_objects_are_named_and_not_copied(history: History, prefix: str) -> None:
    source, target = history.store(), MemoryStore("memory:target")
    with open_repository(source) as repository:
        repository.look()
    key = next(key for key in sorted(source.objects) if key.startswith(prefix) and key not in layout.SENTINELS)
    source.objects[key] = b"rot" + source.objects[key][3:]
    if prefix == layout.KEYS:
        with pytest.raises(RepositoryError, match="key slot"):
            run_mirror(source, target)
        assert layout.FORMAT_KEY not in target.objects
        return

    result = run_mirror(source, target)

    assert result.exit_code == (3 if prefix == layout.INDEX else 4)
    assert any(key in finding.message for finding in result.findings)
    assert key not in target.objects
    assert result.held == (1 if prefix == layout.ROOTS else 0)


def test_verification_reads_everything_and_names_what_is_damaged(history: History) -> None:
    source, target = history.store(), MemoryStore("memory:target")
    run_mirror(source, target)
    with open_repository(target) as repository:
        identifier = repository.id
    clean = verify_mirror(target, identifier, listener=NullListener(), cancel=CancelToken())
    key = _damage(target, layout.PACKS)

    found = verify_mirror(target, identifier, listener=NullListener(), cancel=CancelToken())

    assert clean.exit_code == 0 and clean.objects == found.objects > 10
    assert found.exit_code == 4 and [key in finding.message for finding in found.findings] == [True]
    again = run_mirror(source, target)
    assert again.objects == 0, "nothing is overwritten"
    del target.objects[key]
    run_mirror(source, target)
    assert_mirrored(target, history.states, list(history.states))


def test_an_object_of_another_size_in_the_mirror_is_never_overwritten(history: History) -> None:
    source, target = history.store(), MemoryStore("memory:target")
    run_mirror(source, target)
    key = sorted(packs_of(target))[0]
    target.objects[key] = target.objects[key][:-1]

    result = run_mirror(source, target)

    assert [finding.code for finding in result.findings] == ["mirror.conflict"] and result.exit_code == 4
    assert len(target.objects[key]) == len(source.objects[key]) - 1


def test_delete_takes_what_the_repository_no_longer_has_and_nothing_else_does(history: History) -> None:
    source, target = history.store(), MemoryStore("memory:target")
    run_mirror(source, target)
    gone = next(iter(history.states))
    for prefix in (layout.COMMITS, layout.ROOTS):
        del source.objects[prefix + layout.root_key(gone).removeprefix(layout.ROOTS)]

    assert run_mirror(source, target).deleted == 0
    plan = plan_mirror(source, target, MirrorOptions(delete=True))
    assert [row.key for row in plan.delete] == [layout.commit_key(gone), layout.root_key(gone)]
    assert run_mirror(source, target, delete=True).deleted == 2

    assert_mirrored(target, history.states, list(history.states)[1:])
    assert target.objects == source.objects


def test_a_mirror_is_not_emptied_because_the_repository_was(history: History) -> None:
    source, target = history.store(), MemoryStore("memory:target")
    run_mirror(source, target)
    for key in [key for key in source.objects if key.startswith(layout.COMMITS) and key not in layout.SENTINELS]:
        del source.objects[key]

    with pytest.raises(Refused) as raised:
        run_mirror(source, target, delete=True)

    assert raised.value.code == "mirror.would_empty"
    assert_mirrored(target, history.states, list(history.states))


def test_targets_of_another_kind_are_refused_untouched(history: History) -> None:
    source = history.store()
    foreign = MemoryStore("memory:foreign")
    new_repository(foreign).close()
    newer = MemoryStore("memory:newer")
    newer.objects[layout.FORMAT_KEY] = b"dedupstore 2\nwhatever\n"
    photos = MemoryStore("memory:photos")
    photos.objects["holiday.jpg"] = b"a beach"

    for target, expected, code in (
        (foreign, Refused, "mirror.other_repository"),
        (newer, RepositoryTooNew, "repo.too_new"),
        (photos, Refused, "mirror.not_empty"),
    ):
        before = dict(target.objects)
        with pytest.raises(expected) as raised:
            run_mirror(source, target)
        assert raised.value.code == code
        assert target.objects == before
    with pytest.raises(RepositoryNotFound):
        run_mirror(MemoryStore(), MemoryStore())


def test_a_mirror_whose_configuration_went_another_way_is_refused(history: History) -> None:
    source, target = history.store(), MemoryStore("memory:target")
    run_mirror(source, target)
    target.objects[layout.config_key(2, bytes(32))] = b"changed in the mirror itself"

    with pytest.raises(Refused) as raised:
        run_mirror(source, target)

    assert raised.value.code == "mirror.diverged"


def test_on_disk_a_mirror_in_two_halves_is_byte_identical(history: History, tmp_path: Path) -> None:
    source = history.store()
    target = LocalStore.create(str(tmp_path / "mirror"))
    token = CancelToken()

    class Stop(NullListener):
        def progress(self, progress: object) -> None:
            if getattr(progress, "files_done", 0) > 5:
                token.cancel()

    options = MirrorOptions()
    with pytest.raises(Interrupted):
        mirror(source, target, plan_mirror(source, target, options), options, listener=Stop(), cancel=token)
    run_mirror(source, target)
    target.close()

    again = LocalStore.open(str(tmp_path / "mirror"))
    assert {row.key: again.get(row.key) for row in again.list("")} == source.objects
    assert_mirrored(again, history.states, list(history.states))
