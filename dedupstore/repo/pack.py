"""Pack files: many sealed blocks, random fill, and a sealed directory at the end.

```
header  64 B   "DDPACK1\\n" | version u16 | kind u8 | suite u8 | epoch u32 | key wrap u8 | reserved[7]
               | repository[16] | salt[24]
blocks         nonce[12] | AES-256-GCM(payload) | tag[16], each at the offset its directory record names
fill           random bytes
trailer        nonce[12] | AES-256-GCM( u32 length | directory | zeros ) | tag[16], units * 4096 B,
               AAD = "trailer" | header
```
The directory (directory.py) and all sizes are hidden from storage: a full pack has
exactly the pack size, a short one is padded by the Padme rule, and so is the trailer, in units of 4 KiB.
The pack id is the plain BLAKE3 of all bytes: anyone can find rot without a key.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from dedupstore.codec.block import BlockSealer, Payload
from dedupstore.codec.crypto import Cipher, random_bytes
from dedupstore.codec.hashing import StreamHash, digest
from dedupstore.errors import CorruptObject, StoreError
from dedupstore.repo.directory import (
    BASE_BYTES,
    BLOCK_BYTES,
    BLOCK_OVERHEAD,
    CHUNK_BYTES,
    COUNTS_BYTES,
    HEADER_BYTES,
    MAX_BLOCKS,
    BlockRecord,
    check_block,
    encode_directory,
    parse_directory,
)
from dedupstore.repo.keyring import KeyRing
from dedupstore.repo.pack_name import MAX_UNITS, UNIT_BYTES, PackName
from dedupstore.storage.base import ObjectStore
from dedupstore.types import ChunkId, Data, Kind, PackId, RepositoryId, Span

__all__ = [
    "BLOCK_OVERHEAD",
    "BlockRecord",
    "FinishedPack",
    "PackBuilder",
    "PackHeader",
    "encode_directory",
    "padme",
    "parse_directory",
    "read_directory",
    "read_pack_directory",
    "read_part",
    "verify_pack_bytes",
]

MAGIC = b"DDPACK1\n"
VERSION = 1
SUITE = 1
WRAP_DERIVED = 0
SALT_BYTES = 24
MAX_PACK_BYTES = (1 << 32) - 1
MAX_PACK_CHUNKS = 1 << 16
"""A writer starts a new pack then, however little they are: while a pack is open it takes some 120 bytes a chunk."""

_HEADER = struct.Struct(">8sHBBIB7s16s24s")
_LENGTH = struct.Struct(">I")
_SEAL_BYTES = 28
_DAMAGE = {"store.short_object": "it is cut short", "store.unreadable": "the disk does not give a part of it"}


@dataclass(frozen=True, slots=True, kw_only=True)
class PackHeader:
    kind: Kind
    epoch: int
    repository: RepositoryId
    salt: bytes

    def encode(self) -> bytes:
        return _HEADER.pack(
            MAGIC, VERSION, self.kind, SUITE, self.epoch, WRAP_DERIVED, bytes(7), self.repository, self.salt
        )

    @classmethod
    def parse(cls, data: Data) -> PackHeader:
        """Raises CorruptObject also for a version, suite or wrap of the future.

        What a repository needs is written in its config and refused there; a pack that disagrees is
        far more often a flipped bit, and one flipped bit must not end a check of all other packs.
        """
        if len(data) != HEADER_BYTES:
            raise CorruptObject("a pack header is cut short")
        magic, version, kind, suite, epoch, wrap, reserved, repository, salt = _HEADER.unpack(data)
        if magic != MAGIC:
            raise CorruptObject("not a pack", why="the first bytes are not those of a pack")
        if (version, suite, wrap) != (VERSION, SUITE, WRAP_DERIVED) or any(reserved):
            raise CorruptObject(
                f"a pack of version {version}, suite {suite}, key wrap {wrap}",
                why="it is damaged, or was written by a newer dedup than the config admits",
            )
        if kind not in Kind._value2member_map_:
            raise CorruptObject(f"a pack of unknown kind {kind}")
        return cls(kind=Kind(kind), epoch=epoch, repository=RepositoryId(repository), salt=salt)


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedPack:
    """A pack ready to be put under `name.key` as the concatenation of `parts`."""

    name: PackName
    parts: list[bytes]
    size: int
    epoch: int
    salt: bytes
    blocks: list[BlockRecord]
    directory: bytes


def padme(size: int) -> int:
    """`size` rounded up so that only O(log log size) of its bits are left (at most 12 % more).

    Nikitin et al., "Reducing Metadata Leakage from Encrypted Files and Communication with PURBs", PETS 2019.
    """
    step = padme_step(size)
    return (size + step - 1) // step * step


def padme_step(size: int) -> int:
    """What `padme` leaves of sizes about this one: the multiples of that."""
    exponent = size.bit_length() - 1
    return 1 << max(0, exponent - exponent.bit_length())


def trailer_units(directory_bytes: int) -> int:
    """The trailer of a pack in units of UNIT_BYTES; `directory_bytes`: of its directory, as encoded."""
    return padme(-(-(_LENGTH.size + directory_bytes + _SEAL_BYTES) // UNIT_BYTES))


class PackBuilder:
    """Collects the blocks of one pack in memory. One thread at a time; encrypts and hashes as blocks come."""

    def __init__(self, keyring: KeyRing, kind: Kind, target_size: int) -> None:
        if target_size > MAX_PACK_BYTES:
            raise ValueError("a pack must be smaller than 4 GiB")
        self.header = PackHeader(
            kind=kind, epoch=keyring.epoch, repository=keyring.repository, salt=random_bytes(SALT_BYTES)
        )
        self.blocks: list[BlockRecord] = []
        self.size = HEADER_BYTES
        self._target_size = target_size
        key = keyring.pack_key(keyring.epoch, self.header.salt, kind)
        self._cipher = Cipher(key)
        self._sealer = BlockSealer(key, keyring.repository, self.header.salt, kind)
        self._chunks = 0
        self._bases = 0
        self._crowded = False
        head = self.header.encode()
        self._parts = [head]
        self._hash = StreamHash()
        self._hash.update(head)

    def fits(self, stored_length: int, chunks: int, bases: int) -> bool:
        """Whether one more block of `stored_length` bytes as stored (payload + BLOCK_OVERHEAD) still has room.

        An empty pack takes any block: one that alone exceeds the pack size gets a pack of its own, padded
        as a short pack is.
        """
        if not self.blocks:
            return True
        if self._chunks + chunks > MAX_PACK_CHUNKS:
            self._crowded = True
            return False
        units = trailer_units(self._directory_bytes(1, chunks, bases))
        total = self.size + stored_length + units * UNIT_BYTES
        return len(self.blocks) < MAX_BLOCKS and units <= MAX_UNITS and total <= self._target_size

    def add(
        self,
        payload: Payload,
        raw_length: int,
        ids: Sequence[ChunkId],
        lengths: Sequence[int],
        bases: Sequence[ChunkId] = (),
    ) -> tuple[int, bytes]:
        """Seal one block under the pack key; returns its ordinal and its bytes as stored.

        Raises ValueError for a block no reader would accept: that is a mistake of the caller, never of data.
        """
        record = BlockRecord(
            offset=self.size,
            stored=len(payload.data) + BLOCK_OVERHEAD,
            raw=raw_length,
            codec=int(payload.codec),
            ids=list(ids),
            lengths=list(lengths),
            bases=list(bases),
        )
        problem = check_block(record)
        if problem or len(self.blocks) >= MAX_BLOCKS:
            raise ValueError(problem or "too many blocks in one pack")
        ordinal = len(self.blocks)
        sealed = self._sealer.seal(payload, ordinal=ordinal, raw_length=raw_length, chunks=len(record.ids))
        self.blocks.append(record)
        self._append(sealed)
        self._chunks += len(record.ids)
        self._bases += len(record.bases)
        return ordinal, sealed

    def finish(self, full: bool) -> FinishedPack:
        """Fill, add the trailer, name the pack. `full`: to exactly the pack size; else by the Padme rule."""
        directory = encode_directory(self.blocks)
        units = trailer_units(len(directory))
        if units > MAX_UNITS:
            raise ValueError("the directory of one block is larger than a trailer may be")
        trailer_bytes = units * UNIT_BYTES
        least = self.size + trailer_bytes
        size = padme(least) if least > self._target_size else self._target_size
        # Ended by the number of its chunks it may be far from full, and filling it would multiply them.
        if not full or self._crowded:
            size = min(size, padme(least))
        if size > MAX_PACK_BYTES:
            raise ValueError("a pack must be smaller than 4 GiB")
        self._append(random_bytes(size - least))
        padding = trailer_bytes - _SEAL_BYTES - _LENGTH.size - len(directory)
        plain = b"".join((_LENGTH.pack(len(directory)), directory, bytes(padding)))
        self._append(self._cipher.encrypt(plain, b"trailer" + self._parts[0]))
        return FinishedPack(
            name=PackName(id=PackId(self._hash.digest()), kind=self.header.kind, units=units),
            parts=[part for part in self._parts if part],
            size=size,
            epoch=self.header.epoch,
            salt=self.header.salt,
            blocks=self.blocks,
            directory=directory,
        )

    def _append(self, part: bytes) -> None:
        self._parts.append(part)
        self._hash.update(part)
        self.size += len(part)

    def _directory_bytes(self, blocks: int, chunks: int, bases: int) -> int:
        return (
            COUNTS_BYTES
            + (len(self.blocks) + blocks) * BLOCK_BYTES
            + (self._chunks + chunks) * CHUNK_BYTES
            + (self._bases + bases) * BASE_BYTES
        )


def read_part(store: ObjectStore, name: PackName, span: Span) -> bytes:
    """A part of a pack. A pack that is too short for it, or lies on a bad sector there, is damage of this one pack, not trouble
    with the store.
    """
    try:
        return store.get(name.key, span)
    except StoreError as exc:
        if exc.code not in _DAMAGE:
            raise
        raise _damaged(name, CorruptObject(_DAMAGE[exc.code], why=exc.why)) from exc


def read_directory(store: ObjectStore, name: PackName, size: int, keyring: KeyRing) -> tuple[PackHeader, bytes]:
    """The header and the directory's bytes, authenticated, not yet parsed. Two ranged reads."""
    _check_size(name, size)
    try:
        head = read_part(store, name, Span(0, HEADER_BYTES))
        header = _check_header(head, name, keyring)
        trailer = read_part(store, name, Span(size - name.trailer_bytes, name.trailer_bytes))
        return header, _open_trailer(head, header, trailer, name, keyring)
    except CorruptObject as exc:
        raise _damaged(name, exc) from exc


