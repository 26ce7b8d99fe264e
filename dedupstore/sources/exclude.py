"""What stays out of a snapshot: gitignore patterns, marks in directories, sizes, other file systems, flags."""

from __future__ import annotations

import os
import re
import stat as modes
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from dedupstore.errors import UsageError
from dedupstore.sources.attributes import cachedir_tag, nodump
from dedupstore.sources.gitignore import parse
from dedupstore.units import format_bytes, printable

_Match = Callable[[str], "re.Match[str] | None"]
_CACHEDIR_TAG = b"CACHEDIR.TAG"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExcludeRules:
    """What the user asked for."""

    patterns: tuple[str, ...] = ()
    """gitignore patterns, relative to each root; text with surrogate escapes, as Python gives arguments."""
    pattern_files: tuple[bytes, ...] = ()
    """Files of such patterns, one a line, `#` for comments."""
    if_present: tuple[bytes, ...] = ()
    caches: bool = False
    larger_than: int | None = None
    one_file_system: bool = False
    nodump: bool = False


class Excluder:
    """Answers "why not?" for names and for the content of directories. Costs nothing for what was not asked.

    Patterns follow gitignore: the last one that matches decides, `/` anchors at the root, `dir/` is for
    directories. In one point they go further, where git says "impossible": `cache/` with `!cache/keep/` keeps
    `cache/keep`, when the way there is spelled out from the root.
    """

    __slots__ = ("_any_directory", "_any_file", "_bridges", "_patterns", "_rules", "active")

    def __init__(self, rules: ExcludeRules) -> None:
        self._rules = rules
        # A pattern of the command line is never a comment: `--exclude '#*#'` means what it says.
        lines = [f"\\{line}" if line.startswith("#") else line for line in rules.patterns if line.strip()]
        for path in rules.pattern_files:
            lines += _read_patterns(path)
        self._patterns = [_compile(number, line) for number, line in enumerate(lines)]
        self._any_file = _any([pattern for pattern in self._patterns if not pattern.only_directories])
        self._any_directory = _any(self._patterns)
        self._bridges = [bridge for line in lines if (bridge := _bridge(line)) is not None]
        self.active = bool(lines) or rules.larger_than is not None or rules.nodump
        """False: `excludes` always says None, and need not be called."""

    def excludes(self, path: bytes, is_directory: bool, stat: os.stat_result, dir_fd: int | None = None) -> str | None:
        """Why the name stays out of the snapshot, with everything below it; None when it does not.

        `path` is relative to its root and does not contain the root's own name; the root itself is never asked
        about. `dir_fd`, the directory that holds the name, is needed for the nodump flag only.
        """
        if self._patterns and (reason := self._reason(os.fsdecode(path), is_directory)) is not None:
            return reason
        rules = self._rules
        if rules.larger_than is not None and stat.st_size > rules.larger_than and modes.S_ISREG(stat.st_mode):
            return f"larger than {format_bytes(rules.larger_than)}"
        if rules.nodump and dir_fd is not None and nodump(path.rpartition(b"/")[2], dir_fd, stat):
            return "marked nodump"
        return None

    def excludes_content(
        self, fd: int, names: Sequence[bytes], stat: os.stat_result, root_device: int
    ) -> tuple[str, list[bytes]] | None:
        """Why a directory stays in the snapshot without its content, and the names that stay all the same.

        The directory itself stays, so that a restore makes the mount point or the cache directory again; so does
        the file that marks it, so that the next snapshot of what was restored leaves out the same. `fd` and
        `names` are the open directory and what is in it, in any order.
        """
        rules = self._rules
        if rules.one_file_system and stat.st_dev != root_device:
            return "another file system", []
        if rules.caches and _CACHEDIR_TAG in names and cachedir_tag(fd):
            return "a cache directory", [_CACHEDIR_TAG]
        for mark in rules.if_present:
            if mark in names:
                return f"contains {printable(mark)}", [mark]
        return None

    def matches(self, path: bytes, is_directory: bool) -> bool:
        """Whether the patterns alone say that this name, or a directory above it, is meant."""
        return bool(self._patterns) and self._decided(os.fsdecode(path), is_directory) is not None

    def _reason(self, path: str, is_directory: bool) -> str | None:
        if not self._bridges:
            # What is below an excluded directory is not asked about, so the name decides alone.
            of_path, of_name = self._any_directory if is_directory else self._any_file
            if not (of_name and of_name(path.rpartition("/")[2])) and not (of_path and of_path(path)):
                return None
            decision = self._last(path, is_directory)
            if decision is None or decision.negated:
                return None
        else:
            decision = self._decided(path, is_directory)
            if decision is None or (is_directory and self._leads_to_kept(path)):
                return None
        return f"pattern {printable(os.fsencode(decision.line))}"

    def _decided(self, path: str, is_directory: bool) -> _Compiled | None:
        """The pattern that excludes the path or a directory above it, if no later one takes that back."""
        excluding: _Compiled | None = None
        end = path.find("/")
        while True:
            prefix = path if end < 0 else path[:end]
            found = self._last(prefix, is_directory or end >= 0)
            if found is not None and (excluding is None or found.number > excluding.number):
                excluding = None if found.negated else found
            if end < 0:
                return excluding
            end = path.find("/", end + 1)

    def _last(self, path: str, is_directory: bool) -> _Compiled | None:
        """The last pattern that matches exactly this name."""
        name = path.rpartition("/")[2]
        for pattern in reversed(self._patterns):
            if (is_directory or not pattern.only_directories) and pattern.match(name if pattern.of_name else path):
                return pattern
        return None

    def _leads_to_kept(self, path: str) -> bool:
        parts = path.split("/")
        return any(
            len(parts) < len(bridge) and all(map(fnmatchcase, parts, bridge[: len(parts)])) for bridge in self._bridges
        )


