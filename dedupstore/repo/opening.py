"""From a store and a secret to open keys and the list of snapshots: all that many commands need, and quick to load."""

from __future__ import annotations

from dataclasses import dataclass

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
from dedupstore.repo.keys import KeyRing, open_slot
from dedupstore.repo.slots import Secret
from dedupstore.storage.base import ObjectStore


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenKeys:
    """A repository whose keys are open; without index, reader and writer."""

    store: ObjectStore
    keyring: KeyRing
    config: RepositoryConfig
    catalog: Catalog


def open_keys(
    store: ObjectStore, secret: Secret, *, operation: Operation = Operation.READ, allow_weak: bool = False
) -> OpenKeys:
    """Raises RepositoryNotFound, WrongPassphrase, RepositoryTooNew, CorruptObject."""
    repository = identify(store)
    stored = find_config(store)
    keyring = open_slot(store, repository, secret, at_least_epoch=stored.epoch, allow_weak=allow_weak)
    config, keyring = open_config(stored, keyring)
    require_features(config, operation)
    catalog = Catalog(store, keyring, marks_expected=MARKS_FEATURE in config.features.gc)
    return OpenKeys(store=store, keyring=keyring, config=config, catalog=catalog)