def read_trailer(store: ObjectStore, name: PackName, size: int, header: PackHeader, keyring: KeyRing) -> bytes:
    """As `read_directory` for a caller who knows what the header must be: one ranged read. The directory's bytes."""
    _check_size(name, size)
    trailer = read_part(store, name, Span(size - name.trailer_bytes, name.trailer_bytes))
    try:
        return _open_trailer(header.encode(), header, trailer, name, keyring)
    except CorruptObject as exc:
        raise _damaged(name, exc) from exc


def read_pack_directory(
    store: ObjectStore, name: PackName, size: int, keyring: KeyRing
) -> tuple[PackHeader, list[BlockRecord]]:
    """What a pack of `size` bytes holds, fully validated, without its pack id (that needs every byte)."""
    header, directory = read_directory(store, name, size, keyring)
    try:
        return header, parse_directory(directory, body_end=size - name.trailer_bytes)
    except CorruptObject as exc:
        raise _damaged(name, exc) from exc


def verify_pack_bytes(data: Data, name: PackName, keyring: KeyRing) -> tuple[PackHeader, list[BlockRecord]]:
    """Check a whole pack but for its blocks' contents: id, header, trailer, and that all agree."""
    view = memoryview(data)
    try:
        if digest([view]) != name.id:
            raise CorruptObject("its bytes do not have the hash in its name")
        _check_size(name, len(view))
        head = bytes(view[:HEADER_BYTES])
        header = _check_header(head, name, keyring)
        body_end = len(view) - name.trailer_bytes
        directory = _open_trailer(head, header, view[body_end:], name, keyring)
        return header, parse_directory(directory, body_end=body_end)
    except CorruptObject as exc:
        raise _damaged(name, exc) from exc


