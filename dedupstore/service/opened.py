"""An open repository for one operation, with a cache that is never a reason to fail."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from dedupstore.errors import CacheError, StoreReadOnly
from dedupstore.events import Finding
from dedupstore.repo.config import Operation
from dedupstore.repo.repository import Repository
from dedupstore.service.access import Access
from dedupstore.storage.base import shows_past
from dedupstore.storage.registry import open_store

Answer = TypeVar("Answer")


def open_repository(access: Access, operation: Operation = Operation.READ) -> Repository:
    """The repository, its keys open. Raises RepositoryNotFound, WrongPassphrase, RepositoryTooNew ...

    And Refused when it is another one, or its keys are older, than this machine has seen at this place.
    """
    store = open_store(access.url, access.options)
    if operation is not Operation.READ and shows_past(store):
        raise StoreReadOnly(
            f"nothing can be changed at {store.url}",
            why="this is the storage as it was at an earlier time",
            hints=["leave --at-store-time out", "or bring it to a new place: dedup mirror --to URL --init"],
        )
    repository = Repository.open(
        store,
        access.secret,
        repository=access.repository,
        clock=access.clock,
        cache_path=access.cache_path,
        operation=operation,
        allow_weak=access.allow_weak,
    )
    repository.on_note = access.note
    repository.kept_bytes = access.kept_bytes
    try:
        access.watch(repository.catalog, repository.keyring.epoch, repository.config_number)
    except BaseException:
        repository.close()
        raise
    return repository


def with_repository(
    access: Access, work: Callable[[Repository], Answer], operation: Operation = Operation.READ
) -> Answer:
    """Open, work, close. When the local cache breaks on the way, the work is done once more with a temporary one."""
    with open_repository(access, operation) as repository:
        try:
            return work(repository)
        except CacheError as error:
            access.note(
                Finding(
                    code="cache.dropped",
                    message=f"the local cache failed and was set aside ({error.message}); starting over without it",
                    severity="note",
                )
            )
            repository.drop_index(to_temporary=True)
            return work(repository)
