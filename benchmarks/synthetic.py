"""A repository with the counts of a big one and the bytes of a small one.

At 10 M chunks a real repository has some 640 GB: chunks of 64 KiB, 32 in a block of 2 MiB, 16 blocks in a pack of
32 MiB, 64 packs in a segment. This one has as many chunks, blocks, packs, segments, files and directories, made by the
program's own code with real keys and real seals; only a chunk is 12 bytes long. What depends on how many things there
are is as in the big one, and what depends on their size is not, and is measured by the other workloads.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field

from dedupstore.codec.block import Codec, Payload
from dedupstore.codec.hashing import StreamHash
from dedupstore.model.entry import DIRECTORY, FILE, Entry
from dedupstore.model.snapshot import Snapshot
from dedupstore.model.tree import ContentWriter, Save, TreeWriter
from dedupstore.repo.pack import PackBuilder
from dedupstore.repo.repository import Repository
from dedupstore.repo.segment import PackFacts, encode_segment, pack_facts
from dedupstore.repo.writer import ChunkWriter
from dedupstore.types import ChunkId, Kind, SnapshotId

CHUNK_BYTES = 12
CHUNKS_PER_BLOCK = 32
BLOCKS_PER_PACK = 16
PACKS_PER_SEGMENT = 64
CHUNKS_PER_FILE = 50
FILES_PER_DIRECTORY = 100
BLOCK_BYTES = CHUNK_BYTES * CHUNKS_PER_BLOCK
PACK_BYTES = 36 << 10
"""The sizes to make the repository with: else what it writes has other counts, and prune merges its packs as small ones."""

TIME_NS = 1_700_000_000_000_000_000

THINNED = 5
"""In the second snapshot every so many directories have lost every other file: half of what their packs hold."""


@dataclass(slots=True)
class _Data:
    """Packs of made-up chunks, put as they are full."""

    repository: Repository
    made: int = 0
    _pack: PackBuilder | None = None
    _ids: list[ChunkId] = field(default_factory=list)
    _raw: list[bytes] = field(default_factory=list)
    _facts: list[PackFacts] = field(default_factory=list)

    def chunk(self) -> tuple[ChunkId, bytes]:
        """The next chunk, which is stored."""
        data = b"%0*x" % (CHUNK_BYTES, self.made)
        self.made += 1
        chunk = ChunkId(self.repository.keyring.id_key(Kind.DATA).digest(data))
        self._ids.append(chunk)
        self._raw.append(data)
        if len(self._ids) == CHUNKS_PER_BLOCK:
            self._close_block()
        return chunk, data

    def finish(self) -> None:
        if self._ids:
            self._close_block()
        self._close_pack()
        self._close_segment()

    def _close_block(self) -> None:
        if self._pack is None:
            self._pack = PackBuilder(self.repository.keyring, Kind.DATA, self.repository.config.pack_bytes)
        raw = b"".join(self._raw)
        lengths = [CHUNK_BYTES] * len(self._ids)
        self._pack.add(Payload(codec=Codec.RAW, data=raw), len(raw), self._ids, lengths)
        self._ids, self._raw = [], []
        if len(self._pack.blocks) == BLOCKS_PER_PACK:
            self._close_pack()

    def _close_pack(self) -> None:
        if self._pack is None:
            return
        pack, self._pack = self._pack.finish(full=False), None
        self.repository.store.put(pack.name.key, pack.parts)
        self._facts.append(pack_facts(pack))
        if len(self._facts) == PACKS_PER_SEGMENT:
            self._close_segment()

    def _close_segment(self) -> None:
        facts, self._facts = self._facts, []
        if facts:
            self.repository.store.barrier()
            _, key, sealed = encode_segment(self.repository.keyring, facts)
            self.repository.store.put(key, [sealed])
            self.repository.store.barrier()


def fill(repository: Repository, chunks: int) -> tuple[Snapshot, Snapshot]:
    """Fill an empty repository: a snapshot that needs all `chunks`, and one that needs nine tenths of them."""
    data = _Data(repository)
    with repository.writer(repository.look()) as writer:
        roots = _trees(writer, data, chunks)
    # After the manifests: so the writer's look at the repository is of none of these.
    data.finish()
    whole, thinned = (_snapshot(root, number) for number, root in enumerate(roots))
    for snapshot in (whole, thinned):
        repository.catalog.put_commit(snapshot.id, repository.catalog.put_root(snapshot), snapshot.end_ns)
    return whole, thinned


def _trees(writer: ChunkWriter, data: _Data, chunks: int) -> tuple[ChunkId, ChunkId]:
    def save(manifest: bytes, first: bytes) -> ChunkId:
        return writer.save(Kind.MANIFEST, manifest)

    whole, thinned = TreeWriter(save), TreeWriter(save)
    number = 0
    while data.made < chunks:
        files = list(_files(data, chunks))
        name = b"directory-%06d" % number
        tree = _directory(save, files)
        kept = tree if number % THINNED else _directory(save, files[::2])
        whole.add(_entry(name, tree))
        thinned.add(_entry(name, kept))
        number += 1
        writer.checkpoint()
    return _top(save, whole), _top(save, thinned)


def _files(data: _Data, chunks: int) -> Iterator[Entry]:
    for number in range(FILES_PER_DIRECTORY):
        left = min(CHUNKS_PER_FILE, chunks - data.made)
        if not left:
            return
        entry = Entry(name=b"file-%03d" % number, kind=FILE, mode=0o644, mtime=TIME_NS, size=left * CHUNK_BYTES)
        content = ContentWriter(_no_pages)
        whole = StreamHash()
        for _ in range(left):
            chunk, raw = data.chunk()
            content.add(chunk, len(raw))
            whole.update(raw)
        content.finish(entry)
        entry.hash = whole.digest() if left > 1 else b""
        yield entry


def _no_pages(manifest: bytes, first: bytes) -> ChunkId:
    raise AssertionError("so few chunks have their list in the entry")


def _directory(save: Save, files: list[Entry]) -> ChunkId:
    tree = TreeWriter(save)
    for entry in files:
        tree.add(entry)
    return tree.finish()


def _entry(name: bytes, tree: ChunkId) -> Entry:
    return Entry(name=name, kind=DIRECTORY, mode=0o755, mtime=TIME_NS, tree=tree)


def _top(save: Save, directories: TreeWriter) -> ChunkId:
    """The root of a snapshot of one directory that holds all the others."""
    return _directory(save, [_entry(b"tree", directories.finish())])


def _snapshot(root: ChunkId, number: int) -> Snapshot:
    time_ns = TIME_NS + number * 3600 * 10**9
    return Snapshot(
        id=SnapshotId(uuid.uuid4().bytes),
        run=uuid.uuid4().bytes,
        source="synthetic",
        kind="files",
        trigger="manual",
        host="nowhere",
        user="nobody",
        start_ns=time_ns,
        end_ns=time_ns,
        root=root,
        origins=((b"tree", b"/nowhere/tree"),),
    )
