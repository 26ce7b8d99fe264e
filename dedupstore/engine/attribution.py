"""Whose are the stored bytes: what would be free if some snapshots were not there.

Every block is given to the group of snapshots that needs it, or to nobody when two groups do. A block is needed when one
of its chunks is, or when a needed delta block has one of its chunks as a base. Memory: four bytes a block, three bits a
manifest, whatever the number of snapshots; a directory is read twice at most.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from dedupstore.cancel import CancelToken
from dedupstore.codec.block import BASED
from dedupstore.engine.health import Marks
from dedupstore.engine.prune_roots import marked_ns
from dedupstore.engine.undo_window import Elapsed
from dedupstore.engine.unreadable import as_forgotten
from dedupstore.errors import IntegrityError, MissingChunk
from dedupstore.events import Listener, Progress
from dedupstore.model.entry import FILE
from dedupstore.model.snapshot import Snapshot
from dedupstore.model.tree import content_manifests, read_content, read_tree, tree_manifests
from dedupstore.repo.catalog import UNDO_WINDOW_SECONDS
from dedupstore.repo.index import Location
from dedupstore.repo.repository import Repository
from dedupstore.repo.view import View
from dedupstore.types import ChunkId, SnapshotId

_NOBODY, _SEVERAL = 0, -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Freed:
    """What nothing but one group needs. Sizes in bytes, as stored; records of snapshots are not counted."""

    packs: int
    pack_bytes: int
    """Packs in which nothing else needs anything, whole: prune deletes them and writes nothing."""

    blocks: int
    block_bytes: int
    """Blocks of other packs that nothing else needs: prune has to rewrite these packs to free them."""

    @property
    def total(self) -> int:
        return self.pack_bytes + self.block_bytes


def freed_together(
    repository: Repository, removed: Sequence[Snapshot], listener: Listener, cancel: CancelToken
) -> Freed:
    """What removing these snapshots would free, once it can no longer be undone.

    What stays are all other snapshots, those that were forgotten and can be brought back, and runs that are under way
    or were stopped. Raises MissingChunk or another IntegrityError for trees that cannot be read: then nobody can say.
    """
    stays = _staying(repository, {snapshot.id for snapshot in removed})
    return attribute(repository, [stays, [snapshot.root for snapshot in removed]], listener, cancel)[1]


def freed_alone(
    repository: Repository, snapshots: Sequence[Snapshot], listener: Listener, cancel: CancelToken
) -> list[Freed]:
    """The same for each of these snapshots, removed alone, with all others kept."""
    stays = _staying(repository, {snapshot.id for snapshot in snapshots})
    return attribute(repository, [stays, *([snapshot.root] for snapshot in snapshots)], listener, cancel)[1:]


def attribute(
    repository: Repository, groups: Sequence[Sequence[ChunkId]], listener: Listener, cancel: CancelToken
) -> list[Freed]:
    """What one group of root manifests alone needs, group by group."""
    owners = _Owners(repository, repository.look())
    visited, shared = Marks(repository.index), Marks(repository.index)
    progress = Progress(phase="measure")
    for number, roots in enumerate(groups, start=1):
        here = Marks(repository.index)
        stack = list(roots)
        while stack:
            cancel.check()
            tree = stack.pop()
            # What a second group meets again is walked once more, so that it is nobody's; then never again.
            if not here.add(tree) or (not visited.add(tree) and not shared.add(tree)):
                continue
            stack.extend(_give(repository, tree, owners, number))
            progress.files_done += 1
            listener.progress(progress)
    return owners.freed(len(groups))


def _staying(repository: Repository, removed: Collection[SnapshotId]) -> list[ChunkId]:
    """The trees that a prune keeps when these snapshots are gone."""
    catalog, elapsed = repository.catalog, Elapsed.in_repository(repository)
    listing = catalog.snapshots()
    window_ns = UNDO_WINDOW_SECONDS * 1_000_000_000
    stays = [snapshot.root for snapshot in listing.snapshots if snapshot.id not in removed]
    for identifier in listing.uncommitted:
        when_ns = marked_ns(repository, identifier)
        if when_ns is None or elapsed.since(when_ns) < window_ns:
            try:
                record: Snapshot | None = catalog.get_uncommitted(identifier)
            except IntegrityError:
                record = as_forgotten(catalog, identifier)
            if record is not None:
                stays.append(record.root)
    return stays


def _give(repository: Repository, tree: ChunkId, owners: _Owners, number: int) -> list[ChunkId]:
    """Give what one directory consists of to a group; the directories below it."""
    load = repository.reader.load_manifest
    below: list[ChunkId] = []
    for manifest in tree_manifests(load, tree):
        owners.give(manifest, number)
    for entry in read_tree(load, tree):
        if entry.tree is not None:
            below.append(entry.tree)
        elif entry.kind == FILE:
            for manifest in content_manifests(load, entry):
                owners.give(manifest, number)
            for chunk, _ in read_content(load, entry):
                owners.give(chunk, number)
    return below


class _Owners:
    """The owner of every block: the number of a group, several, or nobody."""

    def __init__(self, repository: Repository, view: View) -> None:
        self._index = repository.index
        self._usable = view.usable
        self._gone = view.gone
        self._owners: dict[int, array[int]] = {}

    def give(self, chunk: ChunkId, number: int) -> None:
        location = self._index.find(chunk)
        if location is None or location.pack_no not in self._usable:
            location = self._other_copy(chunk, lambda copy: True)
        self._give_block(location.pack_no, location.block_no, number)

    def freed(self, groups: int) -> list[Freed]:
        """By group, from number 1 on."""
        whole = [[0, 0] for _ in range(groups + 1)]
        parts = [[0, 0] for _ in range(groups + 1)]
        for pack_no, owners in self._owners.items():
            needing = set(owners) - {_NOBODY}
            if len(needing) == 1 and _SEVERAL not in needing:
                _add(whole[needing.pop()], self._index.pack(pack_no).size)
                continue
            for block_no, owner in enumerate(owners):
                if owner > 0:
                    _add(parts[owner], self._index.block(pack_no, block_no).stored)
        return [
            Freed(packs=packs, pack_bytes=pack_bytes, blocks=blocks, block_bytes=block_bytes)
            for (packs, pack_bytes), (blocks, block_bytes) in zip(whole[1:], parts[1:], strict=True)
        ]

    def _give_block(self, pack_no: int, block_no: int, number: int) -> None:
        owners = self._owners.setdefault(pack_no, array("i"))
        if block_no >= len(owners):
            owners.extend([_NOBODY] * (block_no + 1 - len(owners)))
        owner = owners[block_no]
        if owner in (number, _SEVERAL):
            return
        owners[block_no] = number if owner == _NOBODY else _SEVERAL
        block = self._index.block(pack_no, block_no)
        if block.codec in BASED:
            for base in block.bases:
                # A base is read from a full copy: depth is one.
                copy = self._other_copy(base, self._is_full)
                self._give_block(copy.pack_no, copy.block_no, number)

    def _other_copy(self, chunk: ChunkId, fits: Callable[[Location], bool]) -> Location:
        """The copy that stays; of what is only in condemned packs yet, and will be moved, the one there is."""
        copies = [copy for copy in self._index.find_all(chunk) if copy.pack_no not in self._gone and fits(copy)]
        if not copies:
            raise MissingChunk(f"chunk {chunk.hex()[:16]} is in no pack that the index knows")
        return next((copy for copy in copies if copy.pack_no in self._usable), copies[0])

    def _is_full(self, copy: Location) -> bool:
        return self._index.block(copy.pack_no, copy.block_no).codec not in BASED


def _add(row: list[int], size: int) -> None:
    row[0] += 1
    row[1] += size
