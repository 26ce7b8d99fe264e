"""What a database of MariaDB or MySQL holds beside its tables: views, triggers, routines, events; how to make it elsewhere."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from dedupstore.cancel import CancelToken
from dedupstore.errors import Refused
from dedupstore.sources.mysql_client import MysqlClient, literal, quoted
from dedupstore.sources.program import answer

_DUMP = (
    "--no-data", "--skip-add-drop-table", "--skip-lock-tables", "--skip-dump-date", "--default-character-set=utf8mb4",
    "--max-allowed-packet=1G",
)  # fmt: skip
_ONLY_MYSQL = ("--no-tablespaces", "--set-gtid-purged=OFF", "--column-statistics=0")

_WORDS = re.compile(
    r"'(?:[^'\\]|\\.|'')*'|/\*(?!M?!).*?\*/|--\s[^\n]*|#[^\n]*"
    r'|`(?P<quoted>(?:[^`]|``)*)`|"(?P<double>(?:[^"\\]|\\.|"")*)"|(?P<bare>[\w$]+)',
    re.DOTALL,
)
"""Strings and comments, and names: what is in the former is none. Double quotes may be either, depending on sql_mode."""


_SANDBOX = re.compile(r"\A/\*M?!999999.*\n")
"""A command of the client, which one script has once at most."""

_VIEW = re.compile(r"^/\*!50001 VIEW .*$", re.MULTILINE)
"""What a view reads, as the dump programs write it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Objects:
    """All that the database `name` holds. The scripts are the dump program's own, with definers, sql_mode and character sets."""

    name: str
    charset: str
    tables: tuple[str, ...]
    views: tuple[str, ...]
    broken: tuple[str, ...]
    """Views that read what is not there: no server makes such a one."""

    qualified: tuple[str, ...]
    """The queries of those views that read other databases, too: the server writes the database before each of their tables."""

    triggers: tuple[str, ...]
    routines: tuple[tuple[str, str], ...]
    """The kind of each, and its name."""

    events: tuple[str, ...]
    definers: tuple[str, ...]
    """Those in whose name events act, as SQL has them."""

    routines_script: str
    views_script: str
    triggers_script: str
    events_script: str

    @property
    def only_tables(self) -> bool:
        return not (self.views or self.broken or self.triggers or self.routines or self.events)

    def drops(self, place: str) -> Iterator[str]:
        """Statements after which the database `place` has nothing of it but tables."""
        yield from (f"DROP EVENT IF EXISTS {quoted(place)}.{quoted(name)}" for name in self.events)
        yield from (f"DROP TRIGGER IF EXISTS {quoted(place)}.{quoted(name)}" for name in self.triggers)
        yield from (f"DROP VIEW IF EXISTS {quoted(place)}.{quoted(name)}" for name in self.views)
        for kind, name in self.routines:
            # Packages are known in this mode only.
            mode = "'ORACLE'" if kind.startswith("PACKAGE") else "DEFAULT"
            yield f"SET SESSION sql_mode = {mode}"
            yield f"DROP {kind} IF EXISTS {quoted(place)}.{quoted(name)}"

    def makes(self, place: str, *others: str) -> str:
        """A script that makes it in the database `place`, events last. What views call by its name, or `others`, is `place` there.

        Raises Refused for a view that leaves open what it means by that name.
        """
        altered = f"\nALTER DATABASE {quoted(self.name)} CHARACTER SET "
        views = self.views_script
        for query in self.qualified:
            moved = query
            for name in (self.name, *others):
                moved = _renamed(moved, name, place)
            views = views.replace(f" AS {query} ", f" AS {moved} ")
        views = _VIEW.sub(lambda match: _calls_renamed(match[0], (self.name, *others), place), views)
        script = self.routines_script + views + self.triggers_script + self.events_script
        return script.replace(altered, f"\nALTER DATABASE {quoted(place)} CHARACTER SET ")


