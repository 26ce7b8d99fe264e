"""What tests of moved blocks look at: the packs of a repository, its blocks, and which of them are deltas."""

from __future__ import annotations

from pathlib import Path

from dedupstore.codec.block import Codec
from dedupstore.model.snapshot import Snapshot
from dedupstore.repo import layout
from dedupstore.repo.index import BlockInfo
from dedupstore.repo.pack_name import PackName
from dedupstore.repo.repository import Repository
from dedupstore.types import Kind, PackId
from tests.support.repositories import (
    files_below,
    take,
)

Files = dict[bytes, bytes]


def snapshot_of(repository: Repository, tree: Path) -> tuple[Snapshot, Files]:
    snapshot = take(repository, tree).snapshot
    assert snapshot is not None
    return snapshot, files_below(tree)


def change_a_row(tree: Path, number: int) -> None:
    """Random bytes do not compress: what is stored of them as a delta is far smaller than in full."""
    rows = bytearray((tree / "rows").read_bytes())
    rows[500 * number : 500 * number + 20] = b"changed in round %03d" % number
    (tree / "rows").write_bytes(rows)


def blocks(repository: Repository, kind: Kind = Kind.DATA) -> list[tuple[PackId, BlockInfo]]:
    """Every block of the packs that are there."""
    listed = pack_ids(repository)
    rows = [row for row in repository.index.packs() if row.id in listed and row.kind is kind]
    return [(row.id, block) for row in rows for block in repository.index.blocks(row.no)]


def deltas(repository: Repository) -> list[BlockInfo]:
    return [block for _, block in blocks(repository) if block.codec == Codec.DELTA]


def pack_ids(repository: Repository) -> set[PackId]:
    return {PackName.parse(row.key).id for row in layout.list_complete(repository.store, layout.PACKS)}
