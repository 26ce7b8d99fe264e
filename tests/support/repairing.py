"""Packs to be damaged in every way, and mended again by a machine that knows nothing but what the stores say."""

from __future__ import annotations

from dedupstore.cancel import CancelToken
from dedupstore.engine.donors import CopyDonor, MirrorDonor
from dedupstore.engine.repair_packs import PacksReport, repair_packs
from dedupstore.events import NullListener
from dedupstore.repo.segment import PackFacts
from dedupstore.storage.base import ObjectStore
from dedupstore.storage.memory import MemoryStore
from tests.support.damaging import assert_whole, check, flip, flip_block
from tests.support.pack_layouts import Scene
from tests.support.pruning import prune
from tests.support.repositories import open_repository


def lose(store: MemoryStore, fact: PackFacts) -> None:
    del store.objects[fact.name.key]


def cut(store: MemoryStore, fact: PackFacts) -> None:
    store.objects[fact.name.key] = store.objects[fact.name.key][:-1]


def break_blocks(store: MemoryStore, fact: PackFacts) -> None:
    for number in range(len(fact.blocks())):
        flip_block(store, fact, number)


def break_trailer(store: MemoryStore, fact: PackFacts) -> None:
    flip(store, fact.name.key, -9)


def repair(
    store: ObjectStore, *, mirror: ObjectStore | None = None, copy: ObjectStore | None = None, dry_run: bool = False
) -> PacksReport:
    """On a machine that knows nothing but what the stores say."""
    cancel = CancelToken()
    with open_repository(store) as repository:
        one = MirrorDonor(repository, mirror) if mirror is not None else None
        other = CopyDonor(repository, open_repository(copy), cancel) if copy is not None else None
        try:
            return repair_packs(
                repository, mirror=one, copy=other, dry_run=dry_run, listener=NullListener(), cancel=cancel
            )
        finally:
            for donor in (one, other):
                if donor is not None:
                    donor.close()


def found_damaged(store: ObjectStore) -> None:
    with open_repository(store) as repository:
        assert check(repository).exit_code == 4


def whole_and_pruned(store: MemoryStore, scene: Scene) -> None:
    """All is whole now, and after a prune no trace of the damage is left."""
    with open_repository(store) as repository:
        assert_whole(repository, scene)
        prune(repository)
        assert repository.look().whole
        assert [one for one in check(repository).findings if one.severity != "note"] == []
        assert_whole(repository, scene)
