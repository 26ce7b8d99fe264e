"""Bringing back what was forgotten, and what a check says of forget markers and marks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dedupstore.engine.check_options import CheckOptions, DataShare, Level
from dedupstore.engine.forget import sweep_marks
from dedupstore.engine.undo_forget import UNDO_OF, forgotten_snapshots
from dedupstore.errors import NothingMatches
from dedupstore.model.mark import NOTE, PROTECT, TAGS, UNPROTECT, Mark
from dedupstore.repo import layout
from dedupstore.repo.catalog import UNDO_WINDOW_SECONDS
from dedupstore.units import format_id
from tests.support.forgetting import (
    Scene,
    check,
    existing,
    forget,
    fresh,
    make_scene,
    packs_only_of,
    undo,
)
from tests.support.recording import RecordingStore, outline
from tests.support.repositories import (
    assert_restores,
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return make_scene(tmp_path_factory.mktemp("forget"))


@pytest.fixture
def scene(made: Scene) -> Scene:
    return fresh(made)


# The way back


def test_undo_makes_a_new_snapshot_of_the_same_files_time_and_words(scene: Scene) -> None:
    store = scene.store()
    with scene.open(store) as repository:
        repository.catalog.add_mark(scene.snapshots[0], Mark(kind=NOTE, time_ns=1, text="keep me"))
        repository.catalog.add_mark(scene.snapshots[0], Mark(kind=TAGS, time_ns=1, add=("x",)))
        old = repository.catalog.get(scene.snapshots[0])
        forget(repository)
        assert {row.snapshot.id for row in forgotten_snapshots(repository.catalog)} == set(scene.snapshots[:3])

        new = undo(repository, old.id)

        assert new.id != old.id
        assert (new.note, new.tags) == ("keep me", ("x",))
        assert dict(new.details)[UNDO_OF] == format_id(old.id)
        same = replace(new, id=old.id, note=old.note, tags=old.tags, details=old.details)
        assert same == old
        assert new.id in existing(repository)
        with pytest.raises(NothingMatches) as twice:
            undo(repository, old.id)
        assert twice.value.code == "snapshot.not_forgotten"
        assert_restores(repository, new, scene.expected[old.id])
        assert check(repository).findings == ()


def test_undo_publishes_its_root_then_looks_then_commits(scene: Scene) -> None:
    store = scene.store()
    with scene.open(store) as repository:
        forget(repository)
    recording = RecordingStore(store)
    with scene.open(recording) as repository:
        undo(repository, scene.snapshots[0])

    assert outline(recording.calls) == ["put roots", "barrier", "put commits", "barrier"]
    root = next(at for at, call in enumerate(recording.calls) if call.verb == "put")
    looked = [call.key for call in recording.calls[root:] if call.verb == "list"]
    assert looked[:3] == [layout.GC, layout.INDEX, layout.PACKS]


def test_undo_after_a_prune_is_too_late_and_leaves_no_snapshot(scene: Scene) -> None:
    store = scene.store()
    with scene.open(store) as repository:
        forget(repository)
        scene.clock.advance(UNDO_WINDOW_SECONDS + 1)
        for identifier in scene.snapshots[:3]:
            store.delete(layout.root_key(identifier))
            store.delete(layout.forgotten_key(identifier))

        with pytest.raises(NothingMatches) as late:
            undo(repository, scene.snapshots[0])

        assert late.value.code == "snapshot.undo_too_late"
        assert existing(repository) == scene.snapshots[3:]
        assert check(repository).exit_code == 0


def test_undo_of_a_tree_whose_data_is_gone_is_too_late_though_nothing_looks_lost(scene: Scene) -> None:
    """A prune went on while we listed, and segments were compacted: the view is whole, the tree is not."""
    store = scene.store()
    with scene.open(store) as repository:
        only = set(packs_only_of(repository, scene, 1))
        assert only
        forget(repository)
    for key in [key for key in store.objects if key in only]:
        del store.objects[key]
    for key in [key for key in store.objects if key.startswith(layout.INDEX) and key not in layout.SENTINELS]:
        del store.objects[key]
    with scene.open(store) as repository:
        assert repository.look().whole

        with pytest.raises(NothingMatches) as late:
            undo(repository, scene.snapshots[1])

        assert late.value.code == "snapshot.undo_too_late"
        assert existing(repository) == scene.snapshots[3:]


# What a check says, and what is swept


def test_a_check_names_damaged_marks_and_markers(scene: Scene) -> None:
    store = scene.store()
    with scene.open(store) as repository:
        repository.catalog.add_mark(scene.snapshots[4], Mark(kind=PROTECT, time_ns=1))
        forget(repository)
        store.objects["marks/readme"] = b"not ours"
        (mark,) = [key for key in store.objects if key.startswith(f"marks/{format_id(scene.snapshots[4])}")]
        for key in (mark, layout.forgotten_key(scene.snapshots[0])):
            store.objects[key] = store.objects[key][:-3] + b"xyz"

        report = check(repository, CheckOptions(level=Level.QUICK))

        assert {(finding.code, finding.severity) for finding in report.findings} == {
            ("check.foreign_object", "warning"),
            ("check.mark_damaged", "error"),
            ("check.forgotten_damaged", "warning"),
        }
        assert report.exit_code == 4
        repository.catalog.add_mark(scene.snapshots[4], Mark(kind=UNPROTECT, time_ns=2))
        assert ("check.mark_damaged", "note") in {
            (finding.code, finding.severity) for finding in check(repository, CheckOptions(level=Level.QUICK)).findings
        }


def test_marks_are_swept_once_nothing_of_their_snapshot_is_left(scene: Scene) -> None:
    store = scene.store()
    with scene.open(store) as repository:
        for identifier in (scene.snapshots[0], scene.snapshots[4]):
            repository.catalog.add_mark(identifier, Mark(kind=NOTE, time_ns=1, text="x"))
        forget(repository)
        assert sweep_marks(repository.catalog) == 0

        store.delete(layout.root_key(scene.snapshots[0]))
        store.delete(layout.forgotten_key(scene.snapshots[0]))

        assert sweep_marks(repository.catalog) == 1
        assert repository.catalog.marks().marks.keys() == {scene.snapshots[4]}
        assert check(repository).exit_code == 0


def test_a_check_says_what_it_verified(scene: Scene, tmp_path: Path) -> None:
    with scene.open(scene.store()) as repository:
        assert check(repository, CheckOptions()).verified == ()
        assert check(repository, CheckOptions(read_data=DataShare(fraction=0.5))).verified == ()
        assert set(check(repository).verified) == set(scene.snapshots)
        assert check(repository, CheckOptions(restore=True)).verified == (scene.snapshots[4],)


def test_a_check_does_not_call_verified_what_is_damaged(scene: Scene) -> None:
    store = scene.store()
    with scene.open(store) as repository:
        damaged = packs_only_of(repository, scene, 1)[0]
        store.objects[damaged] = store.objects[damaged][:100] + b"\0\0\0\0" + store.objects[damaged][104:]

        report = check(repository)

    assert report.exit_code == 4
    assert set(report.verified) == set(scene.snapshots) - {scene.snapshots[1]}
