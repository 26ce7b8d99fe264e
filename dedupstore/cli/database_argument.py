"""A database among the arguments of a command: by its address, or by the name of a source."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING

from dedupstore.cli.errors import safe
from dedupstore.cli.session import Session
from dedupstore.errors import UsageError

if TYPE_CHECKING:
    from dedupstore.service.databases import Database

_SCHEMES = ("sqlite:", "postgresql://", "postgres://", "mysql://", "mariadb://")


def is_address(word: str) -> bool:
    return word.lower().startswith(_SCHEMES)


def database_argument(words: Sequence[str]) -> tuple[Database, str] | None:
    """The database whose address is among them, and what it is called; None when paths are meant.

    Raises UsageError for a mixture.
    """
    named = [word for word in words if is_address(word)]
    if not named:
        return None
    if len(words) > 1:
        raise UsageError(
            "a database is taken by itself",
            why="each source makes a snapshot of its own",
            hints=["one call for each, or write them into the configuration and run: dedup snapshot"],
        )
    # Loaded only for who has one.
    service = import_module("dedupstore.service.databases")
    database: Database = service.from_address(named[0])
    return database, str(service.name_of(database))


def database_named(session: Session, word: str) -> Database:
    """The database that a word names. Raises UsageError for a source that is none, NothingMatches."""
    service = import_module("dedupstore.service.databases")
    if is_address(word):
        database: Database = service.from_address(word)
        return database
    source = session.configuration().source(word)
    if not isinstance(source, service.DATABASES):
        raise UsageError(f'the source "{safe(word)}" is no database', hints=["dedup config show"])
    found: Database = source
    return found
