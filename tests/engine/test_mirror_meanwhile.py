"""Mirrors of a repository that goes on being used: what comes and goes meanwhile is left for the next run, or is whole."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest

from dedupstore.errors import (
    CorruptObject,
    ObjectNotFound,
)
from dedupstore.repo import layout
from dedupstore.storage.memory import MemoryStore
from tests.support.faults import FaultyStore, Step
from tests.support.replicating import (
    History,
    States,
    assert_mirrored,
    assert_shows_nothing_wrong,
    make_history,
    packs_of,
    run_mirror,
)
from tests.support.repositories import files_below, open_repository, random_bytes, take
from tests.support.rotating import rotate


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> History:
    return make_history(tmp_path_factory.mktemp("mirror"), snapshots=2)


def test_snapshots_taken_while_it_runs_are_left_for_the_next_run_or_whole(history: History) -> None:
    """A snapshot is stored between any two operations of the mirror: what the mirror shows is complete."""
    total, at = 1, 0
    while at < total:
        source, target = history.store(), MemoryStore("memory:target")
        states = dict(history.states)

        def snapshot(step: Step, at: int = at, source: MemoryStore = source, states: States = states) -> None:
            if step.number == at and not step.done:
                with open_repository(source) as repository:
                    taken = take(repository, history.tree, tags=("late",)).snapshot
                    assert taken is not None
                    states[taken.id] = files_below(history.tree)

        faulty = FaultyStore(source, hook=snapshot)
        run_mirror(faulty, target)
        assert_mirrored(target, states)
        run_mirror(source, target)
        assert_mirrored(target, states, list(states))
        total = faulty.operations
        at += 4


def test_a_mirror_ends_while_somebody_stores_pack_after_pack(history: History, tmp_path: Path) -> None:
    """A long run writes a pack every moment and a segment now and then: what is listed of others is whole all the same."""
    source, target, busy = history.store(), MemoryStore("memory:target"), history.store()
    tree = tmp_path / "large"
    tree.mkdir()
    (tree / "file").write_bytes(random_bytes("large", 2_600_000))
    with open_repository(busy) as repository:
        assert take(repository, tree, source="large").snapshot is not None
    coming = iter(sorted(set(packs_of(busy)) - set(packs_of(source))))
    stored = 0

    def store_one(step: Step) -> None:
        nonlocal stored
        if step.verb == "list" and step.key == layout.PACKS and not step.done:
            key = next(coming)
            source.objects[key] = busy.objects[key]
            stored += 1

    assert run_mirror(FaultyStore(source, hook=store_one), target).snapshots == 2

    assert stored > 0
    assert_mirrored(target, history.states, list(history.states))


def test_what_seemed_to_be_gone_and_is_read_the_next_time_is_mirrored(history: History) -> None:
    for prefix in (layout.PACKS, layout.INDEX):
        source, target = history.store(), MemoryStore("memory:target")
        key = next(key for key in source.objects if key.startswith(prefix) and key not in layout.SENTINELS)
        hidden = 2

        def hide(step: Step, key: str = key) -> None:
            nonlocal hidden
            if step.verb == "get" and step.key == key and not step.done and hidden:
                hidden -= 1
                raise ObjectNotFound(f"{key} does not exist")

        assert run_mirror(FaultyStore(source, hook=hide), target).snapshots == 2

        assert not hidden
        assert_mirrored(target, history.states, list(history.states))


def test_a_pack_removed_while_it_runs_is_no_damage(history: History) -> None:
    """As prune does: what the pack held lies in another pack by then, and nothing live needs this one."""
    source, target = history.store(), MemoryStore("memory:target")
    pack = sorted(packs_of(source))[0]
    orphan = "packs/ff/" + "ff" * 32 + ".d1"
    source.objects[orphan] = source.objects[pack]

    def remove(step: Step) -> None:
        if step.verb == "get" and step.key == orphan and not step.done:
            source.objects.pop(orphan, None)

    result = run_mirror(FaultyStore(source, hook=remove), target)

    assert result.exit_code == 0 and result.snapshots == 2
    assert_mirrored(target, history.states, list(history.states))


def test_keys_rotated_while_it_runs_leave_a_mirror_that_opens(history: History) -> None:
    """The keys are rotated between any two operations of the mirror: it is opened by what opens the source."""
    total, at = 1, 0
    while at < total:
        source, target = history.store(), MemoryStore("memory:target")

        def rotation(step: Step, at: int = at, source: MemoryStore = source) -> None:
            if step.number == at and not step.done:
                with open_repository(source) as repository:
                    rotate(repository)

        faulty = FaultyStore(source, hook=rotation)
        with suppress(CorruptObject):
            run_mirror(faulty, target)
        assert_shows_nothing_wrong(target, history)
        run_mirror(source, target)
        assert_mirrored(target, history.states, list(history.states))
        total = faulty.operations
        at += 1 if at < 20 else 6
