"""How many requests some work sends to a place where each is paid for."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from dedupstore.errors import DedupError
from dedupstore.storage.base import requests_of
from dedupstore.storage.registry import open_store


def counted(url: str) -> Callable[[], Mapping[str, int]]:
    """Call what this gives for the requests sent to `url` by this process since now, by kind; none for a directory."""
    try:
        store = open_store(url)
    except DedupError:
        # Whoever opens it for the work itself says what is wrong with it.
        return dict
    before = requests_of(store)

    def since() -> Mapping[str, int]:
        now = requests_of(store)
        return {kind: now[kind] - before.get(kind, 0) for kind in sorted(now) if now[kind] > before.get(kind, 0)}

    return since
