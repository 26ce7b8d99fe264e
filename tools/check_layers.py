"""Proves the architecture's rules by reading every import: layers, rooms, time, file length.

    python tools/check_layers.py [ROOT]

Prints one line per violation, `path:line: what`, and exits 1 when there is any. Works on the syntax tree,
so it also sees imports inside functions, under `if TYPE_CHECKING` and behind `import_module("…")`.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PACKAGE = "dedupstore"

ROWS: dict[str, int] = {
    "errors": 0, "types": 0, "units": 0,
    "clock": 1, "events": 1, "cancel": 1, "threads": 1,
    "model": 2,
    "chunking": 3, "codec": 3, "storage": 3, "sources": 3, "policy": 3, "monitor": 3,
    "repo": 4,
    "engine": 5,
    "service": 6,
    "app": 7,
    "cli": 8, "api": 8, "daemon": 8,
}  # fmt: skip
"""The house, from the ground up. Imports go strictly downward; the files of row 0 may use one another."""

DOORS = {"cli", "api", "daemon"}
"""Doors parse, call and render: they see only these and rows 0 and 1."""
DOORS_MAY_USE = {"app", "service"}

ROOMS: dict[str, str] = {
    "boto3": "storage/s3_client.py",
    "botocore": "storage/s3_client.py",
    "lmdb": "repo/lmdb_",
    "cryptography": "codec/crypto.py",
    "zstandard": "codec/compression.py",
    "blake3": "codec/hashing.py",
    "msgpack": "model/wire.py",
    "croniter": "policy/schedule.py",
    "platformdirs": "service/dirs.py",
    "mfusepy": "service/fuse.py",
    "click": "cli/",
    "rich": "cli/",
    "fastapi": "api/",
}
"""One library, one room: where each library may be imported; what does not end in `.py` is a beginning of paths."""

CLOCK_ROOM = "clock.py"
CLOCK_CALLS = {
    ("time", "time"),
    ("time", "time_ns"),
    ("datetime", "now"),
    ("datetime", "utcnow"),
    ("datetime", "today"),
    ("date", "today"),
}

MAX_LINES = 400
LONGER = {
    "tools/minirestore.py": "one file on purpose: it can be read and carried alone",
}
"""Files that may be longer, each with its reason."""

MEASURED = (PACKAGE, "tools", "benchmarks")

_MODULE_NAME = re.compile(rf"{PACKAGE}(\.\w+)+(:\w+)?")


@dataclass(frozen=True, slots=True)
class Violation:
    path: str
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.message}"


@dataclass(frozen=True, slots=True)
class Import:
    """One module a file depends on: dotted name and line; `late` when it hides inside a function."""

    name: str
    line: int
    late: bool = False


def check(root: Path) -> list[Violation]:
    """All violations below `root`, sorted by file and line."""
    found: list[Violation] = []
    for folder in MEASURED:
        for path in sorted((root / folder).rglob("*.py")):
            source = path.read_text(encoding="utf-8")
            name = path.relative_to(root).as_posix()
            lines = source.count("\n")
            if lines > MAX_LINES and name not in LONGER:
                found.append(Violation(name, lines, f"{lines} lines; a file has at most {MAX_LINES}"))
            if folder == PACKAGE:
                found.extend(_check_file(name, ast.parse(source, filename=name)))
    return sorted(found, key=lambda violation: (violation.path, violation.line, violation.message))


def _check_file(name: str, tree: ast.Module) -> Iterator[Violation]:
    inside = name.removeprefix(f"{PACKAGE}/")
    unit = inside.split("/")[0].removesuffix(".py")
    if unit not in ROWS and unit != "__init__":
        yield Violation(name, 1, f"{unit} has no row in the layer table of tools/check_layers.py")
        return
    for used in _imports(tree):
        if used.late:
            yield Violation(name, used.line, f"import of {used.name or 'a relative module'} inside a function")
        if not used.name:
            yield Violation(name, used.line, "relative import; imports are absolute")
        elif used.name.split(".")[0] == PACKAGE:
            yield from _check_layer(name, unit, used)
        else:
            yield from _check_room(name, inside, used)
    if inside != CLOCK_ROOM:
        yield from _check_clock(name, tree)


def _check_layer(name: str, unit: str, used: Import) -> Iterator[Violation]:
    parts = used.name.split(".")
    target = parts[1] if len(parts) > 1 else "__init__"
    if target == unit or target == "__init__":
        return
    if target not in ROWS:
        yield Violation(name, used.line, f"{used.name} has no row in the layer table of tools/check_layers.py")
        return
    # The package's own __init__ is below everything: importing any layer there would load it always.
    row, below = ROWS.get(unit, -1), ROWS[target]
    if unit in DOORS:
        if below > 1 and target not in DOORS_MAY_USE:
            yield Violation(name, used.line, f"{unit} may use app, service and rows 0-1, not {used.name}")
    elif below > row:
        yield Violation(name, used.line, f"{unit} (row {row}) imports upward: {used.name} (row {below})")
    elif below == row and row > 0:
        yield Violation(name, used.line, f"{unit} imports its sibling on row {row}: {used.name}")


def _check_room(name: str, inside: str, used: Import) -> Iterator[Violation]:
    library = used.name.split(".")[0]
    room = ROOMS.get(library)
    if room is None or inside == room or (not room.endswith(".py") and inside.startswith(room)):
        return
    yield Violation(name, used.line, f"{library} belongs to {PACKAGE}/{room}")


def _check_clock(name: str, tree: ast.Module) -> Iterator[Violation]:
    advice = f"only {CLOCK_ROOM} reads the time; take a Clock"
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            owner = node.value
            owner_name = (
                owner.id if isinstance(owner, ast.Name) else owner.attr if isinstance(owner, ast.Attribute) else ""
            )
            if (owner_name, node.attr) in CLOCK_CALLS:
                yield Violation(name, node.lineno, f"{owner_name}.{node.attr}: {advice}")
        elif isinstance(node, ast.ImportFrom) and node.module == "time":
            for alias in node.names:
                if ("time", alias.name) in CLOCK_CALLS:
                    yield Violation(name, node.lineno, f"from time import {alias.name}: {advice}")


def _imports(tree: ast.Module) -> Iterator[Import]:
    late_nodes = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for node in ast.walk(function)
    }
    for node in ast.walk(tree):
        late = id(node) in late_nodes
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, node.lineno, late)
        elif isinstance(node, ast.ImportFrom):
            yield from _from_import(node, late)
        elif isinstance(node, ast.Call):
            yield from _dynamic_import(node)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and _MODULE_NAME.fullmatch(node.value):
            # A registry names modules as text; what it names is used as surely as what is imported.
            yield Import(node.value.partition(":")[0], node.lineno)


def _from_import(node: ast.ImportFrom, late: bool) -> Iterator[Import]:
    if node.level:
        yield Import("", node.lineno, late)
    elif node.module == PACKAGE:
        for alias in node.names:
            # Names that are no module are attributes of the package itself.
            yield Import(f"{PACKAGE}.{alias.name}" if alias.name in ROWS else PACKAGE, node.lineno, late)
    elif node.module is not None:
        yield Import(node.module, node.lineno, late)


def _dynamic_import(node: ast.Call) -> Iterator[Import]:
    function = node.func
    called = (
        function.attr if isinstance(function, ast.Attribute) else function.id if isinstance(function, ast.Name) else ""
    )
    if called not in ("import_module", "__import__") or not node.args:
        return
    argument = node.args[0]
    if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
        if not _MODULE_NAME.fullmatch(argument.value):
            yield Import(argument.value, node.lineno)


def main(arguments: list[str]) -> int:
    root = Path(arguments[0]) if arguments else Path(__file__).resolve().parent.parent
    violations = check(root)
    for violation in violations:
        print(violation)
    if violations:
        print(f"{len(violations)} violations of the architecture's rules", file=sys.stderr)
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
