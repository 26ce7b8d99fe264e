"""One pack, examined as a whole: name, header, trailer, and every chunk decoded and re-hashed.

Called from pool threads; nearly everything it does runs without the GIL.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from dedupstore.codec.block import BASED, BlockSealer, split_verified
from dedupstore.codec.hashing import Keyed
from dedupstore.engine.passing_bases import PassingBases
from dedupstore.errors import CorruptChunk, CorruptObject, DedupError, IntegrityError, ObjectNotFound, StoreError
from dedupstore.repo.directory import BlockRecord, encode_directory
from dedupstore.repo.index import PackRow
from dedupstore.repo.keyring import KeyRing
from dedupstore.repo.pack import PackHeader, read_pack_directory, verify_pack_bytes
from dedupstore.repo.pack_name import PackName
from dedupstore.repo.segment import PackFacts
from dedupstore.storage.memory import MemoryStore
from dedupstore.threads import RightOfWay
from dedupstore.types import ChunkId, Data, Kind

ReadBases = Callable[[Kind, Sequence[ChunkId]], bytes]

_WAITING_BLOCK = 600
_WAITING_CHUNK = 100
_WAITING_BASE = 230
"""What is kept of a block that waits beside its sealed bytes: of a patch, some 200 bytes, far more than these. Measured."""


@dataclass(eq=False, slots=True)
class PackExam:
    """What became of one pack. Sound when there are neither `problems` nor `unread_bases`, once nothing is `waiting`."""

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

    waiting: int = 0
    """Delta blocks that are still to be examined, by whichever thread meets the last of their bases."""

    final: bool = False
    """Nothing can change it any more, and what was wrong was looked at twice."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    """Held to change what several blocks change."""

    @property
    def sound(self) -> bool:
        return not (self.problems or self.unread_bases or self.missing)


@dataclass(frozen=True, slots=True)
class Examiner:
    """How packs are examined; shared by the threads that do it."""

    keyring: KeyRing
    bases: ReadBases
    hashing: RightOfWay
    """Entered while the chunks of a block are hashed."""

    passing: PassingBases
    """Where delta blocks wait for their bases, and whole blocks show theirs."""

    def examine(self, data: Data, row: PackRow, facts: PackFacts | None, *, at_once: bool) -> PackExam:
        """Everything that can be wrong with the bytes of one pack.

        `facts` describe it in case its own trailer cannot be read; without them all its blocks count as damaged.
        `at_once`: no block of it is left waiting.
        """
        exam = PackExam(row)
        header, blocks = _describe(exam, data, row.name, self.keyring, facts)
        if header is None:
            return exam
        pack_key = self.keyring.pack_key(header.epoch, header.salt, header.kind)
        sealer = BlockSealer(pack_key, self.keyring.repository, header.salt, header.kind)
        view = memoryview(data)
        exam.blocks = len(blocks)
        for number, block in enumerate(blocks):
            sealed = view[block.offset : block.end]
            if block.codec not in BASED:
                self._open(exam, sealer, number, block, sealed, None)
            elif at_once or not self._wait(exam, sealer, number, block, sealed):
                self._open_delta(exam, sealer, number, block, sealed, None)
        return exam

    def _wait(self, exam: PackExam, sealer: BlockSealer, number: int, block: BlockRecord, sealed: Data) -> bool:
        # A copy: a view would keep the whole pack in memory.
        examine = partial(self._open_waiting, exam, sealer, number, block, bytes(sealed))
        with exam.lock:
            exam.waiting += 1
        size = len(sealed) + _WAITING_BLOCK + _WAITING_CHUNK * len(block.ids) + _WAITING_BASE * len(block.bases)
        if self.passing.wait(exam, exam.row.kind, block.bases, size, examine):
            return True
        with exam.lock:
            exam.waiting -= 1
        return False

    def _open_waiting(
        self, exam: PackExam, sealer: BlockSealer, number: int, block: BlockRecord, sealed: Data, bases: bytes | None
    ) -> None:
        self._open_delta(exam, sealer, number, block, sealed, bases)
        with exam.lock:
            exam.waiting -= 1

    def _open_delta(
        self, exam: PackExam, sealer: BlockSealer, number: int, block: BlockRecord, sealed: Data, bases: bytes | None
    ) -> None:
        if bases is None:
            try:
                bases = self.bases(exam.row.kind, block.bases)
            except (IntegrityError, ObjectNotFound, StoreError):
                self._authenticate(exam, sealer, number, block, sealed)
                with exam.lock:
                    exam.unread_bases.extend(block.bases)
                return
        self._open(exam, sealer, number, block, sealed, bases)

    def _authenticate(self, exam: PackExam, sealer: BlockSealer, number: int, block: BlockRecord, sealed: Data) -> None:
        """Without its bases a delta cannot be read, but whether its stored bytes are those that were written shows."""
        try:
            sealer.payload(sealed, ordinal=number, codec=block.codec, raw_length=block.raw, chunks=len(block.ids))
        except CorruptObject as exc:
            self._damaged(exam, number, exc)

    def _damaged(self, exam: PackExam, number: int, error: DedupError) -> None:
        with exam.lock:
            exam.damaged_blocks.append(number)
            if len(exam.damaged_blocks) == 1:
                exam.problems.append(_text(error))

    def _open(
        self, exam: PackExam, sealer: BlockSealer, number: int, block: BlockRecord, sealed: Data, bases: bytes | None
    ) -> None:
        id_key = self.keyring.id_key(exam.row.kind)
        try:
            chunks = self._verify(sealer, number, block, sealed, bases, id_key)
        except (CorruptObject, CorruptChunk) as exc:
            self._damaged(exam, number, exc)
            return
        with exam.lock:
            exam.chunks += len(block.ids)
            exam.raw_bytes += block.raw
        if bases is None:
            # Only what a whole block holds may be a base.
            self.passing.pass_by(exam.row.kind, block.ids, chunks)

    def _verify(
        self, sealer: BlockSealer, number: int, block: BlockRecord, sealed: Data, bases: bytes | None, id_key: Keyed
    ) -> list[memoryview]:
        raw = sealer.open(
            sealed, ordinal=number, codec=block.codec, raw_length=block.raw, chunks=len(block.ids), bases=bases
        )
        with self.hashing:
            return split_verified(raw, block.ids, block.lengths, id_key)


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
