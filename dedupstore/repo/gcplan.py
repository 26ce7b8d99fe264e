"""Condemnation plans (`gc/plan-<id>`) and what became of them (`gc/done-<id>`).

A plan is irrevocable: from the moment it is listed, no writer counts on its packs. The writer protocol
reads plans; `prune` writes them. A done record names packs that were deleted on purpose, or forgotten snapshots whose
time to be brought back is over: whoever misses one knows that it was pruned, and is neither lost nor withheld.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from dedupstore.codec.claims import ObjectType
from dedupstore.codec.crypto import random_bytes
from dedupstore.errors import CorruptObject, IntegrityError, ObjectNotFound, RepositoryTooNew
from dedupstore.model.wire import Value, pack, unpack_map
from dedupstore.repo import layout
from dedupstore.repo.keyring import KeyRing
from dedupstore.storage.base import ObjectStore
from dedupstore.types import PackId, SnapshotId

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """Packs that a plan condemned and that are gone. The same plan may be reported done more than once.

    `roots`: snapshots that were forgotten, and whose roots are gone as well.
    """

    packs: tuple[PackId, ...]
    creator: str
    time_ns: int
    roots: tuple[SnapshotId, ...] = ()

    def encode(self) -> bytes:
        row: dict[str, Value] = {"creator": self.creator, "packs": list(self.packs)}
        if self.roots:
            # Left out where there are none, as in all records from before.
            row["roots"] = list(self.roots)
        return pack(row | {"time": self.time_ns, "v": VERSION})

    @classmethod
    def decode(cls, data: bytes) -> Done:
        row = unpack_map(data)
        if row.get("v") != VERSION:
            raise RepositoryTooNew("a record of a prune has an unknown version")
        match row:
            case {"creator": str(creator), "packs": list(packs), "time": int(time_ns)}:
                roots = row.get("roots", [])
                if not isinstance(roots, list):
                    raise CorruptObject("a record of a prune is malformed")
                return cls(
                    packs=tuple(PackId(item) for item in _all_sized(packs, 32)),
                    creator=creator,
                    time_ns=time_ns,
                    roots=tuple(SnapshotId(item) for item in _all_sized(roots, 16)),
                )
        raise CorruptObject("a record of a prune is malformed")


def read_plans(store: ObjectStore, keyring: KeyRing, keys: Iterable[str]) -> dict[str, Plan]:
    """Every listed plan that is still there, by key. An unreadable plan is an error: it may condemn anything."""
    plans: dict[str, Plan] = {}
    gone: set[str] = set()
    for key in keys:
        if layout.parse_gc_key(key)[0] != "plan":
            continue
        try:
            sealed = store.get(key)
        except ObjectNotFound:
            # Executed and removed between the listing and now: its packs are missing from the pack listing,
            # which is taken later, and count as lost there.
            gone.add(key)
            continue
        plans[key] = Plan.decode(keyring.open(ObjectType.PLAN, key, sealed))
    if gone and (still := gone & {row.key for row in layout.list_complete(store, layout.GC)}):
        # One answer is no proof of absence: its packs would count as safe.
        raise CorruptObject(f"{min(still)} is listed and cannot be read", why="the storage says that it is not there")
    return plans


def read_pruned(store: ObjectStore, keyring: KeyRing, keys: Iterable[str]) -> frozenset[PackId]:
    """The packs that listed records say were deleted on purpose. What a damaged record says is not known."""
    return frozenset(pack for done in _read_done(store, keyring, keys) for pack in done.packs)


def read_expired(store: ObjectStore, keyring: KeyRing, keys: Iterable[str]) -> frozenset[SnapshotId]:
    """The forgotten snapshots that listed records say are gone for good."""
    return frozenset(root for done in _read_done(store, keyring, keys) for root in done.roots)


def _read_done(store: ObjectStore, keyring: KeyRing, keys: Iterable[str]) -> Iterator[Done]:
    for key in keys:
        if layout.parse_gc_key(key)[0] != "done":
            continue
        try:
            yield Done.decode(keyring.open(ObjectType.DONE, key, store.get(key)))
        except (ObjectNotFound, IntegrityError, RepositoryTooNew):
            # What it names counts as lost then: that costs time and alarms, never data.
            continue


def put_plan(store: ObjectStore, keyring: KeyRing, plan: Plan) -> str:
    """M4: from here on nobody may count on these packs, and nothing takes that back. The plan's key."""
    key = layout.plan_key(random_bytes(16))
    store.put(key, [keyring.seal(ObjectType.PLAN, key, plan.encode())])
    store.barrier()
    return key


def put_done(store: ObjectStore, keyring: KeyRing, done: Done) -> str:
    """First half of E7. Under a random name: two sweepers that finish one plan write two records."""
    key = layout.done_key(random_bytes(16))
    store.put(key, [keyring.seal(ObjectType.DONE, key, done.encode())])
    store.barrier()
    return key


def read_condemned(store: ObjectStore, keyring: KeyRing, keys: Iterable[str]) -> frozenset[PackId]:
    """The packs condemned by any of the listed plans. An unreadable plan is an error: it may condemn anything."""
    return frozenset(pack for plan in read_plans(store, keyring, keys).values() for pack in plan.packs)


def _all_sized(items: list[Value], size: int) -> list[bytes]:
    found: list[bytes] = []
    for item in items:
        if not isinstance(item, bytes) or len(item) != size:
            raise CorruptObject("a prune plan is malformed")
        found.append(item)
    return found
