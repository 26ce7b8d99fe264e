"""A MariaDB or MySQL database put in the place of another, with all that is in both.

The server moves tables between databases, nothing else that may hold. So views, triggers, routines and events of both are
tried in a database without rows, then dropped, and made again when the tables have been moved. A plan with all that makes them
lies, from before the first of them is dropped until the last is made, in a table of the database that the old one becomes:
whoever swaps the same two again goes on by it. It is SQL that is carried out with our rights, and anyone who may make a table can
make one of that name: only what was sealed with the key of this machine is taken for a plan.
"""

from __future__ import annotations

import hmac
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from typing import Any

from dedupstore.cancel import CancelToken
from dedupstore.errors import Refused, SourceFailed
from dedupstore.events import Finding
from dedupstore.sources.mysql_client import NOT_TAKEN, MysqlClient, literal, quoted
from dedupstore.sources.mysql_objects import Objects, names, objects, queries, skeleton
from dedupstore.sources.new_database import exists

_PLAN = "dedup_swap_plan"
_NO_PLAN = ""
"""What stands in its place until it is known that all can be done."""

_LONGEST_WAIT_SECONDS = 20
"""How long a statement waits for who uses a table. Everybody else who comes to that table waits behind it."""

_RIGHTS = (
    "SELECT, INSERT, UPDATE, CREATE, ALTER, DROP, CREATE VIEW, SHOW VIEW, TRIGGER, CREATE ROUTINE, ALTER ROUTINE, EXECUTE, "
    "EVENT ON *.*"
)
_ANSWERED = re.compile(r"ERROR [134]\d{3} \(")
"""The server itself says that a statement failed: then it is not under way any more."""

_NOT_OURS = re.compile(r"ERROR 1007 \(")
"""Somebody made a database of that name meanwhile."""

