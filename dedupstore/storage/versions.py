"""What a store can do that keeps every version of an object and can lock it: for whom it is more than the contract asks.

Objects of this program are written once. A second version of one, or a marker that hides it, is somebody else's doing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from dedupstore.storage.base import ObjectStore, trait_of
from dedupstore.types import Span


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """One version of an object, or a marker that says it is deleted."""

    key: str
    id: str
    """Opaque."""

    size: int
    modified_ns: int
    newest: bool
    marker: bool


COMPLIANCE = "COMPLIANCE"
"""The mode of a lock that nobody can lift or shorten, the owner of the bucket included."""


class Lock(NamedTuple):
    """Until when nobody can delete a version, in nanoseconds since the epoch, and what the server calls that, if anything."""

    until_ns: int
    mode: str

    @property
    def stands(self) -> bool:
        """Whether it holds until its end, whatever anybody does: others can be lifted."""
        return self.mode == COMPLIANCE


class Versions(Protocol):
    """The versions of a store's objects. Errors are those of the store; safe to call from many threads."""

    def can_lock(self) -> bool:
        """Whether versions can be locked here. One request."""
        ...

    def all_of(self, prefix: str) -> Iterator[Version]:
        """Every version and every marker below `prefix`, which may also be a whole key: by key, the newest first."""
        ...

    def read(self, version: Version, span: Span | None = None) -> bytes:
        """As the store's `get`, of that version."""
        ...

    def lock_of(self, version: Version) -> Lock | None:
        """The lock of a version, in force or over; None: it has none. One request."""
        ...

    def lock(self, version: Version, lock: Lock) -> None:
        """Lock it until then. Nobody can make that shorter again."""
        ...


def versions_of(store: ObjectStore) -> Versions | None:
    """The versions of what the store, or one around it, keeps; None where there is no such thing."""
    found: Versions | None = trait_of(store, "versions", None)
    return found
