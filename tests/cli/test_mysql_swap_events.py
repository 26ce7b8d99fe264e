"""Events that act while MariaDB databases are put in the place of one another."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.support.databases import prepared
from tests.support.dedup import Dedup
from tests.support.servers import Server
from tests.support.two_databases import Two, words


@pytest.fixture
def dedup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mariadb_server: Server) -> Dedup:
    return prepared(tmp_path, monkeypatch, mariadb_server)


TICKING = """
CREATE TABLE log (id int PRIMARY KEY AUTO_INCREMENT, word varchar(20));
CREATE EVENT tick ON SCHEDULE EVERY 1 SECOND DO INSERT INTO log (word) VALUES ('{0}');
"""


def test_events_that_act_during_a_swap_stay_with_their_rows_and_act_once(dedup: Dedup, mariadb_server: Server) -> None:
    server = mariadb_server

    def rows(name: str) -> int:
        return int(server.run("SELECT count(*) FROM log", name))

    def wait_for_rows(least: Mapping[str, int]) -> None:
        for _ in range(300):
            if all(rows(name) >= count for name, count in least.items()):
                return
            server.run("DO sleep(0.1)")
        raise AssertionError("the events do not act")

    began = int(server.run("SELECT unix_timestamp()"))
    two = Two(server, TICKING)
    server.run("SET GLOBAL event_scheduler = ON")
    try:
        wait_for_rows({two.live: 2, two.new: 2})
        before = {name: rows(name) for name in (two.live, two.new)}
        dedup.ok(*words(server, two))
        after = {two.kept: rows(two.kept) + 3, two.live: rows(two.live) + 3}
        wait_for_rows(after)
    finally:
        server.run("SET GLOBAL event_scheduler = OFF")

    # No more often than once a second, and each in the database it belongs to.
    seconds = int(server.run("SELECT unix_timestamp()")) - began
    for name, was, word in ((two.kept, two.live, "old"), (two.live, two.new, "restored")):
        assert server.run("SELECT DISTINCT word FROM log", name) == word
        assert before[was] + 3 <= rows(name) <= seconds + 1
