"""Snapshots made by hand, hostile ones too, and a reader over a dictionary that counts what it decodes."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from dedupstore.cancel import CancelToken
from dedupstore.codec.hashing import StreamHash
from dedupstore.engine.restore import plan_restore, restore
from dedupstore.engine.restore_options import RestoreOptions, RestorePlan, RestoreResult, Visit
from dedupstore.errors import CorruptChunk, MissingChunk
from dedupstore.events import Collector
from dedupstore.model.entry import DIRECTORY, FILE, SYMLINK, Entry
from dedupstore.model.snapshot import Snapshot
from dedupstore.model.tree import ContentWriter, TreeWriter
from dedupstore.types import BlockChunks, ChunkId, Kind, SnapshotId

MTIME = 1_700_000_000_123_456_789
CHUNK = 1000
CHUNKS_IN_BLOCK = 8

Tree = dict[bytes, "Entry | bytes | Tree"]
"""A directory by name: bytes are a file's content, a dictionary is a directory."""


class Location(NamedTuple):
    pack_no: int
    block_no: int
    position: int
    length: int


@dataclass
class DictReader:
    """Chunks in memory, eight to a block, in the order they were saved."""

    chunks: dict[ChunkId, bytes] = field(default_factory=dict)
    places: dict[ChunkId, Location] = field(default_factory=dict)
    decoded: Counter[tuple[int, int]] = field(default_factory=Counter)
    damaged: set[ChunkId] = field(default_factory=set)
    on_block: list[object] = field(default_factory=list)

    def save(self, kind: Kind, data: bytes) -> ChunkId:
        chunk = ChunkId(hashlib.sha256(kind.letter.encode() + data).digest())
        if chunk not in self.chunks:
            number = len(self.places)
            if kind is Kind.DATA:
                self.places[chunk] = Location(1, number // CHUNKS_IN_BLOCK, number % CHUNKS_IN_BLOCK, len(data))
            self.chunks[chunk] = data
        return chunk

    def locate(self, chunk: ChunkId) -> Location:
        if chunk not in self.places:
            raise MissingChunk("a chunk is in no pack")
        return self.places[chunk]

    def read(self, kind: Kind, chunk: ChunkId) -> bytes:
        if chunk in self.damaged:
            raise CorruptChunk("a chunk is damaged")
        if chunk not in self.chunks:
            raise MissingChunk("a chunk is in no pack")
        return self.chunks[chunk]

    requests_at_a_time = 1

    def runs(self, blocks: Iterable[tuple[int, int]]) -> list[list[tuple[int, int]]]:
        return [[block] for block in blocks]

    def fetched(self, kind: Kind, run: Sequence[tuple[int, int]]) -> AbstractContextManager[None]:
        return nullcontext()

    def together(
        self, kind: Kind, references: Iterable[tuple[ChunkId, int, int]]
    ) -> Iterator[list[tuple[ChunkId, int, int]]]:
        return ([reference] for reference in references)

    def load_manifest(self, chunk: ChunkId) -> bytes:
        return self.read(Kind.MANIFEST, chunk)

    def read_block(self, kind: Kind, pack_no: int, block_no: int, wanted: Mapping[int, ChunkId]) -> BlockChunks:
        """The block has the wanted chunks in it and, before, between and behind them, something else."""
        self.decoded[pack_no, block_no] += 1
        for hook in self.on_block:
            assert callable(hook)
            hook()
        raw = b""
        spans: dict[int, tuple[int, int]] = {}
        for position in range(CHUNKS_IN_BLOCK):
            data = self.read(kind, wanted[position]) if position in wanted else b"not asked for"
            if position in wanted:
                spans[position] = (len(raw), len(raw) + len(data))
            raw += data
        return BlockChunks(memoryview(raw), spans)


def file_entry(reader: DictReader, name: bytes, content: bytes, *, chunk: int = CHUNK, **changes: object) -> Entry:
    """A file as the archiver would store it, cut into equal chunks."""
    entry = Entry(name=name, kind=FILE, mode=0o644, uid=os.geteuid(), gid=os.getegid(), size=len(content), mtime=MTIME)
    writer = ContentWriter(lambda data, first: reader.save(Kind.MANIFEST, data))
    for start in range(0, len(content), chunk):
        writer.add(reader.save(Kind.DATA, content[start : start + chunk]), len(content[start : start + chunk]))
    if content:
        writer.finish(entry)
    if writer.chunks > 1:
        whole = StreamHash()
        whole.update(content)
        entry.hash = whole.digest()
    return replace(entry, **changes)  # type: ignore[arg-type]


def link_entry(name: bytes, target: bytes) -> Entry:
    return Entry(name=name, kind=SYMLINK, mode=0o777, uid=os.geteuid(), gid=os.getegid(), target=target, mtime=MTIME)


def folder_entry(reader: DictReader, name: bytes, tree: Tree, **changes: object) -> Entry:
    entry = Entry(
        name=name, kind=DIRECTORY, mode=0o755, uid=os.geteuid(), gid=os.getegid(), mtime=MTIME,
        tree=save_tree(reader, tree),
    )  # fmt: skip
    return replace(entry, **changes)  # type: ignore[arg-type]


def save_tree(reader: DictReader, tree: Tree) -> ChunkId:
    writer = TreeWriter(lambda data, first: reader.save(Kind.MANIFEST, data))
    for name in sorted(tree):
        value = tree[name]
        if isinstance(value, bytes):
            value = file_entry(reader, name, value)
        elif isinstance(value, dict):
            value = folder_entry(reader, name, value)
        writer.add(replace(value, name=name))
    return writer.finish()


def snapshot_of(root: ChunkId, *, origins: tuple[tuple[bytes, bytes], ...] = (), number: int = 1) -> Snapshot:
    return Snapshot(
        id=SnapshotId(bytes([number]) * 16), run=bytes(16), source="site", kind="files", trigger="manual", host="h",
        user="u", start_ns=MTIME, end_ns=MTIME, root=root, origins=origins,
    )  # fmt: skip


@dataclass
class Restored:
    result: RestoreResult
    codes: list[str]
    paths: list[bytes | None]


def run_restore(reader: DictReader, snapshot: Snapshot, options: RestoreOptions) -> Restored:
    collector = Collector()
    result = restore(reader, snapshot, options, listener=collector, cancel=CancelToken())
    return Restored(result, [item.code for item in collector.findings], [item.path for item in collector.findings])


def run_plan(
    reader: DictReader, snapshot: Snapshot, options: RestoreOptions, visit: Visit | None = None
) -> RestorePlan:
    return plan_restore(reader, snapshot, options, listener=Collector(), cancel=CancelToken(), visit=visit)


def restore_tree(reader: DictReader, tree: Tree, target: bytes, **options: object) -> Restored:
    return run_restore(reader, snapshot_of(save_tree(reader, tree)), RestoreOptions(target=target, **options))  # type: ignore[arg-type]


def content_of(path: bytes) -> dict[bytes, object]:
    """What is below a directory: bytes of files, targets of links, dictionaries of directories."""
    found: dict[bytes, object] = {}
    for item in os.scandir(path):
        if item.is_symlink():
            found[item.name] = ("link", os.readlink(item.path))
        elif item.is_dir():
            found[item.name] = content_of(item.path)
        elif item.is_file():
            with open(item.path, "rb") as file:
                found[item.name] = file.read()
        else:
            found[item.name] = "special"
    return found