_NO_EXECUTE = re.compile(r"execute command denied to user '(.*)'@'(.*)' for routine '(.*)\.")
_IN_USE = re.compile(r"ERROR 1205 \(")
_AGAIN = "nothing is lost: the same command goes on where it stopped"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanSeal:
    """What tells our plans from those of others."""

    key: bytes
    trusting: bool = False
    """Go on by a plan of another machine, too: somebody has looked at it."""

    def of(self, kept: str, new: str, live: str, plan: str) -> str:
        """The seal of a plan, in hex."""
        return hmac.digest(self.key, json.dumps([kept, new, live, plan]).encode(), "sha256").hex()

    def require(self, seal: str, kept: str, new: str, live: str, plan: str) -> None:
        """Raise Refused for a plan that was sealed with another key, or altered."""
        if self.trusting or hmac.compare_digest(seal.encode(), self.of(kept, new, live, plan).encode()):
            return
        table = f"{quoted(kept)}.{_PLAN}"
        raise Refused(
            f"{kept} has a plan for a swap of {live} that this machine did not write",
            why="what it says would be carried out with your rights",
            hints=[
                "go on with the swap where it was begun, as the same user",
                f"see what it says: SELECT * FROM {table}; and if you know it to be yours: add --trust-plan",
                f"if nobody began a swap, somebody made that table: DROP TABLE {table};",
            ],
            code="database.foreign_plan",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    kept: str
    old: Objects
    new: Objects


def kept_name(client: MysqlClient, new: str, live: str, seal: PlanSeal, cancel: CancelToken) -> str:
    """What the old one is called by a swap of these two that was interrupted; empty when there was none. Raises SourceFailed.

    Raises Refused when one of them is in the middle of a swap with another, or of one that is not ours.
    """
    # Tables only: a view would do, when it is read, whatever its maker has thought of.
    found = client.query(
        "SELECT c.table_schema FROM information_schema.columns c JOIN information_schema.tables t USING (table_schema, table_name) "
        f"WHERE table_name = {literal(_PLAN)} AND column_name = 'seal' AND table_type = 'BASE TABLE' ORDER BY 1",
        cancel,
    )
    for (place,) in found:
        for other_new, other_live, plan, sealed in client.query(
            f"SELECT new, live, plan, seal FROM {quoted(place)}.{_PLAN}", cancel
        ):
            if not {other_new, other_live} & {new, live}:
                continue
            seal.require(sealed, place, other_new, other_live, plan)
            if (other_new, other_live) == (new, live):
                return place
            raise Refused(
                f"{other_live} is in the middle of another swap",
                hints=[f"go on with that first: dedup db swap … {other_new}"],
                code="database.in_use",
            )
    return ""


def swap(
    client: MysqlClient,
    new: str,
    live: str,
    kept: str,
    seal: PlanSeal,
    note: Callable[[Finding], None],
    cancel: CancelToken,
) -> None:
    """Move what is in `live` into a database `kept`, and what is in `new` into `live`. Goes on with what was interrupted.

    Raises Refused for what cannot be moved, or made by who asks, and when a table is in use; SourceFailed. Then all is as
    it was, unless a hint says that the same call goes on.
    """
    with _explained(client):
        begun = kept_name(client, new, live, seal, cancel)
        plan = _read(client, begun, new, live, seal, cancel) if begun else None
        if plan is None:
            if begun:
                client.query(f"DROP DATABASE {quoted(begun)}", cancel)
            plan = _begin(client, new, live, begun or kept, seal, cancel)
            for view in plan.old.broken:
                message = f"the view {view} of {live} reads what is not there; {plan.kept} does not have it"
                note(Finding(code="database.broken_view", message=message, severity="note"))
        _require_nothing_under_way(client, plan, cancel)
        cancel.check()
        # Nothing is interrupted from here on: it is soon done, and the server would not stop moving tables for us.
        if moves := _moves(client, plan):
            _move(client, plan, moves)
        try:
            _settle(client, plan)
        except SourceFailed as error:
            error.hints = (*error.hints, _AGAIN)
            raise


def _begin(client: MysqlClient, new: str, live: str, kept: str, seal: PlanSeal, cancel: CancelToken) -> _Plan:
    """See that all of it can be done, and write down how."""
    there = client.names(cancel)
    for name in (new, live):
        if name not in there:
            raise Refused(f"there is no database {name}", hints=["dedup db list"])
    if kept in there:
        if not _is_empty(client, kept, cancel):
            raise exists(kept)
        # As a call leaves it that was killed when it had just begun.
        client.query(f"DROP DATABASE {quoted(kept)}", cancel)
    plan = _Plan(kept=kept, old=objects(client, live, cancel), new=objects(client, new, cancel))
    if not plan.old.tables and not plan.new.tables:
        raise Refused(f"{new} and {live} have no tables")
    if plan.new.broken:
        raise Refused(
            f"the view {plan.new.broken[0]} of {new} reads what is not there",
            hints=[f"DROP VIEW {quoted(new)}.{quoted(plan.new.broken[0])}; and swap again"],
            code="database.not_movable",
        )
    if not (plan.old.only_tables and plan.new.only_tables):
        # Views of the new one that name the live database will be in it.
        for found, others in ((plan.old, ()), (plan.new, (live,))):
            with _own(client, plan, _NO_PLAN, seal, cancel):
                _try(client, found, kept, others, cancel)
    with _own(client, plan, json.dumps(asdict(plan)), seal, cancel):
        return plan


def _is_empty(client: MysqlClient, name: str, cancel: CancelToken) -> bool:
    """Whether a database has nothing, or only a place for a plan."""
    where = literal(name)
    found = client.query(
        f"SELECT 1 FROM information_schema.tables WHERE table_schema = {where} AND table_name <> {literal(_PLAN)} UNION ALL "
        f"SELECT 1 FROM information_schema.routines WHERE routine_schema = {where} UNION ALL "
        f"SELECT 1 FROM information_schema.events WHERE event_schema = {where}",
        cancel,
    )
    return not found


@contextmanager
def _own(client: MysqlClient, plan: _Plan, text: str, seal: PlanSeal, cancel: CancelToken) -> Iterator[None]:
    """The database `kept`, told to be ours by its table; gone again when anything fails, and when no plan is to be in it."""
    place, names = quoted(plan.kept), (plan.new.name, plan.old.name)
    row = (*names, text, seal.of(plan.kept, *names, text))
    try:
        client.script(
            f"CREATE DATABASE {place} {plan.old.charset};\n"
            f"CREATE TABLE {place}.{_PLAN} (new text, live text, plan longtext, seal text) ENGINE = InnoDB CHARACTER SET utf8mb4;\n"
            f"INSERT INTO {place}.{_PLAN} VALUES ({', '.join(map(literal, row))});\n",
            cancel,
        )
        yield
    except BaseException as error:
        if isinstance(error, SourceFailed) and _NOT_OURS.search(error.why):
            raise
        # What went wrong first is what to tell; the next call drops what is left.
        with suppress(SourceFailed):
            client.query(f"DROP DATABASE {place}", CancelToken())
        raise
    if text == _NO_PLAN:
        client.query(f"DROP DATABASE {place}", CancelToken())


def _try(client: MysqlClient, found: Objects, place: str, others: tuple[str, ...], cancel: CancelToken) -> None:
    """Make all of it in a database of ours, without rows. Raises what would be raised when it is too late."""
    if found.tables:
        client.script(skeleton(client, found, cancel), cancel, place)
    event = f"{quoted(place)}.dedup_swap_event"
    # Not the text of any event: it would act, however soon it is dropped.
    tries = "".join(
        f"CREATE DEFINER = {definer} EVENT {event} ON SCHEDULE EVERY 1 YEAR DISABLE DO DO 0;\nDROP EVENT {event};\n"
        for definer in found.definers
    )
    client.script(replace(found, events_script="").makes(place, *others) + tries, cancel, place)
    for query in queries(client, place, cancel):
        if names(query, found.name):
            raise Refused(
                f"a view of {found.name} names that database where it cannot be told that it does",
                why=query[:200],
                hints=[f"tell the program that uses {found.name} the new name instead"],
                code="database.not_movable",
            )


def _read(client: MysqlClient, kept: str, new: str, live: str, seal: PlanSeal, cancel: CancelToken) -> _Plan | None:
    """The plan in `kept`; None where the call had just begun to try what it needs. Compared again: it may be another by now."""
    [(text, sealed)] = client.query(f"SELECT plan, seal FROM {quoted(kept)}.{_PLAN}", cancel)
    seal.require(sealed, kept, new, live, text)
    if text == _NO_PLAN:
        return None
    found = json.loads(text)
    return _Plan(kept=found["kept"], old=_objects(found["old"]), new=_objects(found["new"]))


def _objects(found: dict[str, Any]) -> Objects:
    made: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in found.items()}
    return Objects(**made)


