"""Index segments: add-only facts about packs, sealed, named by the hash of their bytes.

Payload, big-endian:
```
version u16 = 1 | count u32
count x  pack id[32] | size u32 | kind u8 | trailer units u16 | epoch u32 | salt[24] | directory length u32
the directories, verbatim, in the same order
```
A directory length of 0: the directory is not repeated here, read it from the pack's trailer (one request). That is so
for short packs, at most four a run: in the many small snapshots of a repository directories are a third of all bytes.
Nothing is compressed: ids do not compress, and they are nearly all of it. The segment's own name is the hash
of its sealed bytes and cannot be bound inside; what binds it is that the name must match, checked on reading.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from dedupstore.codec.claims import ObjectType
from dedupstore.codec.hashing import digest
from dedupstore.errors import CorruptObject
from dedupstore.repo import layout
from dedupstore.repo.directory import HEADER_BYTES, BlockRecord, parse_directory
from dedupstore.repo.keyring import KeyRing
from dedupstore.repo.pack import FinishedPack, read_directory
from dedupstore.repo.pack_name import MAX_UNITS, UNIT_BYTES, PackName
from dedupstore.storage.base import ObjectStore
from dedupstore.types import Data, Kind, PackId, SegmentId

VERSION = 1

_HEAD = struct.Struct(">HI")
_ROW = struct.Struct(">32sIBHI24sI")


@dataclass(frozen=True, slots=True, kw_only=True)
class PackFacts:
    """What a segment says of one pack."""

    id: PackId
    size: int
    kind: Kind
    units: int
    epoch: int
    salt: bytes
    directory: bytes
    """Empty as long as it has not been read from the pack (see `repeated`)."""

    repeated: bool = True
    """Whether a segment repeats the directory."""

    @property
    def name(self) -> PackName:
        return PackName(id=self.id, kind=self.kind, units=self.units)

    @property
    def body_end(self) -> int:
        return self.size - self.units * UNIT_BYTES

    def blocks(self) -> list[BlockRecord]:
        """The directory, parsed; empty when it could not be had. Raises CorruptObject."""
        if not self.directory:
            return []
        return parse_directory(self.directory, body_end=self.body_end)


def pack_facts(pack: FinishedPack) -> PackFacts:
    """What a segment has to say of a pack just built."""
    return PackFacts(
        id=pack.name.id,
        size=pack.size,
        kind=pack.name.kind,
        units=pack.name.units,
        epoch=pack.epoch,
        salt=pack.salt,
        directory=pack.directory,
    )


def read_facts(store: ObjectStore, keyring: KeyRing, name: PackName, size: int) -> PackFacts:
    """What a pack that no segment describes says of itself: header and trailer, two requests.

    Raises ObjectNotFound, and IntegrityError also for a directory that does not parse: it must never get into a
    segment, every client would stumble over it.
    """
    header, directory = read_directory(store, name, size, keyring)
    facts = PackFacts(
        id=name.id,
        size=size,
        kind=name.kind,
        units=name.units,
        epoch=header.epoch,
        salt=header.salt,
        directory=directory,
    )
    facts.blocks()
    return facts


def encode_segment(keyring: KeyRing, facts: Sequence[PackFacts]) -> tuple[SegmentId, str, bytes]:
    """The segment's id, its object key, and the bytes to put there."""
    directories = [fact.directory if fact.repeated else b"" for fact in facts]
    rows = [
        _ROW.pack(fact.id, fact.size, fact.kind, fact.units, fact.epoch, fact.salt, len(directory))
        for fact, directory in zip(facts, directories, strict=True)
    ]
    payload = b"".join((_HEAD.pack(VERSION, len(rows)), *rows, *directories))
    sealed = keyring.seal(ObjectType.SEGMENT, layout.SEGMENT_NAME, payload)
    identifier = SegmentId(digest([sealed]))
    return identifier, layout.segment_key(identifier), sealed


def decode_segment(keyring: KeyRing, key: str, sealed: Data) -> list[PackFacts]:
    """The facts of the segment stored under `key`. Raises CorruptObject; the directories are not parsed yet."""
    if digest([sealed]) != layout.parse_segment_key(key):
        raise CorruptObject(f"index segment {key} is damaged", why="its bytes do not have the hash in its name")
    payload = keyring.open(ObjectType.SEGMENT, layout.SEGMENT_NAME, bytes(sealed))
    try:
        return _parse(payload)
    except CorruptObject as exc:
        raise CorruptObject(f"index segment {key} is damaged", why=exc.message) from exc


def _parse(payload: bytes) -> list[PackFacts]:
    if len(payload) < _HEAD.size:
        raise CorruptObject("it is cut short")
    version, count = _HEAD.unpack_from(payload)
    if version != VERSION:
        raise CorruptObject(f"it has version {version}: written by a newer dedup than the config admits")
    at = _HEAD.size + count * _ROW.size
    if at > len(payload):
        raise CorruptObject("its pack count contradicts its length")
    facts = []
    for row in _ROW.iter_unpack(payload[_HEAD.size : at]):
        facts.append(_fact(row, payload[at : at + row[6]]))
        at += row[6]
    if at != len(payload) or len({fact.id for fact in facts}) != count:
        raise CorruptObject("its directories contradict its pack table")
    return facts


def _fact(row: tuple[bytes, int, int, int, int, bytes, int], directory: bytes) -> PackFacts:
    identifier, size, kind, units, epoch, salt, length = row
    if kind not in Kind._value2member_map_ or len(directory) != length:
        raise CorruptObject("a row of its pack table is out of range")
    if not 1 <= units <= MAX_UNITS or size < HEADER_BYTES + units * UNIT_BYTES:
        raise CorruptObject("a row of its pack table has impossible sizes")
    return PackFacts(
        id=PackId(identifier),
        size=size,
        kind=Kind(kind),
        units=units,
        epoch=epoch,
        salt=salt,
        directory=directory,
        repeated=bool(directory),
    )
