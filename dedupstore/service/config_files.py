"""The files of the configuration: which there are, what is in them, and in which line.

Read in this order, the later winning key by key: /etc/dedup/config.toml, /etc/dedup/conf.d/*.toml,
~/.config/dedup/config.toml, ~/.config/dedup/conf.d/*.toml. `-c` or `DEDUP_CONFIG` names one file, or a directory of
that form, instead of all of them.
"""

from __future__ import annotations

import os
import re
import shlex
import stat
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dedupstore.errors import Refused, UsageError

MAX_BYTES = 4 << 20
FILE = "config.toml"
PARTS = "conf.d"

Keys = tuple[str, ...]
"""The way to a value: names of tables and the key; places in arrays are left out."""

Document = dict[str, Any]
_ENDS = ("]", '"""', "'''")
_POSITION = re.compile(r"\(at line (\d+), column \d+\)|\(at end of document\)")


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a value stands. Lines count from 1."""

    path: Path
    line: int

    def __str__(self) -> str:
        return f"{self.path}:{self.line}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """All files, merged."""

    files: tuple[Path, ...] = ()
    closed: tuple[Path, ...] = ()
    """Usual places that whoever runs this may not read, such as root's own; they count as empty."""

    document: Document
    origins: Mapping[Keys, Origin]

    def origin(self, keys: Keys) -> Origin | None:
        """Of a value, or of the nearest table around it."""
        for length in range(len(keys), 0, -1):
            if (found := self.origins.get(keys[:length])) is not None:
                return found
        return None


def folders(environ: Mapping[str, str]) -> tuple[Path, Path]:
    """The system's and the user's: systemd's CONFIGURATION_DIRECTORY or /etc/dedup, and ~/.config/dedup."""
    system = environ.get("CONFIGURATION_DIRECTORY", "").split(":")[0] or "/etc/dedup"
    home = environ.get("XDG_CONFIG_HOME") or os.path.join(environ.get("HOME") or os.path.expanduser("~"), ".config")
    return Path(system), Path(home) / "dedup"


def own_folder(environ: Mapping[str, str]) -> Path:
    """Where a configuration of whoever runs this belongs."""
    system, user = folders(environ)
    return system if os.geteuid() == 0 else user


def read_all(named: str | None, environ: Mapping[str, str]) -> Found:
    """What the files say. Raises UsageError for a file that is none, Refused for one that others can change."""
    found: Document = {}
    origins: dict[Keys, Origin] = {}
    files: list[Path] = []
    closed: list[Path] = []
    for place in _named(named) if named else folders(environ):
        for path in _inside(place, closed if not named else None):
            try:
                document, lines = _read(path, trusted=bool(named))
            except PermissionError as error:
                if named:
                    raise _unreadable(path, "permission denied") from error
                closed.append(path)
                continue
            _merge(found, document, path, lines, origins)
            files.append(path)
    return Found(files=tuple(files), closed=tuple(closed), document=found, origins=origins)


def _named(text: str) -> tuple[Path]:
    path = Path(text).expanduser()
    if not os.path.lexists(path):
        raise UsageError(f"there is no configuration at {path}", hints=["dedup config init"], code="config.unreadable")
    return (path,)


def _inside(place: Path, closed: list[Path] | None) -> list[Path]:
    """The files of one place in their order: the file itself, or those of a directory."""
    try:
        if not stat.S_ISDIR(os.stat(place).st_mode):
            return [place]
        first = [place / FILE] if os.path.lexists(place / FILE) else []
        names = os.listdir(place / PARTS) if os.path.lexists(place / PARTS) else []
    except FileNotFoundError:
        return []
    except PermissionError as error:
        if closed is None:
            raise _unreadable(place, "permission denied") from error
        closed.append(place)
        return []
    except OSError as error:
        raise _unreadable(place, (error.strerror or str(error)).lower()) from error
    return first + [place / PARTS / name for name in sorted(names) if name.endswith(".toml") and name[0] != "."]


def _read(path: Path, *, trusted: bool) -> tuple[Document, Mapping[Keys, int]]:
    """Raises PermissionError too."""
    try:
        # Not blocking: a FIFO without a writer would hang here for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with open(descriptor, "rb") as file:
            found = os.fstat(descriptor)
            os.set_blocking(descriptor, True)
            if stat.S_ISREG(found.st_mode):
                _require_safe(path, found, trusted=trusted)
            data = file.read(MAX_BYTES + 1)
    except PermissionError:
        raise
    except OSError as error:
        raise _unreadable(path, (error.strerror or str(error)).lower()) from error
    if len(data) > MAX_BYTES:
        raise _unreadable(path, f"it is larger than {MAX_BYTES} bytes")
    try:
        text = data.decode()
        return tomllib.loads(text), _lines(text)
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise _syntax(path, line, "it is not UTF-8 text") from error
    except tomllib.TOMLDecodeError as error:
        raise _bad_toml(path, text, error) from error


