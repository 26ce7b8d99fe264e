"""Marks in a store: old repositories, lost listings, damage, and clients that do not see each other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dedupstore.errors import IncompleteListing
from dedupstore.model.mark import NOTE, PROTECT, TAGS, UNPROTECT, Mark
from dedupstore.repo import layout
from dedupstore.repo.catalog import Catalog
from dedupstore.repo.forgetting import list_forgotten, open_forgotten
from dedupstore.repo.marks import put_mark
from dedupstore.repo.repository import Repository
from dedupstore.storage.base import ObjectInfo
from dedupstore.storage.local import LocalStore
from dedupstore.storage.memory import MemoryStore
from dedupstore.types import SnapshotId
from tests.support.golden_repository import FOLDER, TIME_NS
from tests.support.recording import RecordingStore, outline
from tests.support.repositories import make_tree, new_repository, open_repository, take

MINE = Mark(kind=PROTECT, time_ns=1, text="mine")


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def repository(store: MemoryStore, tmp_path: Path) -> Repository:
    made = new_repository(store)
    take(made, make_tree(tmp_path / "tree"))
    return made


def only(repository: Repository) -> SnapshotId:
    (snapshot,) = repository.catalog.snapshots().snapshots
    return snapshot.id


def mark_keys(store: MemoryStore) -> list[str]:
    return sorted(key for key in store.objects if key.startswith(layout.MARKS) and key not in layout.SENTINELS)


def made_before_marks(store: MemoryStore) -> Catalog:
    """The catalog of a repository whose config does not promise `marks/`, and which has none."""
    for key in layout.MARKS_SENTINELS:
        store.delete(key)
    with open_repository(store) as repository:
        return Catalog(store, repository.keyring)


def test_a_mark_is_one_more_object_and_changes_none(store: MemoryStore, repository: Repository) -> None:
    before = dict(store.objects)

    repository.catalog.add_mark(only(repository), MINE)

    (key,) = mark_keys(store)
    assert {name: data for name, data in store.objects.items() if name != key} == before


def test_what_was_said_is_seen_by_others(store: MemoryStore, repository: Repository) -> None:
    snapshot = only(repository)
    for mark in (
        Mark(kind=TAGS, time_ns=1, add=("release",)),
        Mark(kind=NOTE, time_ns=2, text="good"),
        Mark(kind=PROTECT, time_ns=3, until_ns=100),
    ):
        repository.catalog.add_mark(snapshot, mark)

    with open_repository(store) as other:
        listing, book = other.catalog.marked()

    (found,) = listing.snapshots
    assert (found.tags, found.note) == (("release",), "good")
    assert book.of(found).holds(99)
    assert [layout.parse_mark_key(key)[1] for key in mark_keys(store)] == [1, 2, 3]


def test_two_clients_that_take_one_number_both_keep_their_marks(repository: Repository) -> None:
    catalog, snapshot = repository.catalog, only(repository)
    book = catalog.marks()
    for name in ("a", "b"):
        put_mark(catalog.store, catalog.keyring, book, snapshot, Mark(kind=TAGS, time_ns=1, add=(name,)))

    (found,) = catalog.marked()[0].snapshots

    assert set(found.tags) == {"a", "b"}


def test_in_a_new_repository_a_missing_mark_of_the_listing_is_a_loss(
    store: MemoryStore, repository: Repository
) -> None:
    for missing in ([0], [1], [0, 1]):
        for number in missing:
            store.delete(layout.MARKS_SENTINELS[number])

        book = repository.catalog.marks()

        assert book.incomplete
        with pytest.raises(IncompleteListing):
            book.require_whole()
        with pytest.raises(IncompleteListing):
            repository.catalog.add_mark(only(repository), MINE)
        for key in layout.MARKS_SENTINELS:
            store.put(key, [layout.SENTINEL_BODY])


def test_marks_that_a_cut_listing_still_shows_are_used(store: MemoryStore, repository: Repository) -> None:
    repository.catalog.add_mark(only(repository), Mark(kind=NOTE, time_ns=1, text="seen"))
    store.delete(layout.MARKS_SENTINELS[1])

    (found,) = repository.catalog.marked()[0].snapshots

    assert found.note == "seen"


def test_a_repository_from_before_marks_has_none_and_gets_a_complete_listing_with_its_first(
    store: MemoryStore, repository: Repository
) -> None:
    catalog = made_before_marks(store)
    book = catalog.marks()
    book.require_whole()
    assert not book.marks

    recording = RecordingStore(store)
    put_mark(recording, catalog.keyring, book, only(repository), MINE)

    writes = [step for step in outline(recording.calls) if step.startswith(("put", "barrier"))]
    assert writes == ["put marks", "barrier", "put marks", "barrier"]
    assert catalog.marks().marks.keys() == {only(repository)}
    store.delete(layout.MARKS_SENTINELS[0])
    assert catalog.marks().incomplete


def test_an_init_that_an_older_dedup_did_not_finish_can_be_run_again(store: MemoryStore) -> None:
    new_repository(store).close()
    for key in (layout.FORMAT_KEY, *layout.MARKS_SENTINELS):
        store.delete(key)

    with new_repository(store) as repository:
        assert not repository.catalog.marks().incomplete


def test_a_listing_that_shows_nothing_while_the_sentinels_are_there_is_no_absence(
    store: MemoryStore, repository: Repository
) -> None:
    catalog = made_before_marks(store)
    put_mark(store, catalog.keyring, catalog.marks(), only(repository), MINE)

    class Blind(MemoryStore):
        def list(self, prefix: str):  # type: ignore[no-untyped-def]
            return iter(()) if prefix == layout.MARKS else super().list(prefix)

    blind = Blind()
    blind.objects = store.objects

    assert Catalog(blind, catalog.keyring).marks().incomplete


def test_a_damaged_mark_leaves_the_snapshot_unclear_until_a_later_one_decides(
    store: MemoryStore, repository: Repository
) -> None:
    snapshot, catalog = only(repository), repository.catalog
    catalog.add_mark(snapshot, Mark(kind=UNPROTECT, time_ns=1))
    (key,) = mark_keys(store)
    store.objects[key] = store.objects[key][:-1] + bytes([store.objects[key][-1] ^ 1])

    assert catalog.marks().unclear == {snapshot}
    catalog.add_mark(snapshot, Mark(kind=NOTE, time_ns=2, text="x"))
    assert catalog.marks().unclear == {snapshot}
    catalog.add_mark(snapshot, Mark(kind=UNPROTECT, time_ns=3))
    assert not catalog.marks().unclear
    assert list(catalog.marks().damaged) == [key]


def test_a_mark_of_another_snapshot_or_number_does_not_open_under_this_name(
    store: MemoryStore, repository: Repository
) -> None:
    catalog = repository.catalog
    catalog.add_mark(only(repository), MINE)
    (key,) = mark_keys(store)
    moved = layout.mark_key(only(repository), 2, bytes(16))
    store.objects[moved] = store.objects[key]

    assert list(catalog.marks().damaged) == [moved]


def test_names_of_marks_round_trip_and_sort_between_the_sentinels() -> None:
    snapshot, identifier = SnapshotId(b"\xff" * 16), bytes(range(16))
    key = layout.mark_key(snapshot, 99_999_999, identifier)

    assert layout.parse_mark_key(key) == (snapshot, 99_999_999, identifier)
    assert layout.MARKS_SENTINELS[0] < key < layout.MARKS_SENTINELS[1]
    with pytest.raises(ValueError, match="number"):
        layout.mark_key(snapshot, 0, identifier)


def test_the_marks_of_a_golden_repository_say_what_they_always_said() -> None:
    with open_repository(LocalStore(str(FOLDER / "v1-marks" / "repository"))) as repository:
        listing, book = repository.catalog.marked()
        book.require_whole()
        second, third, fourth = listing.snapshots
        said = book.of(second)

        assert (said.tags, said.protected, said.until_ns, said.reason) == (("pinned",), True, TIME_NS * 2, "audit")
        assert not book.of(third).protected
        assert fourth.note == "the newest"
        assert not book.damaged and not book.unclear
        (first,) = list_forgotten(repository.store) - {third.id}
        assert open_forgotten(repository.store, repository.keyring, first).time_ns == TIME_NS


@pytest.mark.parametrize("left", layout.MARKS_SENTINELS)
def test_the_first_mark_stopped_between_the_two_sentinels_needs_no_repair(
    store: MemoryStore, repository: Repository, left: str
) -> None:
    catalog = made_before_marks(store)
    store.put(left, [layout.SENTINEL_BODY])

    catalog.marks().require_whole()
    assert layout.list_if_there(store, layout.MARKS) is None
    catalog.add_mark(only(repository), MINE)

    assert catalog.marks().of(repository.catalog.get(only(repository))).protected


@pytest.mark.parametrize("lost", layout.MARKS_SENTINELS)
def test_a_listing_that_lost_a_mark_or_a_sentinel_is_not_taken_for_a_first_use(
    store: MemoryStore, repository: Repository, lost: str
) -> None:
    catalog = made_before_marks(store)
    catalog.add_mark(only(repository), MINE)

    class Cut(MemoryStore):
        hidden: set[str]

        def list(self, prefix: str) -> Iterator[ObjectInfo]:
            return (row for row in super().list(prefix) if row.key not in self.hidden)

    cut = Cut()
    cut.objects = dict(store.objects)
    for hidden in ({lost}, {lost, *mark_keys(store)}, {*layout.MARKS_SENTINELS, *mark_keys(store)}):
        cut.hidden = hidden
        with pytest.raises(IncompleteListing):
            layout.list_if_there(cut, layout.MARKS)
    store.delete(lost)
    with pytest.raises(IncompleteListing):
        layout.list_if_there(store, layout.MARKS)
