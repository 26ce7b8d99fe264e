"""A swap of MariaDB databases whose end nobody saw."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from dedupstore.cancel import CancelToken
from dedupstore.errors import SourceFailed
from dedupstore.sources.mysql_client import MysqlClient
from dedupstore.sources.mysql_target import swap


class Server(MysqlClient):
    """It moves the tables, and the connection ends before it says so."""

    def __init__(self) -> None:
        self.tables = {"live": ["t"], "new": ["t"]}

    @contextlib.contextmanager
    def explained(self, rights: str = "") -> Iterator[None]:
        yield

    def query(self, sql: str, cancel: CancelToken, database: str = "") -> list[list[str]]:
        words = sql.replace("`", "").replace("'", "").split()
        if sql.startswith("SELECT schema_name"):
            return [[name] for name in self.tables]
        if sql.startswith("SELECT table_name"):
            name = words[words.index("=") + 1]
            return [[table] for table in self.tables.get(name, ())]
        if words[0] == "CREATE":
            self.tables[words[-1]] = []
        if words[0] == "DROP":
            del self.tables[words[-1]]
        if words[0] == "RENAME":
            self.tables |= {"kept": self.tables["live"], "live": self.tables["new"], "new": []}
            raise SourceFailed("the connection was lost")
        return []


def test_a_swap_whose_answer_was_lost_deletes_no_tables() -> None:
    server = Server()

    with pytest.raises(SourceFailed, match="lost"):
        swap(server, "new", "live", "kept", CancelToken())

    assert server.tables == {"live": ["t"], "new": [], "kept": ["t"]}
