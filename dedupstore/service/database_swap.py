"""Put a restored database in the place of the one that is used; the old one is kept."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Mapping

from dedupstore.cancel import CancelToken
from dedupstore.errors import Refused
from dedupstore.events import Finding
from dedupstore.service import state_files
from dedupstore.service.config_schema import SqliteSource
from dedupstore.service.databases import Database, connected
from dedupstore.service.dirs import state_dir
from dedupstore.sources import mysql_swap, postgres_target, sqlite_target
from dedupstore.sources.mysql_client import MysqlClient
from dedupstore.sources.postgres_client import PostgresClient
from dedupstore.units import printable

Note = Callable[[Finding], None]

_KEY_BYTES = 32


def live_name(database: Database, environ: Mapping[str, str], note: Note, cancel: CancelToken) -> str:
    """What the database that is used is called: a path, or a name on the server."""
    if isinstance(database, SqliteSource):
        return os.path.abspath(os.path.expanduser(database.path))
    with connected(database, environ, note, cancel) as client, client.explained():
        return client.database(cancel)


def begun(
    database: Database,
    new: str,
    live: str,
    environ: Mapping[str, str],
    note: Note,
    cancel: CancelToken,
    *,
    trusting: bool,
) -> str:
    """What the old one is called by a swap of these two that was interrupted, and that `swap` goes on with; or empty."""
    if isinstance(database, SqliteSource):
        return ""
    with connected(database, environ, note, cancel) as client, client.explained():
        if not isinstance(client, MysqlClient):
            return ""
        return mysql_swap.kept_name(client, new, live, _seal(environ, trusting=trusting), cancel)


def swap(
    database: Database,
    new: str,
    live: str,
    kept: str,
    environ: Mapping[str, str],
    note: Note,
    cancel: CancelToken,
    *,
    trusting: bool,
) -> None:
    """Put the database `new` in the place of `live`, which is called `kept` from then on. Raises Refused, SourceFailed."""
    if isinstance(database, SqliteSource):
        sqlite_target.swap(*(os.path.abspath(os.fsencode(name)) for name in (new, live, kept)))
        return
    with connected(database, environ, note, cancel) as client:
        if isinstance(client, PostgresClient):
            postgres_target.swap(client, new, live, kept, cancel)
        else:
            mysql_swap.swap(client, new, live, kept, _seal(environ, trusting=trusting), note, cancel)


def _seal(environ: Mapping[str, str], *, trusting: bool) -> mysql_swap.PlanSeal:
    """The key of this machine and user for plans that lie on servers; made when there is none."""
    key = ""

    def chosen(document: state_files.Document) -> None:
        nonlocal key
        key = document.setdefault("key", secrets.token_hex(_KEY_BYTES))

    path = state_dir(environ) / "swap.json"
    try:
        state_files.update(path, chosen)
    except OSError as error:
        raise Refused(
            f"the key for plans of swaps cannot be kept in {printable(os.fsencode(path))}",
            why=(error.strerror or str(error)).lower(),
            hints=["name a directory for what this machine remembers: DEDUP_STATE_DIR"],
        ) from error
    return mysql_swap.PlanSeal(key=bytes.fromhex(key), trusting=trusting)
