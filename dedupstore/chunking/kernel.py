"""Which implementation of the cut rule is in use: the C kernel, or the reference without it."""

from __future__ import annotations

import os
from typing import Literal, Protocol

from dedupstore.chunking import reference
from dedupstore.chunking.params import CutRule
from dedupstore.types import Data

try:
    from dedupstore.chunking import _gear
except ImportError:  # built without a compiler
    _HAVE_KERNEL = False
else:
    _HAVE_KERNEL = True

Implementation = Literal["c", "python"]


class Gear(Protocol):
    """A gear table ready to cut. Two implementations, one specification: reference.py."""

    def cuts(self, buffer: Data, length: int, rule: CutRule, final: bool, /) -> list[int]:
        """The end of every chunk in the first `length` bytes; safe to call from many threads at once."""

    def cuts_of_all(self, streams: tuple[bytes, ...], rule: CutRule, /) -> list[list[int]]:
        """The cuts of each of many streams that are whole, with one release of the GIL."""


def implementation() -> Implementation:
    """`c` if the kernel was built, unless DEDUP_CHUNKER=python asks for the reference."""
    return "c" if _HAVE_KERNEL and os.environ.get("DEDUP_CHUNKER") != "python" else "python"


def gear(table: bytes) -> Gear:
    return _gear.Gear(table) if implementation() == "c" else reference.Gear(table)
