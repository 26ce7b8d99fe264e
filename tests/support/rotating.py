"""Other secrets for a slot and new epochs, as `dedup key change` and `dedup key rotate` make them.

rotate(repository)
with open_repository(store) as repository:
    assert repository.keyring.epoch == 2
"""

from __future__ import annotations

from dedupstore.clock import SystemClock
from dedupstore.errors import WrongPassphrase
from dedupstore.repo import rotation
from dedupstore.repo.keys import slot_of
from dedupstore.repo.repository import Repository
from dedupstore.repo.rotation import Changed, NewSlot
from dedupstore.repo.slots import KdfCost, Secret
from dedupstore.storage.base import ObjectStore
from tests.support.repositories import SECRET

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
