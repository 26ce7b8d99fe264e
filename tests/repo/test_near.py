"""Blocks that lie near one another come by one request."""

from __future__ import annotations

from pathlib import Path

import pytest

from dedupstore.cancel import CancelToken
from dedupstore.engine.restore import restore
from dedupstore.engine.restore_options import RestoreOptions
from dedupstore.events import NullListener
from dedupstore.repo import near
from dedupstore.repo.index import BlockInfo
from dedupstore.storage.memory import MemoryStore
from dedupstore.types import Kind
from tests.repo.test_pack_cache import FarStore
from tests.support.checking import assert_clean
from tests.support.repositories import files_below, make_tree, new_repository, open_repository, take


class Blocks:
    """Of an index, where blocks are: each has a hundred bytes and follows the one before."""

    def block(self, pack_no: int, block_no: int) -> BlockInfo:
        return BlockInfo(offset=64 + block_no * 100, stored=100, raw=0, codec=0, lengths=(), bases=())


def test_runs_end_at_a_gap_at_their_limit_and_with_their_pack(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near, "MAX_GAP_BYTES", 200)
    monkeypatch.setattr(near, "MAX_RUN_BYTES", 700)
    wanted = [(2, 1), (1, 9), (1, 0), (1, 3), (1, 4), (1, 8), (1, 10), (1, 20), (1, 2), (2, 0)]

    runs = near.runs_of(Blocks(), wanted, lambda block, span: block == (1, 4))  # type: ignore[arg-type]

    assert runs == [
        [(2, 0), (2, 1)],
        [(1, 8), (1, 9), (1, 10)],
        [(1, 0), (1, 2), (1, 3)],
        [(1, 4)],
        [(1, 20)],
    ]
    assert sorted(block for run in runs for block in run) == sorted(wanted)


def restored(far: FarStore, target: Path) -> dict[bytes, bytes]:
    with open_repository(far) as repository:
        (snapshot,) = repository.catalog.snapshots().snapshots
        repository.look()
        far.calls.clear()
        options = RestoreOptions(target=bytes(target))
        result = restore(repository.reader, snapshot, options, listener=NullListener(), cancel=CancelToken())
        assert result.findings == ()
    return files_below(target / "tree")


def test_a_restore_asks_for_many_blocks_at_a_time_and_for_each_alone_where_that_fails(tmp_path: Path) -> None:
    far = FarStore(MemoryStore())
    tree = make_tree(tmp_path / "tree", scale=4)
    with new_repository(far) as repository:
        take(repository, tree)
        blocks = sum(len(repository.index.blocks(row.no)) for row in repository.index.packs() if row.kind is Kind.DATA)

    assert restored(far, tmp_path / "near") == files_below(tree)
    few = far.data_packs_read()
    far.refused = lambda span: span.length > 20 << 10
    assert restored(far, tmp_path / "alone") == files_below(tree)

    assert few < blocks // 3
    far.refused = lambda span: False
    with open_repository(far) as repository:
        assert_clean(repository)
