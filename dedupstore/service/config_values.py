"""The kinds of values that tables of the configuration are made of: sizes, rates, durations, paths, commands."""

from __future__ import annotations

import re
from importlib import import_module
from typing import NewType

from dedupstore.errors import UsageError
from dedupstore.service.config_kinds import Flag, Kind, Secret, Several, Text
from dedupstore.units import parse_size

Nanoseconds = NewType("Nanoseconds", int)
Rate = NewType("Rate", int)
"""Bytes per second."""


def _as_given(text: str) -> str:
    return text


def _duration(text: str) -> Nanoseconds:
    # Loaded only when there is one to be read: its module brings the time zones.
    return Nanoseconds(import_module("dedupstore.policy.timespec").parse_duration(text))


def parse_rate(text: str) -> Rate:
    """From `20MB/s` or `20MB`. Raises UsageError."""
    rate = parse_size(text.removesuffix("/s"))
    if rate < 1:
        raise UsageError("a rate is at least one byte a second", hints=["leave it out for no limit"])
    return Rate(rate)


def _span(text: str) -> str:
    import_module("dedupstore.policy.retention").parse_span(text)
    return text


def _percent(text: str) -> float:
    match = re.fullmatch(r"(\d{1,5}(?:\.\d{1,3})?)\s*%", text)
    if match is None:
        raise UsageError("this has to be a share, as in 80%")
    return float(match[1]) / 100


def _whole_path(text: str) -> str:
    if not text.startswith(("/", "~")) or "\0" in text:
        raise UsageError("this has to be a whole path", hints=["begin it with / or ~"])
    return text


def _file_name(text: str) -> str:
    if "/" in text or text in (".", "..") or "\0" in text:
        raise UsageError("this has to be a plain file name")
    return text


TEXT: Kind[str] = Text(_as_given, "text")
FLAG = Flag()
SECRET = Secret()
SIZE: Kind[int] = Text(parse_size, 'a size in quotes, as in "500MB"')
RATE: Kind[Rate] = Text(parse_rate, 'a rate in quotes, as in "20MB/s"')
DURATION: Kind[Nanoseconds] = Text(_duration, 'a duration in quotes, as in "90m", "36h" or "14d"')
SPAN: Kind[str] = Text(_span, 'a span in quotes, as in "14d", "6m" (months) or "1y"')
PERCENT: Kind[float] = Text(_percent, 'a share in quotes, as in "80%"', r"^\d{1,5}(\.\d{1,3})?\s*%$")
PATH: Kind[str] = Text(_whole_path, "a path", "^[/~]")
FILE_NAME: Kind[str] = Text(_file_name, "a file name")
ADDRESS: Kind[str] = Text(_as_given, "an address")
"""Where a message goes; may hold a token, so it is not shown as a whole."""

ADDRESSES: Kind[tuple[str, ...]] = Several(ADDRESS)
TEXTS: Kind[tuple[str, ...]] = Several(TEXT)
PATHS: Kind[tuple[str, ...]] = Several(PATH)
COMMAND: Kind[tuple[str, ...]] = Several(
    TEXT, least=1, form='an array of words, as in ["pg_dump", "blog"]; it is not given to a shell'
)
