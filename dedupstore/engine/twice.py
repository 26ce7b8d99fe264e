"""A second try for what storage did not give."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from dedupstore.errors import IntegrityError, StoreError, StoreGone

T = TypeVar("T")


def twice(work: Callable[[], T]) -> T:
    """Do it, and once more when it fails: what a flaky line or a bad cable did is no damage of the repository."""
    try:
        return work()
    except StoreGone:
        raise
    except (IntegrityError, StoreError):
        return work()
