"""Other secrets for a slot and new epochs, as `dedup key change` and `dedup key rotate` make them.

rotate(repository)
with open_repository(store) as repository:
    assert repository.keyring.epoch == 2
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dedupstore.clock import SystemClock
from dedupstore.codec.claims import peek_epoch
from dedupstore.errors import WrongPassphrase
from dedupstore.repo import layout, rotation
from dedupstore.repo.keys import slot_of
from dedupstore.repo.repository import Repository
from dedupstore.repo.rotation import Changed, NewSlot
from dedupstore.repo.slot_header import KdfCost
from dedupstore.repo.slots import Secret
from dedupstore.storage.base import ObjectStore
from dedupstore.storage.memory import MemoryStore
from dedupstore.types import SnapshotId
from tests.support.repositories import SECRET, files_below, new_repository, take, text_bytes

NEW_SECRET = Secret.passphrase("tangerine forty two umbrellas")


def new_slot(secret: Secret) -> NewSlot:
    return NewSlot(
        secret=secret,
        created_ns=SystemClock().now_ns(),
        cost=KdfCost.insecure_for_tests(),
        label="new",
        allow_weak=True,
    )


def change(repository: Repository, secret: Secret = NEW_SECRET, *, old: Secret = SECRET) -> Changed:
    """Replace the slot that `old` opens by one for `secret`."""
    store, ring = repository.store, repository.keyring
    return rotation.change_slot(store, ring, slot_of(store, ring, old, allow_weak=True), new_slot(secret))


def rotate(repository: Repository, secret: Secret = SECRET, *, take_over: bool = False) -> Changed:
    """A new epoch, opened by `secret`. The repository stays open as it was: at the epoch before."""
    return rotation.rotate(
        repository.store, repository.keyring, repository.config, new_slot(secret), take_over=take_over
    )


def open_by(store: ObjectStore, *secrets: Secret) -> Repository:
    """The repository, opened by the first of these secrets that does."""
    for secret in secrets[:-1]:
        try:
            return Repository.open(store, secret, clock=SystemClock(), cache_path=None, allow_weak=True)
        except WrongPassphrase:
            continue
    return Repository.open(store, secrets[-1], clock=SystemClock(), cache_path=None, allow_weak=True)


@dataclass
class Scene:
    """A store with one snapshot of a small tree."""

    objects: dict[str, bytes]
    tree: Path
    kept: dict[SnapshotId, dict[bytes, bytes]]

    def store(self) -> MemoryStore:
        store = MemoryStore()
        store.objects = dict(self.objects)
        return store

    def change_tree(self) -> None:
        (self.tree / "file").write_bytes(text_bytes(2, 900))


def make_scene(folder: Path) -> Scene:
    tree = folder / "tree"
    tree.mkdir()
    (tree / "file").write_bytes(text_bytes(1, 900))
    store = MemoryStore()
    with new_repository(store) as repository:
        taken = take(repository, tree).snapshot
        assert taken is not None
    return Scene(dict(store.objects), tree, {taken.id: files_below(tree)})


def epochs(store: MemoryStore) -> set[int]:
    """The epoch of every sealed object but the configs."""
    prefixes = (layout.INDEX, layout.ROOTS, layout.COMMITS)
    return {peek_epoch(store.get(row.key)) for prefix in prefixes for row in layout.list_complete(store, prefix)}
