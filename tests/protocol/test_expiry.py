"""A root is expired while its run commits after all: in every order of their steps no snapshot is left without a root.

The writer is `Catalog.put_commit`, the pruner `engine.prune_roots.expire_roots` with an undo window of nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import pytest


@dataclass
class Store:
    objects: set[str] = field(default_factory=lambda: {"root"})
    commit_seen: bool = False
    refused: bool = False


Step = Callable[[Store], None]


def put_commit(store: Store) -> None:
    store.objects.add("commit")


def head_marker(store: Store) -> None:
    store.refused |= "marker" in store.objects


def head_root(store: Store) -> None:
    store.refused |= "root" not in store.objects


def put_marker(store: Store) -> None:
    store.objects.add("marker")


def list_commits(store: Store) -> None:
    store.commit_seen = "commit" in store.objects


def delete_root(store: Store) -> None:
    if not store.commit_seen:
        store.objects.discard("root")


def delete_marker(store: Store) -> None:
    if not store.commit_seen:
        store.objects.discard("marker")


WRITER = (put_commit, head_marker, head_root)
PRUNER = (put_marker, list_commits, delete_root, delete_marker)


def orders(writer: Sequence[Step], pruner: Sequence[Step]) -> Iterator[list[Step]]:
    """Every way to shuffle the two, and the pruner stopped after any number of its steps."""
    for stopped in range(len(pruner) + 1):
        count = len(writer) + stopped
        for places in combinations(range(count), len(writer)):
            steps, rest = iter(writer), iter(pruner[:stopped])
            yield [next(steps) if place in places else next(rest) for place in range(count)]


def losses(writer: Sequence[Step], pruner: Sequence[Step]) -> list[list[str]]:
    """The orders in which the writer reports success and the root is gone."""
    found = []
    for order in orders(writer, pruner):
        store = Store()
        for step in order:
            step(store)
        if not store.refused and "root" not in store.objects:
            found.append([step.__name__ for step in order])
    return found


def test_no_order_leaves_a_snapshot_without_its_root() -> None:
    assert losses(WRITER, PRUNER) == []


@pytest.mark.parametrize(
    ("writer", "pruner"),
    [
        ((put_commit, head_root, head_marker), PRUNER),
        ((put_commit, head_root), PRUNER),
        ((put_commit, head_marker), PRUNER),
        ((head_marker, head_root, put_commit), PRUNER),
        (WRITER, (list_commits, put_marker, delete_root, delete_marker)),
        (WRITER, (list_commits, delete_root)),
        (WRITER, (put_marker, list_commits, delete_marker, delete_root)),
    ],
    ids=[
        "root before marker", "no look for the marker", "no look for the root", "commit last", "list before the marker",
        "no marker", "marker goes first",
    ],
)  # fmt: skip
def test_no_other_order_of_steps_would_do(writer: Sequence[Step], pruner: Sequence[Step]) -> None:
    assert losses(writer, pruner)
