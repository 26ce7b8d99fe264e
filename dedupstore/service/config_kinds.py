"""What a value of the configuration may be: reads it from TOML's types, and describes it in JSON Schema.

A kind raises `Invalid` with what is wrong and where, relative to the value it was given. Tables and lists gather the
problems of everything in them, so that one look tells all. No message repeats a value that may be a secret.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from importlib import import_module
from typing import Any, NewType, Protocol, TypeVar, cast

from dedupstore.errors import UsageError

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
D = TypeVar("D")

SecretReference = NewType("SecretReference", str)
"""`file:PATH`, `env:NAME`, `command:COMMAND`, `systemd:NAME` or `keyring:NAME`; `secrets.resolve` follows it."""

Schema = dict[str, Any]
Path = tuple[str | int, ...]

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
REFERENCE = re.compile(r"(?:file|env|command|systemd|keyring):\S.*", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is wrong, at a path of keys below the value that was read."""

    message: str
    path: Path = ()
    hint: str = ""
    code: str = "config.invalid_value"


class Invalid(Exception):
    """A value is not what it has to be."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(problem.message for problem in self.problems))


class Kind(Protocol[T_co]):
    """One kind of value."""

    def read(self, value: object) -> T_co:
        """The value as the program uses it. Raises Invalid."""
        ...

    def schema(self) -> Schema:
        """The values that are allowed, as JSON Schema (draft 7)."""
        ...


def wrong(message: str, *, hint: str = "", code: str = "config.invalid_value") -> Invalid:
    return Invalid([Problem(message=message, hint=hint, code=code)])


def required(kind: Kind[T], about: str, *, key: str = "") -> T:
    """A field of a table that has to be there. `key`: what it is called in the file, when Python cannot call it so."""
    return cast("T", field(metadata={"kind": kind, "about": about, "key": key}))


def setting(kind: Kind[T], default: D, about: str) -> T | D:
    """A field of a table that need not be there."""
    about_it = {"kind": kind, "about": about, "key": ""}
    if isinstance(default, dict):
        return cast("T | D", field(default_factory=dict, metadata=about_it))
    return cast("T | D", field(default=default, metadata=about_it))


@dataclass(frozen=True, slots=True)
class Text:
    """Text that `parse` turns into what it stands for; `form` says what is expected."""

    parse: Callable[[str], Any]
    form: str
    pattern: str = ""

    def read(self, value: object) -> Any:
        if not isinstance(value, str) or not value:
            raise wrong(f"this has to be {self.form}")
        try:
            return self.parse(value)
        except UsageError as error:
            raise wrong(
                error.message, hint=error.hints[0] if error.hints else "", code="config.invalid_value"
            ) from None

    def schema(self) -> Schema:
        return {"type": "string", "minLength": 1, **({"pattern": self.pattern} if self.pattern else {})}


@dataclass(frozen=True, slots=True)
class Flag:
    def read(self, value: object) -> bool:
        if not isinstance(value, bool):
            raise wrong("this has to be true or false", hint="without quotes")
        return value

    def schema(self) -> Schema:
        return {"type": "boolean"}


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole number from `least` to `most`."""

    least: int
    most: int

    def read(self, value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not self.least <= value <= self.most:
            raise wrong(f"this has to be a whole number from {self.least} to {self.most}")
        return value

    def schema(self) -> Schema:
        return {"type": "integer", "minimum": self.least, "maximum": self.most}


@dataclass(frozen=True, slots=True)
class Count:
    """How many, or `"unlimited"`, which is -1."""

    def read(self, value: object) -> int:
        return -1 if value == "unlimited" else Whole(0, 1_000_000).read(value)

    def schema(self) -> Schema:
        return {"anyOf": [{"const": "unlimited"}, Whole(0, 1_000_000).schema()]}


@dataclass(frozen=True, slots=True)
class Factor:
    """A number greater than `above`."""

    above: float

    def read(self, value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not self.above < value < 1e9:
            raise wrong(f"this has to be a number greater than {self.above:g}")
        return float(value)

    def schema(self) -> Schema:
        return {"type": "number", "exclusiveMinimum": self.above}


@dataclass(frozen=True, slots=True)
class Choice:
    choices: tuple[str, ...]

    def read(self, value: object) -> str:
        if value not in self.choices or not isinstance(value, str):
            near = nearest(value, self.choices) if isinstance(value, str) else ""
            raise wrong(f"this has to be one of {', '.join(self.choices)}", hint=near)
        return value

    def schema(self) -> Schema:
        return {"enum": list(self.choices)}


@dataclass(frozen=True, slots=True)
class Secret:
    """A reference to a secret, never the secret."""

    def read(self, value: object) -> SecretReference:
        if not isinstance(value, str) or not REFERENCE.fullmatch(value):
            raise wrong(
                "a secret is never written into the configuration itself",
                hint="write file:PATH, env:NAME, command:COMMAND, systemd:NAME or keyring:NAME",
                code="config.secret_reference",
            )
        return SecretReference(value)

    def schema(self) -> Schema:
        return {"type": "string", "pattern": "^(file|env|command|systemd|keyring):."}


@dataclass(frozen=True, slots=True)
class Several:
    """An array of one kind, of at least `least` members."""

    kind: Kind[Any]
    least: int = 0
    form: str = 'an array, as in ["one", "two"]'

    def read(self, value: object) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise wrong(f"this has to be {self.form}")
        if len(value) < self.least:
            raise wrong("this must not be empty")
        return tuple(_each(enumerate(value), lambda position, member: self.kind.read(member)).values())

    def schema(self) -> Schema:
        return {"type": "array", "items": self.kind.schema(), **({"minItems": self.least} if self.least else {})}


@dataclass(frozen=True, slots=True)
class AllOr:
    """The word "all", given as it is, or what another kind reads."""

    kind: Kind[Any]

    def read(self, value: object) -> Any:
        return value if value == "all" else self.kind.read(value)

    def schema(self) -> Schema:
        return {"anyOf": [{"const": "all"}, self.kind.schema()]}


@dataclass(frozen=True, slots=True)
class Named:
    """A table whose keys are names that the user gives."""

    kind: Kind[Any]

    def read(self, value: object) -> Mapping[str, Any]:
        return _each(_table(value).items(), self._member)

    def schema(self) -> Schema:
        # Closed: a name that is none must not be taken for one.
        return {
            "type": "object",
            "patternProperties": {f"^{NAME.pattern}$": self.kind.schema()},
            "additionalProperties": False,
        }

    def _member(self, name: str, member: object) -> Any:
        if not NAME.fullmatch(name):
            raise wrong(f"not a name: {name!r}", hint="letters, digits, _ . and - make a name, at most 64 of them")
        return self.kind.read(member)


@dataclass(frozen=True, slots=True)
class Table:
    """A table with the fields of a dataclass, each made by `setting` or `required`."""

    record: type[Any]

    def read(self, value: object) -> Any:
        given = _table(value)
        known = self._fields()
        problems = [unknown_key(key, known) for key in given if key not in known]
        found: dict[str, Any] = {}
        for key, each in known.items():
            if key in given:
                try:
                    found[each.name] = each.metadata["kind"].read(given[key])
                except Invalid as error:
                    problems += _below(key, error)
            elif _is_required(each):
                problems.append(Problem(message=f"{key} is missing", code="config.missing"))
        if problems:
            raise Invalid(problems)
        return self.record(**found)

    def schema(self) -> Schema:
        known = self._fields()
        properties = {
            key: {**each.metadata["kind"].schema(), "description": each.metadata["about"]}
            for key, each in known.items()
        }
        needed = [key for key, each in known.items() if _is_required(each)]
        closed: Schema = {"type": "object", "properties": properties, "additionalProperties": False}
        return {**closed, **({"required": needed} if needed else {})}

    def _fields(self) -> dict[str, Field[Any]]:
        """By their keys in the file."""
        return {each.metadata["key"] or each.name: each for each in fields(self.record)}


@dataclass(frozen=True, slots=True)
class OneOf:
    """A table that says by the key `type` which of several it is."""

    tables: Mapping[str, Table]

    def read(self, value: object) -> Any:
        given = _table(value)
        if "type" not in given:
            raise Invalid([Problem(message="type is missing", hint=_types(self.tables), code="config.missing")])
        try:
            chosen = Choice(tuple(self.tables)).read(given["type"])
        except Invalid as error:
            raise Invalid(_below("type", error)) from None
        return self.tables[chosen].read({name: member for name, member in given.items() if name != "type"})

    def schema(self) -> Schema:
        choices = []
        for name, table in self.tables.items():
            schema = table.schema()
            schema["properties"] = {"type": {"const": name}, **schema["properties"]}
            schema["required"] = ["type", *schema.get("required", ())]
            choices.append(schema)
        return {"oneOf": choices}


@dataclass(frozen=True, slots=True)
class Late:
    """A kind in a module that is loaded when a value of it is met: `module:NAME`."""

    target: str

    def read(self, value: object) -> Any:
        return self._kind().read(value)

    def schema(self) -> Schema:
        return self._kind().schema()

    def _kind(self) -> Kind[Any]:
        module, _, name = self.target.partition(":")
        return cast("Kind[Any]", getattr(import_module(module), name))


def nearest(word: str, known: Iterable[str]) -> str:
    """`did you mean "exclude"?`, or nothing when nothing is near."""
    found = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f'did you mean "{found[0]}"?' if found else ""


def unknown_key(name: str, known: Iterable[str]) -> Problem:
    names = sorted(known)
    hint = nearest(name, names) or f"there are {', '.join(names)}"
    return Problem(message=f'unknown key "{name}"', path=(name,), hint=hint, code="config.unknown_key")


def _is_required(each: Field[Any]) -> bool:
    return each.default is MISSING and each.default_factory is MISSING


def _types(tables: Mapping[str, Table]) -> str:
    return f"type is one of {', '.join(tables)}"


def _table(value: object) -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        raise wrong("this has to be a table")
    return value


def _below(key: str | int, error: Invalid) -> list[Problem]:
    return [
        Problem(message=found.message, path=(key, *found.path), hint=found.hint, code=found.code)
        for found in error.problems
    ]


def _each(members: Iterable[tuple[Any, object]], read: Callable[[Any, object], Any]) -> dict[Any, Any]:
    """Every member as it was read; the problems of all of them together."""
    found: dict[Any, Any] = {}
    problems: list[Problem] = []
    for key, member in members:
        try:
            found[key] = read(key, member)
        except Invalid as error:
            problems += _below(key, error)
    if problems:
        raise Invalid(problems)
    return found
