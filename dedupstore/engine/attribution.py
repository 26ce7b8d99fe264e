"""Whose are the stored bytes: what would be free if some snapshots were not there.

Every block is given to the group of snapshots that needs it, or to nobody when two groups do. A block is needed when one
of its chunks is, or when a needed delta block has one of its chunks as a base. Memory: four bytes a block, three bits a
manifest, whatever the number of snapshots; a directory is read twice at most.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence

from dedupstore.cancel import CancelToken
from dedupstore.codec.block import Codec
from dedupstore.engine.health import Marks
from dedupstore.events import Listener, Progress
from dedupstore.model.entry import FILE
from dedupstore.model.snapshot import Snapshot
from dedupstore.model.tree import content_manifests, read_content, read_tree, tree_manifests
from dedupstore.repo.repository import Repository
from dedupstore.types import ChunkId

_NOBODY, _SEVERAL = 0, -1


def freed_bytes(
    repository: Repository, kept: Sequence[Snapshot], removed: Sequence[Snapshot], listener: Listener,
    cancel: CancelToken,
) -> int:  # fmt: skip
    """Stored bytes of the blocks that `removed` needs and `kept` does not: what removing them would free, exactly.

    The records themselves, the directories of packs and their padding are not counted. Blocks of which a part is
    needed stay. Runs that were stopped before their snapshot was complete keep what they need, as `kept` does.
    """
    roots = [snapshot.root for snapshot in kept]
    groups = [roots + _uncommitted(repository), [snapshot.root for snapshot in removed]]
    return attribute(repository, groups, listener, cancel)[1]


def freed_alone(
    repository: Repository, snapshots: Sequence[Snapshot], every: Sequence[Snapshot], listener: Listener,
    cancel: CancelToken,
) -> list[int]:  # fmt: skip
    """The same for each of `snapshots`, removed alone, with all others of `every` kept."""
    chosen = {snapshot.id for snapshot in snapshots}
    others = [snapshot.root for snapshot in every if snapshot.id not in chosen]
    groups = [others + _uncommitted(repository), *([snapshot.root] for snapshot in snapshots)]
    return attribute(repository, groups, listener, cancel)[1:]


def attribute(
    repository: Repository, groups: Sequence[Sequence[ChunkId]], listener: Listener, cancel: CancelToken
) -> list[int]:
    """Stored bytes of the blocks that one group of root manifests alone needs, group by group."""
    repository.look()
    owners = _Owners(repository)
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
    return owners.bytes_of(len(groups))


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

    def __init__(self, repository: Repository) -> None:
        self._index = repository.index
        self._locate = repository.reader.locate
        self._owners: dict[int, array[int]] = {}

    def give(self, chunk: ChunkId, number: int) -> None:
        location = self._locate(chunk)
        self._give_block(location.pack_no, location.block_no, number)

    def bytes_of(self, groups: int) -> list[int]:
        """Stored bytes by group, from number 1 on."""
        found = [0] * (groups + 1)
        for pack_no, owners in self._owners.items():
            for block_no, owner in enumerate(owners):
                if owner > 0:
                    found[owner] += self._index.block(pack_no, block_no).stored
        return found[1:]

    def _give_block(self, pack_no: int, block_no: int, number: int) -> None:
        owners = self._owners.setdefault(pack_no, array("i"))
        if block_no >= len(owners):
            owners.extend([_NOBODY] * (block_no + 1 - len(owners)))
        owner = owners[block_no]
        if owner in (number, _SEVERAL):
            return
        owners[block_no] = number if owner == _NOBODY else _SEVERAL
        block = self._index.block(pack_no, block_no)
        if block.codec == Codec.DELTA:
            for base in block.bases:
                self._give_base(base, number)

    def _give_base(self, base: ChunkId, number: int) -> None:
        """A base is read from a full copy: depth is one."""
        for copy in self._index.find_all(base):
            if self._index.block(copy.pack_no, copy.block_no).codec != Codec.DELTA:
                self._give_block(copy.pack_no, copy.block_no, number)
                return


def _uncommitted(repository: Repository) -> list[ChunkId]:
    catalog = repository.catalog
    return [catalog.get_uncommitted(identifier).root for identifier in catalog.snapshots().uncommitted]
