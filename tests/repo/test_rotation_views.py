"""Keys are rotated while others have the repository open: what they still read, write and prune, and where they stop."""

from __future__ import annotations

from pathlib import Path

import pytest

from dedupstore.errors import CorruptObject
from dedupstore.repo.gcplan import Plan, put_plan
from tests.support.pruning import assert_sound, forget, prune
from tests.support.repositories import (
    files_below,
    open_repository,
    take,
    text_bytes,
)
from tests.support.rotating import NEW_SECRET, Scene, epochs, make_scene, open_by, rotate


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return make_scene(tmp_path)


def test_old_views_find_what_was_written_under_the_next_epoch(scene: Scene) -> None:
    """A reader, a writer and a pruner that opened the repository before the rotation, with a prune's plan in between."""
    store = scene.store()
    scene.change_tree()
    with open_repository(store) as reader, open_repository(store) as writer, open_repository(store) as pruner:
        with open_repository(store) as repository:
            rotate(repository)
        with open_repository(store) as repository:
            assert repository.keyring.epoch == 2
            (first,) = repository.catalog.snapshots().snapshots
            second = take(repository, scene.tree).snapshot
            assert second is not None
            forget(repository, first)
        kept = {second.id: files_below(scene.tree)}
        assert_sound(reader, kept)
        prune(pruner)
        third = take(writer, scene.tree).snapshot
        assert third is not None
        kept[third.id] = kept[second.id]
        assert_sound(reader, kept)
    with open_repository(store) as repository:
        assert_sound(repository, kept)
    assert epochs(store) == {1, 2}


def test_an_old_view_that_the_new_key_does_not_open_stops_and_says_why(scene: Scene) -> None:
    store = scene.store()
    with open_repository(store) as reader:
        with open_repository(store) as repository:
            rotate(repository, NEW_SECRET)
        scene.change_tree()
        with open_by(store, NEW_SECRET) as repository:
            second = take(repository, scene.tree).snapshot
            assert second is not None

        with pytest.raises(CorruptObject) as caught:
            reader.catalog.get(second.id)

    assert caught.value.code == "repo.unknown_epoch"


def test_a_run_whose_key_was_rotated_away_ends_unless_something_it_must_know_is_closed_to_it(scene: Scene) -> None:
    """Snapshots under the new keys do not concern it. A plan of a prune does: it may condemn what the run counts on."""
    for pruned in (False, True):
        store = scene.store()
        with open_repository(store) as writer:
            with open_repository(store) as repository:
                rotate(repository, NEW_SECRET)
            scene.change_tree()
            with open_by(store, NEW_SECRET) as repository:
                second = take(repository, scene.tree).snapshot
                assert second is not None
                kept = scene.kept | {second.id: files_below(scene.tree)}
                if pruned:
                    put_plan(store, repository.keyring, Plan(packs=(), roots=(), creator="test", time_ns=0))
            (scene.tree / "file").write_bytes(text_bytes(3, 900))
            if pruned:
                with pytest.raises(CorruptObject) as caught:
                    take(writer, scene.tree)
                assert caught.value.code == "repo.unknown_epoch"
                assert "rotated" in " ".join(caught.value.hints)
            else:
                third = take(writer, scene.tree).snapshot
                assert third is not None
                kept[third.id] = files_below(scene.tree)
        with open_by(store, NEW_SECRET) as repository:
            assert_sound(repository, kept)