def _check_size(name: PackName, size: int) -> None:
    if not HEADER_BYTES + name.trailer_bytes <= size <= MAX_PACK_BYTES:
        raise _damaged(name, CorruptObject(f"{size} bytes cannot hold its header and trailer"))


def _check_header(head: bytes, name: PackName, keyring: KeyRing) -> PackHeader:
    header = PackHeader.parse(head)
    if header.repository != keyring.repository:
        raise CorruptObject("it belongs to another repository")
    if header.kind is not name.kind:
        raise CorruptObject("its kind contradicts its name")
    return header


def _open_trailer(head: bytes, header: PackHeader, trailer: Data, name: PackName, keyring: KeyRing) -> bytes:
    if len(trailer) != name.trailer_bytes:
        raise CorruptObject("its trailer is cut short")
    key = keyring.pack_key(header.epoch, header.salt, header.kind)
    plain = Cipher(key).decrypt(trailer, b"trailer" + head)
    (length,) = _LENGTH.unpack_from(plain)
    end = _LENGTH.size + length
    if end > len(plain) or plain.count(0, end) != len(plain) - end:
        raise CorruptObject("its trailer has a wrong length")
    return plain[_LENGTH.size : end]


def _damaged(name: PackName, cause: CorruptObject) -> CorruptObject:
    if cause.message.startswith("pack packs/"):
        return cause
    why = f"{cause.message}: {cause.why}" if cause.why else cause.message
    return CorruptObject(f"pack {name.key} is damaged", why=why, code=cause.code)
