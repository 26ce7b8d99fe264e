"""What stays out of a snapshot: gitignore patterns, marks in directories, sizes, other file systems, flags."""

from __future__ import annotations

import os
import re
import stat as modes
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib import import_module
from typing import TYPE_CHECKING, cast

from dedupstore.errors import UsageError
from dedupstore.sources.attributes import cachedir_tag, nodump
from dedupstore.units import format_bytes, printable

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

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

    __slots__ = ("_bridges", "_candidate", "_lines", "_rules", "_spec", "active")

    def __init__(self, rules: ExcludeRules) -> None:
        self._rules = rules
        # A pattern of the command line is never a comment: `--exclude '#*#'` means what it says.
        lines = [f"\\{line}" if line.startswith("#") else line for line in rules.patterns if line.strip()]
        for path in rules.pattern_files:
            lines += _read_patterns(path)
        self._lines = lines
        self._spec = _compile(lines) if lines else None
        self._candidate = _candidate(self._spec) if self._spec is not None else None
        self._bridges = [bridge for line in lines if (bridge := _bridge(line)) is not None]
        self.active = self._spec is not None or rules.larger_than is not None or rules.nodump
        """False: `excludes` always says None, and need not be called."""

    def excludes(self, path: bytes, is_directory: bool, stat: os.stat_result, dir_fd: int | None = None) -> str | None:
        """Why the name stays out of the snapshot, with everything below it; None when it does not.

        `path` is relative to its root and does not contain the root's own name; the root itself is never asked
        about. `dir_fd`, the directory that holds the name, is needed for the nodump flag only.
        """
        if self._spec is not None and (reason := self._matches(self._spec, path, is_directory)) is not None:
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
        """Whether the patterns alone say that this name is meant."""
        return self._spec is not None and self._matches(self._spec, path, is_directory) is not None

    def _matches(self, spec: GitIgnoreSpec, path: bytes, is_directory: bool) -> str | None:
        text = _text(os.fsdecode(path))
        if is_directory:
            text += "/"
        if self._candidate is not None and self._candidate(text) is None:
            return None
        result = spec.check_file(text)
        if not result.include or result.index is None:
            return None
        if is_directory and self._bridges and self._leads_to_kept(text):
            return None
        return f"pattern {printable(os.fsencode(self._lines[result.index]))}"

    def _leads_to_kept(self, text: str) -> bool:
        parts = text.rstrip("/").split("/")
        return any(
            len(parts) < len(bridge) and all(map(fnmatchcase, parts, bridge[: len(parts)])) for bridge in self._bridges
        )


def _text(path: str) -> str:
    # "." and "$" of regular expressions treat a newline as special; NUL, which no name contains, they do not.
    return path.replace("\n", "\0")


def _compile(lines: Sequence[str]) -> GitIgnoreSpec:
    # Loaded only when there are patterns: the library costs more than the rest of a small snapshot's start.
    library = import_module("pathspec")
    patterns = []
    for line in lines:
        try:
            pattern = library.GitIgnoreSpec.from_lines([_text(line)], backend="simple").patterns[0]
        except (ValueError, IndexError, re.error) as error:
            raise _meaningless(line) from error
        # git skips what it cannot read ("/", "[z-a]"); whoever typed it believes that something is left out.
        if pattern.include is None:
            raise _meaningless(line)
        patterns.append(pattern)
    return cast("GitIgnoreSpec", library.GitIgnoreSpec(patterns, backend="simple"))


def _candidate(spec: GitIgnoreSpec) -> Callable[[str], re.Match[str] | None] | None:
    """One expression that matches whatever any excluding pattern matches: most names are done with one call.

    With 50 patterns asking them one by one takes 18 us a name, this 9 us.
    """
    expressions = [pattern.regex.pattern for pattern in spec.patterns if pattern.include and pattern.regex is not None]
    # The patterns' own groups have one name in all of them, which one expression cannot have.
    plain = [re.sub(r"\(\?P<\w+>", "(?:", str(expression)) for expression in expressions]
    try:
        return re.compile("|".join(f"(?:{expression})" for expression in plain)).match if plain else None
    except re.error:
        return None


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
