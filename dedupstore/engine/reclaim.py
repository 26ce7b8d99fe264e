"""What forgetting snapshots would free, in stored bytes: the blocks that nothing else needs.

A block is needed when a snapshot reaches a chunk of which it holds the copy that readers prefer, or when a needed delta
block names a base of which it holds the preferred full copy. First everything that stays marks what it needs, then
everything that goes; what only the second finds is what is freed. Kept as one bit a chunk and one a block.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from dedupstore.cancel import CancelToken
from dedupstore.codec.block import Codec
from dedupstore.engine.health import Marks
from dedupstore.errors import MissingChunk
from dedupstore.model.entry import DIRECTORY, FILE
from dedupstore.model.tree import content_manifests, read_content, read_tree, tree_manifests
from dedupstore.repo.index import Location
from dedupstore.repo.reader import ChunkReader
from dedupstore.repo.repository import Repository
from dedupstore.types import ChunkId


@dataclass(frozen=True, slots=True, kw_only=True)
class Reclaimed:
    """Sizes in bytes, as stored."""

    packs: int
    pack_bytes: int
    """Packs in which nothing else needs anything, whole: prune deletes them and writes nothing."""

    blocks: int
    block_bytes: int
    """Blocks of other packs that nothing else needs: prune has to rewrite these packs to free them."""

    @property
    def total(self) -> int:
        return self.pack_bytes + self.block_bytes


def measure_reclaimed(
    repository: Repository, stays: Iterable[ChunkId], goes: Iterable[ChunkId], cancel: CancelToken
) -> Reclaimed:
    """What would be freed if the trees `goes` went and the trees `stays` stayed (and nothing else did).

    Raises MissingChunk or another IntegrityError for trees that cannot be read: then nobody can say.
    """
    view = repository.look()
    needs = _Needs(repository, ChunkReader(repository.store, repository.keyring, repository.index), view.usable, cancel)
    for tree in stays:
        needs.add(tree)
    kept = {pack_no: bytes(blocks) for pack_no, blocks in needs.blocks.items()}
    for tree in goes:
        needs.add(tree)
    return _difference(repository, kept, needs.blocks)


def _difference(repository: Repository, kept: dict[int, bytes], needed: dict[int, bytearray]) -> Reclaimed:
    blocks = block_bytes = packs = pack_bytes = 0
    for pack_no, here in needed.items():
        before = kept.get(pack_no, b"").ljust(len(here), b"\0")
        freed = [number for number, is_needed in enumerate(here) if is_needed > before[number]]
        if not any(before):
            packs += 1
            pack_bytes += repository.index.pack(pack_no).size
        else:
            blocks += len(freed)
            block_bytes += sum(repository.index.block(pack_no, number).stored for number in freed)
    return Reclaimed(packs=packs, pack_bytes=pack_bytes, blocks=blocks, block_bytes=block_bytes)


@dataclass(slots=True)
class _Needs:
    """The blocks that trees need: a byte each, by pack."""

    repository: Repository
    reader: ChunkReader
    usable: set[int]
    cancel: CancelToken
    blocks: dict[int, bytearray] = field(default_factory=dict)
    _seen: Marks = field(init=False)

    def __post_init__(self) -> None:
        self._seen = Marks(self.repository.index)

    def add(self, root: ChunkId) -> None:
        """Mark every block that the tree needs; directories met before are not read again."""
        load = self.reader.load_manifest
        stack = [root]
        while stack:
            tree = stack.pop()
            if not self._seen.add(tree):
                continue
            self.cancel.check()
            for manifest in tree_manifests(load, tree):
                self._need(manifest)
            for entry in read_tree(load, tree):
                if entry.kind == DIRECTORY and entry.tree is not None:
                    stack.append(entry.tree)
                elif entry.kind == FILE:
                    if entry.pages is not None:
                        for manifest in content_manifests(load, entry):
                            self._need(manifest)
                    for chunk, _ in read_content(load, entry):
                        self._need(chunk)

    def _need(self, chunk: ChunkId) -> None:
        location = self.repository.index.find(chunk)
        if location is None or location.pack_no not in self.usable:
            location = self._other_copy(chunk, full=False)
        if self._mark(location):
            block = self.repository.index.block(location.pack_no, location.block_no)
            if block.codec == Codec.DELTA:
                for base in block.bases:
                    self._mark(self._other_copy(base, full=True))

    def _other_copy(self, chunk: ChunkId, *, full: bool) -> Location:
        index = self.repository.index
        for copy in index.find_all(chunk):
            if copy.pack_no in self.usable:
                if not full or index.block(copy.pack_no, copy.block_no).codec != Codec.DELTA:
                    return copy
        raise MissingChunk(f"chunk {chunk.hex()[:16]} is in no pack of this repository")

    def _mark(self, location: Location) -> bool:
        """Whether the block was not needed so far."""
        blocks = self.blocks.setdefault(location.pack_no, bytearray())
        number = location.block_no
        if number >= len(blocks):
            blocks.extend(bytes(number + 1 - len(blocks)))
        new = not blocks[number]
        blocks[number] = 1
        return new
