"""Two MariaDB databases with all that a database can have, to be put in the place of one another."""

from __future__ import annotations

from tests.support import servers
from tests.support.databases import address
from tests.support.servers import Server

OBJECTS = """
CREATE TABLE items (id int PRIMARY KEY, body varchar(20));
CREATE TABLE log (id int, word varchar(20));
CREATE VIEW z_first AS SELECT id, body FROM items WHERE body <> 'it''s';
CREATE VIEW a_second AS SELECT id FROM z_first;
CREATE DEFINER = {other}@'%' FUNCTION twice (x int) RETURNS int DETERMINISTIC RETURN 2 * x;
CREATE VIEW doubled AS SELECT twice(id) AS y, {name}.twice(id) AS {live} FROM items;
CREATE SQL SECURITY INVOKER VIEW joined AS SELECT i.id FROM items i JOIN {elsewhere}.t ON t.id = i.id WHERE {name}.twice(i.id) > 0
  WITH LOCAL CHECK OPTION;
SET sql_mode = 'ANSI_QUOTES,PIPES_AS_CONCAT';
DELIMITER ;;
CREATE DEFINER = {other}@'%' TRIGGER told AFTER INSERT ON items FOR EACH ROW BEGIN
  INSERT INTO "log" VALUES (NEW.id, 'new ' || '{0}');
END;;
CREATE PROCEDURE clean() BEGIN DELETE FROM log; -- {name}.log is meant
END;;
DELIMITER ;
SET sql_mode = DEFAULT;
SET NAMES latin1;
CREATE PROCEDURE greet() SELECT 'Gr\u00fc\u00dfe';
SET NAMES utf8mb4;
CREATE TRIGGER second AFTER INSERT ON items FOR EACH ROW FOLLOWS told SET @seen = '{0}';
CREATE DEFINER = {other}@'%' EVENT often ON SCHEDULE EVERY 1 SECOND COMMENT '{0}' DO INSERT INTO log VALUES (0, '{0}');
CREATE EVENT never ON SCHEDULE EVERY 1 SECOND DISABLE DO DELETE FROM items;
INSERT INTO items VALUES (1, '{0}');
SET sql_mode = 'ORACLE';
DELIMITER ;;
CREATE PACKAGE pack AS PROCEDURE p; END;;
CREATE PACKAGE BODY pack AS PROCEDURE p AS BEGIN SELECT '{0}' FROM DUAL; END; END;;
DELIMITER ;
SET sql_mode = DEFAULT;
ALTER DATABASE {name} COLLATE {collation};
"""

DESCRIBED = (
    ("schemata", "schema_name", "default_character_set_name, default_collation_name"),
    ("tables", "table_schema", "table_name, table_type"),
    (
        "views", "table_schema",
        "table_name, view_definition, check_option, definer, security_type, character_set_client",
    ),
    (
        "triggers", "trigger_schema",
        ("trigger_name, event_manipulation, event_object_table, action_order, action_statement, action_timing, sql_mode, definer, "
        "character_set_client, collation_connection, database_collation"),
    ),
    (
        "routines", "routine_schema",
        ("routine_name, routine_type, dtd_identifier, routine_definition, is_deterministic, sql_mode, definer, "
        "character_set_client, collation_connection, database_collation"),
    ),
    (
        "events", "event_schema",
        ("event_name, definer, event_definition, event_type, interval_value, interval_field, sql_mode, starts, status, "
        "on_completion, event_comment, time_zone, character_set_client, database_collation"),
    ),
)  # fmt: skip
"""Of each table of the server about databases: which column has their names, and what else it tells."""


class Two:
    """A database that is used and one that was restored, each with everything a database can have, all of it different."""

    def __init__(self, server: Server, objects: str = OBJECTS) -> None:
        self._server = server
        self.live = servers.name()
        self.new, self.kept, self.elsewhere = f"{self.live}_restored", f"{self.live}_old", f"{self.live}_elsewhere"
        other = servers.name()
        server.run(f"CREATE USER {other}; CREATE DATABASE {self.elsewhere}; CREATE TABLE {self.elsewhere}.t (id int)")
        server.run(f"GRANT ALL ON *.* TO {other}")
        for name, word, collation in ((self.live, "old", "utf8mb4_bin"), (self.new, "restored", "latin1_swedish_ci")):
            server.run(f"CREATE DATABASE {name} CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci")
            filled = objects.format(
                word, name=name, live=self.live, other=other, elsewhere=self.elsewhere, collation=collation
            )
            server.run(filled, name)
        server.run("CREATE TABLE only_new (x int); CREATE VIEW log_or_not AS SELECT 1 AS x", self.new)
        server.run("CREATE TABLE log_or_not (x int)", self.live)
        self.before = {name: self.described(name) for name in (self.live, self.new)}

    def turn(self) -> None:
        """After a swap: what was kept is what is put in place by the next one."""
        self.before = {self.live: self.before[self.new], self.kept: self.before[self.live]}
        self.new, self.kept = self.kept, self.new

    def described(self, name: str) -> list[str]:
        """All of it as the server tells, wherever it is now."""
        return [
            self._server.run(
                f"SELECT {columns} FROM information_schema.{table} WHERE {key} = '{name}' ORDER BY 1, 2"
            ).replace(f"`{name}`.", "`*`.")
            for table, key, columns in DESCRIBED
        ]

    def databases(self) -> set[str]:
        return set(self._server.run(f"SHOW DATABASES LIKE '{self.live}%'").split()) - {self.elsewhere}

    def require_swapped(self) -> None:
        assert self.databases() == {self.live, self.kept}
        assert self.described(self.live) == self.before[self.new]
        assert self.described(self.kept) == self.before[self.live]

    def require_untouched(self) -> None:
        assert self.databases() == {self.live, self.new}
        for name, described in self.before.items():
            assert self.described(name) == described


def words(server: Server, two: Two, user: str = "") -> tuple[str, ...]:
    return "db", "swap", address(server, two.live, user), two.new, "--keep-as", two.kept, "--yes"