def _require_safe(path: Path, found: os.stat_result, *, trusted: bool) -> None:
    """Refuse what others can change: the file names commands that are run. A file that was named may be anybody's."""
    name = shlex.quote(str(path))
    if found.st_mode & 0o002 or (found.st_mode & 0o020 and found.st_gid not in (os.getegid(), 0)):
        raise Refused(
            f"others can change the configuration {path}",
            why="it names commands that are run",
            hints=[f"chmod go-w {name}"],
            code="config.not_private",
        )
    if found.st_uid not in (os.geteuid(), 0) and not trusted:
        raise Refused(
            f"the configuration {path} belongs to another user",
            why=f"its owner (uid {found.st_uid}) can change it, and it names commands that are run",
            hints=[f"chown {os.geteuid()} {name}", f"if it is meant: add -c {name}"],
            code="config.not_private",
        )


def _lines(text: str) -> dict[Keys, int]:
    """The line in which each table and each key begins.

    TOML is a sequence of statements, each a whole document by itself: lines are added up until they are one.
    """
    found: dict[Keys, int] = {}
    prefix: Keys = ()
    pending = ""
    start = 1
    for number, line in enumerate(text.split("\n"), 1):
        if not pending:
            start = number
        elif not any(mark in line for mark in _ENDS):
            # Only these end a value of several lines: trying after each would take forever in a long list.
            pending += f"{line}\n"
            continue
        pending += f"{line}\n"
        try:
            statement = tomllib.loads(pending)
        except tomllib.TOMLDecodeError:
            continue
        header = pending.lstrip().startswith("[")
        pending = ""
        for keys in _keys(statement):
            whole = keys if header else prefix + keys
            found.setdefault(whole, start)
            if header:
                prefix = whole
    return found


def _keys(value: object, above: Keys = ()) -> Iterator[Keys]:
    """The ways to everything in a value, tables before what is in them; the last one of a header is its table."""
    if isinstance(value, dict):
        for key, member in value.items():
            yield (*above, key)
            yield from _keys(member, (*above, key))
    elif isinstance(value, list):
        for member in value:
            yield from _keys(member, above)


def _merge(
    into: Document,
    document: Document,
    path: Path,
    lines: Mapping[Keys, int],
    origins: dict[Keys, Origin],
    above: Keys = (),
) -> None:
    for key, value in document.items():
        keys = (*above, key)
        origin = Origin(path, lines.get(keys, 1))
        before = into.get(key)
        if isinstance(before, dict) and isinstance(value, dict):
            origins.setdefault(keys, origin)
            _merge(before, value, path, lines, origins, keys)
            continue
        if before is not None and isinstance(before, dict) != isinstance(value, dict):
            raise UsageError(
                f"{'.'.join(keys)} is a table in one file and a value in another",
                why=f"{origins[keys]} and {origin}",
                code="config.invalid_value",
            )
        for old in [old for old in origins if old[: len(keys)] == keys]:
            del origins[old]
        into[key] = value
        origins[keys] = origin
        origins.update(
            {(*keys, *below): Origin(path, lines.get((*keys, *below), origin.line)) for below in _keys(value)}
        )


def _bad_toml(path: Path, text: str, error: tomllib.TOMLDecodeError) -> UsageError:
    message = str(error)
    match = _POSITION.search(message)
    line = int(match[1]) if match and match[1] else text.rstrip("\n").count("\n") + 1
    what = message[: match.start()].strip() if match else message
    return _syntax(path, line, f"{what[:1].lower()}{what[1:]}")


def _syntax(path: Path, line: int, why: str) -> UsageError:
    return UsageError(
        f"{path}, line {line}: not a configuration file",
        why=why,
        hints=['values are written as in: url = "/mnt/backup"    see: dedup config init --print'],
        code="config.syntax",
    )


def _unreadable(path: Path, why: str) -> UsageError:
    return UsageError(f"cannot read the configuration {path}", why=why, code="config.unreadable")


def leaves(document: Mapping[str, Any], above: Keys = ()) -> Iterator[tuple[Keys, Any]]:
    """Every value that is no table, with its keys."""
    for key, value in document.items():
        if isinstance(value, dict):
            yield from leaves(value, (*above, key))
        else:
            yield (*above, key), value


def names(keys: Sequence[str | int]) -> Keys:
    """Without the places in arrays."""
    return tuple(key for key in keys if isinstance(key, str))
