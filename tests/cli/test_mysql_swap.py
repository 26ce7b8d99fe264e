"""MariaDB databases with more than tables, put in the place of one another; whatever interrupts it."""

from __future__ import annotations

import multiprocessing
import subprocess
from pathlib import Path

import pytest

from dedupstore.sources import mysql_swap
from tests.support import servers
from tests.support.databases import address, instead, prepared, write_password
from tests.support.dedup import Dedup
from tests.support.servers import Server
from tests.support.two_databases import Two, words


@pytest.fixture
def server(mariadb_server: Server) -> Server:
    return mariadb_server


@pytest.fixture
def dedup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: Server) -> Dedup:
    return prepared(tmp_path, monkeypatch, server)


@pytest.fixture
def two(server: Server) -> Two:
    return Two(server)


def test_everything_goes_where_its_tables_go(dedup: Dedup, server: Server, two: Two) -> None:
    dedup.ok(*words(server, two))

    two.require_swapped()
    for name, word in ((two.live, "restored"), (two.kept, "old")):
        server.run("CALL clean(); CALL greet(); INSERT INTO items VALUES (7, 'x')", name)
        assert server.run("SELECT word FROM log", name) == f"new {word}"
        assert server.run("SELECT count(*) FROM doubled", name) == "2"


def test_a_swap_is_taken_back_by_another(dedup: Dedup, server: Server, two: Two) -> None:
    dedup.ok(*words(server, two))
    dedup.ok("db", "swap", address(server, two.live), two.kept, "--keep-as", two.new, "--yes")

    two.require_untouched()


INTERRUPTED = """
case "$*" in *--execute*) exec /usr/bin/mariadb "$@";; esac
cat > $TEST_SCRIPT
if grep -q '^INSERT INTO .*dedup_swap_plan.*"kept"' $TEST_SCRIPT || [ -s $TEST_CALLS ]; then echo >> $TEST_CALLS; fi
if [ $(wc -l < $TEST_CALLS) -ne $TEST_AT ]; then exec /usr/bin/mariadb "$@" < $TEST_SCRIPT; fi
lines=$(($(wc -l < $TEST_SCRIPT) * $TEST_PART / 4))
head -n $lines $TEST_SCRIPT | /usr/bin/mariadb "$@"
kill -9 $PPID
"""
"""The client, which does a part of one of the scripts that it is given, the plan being the first; who gave it is killed then."""

SMALL = """
CREATE TABLE items (id int PRIMARY KEY);
CREATE TABLE log (word varchar(20));
CREATE VIEW v AS SELECT id FROM items;
CREATE TRIGGER told AFTER INSERT ON items FOR EACH ROW INSERT INTO log VALUES ('{0}');
CREATE PROCEDURE p() SELECT '{0}';
CREATE EVENT e ON SCHEDULE EVERY 1 DAY DO INSERT INTO log VALUES ('{0}');
"""


@pytest.mark.parametrize("part", [pytest.param(part, marks=() if part == 2 else pytest.mark.slow) for part in range(5)])
def test_a_swap_that_is_killed_anywhere_is_gone_on_with(
    dedup: Dedup, server: Server, tmp_path: Path, part: int
) -> None:
    two = Two(server, SMALL)
    calls = tmp_path / "calls"
    for name, value in (("CALLS", calls), ("SCRIPT", tmp_path / "script"), ("PART", part)):
        dedup.setenv(f"TEST_{name}", str(value))
    instead(dedup, "mariadb", INTERRUPTED)
    for at in range(1, 10):
        calls.write_text("")
        dedup.setenv("TEST_AT", str(at))
        process = multiprocessing.get_context("fork").Process(target=dedup, args=words(server, two))
        process.start()
        process.join()
        if len(calls.read_text()) < at:
            break
        assert process.exitcode == -9
        dedup.setenv("TEST_AT", "0")
        if two.databases() != {two.live, two.kept}:
            dedup.ok(*words(server, two))
        two.require_swapped()
        # The next one goes the other way.
        two.turn()
    assert at == 6


LOST = """
case "$*" in *--execute*) exec /usr/bin/mariadb "$@";; esac
cat > $TEST_SCRIPT
/usr/bin/mariadb "$@" < $TEST_SCRIPT
if grep -q "^RENAME TABLE" $TEST_SCRIPT; then echo "ERROR 2013 (HY000): Lost connection to server during query" >&2; exit 1; fi
"""


def test_a_swap_whose_answer_was_lost_undoes_nothing(dedup: Dedup, server: Server, two: Two, tmp_path: Path) -> None:
    dedup.setenv("TEST_SCRIPT", str(tmp_path / "script"))
    instead(dedup, "mariadb", LOST)

    run = dedup(*words(server, two))

    assert run.code == "database.session_ended"
    assert "the same command goes on" in run.err
    dedup.ok(*words(server, two))
    two.require_swapped()


def test_who_may_not_make_it_is_told_what_to_grant_before_anything_is_moved(
    dedup: Dedup, server: Server, two: Two, tmp_path: Path
) -> None:
    user = servers.name()
    server.run(
        f"CREATE USER {user}@'%' IDENTIFIED BY 'secret'; GRANT SELECT, INSERT, CREATE, ALTER, DROP ON *.* TO {user}"
    )
    write_password(tmp_path, "secret")

    run = dedup(*words(server, two, user))
    assert run.code == "database.missing_rights"
    server.run(run.err[run.err.index("GRANT ") :].partition(";")[0])
    run = dedup(*words(server, two, user))
    assert run.code == "database.owner_refused"
    two.require_untouched()
    server.run(run.err[run.err.index("GRANT ") :].partition(";")[0])
    dedup.ok(*words(server, two, user))

    two.require_swapped()


