"""What a page of a directory refers to, for who asks for no more of its entries than that.

A walk that looks for damage needs the chunks and the subdirectories, and that every entry is as it must be. In C that
costs 0.3 us an entry in place of 6 (docs/decisions/0021).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias, cast

from dedupstore.errors import DedupError
from dedupstore.model.entry import FILE
from dedupstore.model.tree import decode_page
from dedupstore.types import ChunkId

try:
    from dedupstore.model import _survey
except ImportError:  # built without a compiler
    _HAVE_KERNEL = False
else:
    _HAVE_KERNEL = True

Survey: TypeAlias = "tuple[bytes, bytes, int, list[tuple[ChunkId, int]], list[ChunkId]]"
"""First and last name, how many entries are files, their chunks with the lengths, the subdirectories; in order."""


def survey_in_python(page: bytes, /) -> Survey | None:
    """The survey of a manifest that is one sound page of a directory, else None.

    None as well for a file with a paged content list: what it refers to, the page does not say.
    """
    names = [b""]
    files = 0
    chunks: list[tuple[ChunkId, int]] = []
    trees: list[ChunkId] = []
    try:
        for entry in decode_page(page):
            if entry.name <= names[-1] or entry.pages is not None:
                return None
            names.append(entry.name)
            if entry.kind == FILE:
                files += 1
                chunks.extend(entry.inline_references())
            elif entry.tree is not None:
                trees.append(entry.tree)
    except DedupError:
        return None
    return (names[1] if len(names) > 1 else b"", names[-1], files, chunks, trees)


survey: Callable[[bytes], Survey | None]
if _HAVE_KERNEL:
    survey = cast("Callable[[bytes], Survey | None]", _survey.survey)
else:
    survey = survey_in_python
