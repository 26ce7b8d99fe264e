"""The users of a MariaDB or MySQL server and their rights: written down as statements, and given back to those that are lost.

The text is a script that the server's client takes. Each account has parts of its own, first for what makes it, then for its rights:

    -- `app`@`%`
    CREATE USER IF NOT EXISTS `app`@`%` IDENTIFIED BY PASSWORD '*…';
    -- `app`@`%`
    GRANT SELECT ON `shop`.* TO `app`@`%`;
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from dedupstore.cancel import CancelToken
from dedupstore.errors import SourceFailed
from dedupstore.sources.mysql_client import MysqlClient, literal, quoted

_OWN = "'mariadb.sys', 'mysql', 'mysql.sys', 'mysql.session', 'mysql.infoschema', 'PUBLIC'"
"""Accounts that the server makes for itself."""

_AT_A_TIME = 100
_READABLE_HASHES = "/*!80017 SET SESSION print_identified_with_as_hex = ON */;"
"""For MySQL 8, whose hashes are bytes that no text can hold; MariaDB skips it."""

_HEAD = "-- Users and their rights. `dedup restore --globals` gives them to those that do not exist."
_PART = "-- "


def statements(client: MysqlClient, cancel: CancelToken) -> str:
    """The script, the same for the same accounts. Raises SourceFailed, also when who asks may not see others."""
    found = _accounts(client, cancel)
    makes: list[str] = []
    rights: list[str] = []
    for name, is_role in found:
        if is_role:
            makes.append(f"SELECT {literal(f'CREATE ROLE IF NOT EXISTS {name}')};")
        else:
            makes.append(f"SHOW CREATE USER {name};")
        rights.append(f"SHOW GRANTS FOR {name};")
    names = [name for name, _ in found]
    lines = [_HEAD, *_said(client, cancel, names, makes), *_said(client, cancel, names, rights)]
    return "\n".join([*lines, ""])


def give(client: MysqlClient, script: str, cancel: CancelToken) -> Iterator[tuple[str, str]]:
    """Make the accounts of a script that do not exist, with their rights; those that exist are not touched.

    Yields each that was made, and why something of it could not be; nothing when all went well. Raises SourceFailed.
    """
    client.require_guarded()
    there = {name for name, _ in _accounts(client, cancel, with_own=True)}
    problems: dict[str, str] = {}
    for name, statement in _parts(script):
        if name in there:
            continue
        problems.setdefault(name, "")
        try:
            client.query(statement, cancel)
        except SourceFailed as error:
            # The lines before the last one repeat the statement, with the hash of a password in it.
            problems[name] = problems[name] or error.why.rpartition("\n")[2]
    yield from problems.items()


def _accounts(client: MysqlClient, cancel: CancelToken, *, with_own: bool = False) -> list[tuple[str, bool]]:
    """Each account as SQL names it, and whether it is a role; roles first: they are granted to users."""
    role = "is_role = 'Y'" if "MariaDB" in client.server else "false"
    which = "" if with_own else f" WHERE user NOT IN ({_OWN})"
    found = client.query(f"SELECT user, host, {role} FROM mysql.user{which}", cancel)
    accounts = [
        (quoted(user) if is_role == "1" else f"{quoted(user)}@{quoted(host)}", is_role == "1")
        for user, host, is_role in found
    ]
    return sorted(accounts, key=lambda account: (not account[1], account[0]))


def _said(client: MysqlClient, cancel: CancelToken, names: list[str], questions: list[str]) -> Iterator[str]:
    """The part of each account, with what the server answers to the question about it."""
    for first in range(0, len(names), _AT_A_TIME):
        some = range(first, min(first + _AT_A_TIME, len(names)))
        sql = _READABLE_HASHES + "".join(f"SELECT {literal(_PART + names[at])}; {questions[at]}" for at in some)
        for (line,) in client.query(sql, cancel):
            yield (
                line if line.startswith(_PART) else f"{line.replace('CREATE USER ', 'CREATE USER IF NOT EXISTS ', 1)};"
            )


def _parts(script: str) -> Iterator[tuple[str, str]]:
    """Each statement, and the account that it is about."""
    name = ""
    for line in _whole(script.split("\n")[1:]):
        if line.startswith(_PART):
            name = line.removeprefix(_PART)
        elif line:
            yield name, line.removesuffix(";")


def _whole(lines: Iterable[str]) -> Iterator[str]:
    """Statements with line breaks in them as one."""
    begun: list[str] = []
    for line in lines:
        if not begun and line.startswith(_PART):
            yield line
            continue
        begun.append(line)
        if line.endswith(";") or not any(begun):
            yield "\n".join(begun)
            begun = []
