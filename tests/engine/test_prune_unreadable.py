"""A pack that is known to be damaged, and whose end the disk does not give: what it holds is read elsewhere, or it stays."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dedupstore.engine.prune_plan import Reason
from dedupstore.errors import StoreError
from dedupstore.repo.repository import Repository
from dedupstore.storage.memory import MemoryStore
from dedupstore.types import Kind, Span
from tests.support.damaging import flip
from tests.support.pruning import assert_sound, check, forget, plan, prune
from tests.support.repositories import files_below, new_repository, random_bytes, take

FULL, SHORT = 400_000, 40_000
"""Bytes of a tree that fills packs, whose directories the index repeats, and of one that fills none."""


class Worn(MemoryStore):
    """Gives the beginning of an object that is `worn`, and not its end."""

    def __init__(self) -> None:
        super().__init__()
        self.worn = ""

    def get(self, key: str, span: Span | None = None) -> bytes:
        if key == self.worn and (span is None or span.start + span.length == self.head(key)):
            raise StoreError(f"cannot read {key}", why="Input/output error")
        return super().get(key, span)


@pytest.fixture
def store() -> Worn:
    return Worn()


@pytest.fixture
def repository(store: Worn, tmp_path: Path) -> Iterator[Repository]:
    with new_repository(store, tmp_path / "cache") as made:
        yield made


@pytest.mark.parametrize(("size", "goes"), [(FULL, True), (SHORT, False)])
def test_a_damaged_pack_whose_end_cannot_be_read(
    repository: Repository, store: Worn, tmp_path: Path, size: int, goes: bool
) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    for number in range(8):
        (tree / f"noise{number}").write_bytes(random_bytes(f"noise {number}", size // 8))
    damaged = take(repository, tree).snapshot
    assert damaged is not None
    (first, *_) = [row for row in repository.index.packs() if row.kind is Kind.DATA]
    block = repository.index.blocks(first.no)[0]
    flip(store, first.name.key, block.offset + block.stored // 2)
    assert check(repository).recorded == 1
    again = take(repository, tree).snapshot
    assert again is not None
    forget(repository, damaged)
    store.worn = first.name.key

    chosen = [choice.row.no for choice in plan(repository).choices if choice.reason is Reason.DAMAGED]
    prune(repository)

    assert chosen == ([first.no] if goes else [])
    assert (first.name.key in store.objects) is not goes
    store.worn = ""
    prune(repository)
    assert first.name.key not in store.objects
    assert_sound(repository, {again.id: files_below(tree)})
