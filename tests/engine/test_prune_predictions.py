"""What a prune says it will free is what it frees: also where many small packs become few, with directories and padding."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from dedupstore.repo.repository import Repository
from dedupstore.storage.memory import MemoryStore
from tests.support.pruning import check, forget, pack_bytes, plan, prune
from tests.support.repositories import (
    SMALL,
    make_tree,
    mutate_tree,
    new_repository,
    random_bytes,
    take,
    text_bytes,
)

DAYS = 60
OPTIONS = replace(SMALL, block_bytes=256 << 10, delta_block_bytes=64 << 10, pack_bytes=32 << 20)


@pytest.fixture
def repository() -> Iterator[Repository]:
    with new_repository(MemoryStore(), options=OPTIONS) as made:
        yield made


@pytest.mark.parametrize("thinned", [False, True])
def test_what_sixty_small_snapshots_free_is_known_before(repository: Repository, tmp_path: Path, thinned: bool) -> None:
    tree = make_tree(tmp_path / "tree", scale=2)
    taken = []
    for day in range(DAYS):
        mutate_tree(tree, day)
        (tree / f"new{day}").write_bytes(random_bytes(f"new {day}", 30_000) + text_bytes(day, 150))
        if day > 5:
            (tree / f"new{day - 5}").unlink()
        taken.append(take(repository, tree).snapshot)
    if thinned:
        for day in set(range(DAYS)) - set(range(0, DAYS, 3)):
            forget(repository, taken[day])
    before = pack_bytes(repository.store)
    planned = plan(repository)

    report = prune(repository)

    assert len(planned.choices) > DAYS and report.bytes_moved
    assert abs(report.bytes_freed - planned.bytes_free) <= planned.bytes_going * 0.02
    assert abs(before - pack_bytes(repository.store) - planned.bytes_free) <= planned.bytes_going * 0.02
    assert check(repository).exit_code == 0
