"""A pack of which a part lies on a bad sector: everything else is used, and what it held is moved from where it is whole."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from dedupstore.cancel import CancelToken
from dedupstore.engine.restore import restore
from dedupstore.engine.restore_options import RestoreOptions
from dedupstore.errors import StoreError
from dedupstore.events import Collector
from dedupstore.repo import layout
from dedupstore.repo.repository import Repository
from dedupstore.storage.local import LocalStore
from dedupstore.storage.memory import MemoryStore
from dedupstore.types import Kind, Span
from tests.support.damaging import check, chunk_of, content_of
from tests.support.faults import FaultySystem
from tests.support.pack_layouts import LAYOUTS, Scene, build
from tests.support.pruning import condemn, plans, sweep
from tests.support.repositories import assert_restores, files_below, open_repository, take


class BadSector(MemoryStore):
    """The bytes around one place of one object cannot be read."""

    bad = ("", 0)

    def get(self, key: str, span: Span | None = None) -> bytes:
        bad, at = self.bad
        if key == bad and (span is None or span.start <= at < span.start + span.length):
            raise StoreError(f"cannot read {key}", why="Input/output error", code="store.unreadable")
        return super().get(key, span)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return tmp_path / "tree"


@pytest.fixture(params=["full", "short"])
def scene(tree: Path, request: pytest.FixtureRequest) -> Scene:
    """Of full packs the index repeats what they hold, of short ones they alone say it."""
    return build(LAYOUTS[request.param], tree)


@pytest.fixture
def store(scene: Scene) -> BadSector:
    store = BadSector()
    store.objects.update(scene.store().objects)
    return store


@pytest.fixture
def repository(store: BadSector, tmp_path: Path) -> Iterator[Repository]:
    with open_repository(store, tmp_path / "cache") as opened:
        opened.look()
        yield opened


def assert_clean(store: BadSector) -> None:
    """To a machine that knows nothing."""
    with open_repository(store) as other:
        assert [one for one in check(other).findings if one.severity != "note"] == []


def test_a_machine_that_knows_nothing_uses_a_repository_with_a_pack_that_does_not_say_what_it_holds(
    store: BadSector, scene: Scene, tree: Path
) -> None:
    fact = next(fact for files, fact in scene.packs.items() if files.startswith("a"))
    store.bad = (fact.name.key, fact.size - 1)
    with open_repository(store) as other:
        check(other)
        taken = take(other, tree).snapshot
        assert taken is not None
        assert_restores(other, taken, files_below(tree))


def test_what_a_condemned_pack_does_not_give_is_moved_from_another_one(
    repository: Repository, store: BadSector, scene: Scene
) -> None:
    chunk = chunk_of(repository, "a")
    with repository.writer(repository.look()) as writer:
        writer.store_again(Kind.DATA, chunk, content_of("a"))
    packs = [repository.index.pack(copy.pack_no) for copy in repository.index.find_all(chunk)]
    condemn(repository, [row.id for row in packs])
    fact = next(fact for fact in scene.packs.values() if fact.id in [row.id for row in packs])
    store.bad = (fact.name.key, fact.blocks()[0].offset)

    sweep(repository)

    assert not plans(store) and fact.name.key not in store.objects
    assert_clean(store)


def test_a_restore_gives_everything_else(
    repository: Repository, store: BadSector, scene: Scene, tmp_path: Path
) -> None:
    fact = next(fact for files, fact in scene.packs.items() if files.startswith("a"))
    store.bad = (fact.name.key, fact.blocks()[0].offset)
    snapshot, out = repository.catalog.get(scene.snapshots[0]), tmp_path / "out"
    options = RestoreOptions(target=os.fsencode(out))
    events = Collector()

    restore(repository.reader, snapshot, options, listener=events, cancel=CancelToken())

    expected, found = set(scene.expected[0].values()), set(files_below(out).values())
    assert found < expected and len(found) == len(expected) - 1
    assert len(events.findings) == 1


def test_a_snapshot_does_without_the_base_that_lies_there(
    repository: Repository, store: BadSector, scene: Scene, tree: Path
) -> None:
    chunk = chunk_of(repository, "d")
    (at,) = repository.index.find_all(chunk)
    row = repository.index.pack(at.pack_no)
    store.bad = (row.name.key, repository.index.block(at.pack_no, at.block_no).offset)
    (tree / "d").write_bytes(content_of("d")[:6000] + b"changed" + content_of("d")[6000:])

    taken = take(repository, tree).snapshot

    assert_restores(repository, taken, files_below(tree))


def test_that_is_what_a_local_disk_says(tmp_path: Path) -> None:
    system = FaultySystem(always={"pread": errno.EIO})
    LocalStore.create(tmp_path / "local").put("index/aa", [b"x"])
    with pytest.raises(StoreError) as caught:
        LocalStore(tmp_path / "local", system=system).get("index/aa")
    assert caught.value.code == "store.unreadable"


def test_an_index_segment_that_lies_there_is_made_up_for_by_the_packs(
    store: BadSector, scene: Scene, tree: Path
) -> None:
    segment = next(info.key for info in layout.list_complete(store, layout.INDEX))
    store.bad = (segment, 0)
    with open_repository(store) as other:
        other.look()
        taken = take(other, tree).snapshot
        assert_restores(other, taken, files_below(tree))


def test_a_pack_that_is_refused_is_named_by_the_check_and_its_segment_is_not_called_damaged(
    scene: Scene,
) -> None:
    """As a file that another user owns is."""
    fact = next(fact for fact in scene.packs.values() if not fact.repeated)

    class Refusing(MemoryStore):
        def get(self, key: str, span: Span | None = None) -> bytes:
            if key == fact.name.key:
                raise StoreError(f"cannot read {key}", why="permission denied", code="store.permission")
            return super().get(key, span)

    store = Refusing()
    store.objects.update(scene.store().objects)
    with open_repository(store) as other:
        report = check(other)

    assert report.exit_code == 4
    (told,) = [one for one in report.findings if one.code == "check.pack_unread"]
    assert told.message == f"cannot read {fact.name.key}: permission denied"
    assert not [one for one in report.findings if one.code.startswith("check.segment")]