def test_all_is_as_it_was_when_the_tables_cannot_be_moved(dedup: Dedup, server: Server, two: Two) -> None:
    server.run("CREATE TABLE gone (x int); CREATE VIEW only_new AS SELECT x FROM gone; DROP TABLE gone", two.live)
    two.before[two.live] = two.described(two.live)

    run = dedup(*words(server, two))

    assert run.exit_code != 0
    assert "all is as it was" in run.err
    two.require_untouched()


def test_a_table_that_somebody_uses_is_not_waited_for_for_ever(
    dedup: Dedup, server: Server, two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mysql_swap, "_LONGEST_WAIT_SECONDS", 1)
    with subprocess.Popen([*server.ask, two.live], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as user:
        assert user.stdin is not None and user.stdout is not None
        user.stdin.write("BEGIN; SELECT count(*) FROM log;\n")
        user.stdin.flush()
        user.stdin.write("SELECT repeat('x', 100000);\n" * 2)
        user.stdin.flush()
        user.stdout.readline()
        run = dedup(*words(server, two))
        user.stdin.close()
        user.stdout.read()

    assert run.code == "database.in_use"
    two.require_untouched()
    dedup.ok(*words(server, two))
    two.require_swapped()


def test_what_would_go_on_to_work_in_the_database_in_use_is_not_moved(dedup: Dedup, server: Server, two: Two) -> None:
    server.run(f"CREATE EVENT emptied ON SCHEDULE EVERY 1 DAY DISABLE DO DELETE FROM {two.live} . `log`", two.live)
    two.before[two.live] = two.described(two.live)

    run = dedup(*words(server, two))

    assert run.code == "database.not_movable"
    two.require_untouched()
    server.run(run.err[run.err.index("DROP EVENT ") :].partition(";")[0])
    two.before[two.live] = two.described(two.live)
    dedup.ok(*words(server, two))
    two.require_swapped()


def test_a_view_whose_table_is_gone_hinders_nothing(dedup: Dedup, server: Server) -> None:
    two = Two(server, SMALL)
    server.run("DROP TABLE items", two.live)

    run = dedup.ok(*words(server, two))

    assert f"the view v of {two.live} reads what is not there" in run.err
    assert server.run("SHOW FULL TABLES WHERE Table_type = 'VIEW'", two.kept) == ""
    assert server.run("SELECT * FROM v", two.live) == ""


def lay_plan(server: Server, two: Two, new: str, plan: str = "") -> None:
    """As somebody makes one who may make tables in a database of that name."""
    server.run(
        f"CREATE DATABASE {two.kept};"
        f"CREATE TABLE {two.kept}.dedup_swap_plan (new text, live text, plan longtext, seal text);"
        f"INSERT INTO {two.kept}.dedup_swap_plan VALUES ('{new}', '{two.live}', '{plan}', 'ab')"
    )


def test_one_swap_is_ended_before_another(dedup: Dedup, server: Server, two: Two) -> None:
    lay_plan(server, two, "another")

    run = dedup(*words(server, two), "--trust-plan")

    assert run.code == "database.in_use"
    assert "another" in run.err


@pytest.mark.parametrize("plan", ["", '{"kept": "x", "old": {}, "new": {}}'])
def test_a_plan_of_somebody_else_is_neither_carried_out_nor_tidied_away(
    dedup: Dedup, server: Server, plan: str
) -> None:
    two = Two(server, SMALL)
    lay_plan(server, two, two.new, plan)
    server.run(f"CREATE TABLE {two.kept}.precious (x int)")

    run = dedup(*words(server, two))

    assert (run.exit_code, run.code) == (8, "database.foreign_plan")
    assert "--trust-plan" in run.err
    assert server.run("SHOW TABLES", two.kept).split() == ["dedup_swap_plan", "precious"]
    server.run(run.err[run.err.index("DROP TABLE ") :].partition(";")[0])
    server.run(f"DROP DATABASE {two.kept}")
    dedup.ok(*words(server, two))
    two.require_swapped()


def test_a_view_in_the_place_of_a_plan_is_not_read(dedup: Dedup, server: Server) -> None:
    two = Two(server, SMALL)
    server.run(
        f"CREATE DATABASE {two.elsewhere}_2; CREATE VIEW {two.elsewhere}_2.dedup_swap_plan AS "
        f"SELECT '{two.new}' new, '{two.live}' live, '' plan, elt(2, sleep(60)) seal"
    )

    dedup.ok(*words(server, two))

    server.run(f"DROP DATABASE {two.elsewhere}_2")
    two.require_swapped()


def test_another_machine_goes_on_when_it_is_told_to(dedup: Dedup, server: Server, tmp_path: Path) -> None:
    two = Two(server, SMALL)
    dedup.setenv("TEST_SCRIPT", str(tmp_path / "script"))
    instead(dedup, "mariadb", LOST)
    dedup(*words(server, two))
    dedup.setenv("DEDUP_STATE_DIR", str(tmp_path / "another"))

    assert dedup(*words(server, two)).code == "database.foreign_plan"
    dedup.ok(*words(server, two), "--trust-plan")

    two.require_swapped()
