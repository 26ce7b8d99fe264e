"""What the configuration, or this call, asks of the store at a place."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module

from dedupstore.cli.session import Place, Session
from dedupstore.service.places import NO_OPTIONS, StoreOptions


def options_at(session: Session, place: Place, storage_class: str = "") -> StoreOptions:
    """Limits, locks and the storage class that the configuration asks for at a place, if it was read, or this call.

    `storage_class`: that of this place only, for commands with two of them.
    """
    repo = session.repo_at(place)
    asked = NO_OPTIONS
    if repo is not None and repo.asks_of_the_store:
        # Loaded only for who asks for something.
        asked = import_module("dedupstore.service.store_options").options_of(repo, session.clock, session.environ)
    chosen = storage_class or session.storage_class
    return replace(asked, storage_class=chosen) if chosen else asked
