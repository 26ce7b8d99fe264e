"""Whether two places where repositories lie are one, and what a place was like before."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta

from dedupstore.errors import Refused, UsageError
from dedupstore.storage.base import place_of
from dedupstore.storage.options import NO_OPTIONS as NO_OPTIONS
from dedupstore.storage.options import StoreOptions as StoreOptions
from dedupstore.storage.registry import open_store

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def in_past(url: str, past_ns: int) -> str:
    """The URL of the same storage as it was then. Raises UsageError for one that keeps no versions at all."""
    scheme, mark, _ = url.partition("://")
    if not mark or scheme.lower() == "file":
        raise UsageError(
            f"{url} does not keep its past",
            why="--at-store-time needs a bucket that keeps versions",
            hints=["snapshots of that time: dedup snapshots, dedup restore --at TIME"],
            code="usage.no_past",
        )
    moment = (_EPOCH + timedelta(microseconds=past_ns // 1000)).replace(tzinfo=None).isoformat()
    return f"{url}{'&' if '?' in url else '?'}at-store-time={moment}Z"


def require_apart(source_url: str, target_url: str) -> tuple[str, str]:
    """Both places as a user would type them, free of secrets. Raises Refused when they are one, or one in the other."""
    names, places = [], []
    for url in (source_url, target_url):
        store = open_store(url)
        names.append(store.url)
        places.append(place_of(store))
        store.close()
    source, target = (os.path.realpath(place) if place.startswith("/") else place for place in places)
    if source == target or source.startswith(f"{target}/") or target.startswith(f"{source}/"):
        raise Refused(
            "a repository is not copied into itself",
            why=f"{names[0]} and {names[1]} are one place",
            hints=["name another place after --to"],
            code="copy.same_place",
        )
    return names[0], names[1]
