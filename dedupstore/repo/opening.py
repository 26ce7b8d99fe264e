"""From a store and a secret to open keys and the list of snapshots: all that many commands need, and quick to load."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace

from dedupstore.errors import CorruptObject, DedupError, IntegrityError, WrongPassphrase
from dedupstore.repo.catalog import Catalog
from dedupstore.repo.config import (
    MARKS_FEATURE,
    Operation,
    RepositoryConfig,
    find_config,
    open_config,
    require_features,
)
from dedupstore.repo.identity import identify as identify
from dedupstore.repo.keyring import KeyRing
from dedupstore.repo.keys import open_slot
from dedupstore.repo.slots import Secret
from dedupstore.storage.base import ObjectStore
from dedupstore.types import RepositoryId

_TRIES = 4
"""How often the newest config is looked for while the keys are being rotated."""

_MAX_RENEWALS = 8
"""An epoch in a header is only a claim: storage must not make us derive keys for ever."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenKeys:
    """A repository whose keys are open; without index, reader and writer."""

    store: ObjectStore
    keyring: KeyRing
    config: RepositoryConfig
    config_number: int
    catalog: Catalog


def open_keys(
    store: ObjectStore, secret: Secret, *, repository: RepositoryId | None = None,
    operation: Operation = Operation.READ, allow_weak: bool = False,
) -> OpenKeys:  # fmt: skip
    """Raises RepositoryNotFound, WrongPassphrase, RepositoryTooNew, CorruptObject.

    `repository` where the caller has identified it just now. Slots and config name it as well: another one does not open.
    """
    if repository is None:
        repository = identify(store)
    config, number, keyring = _open_newest(store, repository, secret, allow_weak)
    require_features(config, operation)
    keyring = replace(keyring, renew=_Renewal(store, repository, secret, allow_weak))
    catalog = Catalog(store, keyring, marks_expected=MARKS_FEATURE in config.features.gc)
    return OpenKeys(store=store, keyring=keyring, config=config, config_number=number, catalog=catalog)


def _open_newest(
    store: ObjectStore, repository: RepositoryId, secret: Secret, allow_weak: bool
) -> tuple[RepositoryConfig, int, KeyRing]:
    """The newest config, its number, and the ring that opens it.

    Slots are listed after the config is found. Where the keys were rotated between the two, its slot is gone, or one of
    the next epoch opens: then there is a newer config.
    """
    stored = find_config(store)
    for _ in range(_TRIES):
        try:
            ring = open_slot(store, repository, secret, epoch=stored.epoch, allow_weak=allow_weak)
            config, ring = open_config(stored, ring)
            return config, stored.number, ring
        except (WrongPassphrase, IntegrityError):
            newest = find_config(store)
            if newest.number == stored.number:
                raise
            stored = newest
    raise CorruptObject("the configuration changed at every look", why=f"the last one seen is {stored.key}")


class _Renewal:
    """Opens the repository anew, for whoever met an object of a later epoch. Safe to share between threads."""

    def __init__(self, store: ObjectStore, repository: RepositoryId, secret: Secret, allow_weak: bool) -> None:
        self._store = store
        self._repository = repository
        self._secret = secret
        self._allow_weak = allow_weak
        self._lock = threading.Lock()
        self._left = _MAX_RENEWALS

    def __call__(self) -> Mapping[int, bytes]:
        """Every master secret that the same secret opens today; none when it opens no more than before."""
        with self._lock:
            if not self._left:
                return {}
            self._left -= 1
            try:
                return _open_newest(self._store, self._repository, self._secret, self._allow_weak)[2].masters
            except DedupError:
                return {}
