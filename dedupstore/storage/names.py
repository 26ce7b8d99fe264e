"""Which texts are object keys: the one check every store applies before it touches anything."""

from __future__ import annotations

import re

from dedupstore.errors import StoreError

TEMPORARY = "tmp"
"""The folder of unfinished puts on disk; reserved in every store so that keys mean the same everywhere."""

LARGEST_KEY = 512

# No component starts with a dot: that excludes `.`, `..` and what file systems and tools leave behind.
_COMPONENT = r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}"
_NAME = re.compile(_COMPONENT)
_KEY = re.compile(f"{_COMPONENT}(?:/{_COMPONENT})*")


def is_name(component: str) -> bool:
    """Whether `component` may stand between two slashes of a key."""
    return _NAME.fullmatch(component) is not None


def check_key(key: str) -> None:
    """Raise `StoreError` unless `key` names an object: it must never lead out of the store or into `tmp/`."""
    if len(key) > LARGEST_KEY or _KEY.fullmatch(key) is None or key.partition("/")[0] == TEMPORARY:
        raise StoreError(f"not an object key: {key[:80]!r}", code="store.bad_key")


def check_prefix(prefix: str) -> None:
    """Raise `StoreError` unless `prefix` is empty or a key followed by a slash."""
    if prefix:
        if not prefix.endswith("/"):
            raise StoreError(f"not a listing prefix: {prefix[:80]!r}", code="store.bad_key")
        check_key(prefix[:-1])
