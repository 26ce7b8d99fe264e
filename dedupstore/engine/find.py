"""Searching the table of paths by pattern.

Every path ever seen lies in blocks of text; one regular expression runs over each, and only what it hits is looked up.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from dedupstore.cancel import CancelToken
from dedupstore.engine.versions import Seen, Timeline
from dedupstore.errors import UsageError
from dedupstore.repo.lmdb_versions import VersionTable
from dedupstore.repo.versions import Version


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is searched for; empty fields say nothing. Times and sizes are those of the file, bounds included."""

    pattern: str
    regex: bool = False
    ignore_case: bool = False
    kinds: frozenset[str] = frozenset()
    newer_ns: int | None = None
    older_ns: int | None = None
    larger: int | None = None
    smaller: int | None = None

    def accepts(self, version: Version) -> bool:
        return (
            (not self.kinds or version.kind in self.kinds)
            and (self.newer_ns is None or version.mtime >= self.newer_ns)
            and (self.older_ns is None or version.mtime <= self.older_ns)
            and (self.larger is None or version.size >= self.larger)
            and (self.smaller is None or version.size <= self.smaller)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A path that matches. `seen`: its newest version that is accepted; `versions`: how many are."""

    path: bytes
    seen: Seen
    versions: int


def find(table: VersionTable, timeline: Timeline, wanted: Wanted, cancel: CancelToken) -> Iterator[Found]:
    """Paths of which some version is accepted, in the order in which they were first seen."""
    matches, literal = compiled(wanted), _literal(wanted)
    for block in table.names():
        cancel.check()
        if not _may_hold(block, literal, wanted):
            continue
        text = block.decode("utf-8", "surrogateescape")
        for path, seen in timeline.versions(_paths(wanted, matches, text)):
            accepted = [one for one in seen if wanted.accepts(one.version)]
            if accepted:
                newest = max(accepted, key=lambda one: one.last.time_ns)
                yield Found(path=path, seen=newest, versions=len(accepted))


def compiled(wanted: Wanted) -> re.Pattern[str]:
    """Matches in `NUL path NUL path NUL`, from the NUL or `/` before what it is about. Raises UsageError.

    A pattern without `/` is about the last name; with one, about the whole path from the top. `*` and `?` stop at a
    `/`, `**` does not. A regular expression may match anywhere in the path.
    """
    if "\0" in wanted.pattern:
        raise UsageError("a name contains no NUL")
    try:
        return re.compile(_expression(wanted), re.IGNORECASE if wanted.ignore_case else re.NOFLAG)
    except re.error as exc:
        noun = "regular expression" if wanted.regex else "pattern"
        raise UsageError(f"not a {noun}: {wanted.pattern!r}", why=str(exc)) from exc


def _expression(wanted: Wanted) -> str:
    if wanted.regex:
        return wanted.pattern
    start = "\0" if "/" in wanted.pattern else "[\0/]"
    return f"{start}{_translate(wanted.pattern.strip('/'))}(?=\0)"


def _paths(wanted: Wanted, matches: re.Pattern[str], text: str) -> Iterator[bytes]:
    """The paths in a block that match, each once."""
    if wanted.regex:
        for path in text.split("\0"):
            if path and matches.search(path):
                yield path.encode("utf-8", "surrogateescape")
        return
    for match in matches.finditer(text):
        start = text.rfind("\0", 0, match.start() + 1) + 1
        yield text[start : match.end()].encode("utf-8", "surrogateescape")


def _literal(wanted: Wanted) -> bytes:
    """Bytes that every path that matches contains; empty when that cannot be told."""
    if wanted.regex:
        return b""
    pieces = re.split(r"[*?]|\[.*", wanted.pattern.strip("/"), flags=re.DOTALL)
    return max(pieces, key=len).strip("/").encode("utf-8", "surrogateescape")


def _may_hold(block: bytes, literal: bytes, wanted: Wanted) -> bool:
    """Most blocks do not hold a rare name, and searching for bytes is ten times faster than for an expression."""
    if not wanted.ignore_case:
        return literal in block
    # Some letters beyond ASCII are, but for their case, letters of it.
    return not (block.isascii() and literal.isascii()) or literal.lower() in block.lower()


def _translate(pattern: str) -> str:
    """A glob as a regular expression that never leaves the path it began in."""
    parts: list[str] = []
    at = 0
    while at < len(pattern):
        letter = pattern[at]
        at += 1
        if letter == "*":
            if pattern[at : at + 1] == "*":
                at += 1
                if pattern[at : at + 1] == "/":
                    # `a/**/b` is also `a/b`.
                    at += 1
                    parts.append("(?:[^\0]*/)?")
                else:
                    parts.append("[^\0]*")
            else:
                parts.append("[^/\0]*")
        elif letter == "?":
            parts.append("[^/\0]")
        elif letter == "[" and (end := _set_end(pattern, at)) > 0:
            parts.append(_set(pattern[at:end]))
            at = end + 1
        else:
            parts.append(re.escape(letter))
    return "".join(parts)


def _set_end(pattern: str, at: int) -> int:
    """Where the `]` of a set is; -1 when there is none, and the `[` is only a letter."""
    first = at + (pattern[at : at + 1] in ("!", "^"))
    return pattern.find("]", first + 1)


def _set(inside: str) -> str:
    negated = inside[:1] in ("!", "^")
    letters = inside[1:] if negated else inside
    escaped = re.sub(r"([\\\[\]^&~|])", r"\\\1", letters)
    return f"(?![/\0])[{'^' if negated else ''}{escaped}]"
