"""A look at the repository by which nothing counts as lost only because no segment says where it is."""

from __future__ import annotations

from contextlib import suppress

from dedupstore.codec.hashing import digest
from dedupstore.errors import IntegrityError, ObjectNotFound
from dedupstore.repo.repository import Repository
from dedupstore.repo.segment import read_facts
from dedupstore.repo.view import View
from dedupstore.types import SegmentId


def look_at_all(repository: Repository, *, dry_run: bool = False) -> View:
    """As W1: packs that no readable segment describes are asked themselves, and indexed.

    A machine that has never read a segment which is damaged now knows of nothing in those packs otherwise. On a dry run
    nothing is stored: this machine's index is then a temporary one, and whoever holds the other has to ask again.
    """
    view = repository.look()
    if not view.orphans:
        return view
    if not dry_run:
        with repository.writer(view):
            pass
        return repository.look()
    repository.drop_index(to_temporary=True)
    for name, size in repository.look().orphans:
        with suppress(ObjectNotFound, IntegrityError):
            facts = read_facts(repository.store, repository.keyring, name, size)
            repository.index.apply(SegmentId(digest([b"orphan", name.id])), [facts])
    return repository.look()
