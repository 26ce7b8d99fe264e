"""Whether two places where repositories lie are one."""

from __future__ import annotations

import os

from dedupstore.errors import Refused
from dedupstore.storage.base import place_of
from dedupstore.storage.registry import open_store


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
