"""One flipped bit of one record, its clear header included, hides no other snapshot."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from dedupstore.codec.claims import OBJECT_OVERHEAD
from dedupstore.errors import StoreError
from dedupstore.model.mark import PROTECT, Mark
from dedupstore.repo import layout
from dedupstore.storage.base import ObjectInfo
from dedupstore.storage.memory import MemoryStore
from dedupstore.types import Span
from tests.support.pruning import check
from tests.support.repositories import files_below, make_tree, new_repository, open_repository, stored_files, take


@pytest.mark.parametrize("prefix", [layout.ROOTS, layout.COMMITS])
def test_a_flipped_bit_anywhere_in_a_record_or_marker_is_damage_of_one_snapshot(prefix: str, tmp_path: Path) -> None:
    store, tree = MemoryStore(), make_tree(tmp_path / "tree")
    with new_repository(store) as repository:
        first, second = (take(repository, tree).snapshot for _ in range(2))
        assert first is not None and second is not None
    key = next(key for key in store.objects if key.startswith(prefix) and layout.commit_key(first.id)[8:] in key)
    whole = store.objects[key]
    for position in range(OBJECT_OVERHEAD + 8):
        store.objects[key] = whole[:position] + bytes([whole[position] ^ 1 << position % 8]) + whole[position + 1 :]
        with open_repository(store) as repository:
            listing = repository.catalog.snapshots()

            assert [snapshot.id for snapshot in listing.snapshots] == [second.id], position
            assert [identifier for identifier, _ in listing.damaged] == [first.id]
            if position % 8 == 6:
                assert stored_files(repository, second) == files_below(tree)
                report = check(repository)
                assert {finding.code for finding in report.findings} == {"check.snapshot_damaged"}


@pytest.mark.parametrize("prefix", [layout.ROOTS, layout.COMMITS])
def test_a_record_or_marker_on_a_bad_sector_is_damage_of_one_snapshot(prefix: str, tmp_path: Path) -> None:
    class BadSector(MemoryStore):
        bad = ""

        def get(self, key: str, span: Span | None = None) -> bytes:
            if key == self.bad:
                raise StoreError(f"cannot read {key}", why="Input/output error", code="store.unreadable")
            return super().get(key, span)

    store, tree = BadSector(), make_tree(tmp_path / "tree")
    with new_repository(store) as repository:
        first, second = (take(repository, tree).snapshot for _ in range(2))
        assert first is not None and second is not None
    store.bad = next(key for key in store.objects if key.startswith(prefix) and layout.commit_key(first.id)[8:] in key)

    with open_repository(store) as repository:
        for cached in (False, True):
            listing = repository.catalog.snapshots(cached=cached)
            assert [snapshot.id for snapshot in listing.snapshots] == [second.id]
            ((identifier, why),) = listing.damaged
            assert identifier == first.id and store.bad in why and "Input/output error" in why
        assert stored_files(repository, second) == files_below(tree)
        report = check(repository)

    assert report.exit_code == 4
    (finding,) = report.findings
    assert finding.code == "check.snapshot_damaged" and store.bad in finding.message


def test_trouble_with_the_store_is_not_taken_for_damage_of_a_record(tmp_path: Path) -> None:
    class Locked(MemoryStore):
        locked = False

        def get(self, key: str, span: Span | None = None) -> bytes:
            if self.locked and key.startswith(layout.ROOTS):
                raise StoreError(f"cannot read {key}", why="permission denied", code="store.permission")
            return super().get(key, span)

    store = Locked()
    with new_repository(store) as repository:
        take(repository, make_tree(tmp_path / "tree"))
        store.locked = True

        with pytest.raises(StoreError, match="cannot read"):
            repository.catalog.snapshots()


class Oversized(MemoryStore):
    """Lists one object as larger than memory, and counts how often it is read all the same."""

    huge = ""
    reads = 0

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        for row in super().list(prefix):
            yield replace(row, size=3 << 30) if row.key == self.huge else row

    def get(self, key: str, span: Span | None = None) -> bytes:
        self.reads += key == self.huge
        return super().get(key, span)


@pytest.mark.parametrize("prefix", [layout.ROOTS, layout.COMMITS, layout.MARKS])
@pytest.mark.parametrize("cached", [False, True])
def test_a_record_larger_than_any_is_damage_of_one_snapshot_and_never_read(
    prefix: str, cached: bool, tmp_path: Path
) -> None:
    store, tree = Oversized(), make_tree(tmp_path / "tree")
    with new_repository(store) as repository:
        first, second = (take(repository, tree).snapshot for _ in range(2))
        assert first is not None and second is not None
        repository.catalog.add_mark(first.id, Mark(kind=PROTECT, time_ns=1))
    store.huge = next(key for key in store.objects if key.startswith(prefix) and layout.commit_key(first.id)[8:] in key)

    with open_repository(store) as repository:
        listing, book = repository.catalog.marked(cached=cached)

    assert store.reads == 0
    if prefix == layout.MARKS:
        assert list(book.damaged) == [store.huge] and first.id in book.unclear
    else:
        assert [snapshot.id for snapshot in listing.snapshots] == [second.id]
        ((identifier, why),) = listing.damaged
        assert identifier == first.id and "larger than any record: 3221225472 bytes" in why
