"""What removing snapshots would free, against a count of every block by hand; and where a source grew."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path

import pytest

from dedupstore.cancel import CancelToken
from dedupstore.clock import FrozenClock
from dedupstore.codec.block import Codec
from dedupstore.engine.attribution import freed_alone, freed_together
from dedupstore.engine.growth import growth
from dedupstore.engine.walk import walk
from dedupstore.events import NullListener
from dedupstore.model.entry import FILE
from dedupstore.model.snapshot import Snapshot
from dedupstore.repo.catalog import UNDO_WINDOW_SECONDS
from dedupstore.repo.gcplan import Plan, put_plan
from dedupstore.repo.reachable import reachable
from dedupstore.repo.repository import Repository
from dedupstore.storage.memory import MemoryStore
from tests.support.checking import assert_clean
from tests.support.forgetting import NOW
from tests.support.pruning import forget
from tests.support.repositories import make_tree, mutate_tree, new_repository, random_bytes, take

Blocks = dict[tuple[int, int], int]
"""Stored bytes by pack and block."""


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[Repository]:
    with new_repository(MemoryStore(), tmp_path / "cache") as made:
        yield made


def needed(repository: Repository, snapshots: Sequence[Snapshot]) -> Blocks:
    """By a walk over everything, remembering everything."""
    index, found = repository.index, {}

    def need(pack_no: int, block_no: int) -> None:
        if (pack_no, block_no) in found:
            return
        block = index.block(pack_no, block_no)
        found[pack_no, block_no] = block.stored
        for base in block.bases if block.codec == Codec.DELTA else ():
            full = [at for at in index.find_all(base) if index.block(at.pack_no, at.block_no).codec != Codec.DELTA]
            need(full[0].pack_no, full[0].block_no)

    for snapshot in snapshots:
        for _, chunk in reachable(repository.reader.load_manifest, snapshot.root):
            location = repository.reader.locate(chunk)
            need(location.pack_no, location.block_no)
    return found


def by_hand(repository: Repository, theirs: Blocks, others: Blocks) -> int:
    """Whole packs by their size, and of the packs that others need the blocks that they do not."""
    whole = {pack_no for pack_no, _ in theirs} - {pack_no for pack_no, _ in others}
    parts = sum(stored for place, stored in theirs.items() if place not in others and place[0] not in whole)
    return parts + sum(repository.index.pack(pack_no).size for pack_no in whole)


def snapshots_of_days(repository: Repository, tree: Path, days: int) -> list[Snapshot]:
    """One snapshot a day, in the order in which they were taken: a clock that stands still gives all of them one time."""
    taken = []
    for day in range(days):
        snapshot = take(repository, tree).snapshot
        assert snapshot is not None
        taken.append(snapshot)
        mutate_tree(tree, day)
        (tree / f"only {day}").write_bytes(random_bytes(f"only {day}", 40_000))
        (tree / f"only {day - 1}").unlink(missing_ok=True)
    return taken


def test_what_is_freed_is_what_nobody_else_needs(repository: Repository, tmp_path: Path) -> None:
    snapshots = snapshots_of_days(repository, make_tree(tmp_path / "tree"), 4)
    codecs = {repository.index.block(*place).codec for place in needed(repository, snapshots)}
    assert Codec.DELTA in codecs

    for count in range(1, len(snapshots) + 1):
        for removed in combinations(snapshots, count):
            kept = [snapshot for snapshot in snapshots if snapshot not in removed]
            theirs, others = needed(repository, removed), needed(repository, kept)

            freed = freed_together(repository, removed, NullListener(), CancelToken())

            assert freed.total == by_hand(repository, theirs, others)


def test_each_alone_frees_what_it_frees_alone(repository: Repository, tmp_path: Path) -> None:
    snapshots = snapshots_of_days(repository, make_tree(tmp_path / "tree"), 5)

    alone = freed_alone(repository, snapshots, NullListener(), CancelToken())
    some = freed_alone(repository, snapshots[1:3], NullListener(), CancelToken())

    expected = [freed_together(repository, [one], NullListener(), CancelToken()) for one in snapshots]
    assert alone == expected
    assert some == expected[1:3]
    assert all(row.total for row in alone[1:])


def test_two_equal_snapshots_free_nothing_alone(repository: Repository, tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "tree")
    take(repository, tree)
    take(repository, tree)
    both = list(repository.catalog.snapshots().snapshots)

    assert [row.total for row in freed_alone(repository, both, NullListener(), CancelToken())] == [0, 0]
    together = freed_together(repository, both, NullListener(), CancelToken())
    assert together.total == by_hand(repository, needed(repository, both), {})


def test_what_was_forgotten_keeps_what_it_needs_until_it_cannot_be_brought_back(tmp_path: Path) -> None:
    clock = FrozenClock(NOW)
    with new_repository(MemoryStore(), tmp_path / "cache", clock=clock) as repository:
        first, second, third = snapshots_of_days(repository, make_tree(tmp_path / "tree"), 3)
        alone = freed_together(repository, [third], NullListener(), CancelToken())
        forget(repository, second)

        assert freed_together(repository, [third], NullListener(), CancelToken()) == alone
        clock.advance(UNDO_WINDOW_SECONDS)
        over = freed_together(repository, [third], NullListener(), CancelToken())
        expected = by_hand(repository, needed(repository, [third]), needed(repository, [first]))
        assert alone.total < over.total == expected
        assert_clean(repository)


def test_what_waits_in_condemned_packs_to_be_moved_is_counted(tmp_path: Path) -> None:
    """Between the two phases of a prune the only copy of a chunk may be in a pack that is condemned."""
    with new_repository(MemoryStore(), tmp_path / "cache") as repository:
        snapshots = snapshots_of_days(repository, make_tree(tmp_path / "tree"), 2)
        rows = [row.id for row in repository.index.packs()]
        put_plan(repository.store, repository.keyring, Plan(packs=tuple(rows), roots=(), creator="test", time_ns=1))

        freed = freed_together(repository, snapshots, NullListener(), CancelToken())

        assert freed.total == by_hand(repository, needed(repository, snapshots), {}) > 0


@pytest.mark.parametrize("depth", [0, 1, 5])
def test_growth_adds_up_to_the_difference_of_every_directory(
    repository: Repository, tmp_path: Path, depth: int
) -> None:
    tree = make_tree(tmp_path / "tree")
    before = take(repository, tree).snapshot
    for seed in range(3):
        mutate_tree(tree, seed)
    (tree / "a" / "b" / "c" / "more").write_bytes(bytes(1_234))
    (tree / "empty").unlink()
    (tree / "empty").mkdir()
    (tree / "empty" / "no more").write_bytes(random.Random(1).randbytes(77))
    after = take(repository, tree).snapshot
    assert before is not None and after is not None

    found = growth(repository.reader.load_manifest, before.root, after.root, depth, CancelToken())

    def sizes(snapshot: Snapshot) -> dict[bytes, tuple[int, int]]:
        sums: dict[bytes, tuple[int, int]] = {}
        for path, entry in walk(repository.reader.load_manifest, snapshot.root):
            if entry.kind == FILE:
                names = path.split(b"/")[:-1][:depth]
                for count in range(len(names) + 1):
                    place = b"/".join(names[:count])
                    size, files = sums.get(place, (0, 0))
                    sums[place] = size + entry.size, files + 1
        return sums

    old, new = sizes(before), sizes(after)
    for place in old.keys() | new.keys():
        expected = [new.get(place, (0, 0))[at] - old.get(place, (0, 0))[at] for at in (0, 1)]
        row = found.get(place)
        assert [row.bytes, row.files] == expected if row is not None else expected == [0, 0]
