"""A machine whose clock is a year off works beside one whose clock is right: nothing that is kept depends on a clock."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from dedupstore.clock import FrozenClock
from dedupstore.engine.prune_plan import DAY_NS, PruneOptions
from dedupstore.model.snapshot import Snapshot
from dedupstore.policy.retention import Policy, Span
from dedupstore.repo.repository import Repository
from dedupstore.storage.memory import MemoryStore
from dedupstore.types import SnapshotId
from tests.support import forgetting
from tests.support.checking import assert_clean
from tests.support.pruning import assert_comes_to_rest, assert_sound, plans, prune
from tests.support.repositories import files_below, make_tree, mutate_tree, new_repository, open_repository, take

NOW_NS = 1_900_000_000 * 10**9
YEAR_NS = 365 * DAY_NS

OFF = [pytest.param(-YEAR_NS, id="a year behind"), pytest.param(YEAR_NS, id="a year ahead")]


class Two:
    """One tree, one repository, two machines. Each snapshot is of a tree that has changed."""

    def __init__(self, folder: Path, off_ns: int) -> None:
        self.tree, self.folder, self.store = make_tree(folder / "tree"), folder, MemoryStore()
        self.clocks = {"right": FrozenClock(NOW_NS), "off": FrozenClock(NOW_NS + off_ns)}
        self.kept: dict[SnapshotId, Mapping[bytes, bytes]] = {}
        new_repository(self.store, clock=self.clocks["right"]).close()

    def open(self, who: str) -> Repository:
        return open_repository(self.store, self.folder / who, clock=self.clocks[who])

    def take(self, who: str) -> Snapshot:
        for clock in self.clocks.values():
            clock.advance(3600)
        mutate_tree(self.tree, len(self.kept) + 1)
        with self.open(who) as repository:
            taken = take(repository, self.tree).snapshot
            assert taken is not None
            self.kept[taken.id] = files_below(self.tree)
            assert_clean(repository)
        return taken

    def sound(self) -> None:
        for who in self.clocks:
            with self.open(who) as repository:
                assert_sound(repository, self.kept)


@pytest.mark.parametrize("off_ns", OFF)
def test_snapshots_in_turns_hold_what_there_was_each_time(tmp_path: Path, off_ns: int) -> None:
    two = Two(tmp_path, off_ns)

    for who in ("right", "off", "right", "off", "off", "right", "right"):
        two.take(who)

    two.sound()


@pytest.mark.parametrize("off_ns", OFF)
@pytest.mark.parametrize("forgets", ["right", "off"])
def test_forget_and_prune_in_turns_take_nothing_that_is_kept(tmp_path: Path, off_ns: int, forgets: str) -> None:
    two = Two(tmp_path, off_ns)
    first = two.take("right")
    for who in ("off", "right", "off"):
        two.take(who)

    with two.open(forgets) as repository:
        assert forgetting.forget(repository, forgetting.options(None, first.id)) == [first.id]
        del two.kept[first.id]
    for who in ("off", "right", "off"):
        with two.open(who) as repository:
            prune(repository, PruneOptions())
            assert_sound(repository, two.kept)
    two.take("right")

    for who in two.clocks:
        with two.open(who) as repository:
            assert_comes_to_rest(repository)
    assert plans(two.store) == []
    two.sound()


@pytest.mark.parametrize("off_ns", OFF)
def test_rules_of_a_wrong_clock_take_nothing_for_its_age(tmp_path: Path, off_ns: int) -> None:
    """Spans are counted from the newest snapshot; what is dated in the future stays."""
    two = Two(tmp_path, off_ns)
    taken = [two.take("right") for _ in range(3)]

    with two.open("off") as repository:
        assert forgetting.forget(repository, forgetting.options(Policy(within=Span(days=7)))) == []
        assert forgetting.existing(repository) == [one.id for one in taken]

    two.sound()


@pytest.mark.parametrize("off_ns", OFF)
def test_a_way_back_that_a_wrong_clock_opened_is_open_for_the_machine_that_opened_it(
    tmp_path: Path, off_ns: int
) -> None:
    two = Two(tmp_path, off_ns)
    first = two.take("right")
    two.take("right")

    with two.open("off") as repository:
        assert forgetting.forget(repository, forgetting.options(None, first.id)) == [first.id]
        prune(repository, PruneOptions())
        back = forgetting.undo(repository, first.id)
    two.kept[back.id] = two.kept.pop(first.id)

    two.sound()
