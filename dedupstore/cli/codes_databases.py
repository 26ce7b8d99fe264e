"""The pages of `dedup help code` about databases."""

from __future__ import annotations

PAGES: dict[str, str] = {
    "database.altered": "Somebody altered a table while it was dumped. The dump is taken again once; when that fails, too, there "
    "is no snapshot: take it when nobody alters tables.",
    "database.broken_view": "A view of the database that was replaced reads a table that is not there. No server makes such a view, so the "
    "database that is kept does not have it.",
    "database.client_too_old": "The program that dumps is older than the server, or the client too old to be given a dump safely. "
    "Run it where the server is (`exec` in the configuration), or install the client programs of the server's version.",
    "database.copy_failed": "The copy of a SQLite database could not be made. The message says why; the copy lies in "
    "TMPDIR while it is stored. There is no snapshot.",
    "database.damaged": "A database does not pass SQLite's own check. Damaged ones are not stored, and not put in "
    "place: bring back an earlier state with `dedup restore --at TIME --as NAME`.",
    "database.differs": "The restored database does not hold what the snapshot says it held. Look at it before it "
    "is used, and try an earlier snapshot.",
    "database.downtime": "How long a restore would take, reckoned from the last one on this machine; `max_downtime_check` asks "
    "for it.",
    "database.downtime_unknown": "Nobody has restored the source on this machine, so how long that takes is not known. "
    "Restore it once with `dedup restore --as NAME`, and look at it; `max_downtime_check` asks for this.",
    "database.dump_incomplete": "The dump has no end although the program said that it succeeded. There is no snapshot.",
    "database.exists": "A database of that name is there already, or a log that one left. A restore never "
    "replaces a database: give another name, look at what was restored, then `dedup db swap`.",
    "database.export_failed": "A dump of PostgreSQL is written as SQL by its own program, pg_restore, which failed or is not "
    "there. The message says why. What is stored is not hit by it.",
    "database.foreign_plan": "A database has a table `dedup_swap_plan` that this machine did not write, or that was altered. A plan is SQL that "
    "is carried out with the rights of who swaps, so it is not taken from just anyone. Go on where the swap was begun; or look at it, and "
    "add `--trust-plan`. If nobody began one, drop the table.",
    "database.globals_incomplete": "A role or a user, or a right of it, could not be given back. The database itself is there; "
    "the message says what the server answered. Whoever restores needs the rights that are given, and to give "
    "them on: CREATE USER and GRANT OPTION in MariaDB, CREATEROLE in PostgreSQL.",
    "database.globals_made": "A role or a user that did not exist was made as it was. Roles of PostgreSQL have no password: it is "
    "not kept.",
    "database.in_use": "Somebody has the database open. Whoever writes to it would go on writing to the old one: "
    "stop that program, then swap again. MySQL and MariaDB were waited for 20 seconds.",
    "database.locked": "Another program keeps the database locked for longer than we wait. There is no snapshot.",
    "database.login_failed": "The server does not let us in. Name the password in the configuration (`password = "
    '"file:PATH"`), in DEDUP_DATABASE_PASSWORD_FILE for an address, or in ~/.pgpass.',
    "database.missing_rights": "Whoever dumps may not read everything, so there is no snapshot. The message names the "
    "GRANT that helps.",
    "database.no_client": "The programs that dump databases of this kind are not there. Install them, or run those "
    "that are where the server is (`exec`).",
    "database.no_globals": "Whoever dumps may not see the users of the server, so they are not in the snapshot; its databases "
    "are. Grant SELECT on `mysql`.*, or set `globals = false` for the source.",
    "database.no_role": "Roles that own something in the dump do not exist on the server it was restored on. "
    "Everything belongs to who restored it, and nothing is granted; create the roles first "
    "(`globals.sql` of the snapshot has them) to get the owners back.",
    "database.no_room": "A consistent copy of the database needs as much room as the database has. Name another "
    "directory for it: TMPDIR.",
    "database.not_dumpable": "The program mariadb-dump finds no events of a database with an apostrophe in its name. Leave "
    'them out (`options = ["--skip-events"]`), or give the database another name.',
    "database.not_movable": "Something in one of the two databases cannot be moved with it. A trigger, routine or event that names its own "
    "database would go on to work there when it is kept under another name. Drop it where it is not needed, and swap "
    "again; or tell the program the new name. Nothing was changed.",
    "database.not_replaced": "A database is not replaced file by file: its log would be applied to the wrong one. "
    "Restore it beside with `dedup restore --as NAME`, look at it, then `dedup db swap`.",
    "database.not_set": "The new database lacks a setting (ALTER DATABASE … SET), the owner, or a grant, of the old one. All else is "
    "restored. Restore as a superuser, or set it by hand before the swap.",
    "database.not_sql": "SQL text would not bring back what this SQLite database holds. That is so with a virtual table, a text "
    "with a NUL or other bytes that are no text, and an infinity. There is no snapshot. Keep a copy of its pages "
    'instead: `format = "copy"`.',
    "database.partitioned": "A partitioned table that is restored alone has no rows. They are in its partitions, which are tables with names of "
    "their own. Restore the whole database, or name the partitions, too; they come back beside it, not attached to it.",
    "database.owner_refused": "The server does not let whoever restores give something away. It belonged to a role of PostgreSQL that he is no member of, or acts, in "
    "MariaDB, in the name of another user (DEFINER). Restore with `--no-owners`, and all of it "
    "belongs to who restores; or as a superuser.",
    "database.restore_failed": "The database could not be made from its SQL. Nothing that was there was touched.",
    "database.rows_left_out": "The options of the source (`--exclude-table-data`) leave out the rows of a table: it was restored without any.",
    "database.session_ended": "The connection to the server ended while it was asked. There is no snapshot.",
    "database.unknown": "The server has no database of that name.",
    "database.unprotected": "A table of an engine without transactions (MyISAM, Aria, MEMORY) is read as it is when its turn comes. "
    "Convert it to InnoDB, or stop its writers while the snapshot is taken.",
    "database.unreachable": "The server does not answer. See whether it runs, and host, port and socket of its "
    "address.",
    "database.unreadable": "The database is not there, cannot be read, or is none. A path that does not exist is an "
    "error and never an empty database.",
}
