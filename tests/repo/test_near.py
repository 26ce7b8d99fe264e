"""Blocks that lie near one another come by one request."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from dedupstore.cancel import CancelToken
from dedupstore.engine.dump import dump
from dedupstore.engine.dump_tar import TarArchive
from dedupstore.engine.file_content import file_content
from dedupstore.engine.restore import restore
from dedupstore.engine.restore_options import RestoreOptions
from dedupstore.events import NullListener
from dedupstore.model.entry import Entry
from dedupstore.repo import near
from dedupstore.repo.index import BlockInfo
from dedupstore.repo.repository import Repository
from dedupstore.storage.memory import MemoryStore
from dedupstore.types import Kind
from tests.repo.test_pack_cache import FarStore
from tests.support.checking import assert_clean
from tests.support.repositories import (
    entries_of,
    files_below,
    make_tree,
    mutate_tree,
    new_repository,
    open_repository,
    random_bytes,
    take,
)


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


def data_blocks(repository: Repository) -> dict[near.Block, BlockInfo]:
    index = repository.index
    rows = [row.no for row in index.packs() if row.kind is Kind.DATA]
    return {(no, number): index.block(no, number) for no in rows for number in range(len(index.blocks(no)))}


def newest(repository: Repository) -> dict[bytes, Entry]:
    """Its entries by path; nothing of the data has been read."""
    snapshot = max(repository.catalog.snapshots().snapshots, key=lambda snapshot: snapshot.time_ns)
    repository.look()
    return dict(entries_of(repository.reader.load_manifest, snapshot))


def test_a_file_is_read_by_few_requests_and_its_beginning_by_one(tmp_path: Path) -> None:
    far = FarStore(MemoryStore())
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "noise").write_bytes(data := random_bytes("noise", 3_000_000))
    with new_repository(far) as repository:
        take(repository, tree)
        blocks = data_blocks(repository)
        packs = len({pack for pack, _ in blocks})

    with open_repository(far) as repository:
        entry = newest(repository)[b"tree/noise"]
        far.calls.clear()
        pieces = file_content(repository.reader, entry)
        first = bytes(next(pieces))
        assert far.data_packs_read() == 1
        assert first + b"".join(pieces) == data

    # One for each pack, and for each where a group ends in the middle of one.
    assert far.data_packs_read() <= packs + 4 < len(blocks) // 3
    with open_repository(far) as repository:
        entry = newest(repository)[b"tree/noise"]
        far.refused = lambda span: span.length > 20 << 10
        assert b"".join(file_content(repository.reader, entry)) == data
        far.refused = lambda span: False
        assert_clean(repository)


def test_a_file_whose_blocks_are_far_larger_than_what_is_read_of_them_is_read_within_bounds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(near, "TOGETHER_BYTES", 100_000)
    decoded: list[int] = []
    far = FarStore(MemoryStore())
    tree = make_tree(tmp_path / "tree", scale=4)
    with new_repository(far) as repository:
        take(repository, tree)
        entry = newest(repository)[b"tree/noise.bin"]
        references = [(chunk, length, 0) for chunk, length in entry.inline_references()]

        def decode(blocks: object) -> None:
            decoded.append(sum(repository.index.block(*block).raw for block in blocks))  # type: ignore[attr-defined]

        def place(chunk: object) -> near.Block:
            found = repository.reader.locate(chunk)  # type: ignore[arg-type]
            return found.pack_no, found.block_no

        groups = list(near.groups_of(repository.index, iter(references), place, decode))

    assert [reference for group in groups for reference in group] == references
    assert len(groups) == len(decoded) > 3
    assert max(decoded) <= 100_000


def test_an_archive_of_small_files_is_read_by_few_requests(tmp_path: Path) -> None:
    far = FarStore(MemoryStore())
    tree = make_tree(tmp_path / "tree", scale=2)
    for number in range(100):
        (tree / f"small{number:03d}").write_bytes(random_bytes(str(number), 10_000))
    with new_repository(far) as repository:
        root = take(repository, tree).snapshot.root
        blocks = len(data_blocks(repository))

    with open_repository(far) as repository:
        repository.look()
        far.calls.clear()
        archive = io.BytesIO()
        dump(repository, root, b"", TarArchive(archive), NullListener(), CancelToken())

    assert far.data_packs_read() < blocks // 3
    archive.seek(0)
    with tarfile.open(fileobj=archive) as opened:
        opened.extractall(tmp_path / "back", filter="fully_trusted")
    assert files_below(tmp_path / "back" / "tree") == files_below(tree)


def test_the_bases_of_deltas_come_together(tmp_path: Path) -> None:
    store = MemoryStore()
    tree = make_tree(tmp_path / "tree", scale=20)
    with new_repository(store) as repository:
        take(repository, tree)
        mutate_tree(tree, 1)
        take(repository, tree)
        blocks = data_blocks(repository)
        bases = {
            (place.pack_no, place.block_no)
            for info in blocks.values()
            for place in map(repository.reader.locate, info.bases)
        }
    assert len(bases) > 12

    far = FarStore(store)
    with open_repository(far) as repository:
        entry = newest(repository)[b"tree/dump.sql"]
        far.calls.clear()
        assert b"".join(file_content(repository.reader, entry)) == (tree / "dump.sql").read_bytes()

    assert far.data_packs_read() < len(bases) // 2
    with open_repository(store) as repository:
        assert_clean(repository)
