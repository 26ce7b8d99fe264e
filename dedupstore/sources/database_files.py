"""What the snapshots of all databases have in common: the names of their files, and the list of tables beside each."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from hashlib import blake2b
from typing import Any, Self
from urllib.parse import quote, unquote

TABLES = ".tables.json"
"""What the name of the list of tables ends in."""

GLOBALS = b"globals.sql"
"""What a server has beside its databases: roles or users, and their rights."""

_HASH_BYTES = 16


class Texts:
    """Pieces of text, one after the other, as a stream of UTF-8."""

    def __init__(self, pieces: Iterator[str]) -> None:
        self._pieces = pieces
        self._rest = b""

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Self:
        """A document as JSON, the same bytes for the same content."""
        return cls(iter([json.dumps(document, ensure_ascii=False, indent=1, sort_keys=True), "\n"]))

    def readinto(self, view: memoryview, /) -> int:
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._rest = piece.encode("utf-8", "surrogateescape")
        count = min(len(view), len(self._rest))
        view[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count


def file_name(database: str, end: str) -> bytes:
    """The name under which a database is kept; what no file can be called is written as in a URL."""
    if (database + end).encode("utf-8", "surrogateescape") == GLOBALS:
        return b"%67" + GLOBALS[1:]
    return (
        (quote(database, safe=" !#$&'()*+,-.:;<=>?@[]^_`{|}~\"") + end).encode()
        if _is_odd(database)
        else (database + end).encode("utf-8", "surrogateescape")
    )


def database_of(file: bytes) -> str:
    """The name of the database that is kept under the name of a file."""
    stem = file.rpartition(b".")[0].decode("utf-8", "surrogateescape")
    return unquote(stem, errors="surrogateescape") if "%" in stem else stem


def schema_hash(definitions: list[str]) -> str:
    """The same for the same definitions, in hex."""
    return blake2b("\n".join(definitions).encode("utf-8", "surrogateescape"), digest_size=_HASH_BYTES).hexdigest()


def _is_odd(database: str) -> bool:
    return "/" in database or "%" in database or "\0" in database or database.startswith(".")
