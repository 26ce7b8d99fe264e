"""What counts as needed when locks are extended: where chunks lie, and where the bases of their deltas do."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dedupstore.cancel import CancelToken
from dedupstore.engine.locks import find_needed
from dedupstore.events import NullListener
from dedupstore.repo import layout
from dedupstore.repo.pack import PackName
from dedupstore.storage.memory import MemoryStore
from dedupstore.types import Kind, PackId
from tests.support.pack_layouts import FILE_BYTES, OPTIONS
from tests.support.pruning import check, forget
from tests.support.repositories import new_repository, random_bytes, take


def test_the_packs_of_bases_are_needed_and_those_of_forgotten_snapshots_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    before = random_bytes("base", FILE_BYTES)
    tree = _file(tmp_path / "tree", before)
    store = MemoryStore()
    with new_repository(store, options=OPTIONS) as repository:
        other = take(repository, _file(tmp_path / "other", random_bytes("other", FILE_BYTES))).snapshot
        unneeded = {row.id for row in repository.index.packs() if row.kind is Kind.DATA}
        older = _packs(store)
        first = take(repository, tree).snapshot
        bases = _packs(store) - older
        (tree / "file").write_bytes(before + b"one line more\n")
        second = take(repository, tree).snapshot
        assert other is not None and first is not None and second is not None
        deltas = _packs(store) - older - bases
        numbers = [row.no for row in repository.index.packs() if row.id in deltas and row.kind is Kind.DATA]
        assert all(repository.index.block(no, 0).bases for no in numbers), "it is stored as a delta to the first"
        for snapshot in (other, first):
            forget(repository, snapshot)

        needed, findings = find_needed(repository, listener=NullListener(), cancel=CancelToken())

        assert not findings
        assert needed.snapshots == {second.id}
        assert unneeded and needed.packs is not None
        assert bases | deltas <= needed.packs <= _packs(store) - unneeded
        assert {key for key in store.objects if not needed.includes(key)} == {
            *(key for key in store.objects if _id(key) in _packs(store) - needed.packs),
            *(layout.root_key(snapshot.id) for snapshot in (other, first)),
            *(layout.forgotten_key(snapshot.id) for snapshot in (other, first)),
        }
        assert check(repository).exit_code == 0


def test_a_snapshot_that_cannot_be_walked_makes_every_pack_needed(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    store = MemoryStore()
    with new_repository(store, options=OPTIONS) as repository:
        taken = take(repository, tmp_path)
        (lost,) = [row.name.key for row in repository.index.packs() if row.kind is Kind.MANIFEST]
        del store.objects[lost]

        needed, findings = find_needed(repository, listener=NullListener(), cancel=CancelToken())

        assert taken.snapshot is not None and needed.packs is None
        assert [finding.code for finding in findings] == ["locks.all_packs"]
        assert needed.includes(lost)
        assert not needed.includes("packs/of-somebody-else")
        assert check(repository).exit_code == 4


def _file(folder: Path, content: bytes) -> Path:
    folder.mkdir()
    (folder / "file").write_bytes(content)
    return folder


def _packs(store: MemoryStore) -> set[PackId]:
    return {pack for key in store.objects if (pack := _id(key)) is not None}


def _id(key: str) -> PackId | None:
    return PackName.parse(key).id if key.startswith(layout.PACKS) and key not in layout.SENTINELS else None
