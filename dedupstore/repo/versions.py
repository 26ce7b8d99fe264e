"""What is remembered of one path at one time, for `find` and `history`: a few numbers, never content.

| bytes | field |
|---|---|
| 1 | kind, as in the manifest; `-`: the path is gone |
| 2 | mode u16 |
| 4 4 | uid gid u32 |
| 8 | size u64 |
| 8 | mtime i64, ns |
| 8 | fingerprint of the content, keyed |
| 4 | fingerprint of extended attributes and hard links, keyed; zeros for none |
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from dedupstore.codec.hashing import Keyed
from dedupstore.errors import CorruptObject
from dedupstore.model.entry import DIRECTORY, Entry
from dedupstore.types import SnapshotId

GONE = "-"
_VERSION = struct.Struct(">cHIIQq8s4s")
_NUMBERS = struct.Struct(">QII")


class Version(NamedTuple):
    """A path as it was from one snapshot on. A named tuple: one is made per path, millions per repository."""

    kind: str
    mode: int
    uid: int
    gid: int
    size: int
    mtime: int
    content: bytes
    """Equal for equal content (for links: targets; for devices: numbers); says nothing to who lacks the key."""

    attributes: bytes

    def encode(self) -> bytes:
        return _VERSION.pack(
            self.kind.encode("ascii"),
            self.mode,
            self.uid,
            self.gid,
            self.size,
            self.mtime,
            self.content,
            self.attributes,
        )

    @classmethod
    def decode(cls, data: bytes) -> Version:
        try:
            kind, *rest = _VERSION.unpack(data)
            return cls(kind.decode("ascii"), *rest)
        except (struct.error, UnicodeDecodeError) as exc:
            raise CorruptObject("a remembered version is malformed") from exc


VANISHED = Version(GONE, 0, 0, 0, 0, 0, bytes(8), bytes(4))


class IndexedSnapshot(NamedTuple):
    """One snapshot whose paths are remembered: as what differs from those of `base`, or all of them."""

    id: SnapshotId
    number: int
    """This machine's number for it; grows with time, never in the repository."""

    base: int
    """The number of the snapshot it was compared with; -1 for none."""


class EventPlace(NamedTuple):
    """What happened to a path: which snapshot, by number, saw it first, and as what."""

    number: int
    version: Version


def version_of(keyed: Keyed, entry: Entry) -> Version:
    """What is remembered of an entry. A directory has no content of its own: what is below it are other paths."""
    content = bytes(8)
    if entry.kind != DIRECTORY:
        parts = [entry.content, entry.target, entry.pages[1] if entry.pages else b""]
        if entry.holes or entry.pages or entry.device:
            # Rare: whatever else makes two contents differ.
            numbers = entry.pages[0] if entry.pages else 0, *(entry.device or (0, 0))
            parts += [_NUMBERS.pack(*numbers), repr(entry.holes).encode("ascii")]
        content = keyed.digest(b"".join(parts))[:8]
    attributes = bytes(4)
    if entry.xattrs or entry.link_group:
        attributes = keyed.digest(repr((entry.link_group, entry.xattrs)).encode("ascii"))[:4]
    return Version(entry.kind, entry.mode, entry.uid, entry.gid, entry.size, entry.mtime, content, attributes)
