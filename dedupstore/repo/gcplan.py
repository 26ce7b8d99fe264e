"""Condemnation plans (`gc/plan-<id>`): which packs are about to be deleted.

A plan is irrevocable: from the moment it is listed, no writer counts on its packs. The writer protocol
reads plans; `prune` writes them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from dedupstore.codec.crypto import ObjectType
from dedupstore.errors import CorruptObject, ObjectNotFound, RepositoryTooNew
from dedupstore.model.wire import Value, pack, unpack_map
from dedupstore.repo import layout
from dedupstore.repo.keys import KeyRing
from dedupstore.storage.base import ObjectStore
from dedupstore.types import PackId

VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Packs condemned together, and the roots that were marked when they were chosen."""

    packs: tuple[PackId, ...]
    roots: tuple[bytes, ...]
    creator: str
    time_ns: int

    def encode(self) -> bytes:
        return pack(
            {
                "creator": self.creator,
                "packs": list(self.packs),
                "roots": list(self.roots),
                "time": self.time_ns,
                "v": VERSION,
            }
        )

    @classmethod
    def decode(cls, data: bytes) -> Plan:
        row = unpack_map(data)
        if row.get("v") != VERSION:
            raise RepositoryTooNew("a prune plan has an unknown version")
        match row:
            case {"creator": str(creator), "packs": list(packs), "roots": list(roots), "time": int(time_ns)}:
                return cls(
                    packs=tuple(PackId(item) for item in _all_sized(packs, 32)),
                    roots=tuple(_all_sized(roots, 16)),
                    creator=creator,
                    time_ns=time_ns,
                )
        raise CorruptObject("a prune plan is malformed")


def read_condemned(store: ObjectStore, keyring: KeyRing, keys: Iterable[str]) -> frozenset[PackId]:
    """The packs condemned by any of the listed plans. An unreadable plan is an error: it may condemn anything."""
    condemned: set[PackId] = set()
    for key in keys:
        if layout.parse_gc_key(key)[0] != "plan":
            continue
        try:
            sealed = store.get(key)
        except ObjectNotFound:
            # Executed and removed between the listing and now: its packs are missing from the pack listing,
            # which is taken later, and count as lost there.
            continue
        condemned.update(Plan.decode(keyring.open(ObjectType.PLAN, key, sealed)).packs)
    return frozenset(condemned)


def _all_sized(items: list[Value], size: int) -> list[bytes]:
    found: list[bytes] = []
    for item in items:
        if not isinstance(item, bytes) or len(item) != size:
            raise CorruptObject("a prune plan is malformed")
        found.append(item)
    return found
