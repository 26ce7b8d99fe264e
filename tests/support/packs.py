"""Small packs and segments with real keys, for tests of the repository layer."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from dedupstore.codec.block import Codec, Payload, encode
from dedupstore.codec.hashing import digest
from dedupstore.repo.directory import BlockRecord
from dedupstore.repo.keyring import KeyRing
from dedupstore.repo.pack import FinishedPack, PackBuilder, encode_directory
from dedupstore.repo.segment import PackFacts
from dedupstore.types import ChunkId, Kind, PackId, RepositoryId

REPOSITORY = RepositoryId(bytes(range(16)))


def keyring(repository: RepositoryId = REPOSITORY) -> KeyRing:
    """Always the same keys: tests are about bytes, not about secrets."""
    secret = hashlib.sha256(repository).digest()
    return KeyRing(repository=repository, epoch=1, masters={1: secret}, domain=hashlib.sha256(secret).digest())


def chunk_id(text: str) -> ChunkId:
    return ChunkId(digest([text.encode()]))


def build_pack(
    ring: KeyRing, chunks: Iterable[bytes], *, kind: Kind = Kind.DATA, target: int = 1 << 20, full: bool = False
) -> FinishedPack:
    """One pack with a block for every two chunks."""
    builder = PackBuilder(ring, kind, target)
    waiting = list(chunks)
    keyed = ring.id_key(kind)
    for start in range(0, len(waiting), 2):
        group = waiting[start : start + 2]
        raw = b"".join(group)
        ids = [ChunkId(keyed.digest(chunk)) for chunk in group]
        builder.add(encode(raw, bases=None, level=3), len(raw), ids, [len(chunk) for chunk in group])
    return builder.finish(full)


def delta_payload(data: bytes) -> Payload:
    return Payload(codec=Codec.DELTA, data=data)


def synthetic_facts(name: str, ids: list[ChunkId], *, chunks_per_block: int = 16, length: int = 65_536) -> PackFacts:
    """Facts of a pack that never existed: enough for the index, which does not read packs."""
    blocks = []
    offset = 64
    for start in range(0, len(ids), chunks_per_block):
        group = ids[start : start + chunks_per_block]
        raw = length * len(group)
        blocks.append(BlockRecord(offset, raw // 2, raw, 1, group, [length] * len(group), []))
        offset += raw // 2
    return PackFacts(
        id=PackId(digest([b"pack", name.encode()])),
        size=offset + 4096,
        kind=Kind.DATA,
        units=1,
        epoch=1,
        salt=bytes(24),
        directory=encode_directory(blocks),
    )
