"""Forget markers (`forgotten/<id>`): a copy of a snapshot's record, and when it was given up.

A forgotten snapshot has a marker and no commit. Its root stays a root, and all its chunks stay, until a prune finds the
marker older than the undo window.
"""

from __future__ import annotations

from dataclasses import dataclass

from dedupstore.codec.claims import ObjectType
from dedupstore.errors import CorruptObject, RepositoryTooNew
from dedupstore.model.wire import pack, unpack_map
from dedupstore.repo import layout
from dedupstore.repo.keyring import KeyRing
from dedupstore.storage.base import ObjectStore
from dedupstore.types import SnapshotId

VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Forgotten:
    """`record` is the plaintext of the snapshot's record; empty when that could not be read any more."""

    record: bytes
    time_ns: int

    def encode(self) -> bytes:
        return pack({"record": self.record, "time": self.time_ns, "v": VERSION})

    @classmethod
    def decode(cls, data: bytes) -> Forgotten:
        row = unpack_map(data)
        if row.get("v") != VERSION:
            raise RepositoryTooNew("a forget marker has an unknown version")
        match row:
            case {"record": bytes(record), "time": int(time_ns)}:
                return cls(record=record, time_ns=time_ns)
        raise CorruptObject("a forget marker is malformed")


def put_forgotten(store: ObjectStore, keyring: KeyRing, identifier: SnapshotId, marker: Forgotten) -> None:
    """Durable when this returns. Putting it again changes nothing that matters."""
    key = layout.forgotten_key(identifier)
    store.put(key, [keyring.seal(ObjectType.FORGOTTEN, key, marker.encode())])
    store.barrier()


def get_forgotten(store: ObjectStore, keyring: KeyRing, identifier: SnapshotId) -> Forgotten:
    key = layout.forgotten_key(identifier)
    return Forgotten.decode(keyring.open(ObjectType.FORGOTTEN, key, store.get(key)))
