"""Dumps in which little changes, with chunks of their real size: patches, and what every command makes of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from dedupstore.chunking.params import ChunkerParams
from dedupstore.codec import patch
from dedupstore.codec.block import Codec
from dedupstore.repo.repository import Repository
from dedupstore.storage.memory import MemoryStore
from dedupstore.types import SnapshotId
from tests.support.pruning import assert_comes_to_rest, assert_rebuilds, assert_sound, forget
from tests.support.replicating import check_clean, run_copy, run_mirror
from tests.support.repositories import (
    SMALL,
    files_below,
    new_repository,
    open_repository,
    segment_facts,
    stored_files,
    take,
    text_bytes,
)

pytestmark = pytest.mark.skipif(
    not patch._HAVE_KERNEL, reason="patches are made by the kernel in C: install a compiler"
)
OPTIONS = replace(
    SMALL,
    chunker=ChunkerParams.for_average(64 << 10),
    block_bytes=2 << 20,
    delta_block_bytes=128 << 10,
    pack_bytes=1 << 20,
)


@dataclass
class Dumped:
    repository: Repository
    states: dict[SnapshotId, dict[bytes, bytes]] = field(default_factory=dict)

    def codecs(self) -> list[int]:
        return [block.codec for fact in segment_facts(self.repository) for block in fact.blocks()]


@pytest.fixture
def dumped(tmp_path: Path) -> Iterator[Dumped]:
    """Four versions, each made from the one before, of which the deltas are patches of the first."""
    tree = tmp_path / "tree"
    tree.mkdir()
    rows = text_bytes(7, 30_000).splitlines(keepends=True)
    with new_repository(MemoryStore("memory:source"), options=OPTIONS) as repository:
        made = Dumped(repository)
        for number in range(4):
            rows[2_000 * number + 10] = b"a row that was changed in round %d\n" % number
            del rows[20_000]
            (tree / "dump.sql").write_bytes(b"".join(rows))
            snapshot = take(repository, tree).snapshot
            assert snapshot is not None
            made.states[snapshot.id] = files_below(tree)
        assert made.codecs().count(Codec.PATCH) >= 3
        yield made


def test_they_restore_and_pass_every_check_and_cost_little(dumped: Dumped) -> None:
    facts = list(segment_facts(dumped.repository))
    patches = [block for fact in facts for block in fact.blocks() if block.codec == Codec.PATCH]

    assert sum(block.stored for block in patches) < sum(block.raw for block in patches) / 500
    assert all(block.bases for block in patches)
    assert_sound(dumped.repository, dumped.states)
    assert_rebuilds(dumped.repository)


def test_they_are_never_longer_than_a_full_block(tmp_path: Path) -> None:
    """Where delta blocks are as long as those, four times as much might be more than a block may hold."""
    before = text_bytes(8, 60_000)
    (tmp_path / "dump.sql").write_bytes(before)
    options = replace(OPTIONS, block_bytes=OPTIONS.delta_block_bytes)
    with new_repository(MemoryStore(), options=options) as repository:
        take(repository, tmp_path)
        (tmp_path / "dump.sql").write_bytes(b"".join(b"x" + part for part in parts(before, 32 << 10)))
        snapshot = take(repository, tmp_path).snapshot
        assert snapshot is not None
        patches = [block for fact in segment_facts(repository) for block in fact.blocks() if block.codec == Codec.PATCH]

        assert len(patches) > 2
        assert all(block.raw - block.lengths[-1] < options.block_bytes for block in patches)
        check_clean(repository.store)


def parts(data: bytes, length: int) -> list[bytes]:
    return [data[at : at + length] for at in range(0, len(data), length)]


def test_a_prune_moves_their_bases_and_leaves_them_readable(dumped: Dumped) -> None:
    first = dumped.repository.catalog.snapshots().snapshots[0]
    forget(dumped.repository, first)
    del dumped.states[first.id]

    assert_comes_to_rest(dumped.repository)

    assert Codec.PATCH in dumped.codecs()
    assert_sound(dumped.repository, dumped.states)
    assert_rebuilds(dumped.repository)


def test_a_copy_and_a_mirror_hold_the_same(dumped: Dumped) -> None:
    mirror = MemoryStore("memory:mirror")
    run_mirror(dumped.repository.store, mirror)
    with open_repository(mirror) as repository:
        assert_sound(repository, dumped.states)
    target = MemoryStore("memory:target")
    with new_repository(target, options=OPTIONS):
        pass

    assert run_copy(dumped.repository.store, target).exit_code == 0

    with open_repository(target) as repository:
        copied = Dumped(repository)
        assert Codec.PATCH in copied.codecs()
        restored = [stored_files(repository, snapshot) for snapshot in repository.catalog.snapshots().snapshots]
        assert restored == list(dumped.states.values())
    check_clean(target)
