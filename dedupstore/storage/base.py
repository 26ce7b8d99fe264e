"""The contract of an object store, written for the person implementing one.

Keys are lowercase ASCII paths (`packs/7f/…`). Objects are created once and never overwritten by this
program. An implementation is safe to call from many threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from dedupstore.types import Data, Span


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """One row of a listing: full key, size in bytes, and when the store says it was written."""

    key: str
    size: int
    modified_ns: int = field(default=0, compare=False)
    """Nanoseconds since the epoch by the store's clock; 0 where it does not say. Good for courtesy, never for safety."""


class ObjectStore(Protocol):
    """Durable objects under opaque keys.

    Errors: `ObjectNotFound` for a key that is not there, `StoreFull`, `StoreReadOnly`, and
    `StoreError(transient=…)` for everything else. Nothing else may escape.
    """

    @property
    def url(self) -> str:
        """What a user would type to name this store; free of secrets."""
        ...

    def put(self, key: str, parts: Sequence[Data]) -> None:
        """Create the object from the concatenation of `parts`: all of it or nothing, never a part of it.

        Its bytes are durable when this returns; its *name* is durable after the next `barrier()`.
        A second put of one key may replace it or keep the first (callers only ever repeat identical bytes).
        """
        ...

    def get(self, key: str, span: Span | None = None) -> bytes:
        """The whole object, or exactly the bytes of `span`; a span past the end is a `StoreError`."""
        ...

    def head(self, key: str) -> int:
        """The object's size in bytes."""
        ...

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Every object whose key starts with `prefix`, sorted by key; complete or an error.

        `prefix` ends in `/` or is empty. Temporary files of unfinished puts are not objects.
        """
        ...

    def delete(self, key: str) -> None:
        """Remove the object; removing what is not there is no error."""
        ...

    def barrier(self) -> None:
        """Return once everything put before is durable and visible to `get` and `list` from any host."""
        ...

    def close(self) -> None: ...


@runtime_checkable
class PieceStore(Protocol):
    """What a store can do that need not hold an object whole: for whom copies many of them, more than the contract asks.

    Errors are those of the store.
    """

    def get_pieces(self, key: str) -> Iterator[memoryview]:
        """The object from its beginning to its end. A piece is good only until the next one is asked for."""
        ...

    def put_pieces(self, key: str, read: Callable[[], Iterable[Data]]) -> None:
        """As `put`, of the pieces that `read` gives; when a sync of the disk fails it is asked for all of them again.

        What `read` raises passes through unchanged, and then there is no object: so a last look at the whole may refuse it.
        """
        ...


def listing_delay_seconds(store: ObjectStore) -> float:
    """How long a listing of this store may lag behind a put or a delete; 0 where there is no such thing."""
    return float(trait_of(store, "listing_delay_seconds", 0.0))


def is_remote(store: ObjectStore) -> bool:
    """Whether every request takes a way over a network, and perhaps money: then what never changes is kept here."""
    return bool(trait_of(store, "remote", False))


def place_of(store: ObjectStore) -> str:
    """Where the objects are: the same text for every URL of one place, and a beginning of those of all places in it."""
    return str(trait_of(store, "place", store.url))


def expansion_of(store: ObjectStore) -> str:
    """The URL with everything said that a shorter one leaves to be known; empty where there is nothing to add."""
    return str(trait_of(store, "expansion", ""))


def requests_of(store: ObjectStore) -> Mapping[str, int]:
    """Requests that were sent for this store so far, by kind; none where no request costs anything."""
    count = trait_of(store, "requests", dict)
    return dict(count())


def shows_past(store: ObjectStore) -> bool:
    """Whether what it shows is known to be an earlier state, which nobody should take for a storage put back in secret."""
    return trait_of(store, "past_ns", None) is not None


def trait_of(store: ObjectStore, name: str, default: Any) -> Any:
    """What the store, or the innermost of those around it, says of itself beyond the contract."""
    while True:
        found = getattr(store, name, None)
        if found is not None:
            return found
        inner = getattr(store, "inner", None)
        if inner is None:
            return default
        store = inner
