"""One pack, examined as a whole: name, header, trailer, and every chunk decoded and re-hashed.

Called from pool threads; nearly everything it does runs without the GIL.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from dedupstore.codec.block import BlockSealer, Codec, split_verified
from dedupstore.errors import CorruptChunk, CorruptObject, DedupError, IntegrityError, ObjectNotFound, StoreError
from dedupstore.repo.directory import BlockRecord, encode_directory
from dedupstore.repo.index import PackRow
from dedupstore.repo.keys import KeyRing
from dedupstore.repo.pack import PackHeader, PackName, read_pack_directory, verify_pack_bytes
from dedupstore.repo.segment import PackFacts
from dedupstore.storage.memory import MemoryStore
from dedupstore.threads import RightOfWay
from dedupstore.types import ChunkId, Data, Kind

ReadBases = Callable[[Kind, Sequence[ChunkId]], bytes]


@dataclass(slots=True)
class PackExam:
    """What became of one pack. Sound when there are neither `problems` nor `unread_bases`."""

    row: PackRow
    problems: list[str] = field(default_factory=list)
    """What is wrong with the pack as an object, then with its blocks."""

    damaged_blocks: list[int] = field(default_factory=list)
    unread_bases: list[ChunkId] = field(default_factory=list)
    """Delta bases, in other packs, that could not be read: their blocks could not be verified here."""

    missing: bool = False
    unstable: bool = False
    """A first reading of the same pack was wrong."""

    failure: StoreError | None = None
    """Why it could not be fetched at all."""

    blocks: int = 0
    chunks: int = 0
    raw_bytes: int = 0
    facts: PackFacts | None = None
    """What its own header and trailer say."""

    @property
    def sound(self) -> bool:
        return not (self.problems or self.unread_bases or self.missing)


def examine_pack(
    data: Data, row: PackRow, keyring: KeyRing, bases: ReadBases, facts: PackFacts | None, hashing: RightOfWay
) -> PackExam:
    """Everything that can be wrong with the bytes of one pack.

    `facts` describe it in case its own trailer cannot be read; without them all its blocks count as damaged.
    """
    exam = PackExam(row)
    header, blocks = _describe(exam, data, row.name, keyring, facts)
    if header is None:
        return exam
    sealer = BlockSealer(
        keyring.pack_key(header.epoch, header.salt, header.kind), keyring.repository, header.salt, header.kind
    )
    id_key = keyring.id_key(row.kind)
    view = memoryview(data)
    for number, block in enumerate(blocks):
        exam.blocks += 1
        base_bytes = None
        if block.codec == Codec.DELTA:
            try:
                base_bytes = bases(row.kind, block.bases)
            except (IntegrityError, ObjectNotFound, StoreError):
                exam.unread_bases.extend(block.bases)
                continue
        try:
            raw = sealer.open(
                view[block.offset : block.end], ordinal=number, codec=block.codec, raw_length=block.raw,
                chunks=len(block.ids), bases=base_bytes,
            )  # fmt: skip
            with hashing:
                split_verified(raw, block.ids, block.lengths, id_key)
        except (CorruptObject, CorruptChunk) as exc:
            exam.damaged_blocks.append(number)
            if len(exam.damaged_blocks) == 1:
                exam.problems.append(_text(exc))
            continue
        exam.chunks += len(block.ids)
        exam.raw_bytes += block.raw
    return exam


def _describe(
    exam: PackExam, data: Data, name: PackName, keyring: KeyRing, facts: PackFacts | None
) -> tuple[PackHeader | None, Sequence[BlockRecord]]:
    try:
        header, blocks = verify_pack_bytes(data, name, keyring)
        exam.facts = PackFacts(
            id=name.id,
            size=len(data),
            kind=name.kind,
            units=name.units,
            epoch=header.epoch,
            salt=header.salt,
            directory=encode_directory(blocks),
        )
        return header, blocks
    except CorruptObject as exc:
        exam.problems.append(_text(exc))
    alone = MemoryStore()
    alone.objects[name.key] = bytes(data)
    try:
        return read_pack_directory(alone, name, len(data), keyring)
    except (CorruptObject, StoreError) as exc:
        if _text(exc) != exam.problems[0]:
            exam.problems.append(_text(exc))
    if facts is None:
        return None, ()
    header = PackHeader(kind=facts.kind, epoch=facts.epoch, repository=keyring.repository, salt=facts.salt)
    try:
        return header, facts.blocks()
    except CorruptObject:
        return None, ()


def _text(error: DedupError) -> str:
    return error.why or error.message
