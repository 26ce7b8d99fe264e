"""Repositories whose packs are laid out on purpose: which file lies in which pack is known, not left to chance.

Every file is one chunk and one block, one thread seals the blocks, and a counter says which open pack takes the next.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from dedupstore.chunking.params import ChunkerParams
from dedupstore.clock import FrozenClock
from dedupstore.repo import packer
from dedupstore.repo.repository import Repository
from dedupstore.repo.segment import PackFacts
from dedupstore.storage.memory import MemoryStore
from dedupstore.types import Kind, SnapshotId
from tests.support.repositories import SMALL, files_below, new_repository, random_bytes, segment_facts, take

FILE_BYTES = 12_000
"""Less than the smallest chunk: a file is never cut. As much as a block: no two files share one."""

OPTIONS = replace(SMALL, chunker=ChunkerParams.for_average(64 << 10), block_bytes=FILE_BYTES)

ROOMY = 1 << 20
THREE_FILES = 44 << 10
"""Header, three files and the trailer take 40 244 bytes, a fourth would take 52 272."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How packs are filled, and what must come of it: the files of each data pack and whether it is full."""

    pack_bytes: int
    two_open: bool = False
    packs: Mapping[str, bool]


LAYOUTS = {
    "full": Layout(pack_bytes=THREE_FILES, packs={"a b c": True, "d": False, "B C e": False}),
    "short": Layout(pack_bytes=ROOMY, packs={"a b c d": False, "B C e": False}),
    "two short": Layout(pack_bytes=ROOMY, two_open=True, packs={"a c": False, "b d": False, "B C e": False}),
    "two open, one full": Layout(
        pack_bytes=THREE_FILES, two_open=True, packs={"a c f": True, "b d g": False, "h": False, "B C e": False}
    ),
}
"""Small letters but `e` are files of the first snapshot. In the second, `e` is new, `b` has become the longer `B`, which
is stored as a delta to `b`, and `c` has become `C`, which resembles nothing. Two open packs are filled in turns.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Two snapshots in memory, what their files should be, and the facts of each pack by the files it holds.

    The manifest packs of the two snapshots are called `manifests 0` and `manifests 1`.
    """

    objects: Mapping[str, bytes]
    snapshots: list[SnapshotId]
    expected: list[dict[bytes, bytes]]
    packs: Mapping[str, PackFacts]

    def store(self) -> MemoryStore:
        store = MemoryStore()
        store.objects = dict(self.objects)
        return store


def build(layout: Layout, tree: Path) -> Scene:
    """Make the repository; the layout is what was asked for, or this fails."""
    first = sorted(set("".join(layout.packs)) - set(" BCe"))
    contents = {name: random_bytes(f"content of {name}", FILE_BYTES) for name in [*first, "C", "e"]}
    contents["B"] = contents["b"] + b"a line more\n"
    contents["C"] += b"and another length"
    tree.mkdir(parents=True)
    for name in first:
        (tree / name).write_bytes(contents[name])
    store, clock = MemoryStore(), FrozenClock(1_790_000_000_000_000_000)
    snapshots, expected = [], []
    options = replace(OPTIONS, pack_bytes=layout.pack_bytes)
    with new_repository(store, options=options, clock=clock) as repository, pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "cpu_count", lambda: 1)
        with pytest.MonkeyPatch.context() as first_only:
            if layout.two_open:
                turns = itertools.count()
                first_only.setattr(packer, "_SECOND_PACK_AFTER", 0)
                first_only.setattr(packer, "random_bytes", lambda count: bytes([next(turns) % 256]))
            snapshots.append(_taken(repository, tree))
        expected.append(files_below(tree))
        clock.advance(3600)
        for name in "BCe":
            (tree / name.lower()).write_bytes(contents[name])
        snapshots.append(_taken(repository, tree))
        expected.append(files_below(tree))
        packs = _packs(repository, contents)
    assert {name: fact.repeated for name, fact in packs.items() if fact.kind is Kind.DATA} == layout.packs
    assert all((fact.size == layout.pack_bytes) is fact.repeated for fact in packs.values())
    deltas = [block for fact in packs.values() for block in fact.blocks() if block.bases and fact.kind is Kind.DATA]
    assert [block.raw for block in deltas] == [len(contents["B"])]
    return Scene(objects=dict(store.objects), snapshots=snapshots, expected=expected, packs=packs)


def _taken(repository: Repository, tree: Path) -> SnapshotId:
    done = take(repository, tree)
    assert done.snapshot is not None and not done.findings
    return done.snapshot.id


def _packs(repository: Repository, contents: Mapping[str, bytes]) -> dict[str, PackFacts]:
    digest = repository.keyring.id_key(Kind.DATA).digest
    names = {digest(content): name for name, content in contents.items()}
    found: dict[str, PackFacts] = {}
    for fact in sorted(segment_facts(repository), key=lambda fact: repository.index.pack_no(fact.id) or 0):
        if fact.kind is Kind.DATA:
            found[" ".join(sorted(names[chunk] for block in fact.blocks() for chunk in block.ids))] = fact
        else:
            found[f"manifests {sum(known.kind is Kind.MANIFEST for known in found.values())}"] = fact
    return found
