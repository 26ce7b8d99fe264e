"""The forget marker: a copy of a snapshot's record, kept while forgetting it can be undone."""

from __future__ import annotations

from dataclasses import dataclass

from dedupstore.errors import CorruptObject, RepositoryTooNew
from dedupstore.model.snapshot import Snapshot
from dedupstore.model.wire import pack, unpack_map

VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Forgotten:
    """What `forgotten/<id>` holds. It counts only once the commit marker of that snapshot is gone."""

    record: bytes
    """The plain bytes of the snapshot record, as committed."""

    time_ns: int
    """When it was forgotten: the undo window begins."""

    def encode(self) -> bytes:
        return pack({"record": self.record, "time": self.time_ns, "v": VERSION})

    @classmethod
    def decode(cls, data: bytes) -> Forgotten:
        row = unpack_map(data)
        if row.get("v") != VERSION or row["v"] is True:
            raise RepositoryTooNew("a forget marker has an unknown version")
        match row:
            case {"record": bytes(record), "time": int(time_ns)} if not isinstance(time_ns, bool) and time_ns >= 0:
                return cls(record=record, time_ns=time_ns)
        raise CorruptObject("a forget marker is malformed")

    @property
    def snapshot(self) -> Snapshot:
        """The snapshot as it was. Raises CorruptObject, RepositoryTooNew."""
        return Snapshot.decode(self.record)