def _require_nothing_under_way(client: MysqlClient, plan: _Plan, cancel: CancelToken) -> None:
    """A call that was killed has told the server to move the tables, and it may still be waiting for who uses one."""
    query = "SELECT info FROM information_schema.processlist WHERE info LIKE 'RENAME TABLE %' AND id <> connection_id()"
    steps = (f" TO {quoted(plan.kept)}.", f"{quoted(plan.new.name)}.")
    if any(step in info for (info,) in client.query(query, cancel) for step in steps):
        raise Refused(
            "the server is still about to move the tables, as an earlier call told it",
            hints=[f"swap again in {_LONGEST_WAIT_SECONDS} seconds"],
            code="database.in_use",
        )


def _moves(client: MysqlClient, plan: _Plan) -> list[str]:
    """What is still to be renamed, and to what; empty when the tables have been moved. Servers before MariaDB 10.6 may stop between."""
    token = CancelToken()
    new, live, kept = (_tables(client, name, token) for name in (plan.new.name, plan.old.name, plan.kept))
    steps = [(plan.old.name, table, plan.kept) for table in plan.old.tables if table in live - kept]
    fresh = [(plan.new.name, table, plan.old.name) for table in plan.new.tables if table in new]
    if not fresh and plan.new.tables:
        # Of the same names, those in `live` are the new ones.
        steps = [step for step in steps if step[1] not in plan.new.tables]
    return [f"{quoted(a)}.{quoted(table)} TO {quoted(b)}.{quoted(table)}" for a, table, b in steps + fresh]


