"""One flipped bit of one record, its clear header included, hides no other snapshot."""

from __future__ import annotations

from pathlib import Path

import pytest

from dedupstore.codec.claims import OBJECT_OVERHEAD
from dedupstore.repo import layout
from dedupstore.storage.memory import MemoryStore
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
