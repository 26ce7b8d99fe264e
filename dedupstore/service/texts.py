"""Words of a user that go into a record: text, not bytes in disguise."""

from __future__ import annotations

import os

from dedupstore.errors import UsageError
from dedupstore.units import printable


def require_text(*texts: str) -> None:
    """Raise UsageError for half letters, which stand for bytes that are no UTF-8: a record holds text."""
    for text in texts:
        if any("\ud800" <= letter <= "\udfff" for letter in text):
            raise UsageError(
                f"not UTF-8 text: {printable(os.fsencode(text))!r}", hints=["check the terminal's encoding"]
            )
