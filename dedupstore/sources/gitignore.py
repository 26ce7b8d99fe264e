"""The pattern language of .gitignore, as git reads it: one pattern to one regular expression."""

from __future__ import annotations

import re
from dataclasses import dataclass

_CLASSES = {
    "alnum": "0-9A-Za-z",
    "alpha": "A-Za-z",
    "blank": " \\t",
    "cntrl": "\\x00-\\x1f\\x7f",
    "digit": "0-9",
    "graph": "!-~",
    "lower": "a-z",
    "print": " -~",
    "punct": "!-/:-@\\[-`{-~",
    "space": " \\t\\n\\r\\x0b\\x0c",
    "upper": "A-Z",
    "xdigit": "0-9A-Fa-f",
}


@dataclass(frozen=True, slots=True)
class Pattern:
    """What one line means."""

    expression: str
    """Matches, with `fullmatch` and DOTALL, what is meant, and not what is below it."""
    of_name: bool
    """The expression is for the last name of a path; otherwise for the path relative to the root."""
    negated: bool
    only_directories: bool


def parse(line: str) -> Pattern:
    """The meaning of a line that is neither empty nor a comment. Raises ValueError for what git would skip.

    The same as git, but for `?` and `[…]`, which stand for one character, and not for one byte of it.
    """
    text = line
    while text.endswith(" ") and not _escaped(text, len(text) - 1):
        text = text[:-1]
    negated = text.startswith("!")
    text = text.removeprefix("!")
    only_directories = text.endswith("/")
    text = text.removesuffix("/")
    if not text:
        raise ValueError(line)
    if "/" not in text:
        # A name alone is one at any depth, and in a name two stars are as good as one.
        return Pattern(_segment(text), True, negated, only_directories)
    return Pattern(_path(text.removeprefix("/")), False, negated, only_directories)


def _escaped(text: str, position: int) -> bool:
    before = text[:position]
    return (len(before) - len(before.rstrip("\\"))) % 2 == 1


def _path(text: str) -> str:
    """Between two `**` stand names that are looked for where they come first: if they fit there, nothing fits better later."""
    pieces: list[list[str]] = [[]]
    for segment in text.split("/"):
        if len(segment) >= 2 and not segment.strip("*"):
            pieces.append([])
        else:
            pieces[-1].append(_segment(segment))
    first, *rest = pieces
    if not rest:
        return "/".join(first)
    *middle, last = rest
    parts = ["".join(f"{segment}/" for segment in first)]
    parts += [f"(?>(?:[^/]*/)*?{''.join(f'{segment}/' for segment in piece)})" for piece in middle if piece]
    parts.append(f"(?:.*/)?{'/'.join(last)}" if last else ".*")
    return "".join(parts)


def _segment(text: str) -> str:
    """One name. What stands between two stars is looked for where it comes first, and not again: names are anyone's choice, and
    trying every place for each of several stars would take for ever.
    """
    pieces: list[list[str]] = [[]]
    position = 0
    while position < len(text):
        character = text[position]
        position += 1
        if character == "*":
            if pieces[-1] or len(pieces) == 1:
                pieces.append([])
        elif character == "?":
            pieces[-1].append("[^/]")
        elif character == "[":
            part, position = _bracket(text, position)
            pieces[-1].append(part)
        elif character == "\\":
            if position == len(text):
                raise ValueError(text)
            pieces[-1].append(re.escape(text[position]))
            position += 1
        else:
            pieces[-1].append(re.escape(character))
    first, *rest = map("".join, pieces)
    if not rest:
        return first
    *middle, last = rest
    return first + "".join(f"(?>[^/]*?{piece})" for piece in middle) + f"[^/]*{last}"


def _bracket(text: str, position: int) -> tuple[str, int]:
    """What stands between brackets, as an expression, and where the text goes on. `position`: behind the first one."""
    inverted = text[position : position + 1] in ("!", "^")
    position += inverted
    start = position
    items: list[str] = []
    while True:
        if text.startswith("]", position) and position > start:
            # A slash separates names; no bracket takes it for a part of one.
            return f"(?!/)[{'^' if inverted else ''}{''.join(items)}]", position + 1
        if text.startswith("[:", position):
            end = text.find(":]", position + 2)
            if end < 0:
                raise ValueError(text)
            items.append(_class(text[position + 2 : end]))
            position = end + 2
            continue
        first, position = _member(text, position)
        if text.startswith("-", position) and text[position + 1 : position + 2] not in ("", "]"):
            last, position = _member(text, position + 1)
            if last < first:
                raise ValueError(text)
            items.append(f"{re.escape(first)}-{re.escape(last)}")
        else:
            items.append(re.escape(first))


def _member(text: str, position: int) -> tuple[str, int]:
    if text.startswith("\\", position):
        position += 1
    if position >= len(text):
        raise ValueError(text)
    return text[position], position + 1


def _class(name: str) -> str:
    if name not in _CLASSES:
        raise ValueError(name)
    return _CLASSES[name]