def objects(client: MysqlClient, name: str, cancel: CancelToken) -> Objects:
    """Raises SourceFailed, Refused for what cannot be moved."""
    where = literal(name)
    [(charset, collation)] = client.query(
        "SELECT default_character_set_name, default_collation_name FROM information_schema.schemata "
        f"WHERE schema_name = {where}", cancel,
    )  # fmt: skip
    found = client.query(
        f"SELECT table_name, table_type FROM information_schema.tables WHERE table_schema = {where} ORDER BY 1", cancel,
    )  # fmt: skip
    views = tuple(row[0] for row in found if row[1] == "VIEW")
    broken = _broken(client, name, views, cancel) if views else frozenset()
    whole = tuple(view for view in views if view not in broken)
    triggers = client.query(
        f"SELECT trigger_name, action_statement FROM information_schema.triggers WHERE trigger_schema = {where}", cancel
    )
    routines = client.query(
        "SELECT routine_name, routine_type, routine_definition FROM information_schema.routines "
        f"WHERE routine_schema = {where} ORDER BY 2 DESC, 1", cancel,
    )  # fmt: skip
    bodies = client.query(
        f"SELECT event_name, event_definition FROM information_schema.events WHERE event_schema = {where}", cancel
    )
    # Who may not see events is told so by this statement alone.
    events = client.query(f"SHOW EVENTS FROM {quoted(name)}", cancel)
    _require_no_own_name(name, [("trigger", *row) for row in triggers])
    _require_no_own_name(name, [(row[1].lower(), row[0], row[2]) for row in routines])
    _require_no_own_name(name, [("event", *row) for row in bodies])
    script = _dump(client, name, whole, ("--skip-triggers",), cancel) if whole else ""
    return Objects(
        name=name,
        charset=f"CHARACTER SET {literal(charset)} COLLATE {literal(collation)}",
        tables=tuple(row[0] for row in found if row[1] != "VIEW"),
        views=whole,
        broken=tuple(view for view in views if view in broken),
        qualified=tuple(query for query in queries(client, name, cancel) if f" AS {query} " in script),
        triggers=tuple(row[0] for row in triggers),
        routines=tuple((row[1], row[0]) for row in routines),
        events=tuple(row[1] for row in events),
        definers=tuple(sorted({_account(row[2]) for row in events})),
        routines_script=_dump(client, name, (), ("--no-create-info", "--skip-triggers", "--routines"), cancel)
        if routines
        else "",
        views_script=script,
        triggers_script=_dump(client, name, (), ("--no-create-info", "--triggers"), cancel) if triggers else "",
        events_script=_dump(client, name, (), ("--no-create-info", "--skip-triggers", "--events"), cancel)
        if events
        else "",
    )


def skeleton(client: MysqlClient, found: Objects, cancel: CancelToken) -> str:
    """What makes its tables, without rows."""
    return _dump(client, found.name, found.tables, ("--skip-triggers",), cancel)


def queries(client: MysqlClient, name: str, cancel: CancelToken) -> list[str]:
    """Of all views of a database, with the database before each table. Raises SourceFailed."""
    found = client.query(
        f"SELECT view_definition FROM information_schema.views WHERE table_schema = {literal(name)}", cancel
    )
    return [row[0] for row in found]


def _broken(client: MysqlClient, name: str, views: Sequence[str], cancel: CancelToken) -> frozenset[str]:
    found = client.query(f"CHECK TABLE {', '.join(f'{quoted(name)}.{quoted(view)}' for view in views)}", cancel)
    return frozenset(row[0].removeprefix(f"{name}.") for row in found if row[2] == "Error")


def names(text: str, database: str) -> bool:
    """Whether SQL names something in that database, by the name of the database. What strings hold is not seen."""
    return any(
        text[match.end() :].lstrip().startswith(".")
        for match in _places(text)
        if _name_of(match).casefold() == database.casefold()
    )


def _places(text: str) -> Iterator[re.Match[str]]:
    """Names that no other one stands before."""
    return (match for match in _WORDS.finditer(text) if match.lastgroup and not text[: match.start()].endswith("."))


def _name_of(match: re.Match[str]) -> str:
    return match[match.lastgroup or 0].replace("``", "`")


def _renamed(query: str, old: str, new: str) -> str:
    """The query of a view, as the server writes it, about another database."""
    text, at = "", 0
    for match in _places(query):
        if _name_of(match) != old:
            continue
        if query[match.end() : match.end() + 1] == ".":
            text += query[at : match.start()] + quoted(new)
            at = match.end()
        elif not query[: match.start()].endswith(" AS "):
            raise _not_movable(
                f"a view of {old} calls something else by that name", f"it reads several databases: {query[:200]}", old
            )
    return text + query[at:]


def _calls_renamed(view: str, old: Iterable[str], new: str) -> str:
    """What makes a view, with the functions of one database in place of those of others."""
    names = "|".join(re.escape(quoted(name)) for name in old)
    return re.sub(rf"(?<![.`])(?:{names})(?=\.`(?:[^`]|``)*`\()", lambda match: quoted(new), view)


def _require_no_own_name(database: str, found: Iterable[Sequence[str]]) -> None:
    for kind, name, body in found:
        if names(body, database):
            raise _not_movable(
                f"the {kind} {name} of {database} names that database",
                "under another name it would go on to work in that one",
                database,
                f"when it is not needed there: DROP {kind.upper()} {quoted(database)}.{quoted(name)}; and swap again",
            )


def _not_movable(message: str, why: str, database: str, *hints: str) -> Refused:
    return Refused(
        message,
        why=why,
        hints=[*hints, f"or tell the program that uses {database} the new name instead"],
        code="database.not_movable",
    )


def _account(text: str) -> str:
    user, _, host = text.rpartition("@")
    return f"{quoted(user)}@{quoted(host)}" if user else quoted(host)


def _dump(client: MysqlClient, name: str, tables: Sequence[str], words: Sequence[str], cancel: CancelToken) -> str:
    flavour = () if client.is_mariadb else _ONLY_MYSQL
    text = answer(client.program((*_DUMP, *flavour, *words, "--", name, *tables), dump=True), cancel)
    return _SANDBOX.sub("", text)
