"""The roles of a PostgreSQL server, as pg_dumpall writes them down, given back to those that are lost."""

from __future__ import annotations

import re
from collections.abc import Iterator

from dedupstore.cancel import CancelToken
from dedupstore.errors import SourceFailed
from dedupstore.sources.postgres_client import PostgresClient
from dedupstore.sources.postgres_target import maintenance

_NAME = r'("(?:[^"]|"")+"|[^\s;"]+)'
_STATEMENT = re.compile(rf"(?:(?:CREATE|ALTER) ROLE {_NAME}|GRANT {_NAME} TO {_NAME})(?:;| .*;)$")
"""pg_dumpall writes one in a line; comments and tablespaces are left alone."""


def give(client: PostgresClient, script: str, cancel: CancelToken) -> Iterator[tuple[str, str]]:
    """Make the roles of a script that do not exist, and make them members of what they were; those that exist are not touched.

    Yields each that was made, and why something of it could not be; nothing when all went well. Raises SourceFailed.
    """
    with client.explained():
        place = maintenance(client, cancel)
        there = set(client.texts("SELECT rolname FROM pg_roles", cancel, place))
    problems: dict[str, str] = {}
    for line in script.split("\n"):
        match = _STATEMENT.match(line)
        if match is None:
            continue
        role = _plain(match[1] or match[3])
        if role in there:
            continue
        problems.setdefault(role, "")
        try:
            client.query(line, cancel, place)
        except SourceFailed as error:
            problems[role] = problems[role] or error.why
    yield from problems.items()


def _plain(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name
