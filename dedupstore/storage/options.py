"""What a user may ask of a store besides where it is: limits, a storage class, locks."""

from __future__ import annotations

from dataclasses import dataclass

from dedupstore.storage.throttle import Pace


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreOptions:
    """`upload` and `download` are shared by every store that is opened with these options."""

    upload: Pace | None = None
    download: Pace | None = None
    storage_class: str = ""
    object_lock_ns: int = 0
    """For so long after it was put nobody can delete an object; 0: the bucket decides."""


NO_OPTIONS = StoreOptions()