def _tables(client: MysqlClient, name: str, cancel: CancelToken) -> set[str]:
    query = f"SELECT table_name FROM information_schema.tables WHERE table_schema = {literal(name)} AND table_type <> 'VIEW'"
    return {row[0] for row in client.query(query, cancel)}


def _move(client: MysqlClient, plan: _Plan, moves: Sequence[str]) -> None:
    """Take apart what the server does not move, and move the tables. When it says that it cannot, all is made as it was."""
    sides = (plan.old, plan.new)
    steps = [step for found in sides for step in found.drops(found.name)]
    steps.append(f"RENAME TABLE {', '.join(moves)}")
    try:
        _do(client, steps)
    except SourceFailed as error:
        if not _ANSWERED.search(error.why):
            error.hints = (*error.hints, _AGAIN)
            raise
        try:
            for found in sides:
                _make(client, found, found.name)
            # It holds nothing but the plan: no statement that would move tables is under way.
            client.query(f"DROP DATABASE {quoted(plan.kept)}", CancelToken())
        except SourceFailed as failed:
            failed.hints = (*failed.hints, _AGAIN)
            raise
        error.hints = (*error.hints, "all is as it was")
        raise


def _settle(client: MysqlClient, plan: _Plan) -> None:
    """Make again what was taken apart, each in its new place; then nothing is left of the plan."""
    token, live = CancelToken(), plan.old.name
    broken = (f"DROP VIEW IF EXISTS {quoted(live)}.{quoted(view)}" for view in plan.old.broken)
    _do(client, (f"ALTER DATABASE {quoted(live)} {plan.new.charset}", *broken))
    _make(client, plan.old, plan.kept)
    _make(client, plan.new, live)
    if plan.new.name in client.names(token) and not _tables(client, plan.new.name, token):
        client.query(f"DROP DATABASE {quoted(plan.new.name)}", token)
    client.query(f"DROP TABLE {quoted(plan.kept)}.{_PLAN}", token)


def _make(client: MysqlClient, found: Objects, place: str) -> None:
    _do(client, found.drops(place), found.makes(place), place)


def _do(client: MysqlClient, statements: Iterable[str], script: str = "", place: str = "") -> None:
    lines = [f"SET SESSION lock_wait_timeout = {_LONGEST_WAIT_SECONDS}", *statements]
    client.script("".join(f"{line};\n" for line in lines) + script, CancelToken(), place)


@contextmanager
def _explained(client: MysqlClient) -> Iterator[None]:
    """Failures in words that say what to do, with the hints that they have."""
    try:
        yield
    except SourceFailed as error:
        if error.code != "source.command_failed":
            raise
        if _IN_USE.search(error.why):
            raise Refused(
                "a table is in use",
                why=error.why,
                hints=["stop the program that uses it, and swap again", *error.hints],
                code="database.in_use",
            ) from error
        if NOT_TAKEN.search(error.why):
            raise Refused(
                f"{client.user} may not make what acts in the name of others",
                why=error.why,
                hints=[f"as root: GRANT SET USER ON *.* TO {client.account}; (MySQL: SET_USER_ID)", *error.hints],
                code="database.owner_refused",
            ) from error
        if refused := _NO_EXECUTE.search(error.why):
            user, host, place = refused.groups()
            raise Refused(
                f"a view of {place} uses a function that acts in the name of {user}, who may not do that there",
                why=error.why,
                hints=[
                    (
                        f"as root: GRANT EXECUTE ON {quoted(place)}.* TO {literal(user)}@{literal(host)}; "
                        f"and swap again, with --keep-as {place}"
                    ),
                    *error.hints,
                ],
                code="database.owner_refused",
            ) from error
        try:
            with client.explained(_RIGHTS):
                raise error
        except SourceFailed as told:
            if told is not error:
                told.hints = (*told.hints, *error.hints)
            raise