@dataclass(frozen=True, slots=True)
class _Compiled:
    number: int
    line: str
    expression: str
    match: _Match
    of_name: bool
    negated: bool
    only_directories: bool


def _compile(number: int, line: str) -> _Compiled:
    try:
        pattern = parse(line)
    except ValueError as error:
        # git skips what it cannot read ("/", "[z-a]"); whoever typed it believes that something is left out.
        raise _meaningless(line) from error
    match = re.compile(pattern.expression, re.DOTALL).fullmatch
    return _Compiled(
        number, line, pattern.expression, match, pattern.of_name, pattern.negated, pattern.only_directories
    )


def _any(patterns: Sequence[_Compiled]) -> tuple[_Match | None, _Match | None]:
    """For paths and for last names: one expression of all patterns that exclude. Most names are done with these."""
    excluding = [pattern for pattern in patterns if not pattern.negated]
    return _either(p for p in excluding if not p.of_name), _either(p for p in excluding if p.of_name)


def _either(patterns: Iterable[_Compiled]) -> _Match | None:
    expression = "|".join(f"(?:{pattern.expression})" for pattern in patterns)
    return re.compile(expression, re.DOTALL).fullmatch if expression else None


def _meaningless(line: str) -> UsageError:
    return UsageError(
        f"not an exclude pattern: {printable(os.fsencode(line))}",
        hints=["patterns are those of gitignore: *.tmp  /cache/  !/cache/keep"],
    )


def _bridge(line: str) -> tuple[str, ...] | None:
    """The components of a negated pattern that spells its whole way from the root; None for any other pattern."""
    if not line.startswith("!"):
        return None
    pattern = line[1:].rstrip("/")
    parts = pattern.lstrip("/").split("/")
    if "/" not in pattern or "**" in parts or "\\" in pattern:
        return None
    return tuple(parts)


def _read_patterns(path: bytes) -> list[str]:
    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError as error:
        raise UsageError(
            f"cannot read the exclude file {printable(path)}", why=os.strerror(error.errno or 0).lower()
        ) from error
    lines = os.fsdecode(content.removeprefix(b"\xef\xbb\xbf")).replace("\r\n", "\n").split("\n")
    return [line for line in lines if line.strip() and not line.startswith("#")]
