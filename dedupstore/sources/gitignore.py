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
    segments = text.split("/")
    parts: list[str] = []
    for number, segment in enumerate(segments):
        last = number == len(segments) - 1
        if len(segment) >= 2 and not segment.strip("*"):
            parts.append(".*" if last else "(?:.*/)?")
        else:
            parts.append(_segment(segment) + ("" if last else "/"))
    return "".join(parts)


def _segment(text: str) -> str:
    parts: list[str] = []
    position = 0
    while position < len(text):
        character = text[position]
        position += 1
        if character == "*":
            if parts[-1:] != ["[^/]*"]:
                parts.append("[^/]*")
        elif character == "?":
            parts.append("[^/]")
        elif character == "[":
            part, position = _bracket(text, position)
            parts.append(part)
        elif character == "\\":
            if position == len(text):
                raise ValueError(text)
            parts.append(re.escape(text[position]))
            position += 1
        else:
            parts.append(re.escape(character))
    return "".join(parts)


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
