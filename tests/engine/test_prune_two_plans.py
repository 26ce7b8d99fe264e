"""Two plans, and plans made twice, over the same packs: each is carried out, by whoever comes, and takes nothing that is needed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from dedupstore.clock import FrozenClock
from dedupstore.engine.prune_plan import DAY_NS, PruneOptions
from dedupstore.repo.repository import Repository
from dedupstore.storage.memory import MemoryStore
from dedupstore.types import PackId, SnapshotId
from tests.support.pruning import NOW, assert_comes_to_rest, assert_sound, condemn, plans, sweep
from tests.support.repositories import files_below, make_tree, mutate_tree, new_repository, open_repository, take

START_NS = 1_900_000_000 * 10**9
WAITING = PruneOptions(undo_window_ns=0)


@dataclass
class Scene:
    repository: Repository
    store: MemoryStore
    clock: FrozenClock
    tree: Path
    kept: dict[SnapshotId, dict[bytes, bytes]]

    def snapshot(self) -> None:
        taken = take(self.repository, self.tree).snapshot
        assert taken is not None
        self.kept[taken.id] = files_below(self.tree)

    def packs(self) -> list[PackId]:
        """All of them; needed, every one."""
        self.repository.look()
        return sorted(row.id for row in self.repository.index.packs() if row.name.key in self.store.objects)

    def condemn(self, packs: list[PackId]) -> None:
        condemn(self.repository, packs, self.clock.now_ns())

    def there(self, packs: list[PackId]) -> int:
        return len(set(packs) & set(self.packs()))


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    store, clock, tree = MemoryStore(), FrozenClock(START_NS), make_tree(tmp_path / "tree")
    with new_repository(store, clock=clock) as repository:
        made = Scene(repository, store, clock, tree, {})
        made.snapshot()
        mutate_tree(tree, 1)
        made.snapshot()
        yield made
        assert plans(store) == []
        assert_sound(repository, made.kept)
        assert_comes_to_rest(repository)
        assert_sound(repository, made.kept)


@pytest.mark.parametrize("overlap", ["the same packs", "some packs", "one in the other"])
def test_two_plans_are_carried_out_at_once(scene: Scene, overlap: str) -> None:
    packs = scene.packs()
    third = len(packs) // 3
    assert third > 0
    first = packs[: 2 * third] if overlap == "some packs" else packs
    scene.condemn(first)
    scene.condemn({"the same packs": packs, "some packs": packs[third:], "one in the other": packs[third:]}[overlap])

    report = sweep(scene.repository, NOW)

    assert report.packs_deleted == len(packs)
    assert scene.there(packs) == 0


def test_what_one_plan_has_taken_the_other_finds_gone(scene: Scene) -> None:
    """The second is a day younger. Meanwhile it still condemns what it names, and a snapshot does without that."""
    packs = scene.packs()
    scene.condemn(packs)
    scene.clock.advance(12 * 3600)
    scene.condemn(packs)
    scene.clock.advance(12 * 3600)

    first = sweep(scene.repository, WAITING)
    mutate_tree(scene.tree, 2)
    scene.snapshot()
    assert (first.packs_deleted, len(plans(scene.store))) == (len(packs), 1)
    assert scene.there(packs) == 0
    assert_sound(scene.repository, scene.kept)
    scene.clock.advance(DAY_NS / 10**9)
    second = sweep(scene.repository, WAITING)

    assert second.packs_deleted == 0


def test_a_plan_that_two_condemn_again_while_it_is_carried_out(scene: Scene) -> None:
    """Whoever looked before the first plan was listed writes a second one over packs that are just going."""
    packs = scene.packs()
    scene.condemn(packs)

    class Meanwhile(MemoryStore):
        def delete(self, key: str) -> None:
            super().delete(key)
            if key.startswith("packs/") and len(plans(scene.store)) == 1:
                scene.condemn(packs)

    meanwhile = Meanwhile("memory:meanwhile")
    meanwhile.objects = scene.store.objects
    with open_repository(meanwhile, clock=scene.clock) as other:
        sweep(other, NOW)
        sweep(other, NOW)

    assert scene.there(packs) == 0
