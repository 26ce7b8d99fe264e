"""Which repository is in a store, found out without any secret."""

from __future__ import annotations

from dedupstore.errors import ObjectNotFound, RepositoryNotFound
from dedupstore.repo import layout
from dedupstore.storage.base import ObjectStore, shows_past
from dedupstore.storage.versions import versions_of
from dedupstore.types import RepositoryId


def identify(store: ObjectStore) -> RepositoryId:
    """The id of the repository in a store. Raises RepositoryNotFound when there is none."""
    try:
        return layout.parse_format(store.get(layout.FORMAT_KEY))
    except ObjectNotFound:
        pass
    empty = not any(True for _ in store.list(layout.CONFIG))
    if shows_past(store):
        raise RepositoryNotFound(
            f"no repository at {store.url}",
            why="there was nothing at that time" if empty else "FORMAT was missing at that time",
            hints=["name a later time, before it was deleted; on Ceph one after the last dedup extend-locks"],
        )
    hints = [f"mount it, or create one: dedup init -r {store.url}"]
    if versions_of(store) is not None:
        hints.append("was it deleted, and the bucket keeps versions? look at it as it was: --at-store-time yesterday")
    raise RepositoryNotFound(
        f"no repository at {store.url}",
        why="dedup has stored nothing there; is the disk mounted?"
        if empty
        else "FORMAT is missing; was it created completely?",
        hints=hints,
    )
