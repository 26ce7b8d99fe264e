"""What the snapshots need: every root walked, one bit a chunk, so that it fits in memory for any repository.

Used by one thread.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import accumulate

from dedupstore.cancel import CancelToken
from dedupstore.engine.health import Health
from dedupstore.engine.prune_roots import list_roots
from dedupstore.engine.twice import twice
from dedupstore.engine.unreadable import as_forgotten
from dedupstore.errors import DedupError, IntegrityError, ObjectNotFound, StoreError, StoreGone
from dedupstore.events import Listener, Progress
from dedupstore.model.entry import DIRECTORY, FILE, Entry
from dedupstore.model.snapshot import Snapshot
from dedupstore.model.survey import survey
from dedupstore.model.tree import content_manifests, read_content, read_whole_tree
from dedupstore.repo.badlist import BadPlaces
from dedupstore.repo.index import Index, Location
from dedupstore.repo.reader import ChunkReader
from dedupstore.repo.repository import Repository
from dedupstore.types import ChunkId, SnapshotId
from dedupstore.units import short_id

_REMEMBERED = 1 << 17
"""So many chunks are known again without asking the index, some 15 MB: a changed directory has most of its old ones."""


class ChunkBits:
    """A set of stored copies of chunks: one bit each, by pack."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._packs: dict[int, tuple[array[int], bytearray]] = {}

    def add(self, at: Location) -> bool:
        """Whether the copy is new to the set."""
        starts, bits = self._packs.get(at.pack_no) or self._new(at.pack_no)
        byte, bit = divmod(starts[at.block_no] + at.position, 8)
        if bits[byte] >> bit & 1:
            return False
        bits[byte] |= 1 << bit
        return True

    def discard(self, at: Location) -> None:
        found = self._packs.get(at.pack_no)
        if found is not None:
            starts, bits = found
            byte, bit = divmod(starts[at.block_no] + at.position, 8)
            bits[byte] &= ~(1 << bit)

    def has(self, at: Location) -> bool:
        found = self._packs.get(at.pack_no)
        if found is None:
            return False
        starts, bits = found
        byte, bit = divmod(starts[at.block_no] + at.position, 8)
        return bool(bits[byte] >> bit & 1)

    def positions(self, pack_no: int, block_no: int) -> list[int]:
        """Which chunks of one block are in the set."""
        found = self._packs.get(pack_no)
        if found is None:
            return []
        starts, bits = found
        first, end = starts[block_no], starts[block_no + 1]
        return [at - first for at in range(first, end) if bits[at >> 3] >> (at & 7) & 1]

    def packs(self) -> Iterator[int]:
        """The numbers of the packs that hold any of them."""
        return (number for number, (_, bits) in self._packs.items() if any(bits))

    def _new(self, pack_no: int) -> tuple[array[int], bytearray]:
        starts = _starts(self._index, pack_no)
        made = self._packs[pack_no] = (starts, bytearray(starts[-1] // 8 + 1))
        return made


class ChunkCounts:
    """How many need each of some stored copies of chunks: four bytes each, by pack."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._packs: dict[int, tuple[array[int], array[int]]] = {}

    def __bool__(self) -> bool:
        return bool(self._packs)

    def add(self, places: Iterable[Location]) -> None:
        for at in places:
            starts, counts = self._packs.get(at.pack_no) or self._new(at.pack_no)
            counts[starts[at.block_no] + at.position] += 1

    def remove(self, places: Iterable[Location]) -> None:
        """What was added before."""
        for at in places:
            starts, counts = self._packs[at.pack_no]
            counts[starts[at.block_no] + at.position] -= 1

    def count(self, at: Location) -> int:
        starts, counts = self._packs[at.pack_no]
        return counts[starts[at.block_no] + at.position]

    def _new(self, pack_no: int) -> tuple[array[int], array[int]]:
        starts = _starts(self._index, pack_no)
        made = self._packs[pack_no] = (starts, array("I", bytes(4 * starts[-1])))
        return made


def _starts(index: Index, pack_no: int) -> array[int]:
    """By block, which chunk of the pack is its first; their number at the end."""
    return array("I", accumulate((len(block.lengths) for block in index.blocks(pack_no)), initial=0))


class Marker:
    """Walks roots and tells of every chunk that they reach, once.

    A snapshot must be readable to its last manifest. A root without a commit need not: its writer may have failed
    because its chunks were gone, or the bases of one that is there as a delta. That such a root is walked only as far as
    its manifests are there, and that a chunk which no packs give is not told of, is safe: a writer commits only after a
    last look, at which all its chunks were in packs of no plan. A plan made after that look is carried out by somebody
    who finds those packs; one made before was seen, and the writer does without its packs. What is known to be damaged
    and cannot be read either is left out as well: it is lost whether or not that root becomes a snapshot. Whoever deletes
    for it must see afterwards that no pack has gone meanwhile, for then it may only have moved, and that none of these roots
    has become a snapshot (`left_out`).
    """

    def __init__(
        self,
        repository: Repository,
        present: set[int],
        on_chunk: Callable[[ChunkId, Location], None],
        listener: Listener,
        cancel: CancelToken,
        on_lost: Callable[[ChunkId], None] | None = None,
        bad: BadPlaces | None = None,
    ) -> None:
        """`present`: the packs that are there, with the right size. `on_chunk` is told one place where each chunk lies.

        `on_lost` is told of each chunk of a snapshot that none of these packs gives. `bad`: what is known to be damaged.
        """
        self._repository = repository
        self._on_chunk = on_chunk
        self._on_lost = on_lost
        self._listener = listener
        self._cancel = cancel
        self._met = ChunkBits(repository.index)
        self._known: set[ChunkId] = set()
        """Some of what was met, to be known again at once."""

        self._find = repository.index.find
        self._health = Health(repository.index, present)
        self._sound = Health(repository.index, present, bad)
        self._reader = ChunkReader(repository.store, repository.keyring, repository.index, usable=present)
        self.left_out: set[SnapshotId] = set()
        """Roots without a commit of which anything was taken for lost."""

        self._progress = Progress(phase="mark")
        self._forgiving = False
        self._root = SnapshotId(b"")

    def mark(self, roots: Iterable[SnapshotId]) -> None:
        """Raises IntegrityError when a snapshot cannot be walked: on incomplete knowledge nothing is deleted.

        A marker that has raised is of no use any more: what it has met, it has perhaps not looked into. A root that is
        gone before it is read was expired by somebody else, and nobody needs what it reached.
        """
        commits = set(self._repository.catalog.committed())
        # Snapshots first: what a broken root has been into must not be passed over for one of them.
        wanted = sorted(roots, key=lambda root: (root not in commits, root))
        self._progress.files_total = len(wanted)
        for identifier in wanted:
            self._root, self._forgiving = identifier, identifier not in commits
            try:
                snapshot: Snapshot | None = self._repository.catalog.get_uncommitted(identifier)
            except ObjectNotFound as error:
                # One answer is no proof of absence: what only this root needs would be deleted.
                if identifier in list_roots(self._repository):
                    raise _unreadable(identifier, error) from error
                continue
            except IntegrityError as error:
                snapshot = self._as_forgotten(identifier, error)
            if snapshot is not None:
                self._walk(snapshot.root)
            self._progress.files_done += 1
            self._listener.progress(self._progress)

    def _as_forgotten(self, identifier: SnapshotId, error: IntegrityError) -> Snapshot | None:
        catalog = self._repository.catalog
        if catalog.has_commit(identifier):
            raise _unreadable(identifier, error) from error
        try:
            return as_forgotten(catalog, identifier)
        except (IntegrityError, ObjectNotFound):
            raise _unreadable(identifier, error) from error

    def _walk(self, root: ChunkId) -> None:
        stack = [root]
        while stack:
            tree = stack.pop()
            if tree in self._known:
                # Nearly all below a directory that has changed: the index need not be asked.
                continue
            at = self._find(tree)
            if at is not None and self._met.has(at):
                continue
            self._cancel.check()
            stack.extend(self._directory(tree))

    def _directory(self, tree: ChunkId) -> list[ChunkId]:
        """Meet what one directory consists of, as far as it is there; the directories below it."""
        below: list[ChunkId] = []
        with self._forgiven():
            self._meet(tree)
            page = survey(self._load(tree))
            if page is not None:
                for chunk, _ in page[3]:
                    self._meet(chunk)
                return page[4]
        # Of several pages, or with a file whose content list is.
        with self._forgiven():
            for part in read_whole_tree(self._load, tree):
                if not isinstance(part, Entry):
                    self._meet(part)
                elif part.kind == DIRECTORY and part.tree is not None:
                    below.append(part.tree)
                elif part.kind == FILE:
                    self._file(part)
        return below

    def _file(self, entry: Entry) -> None:
        if entry.pages is None:
            # Nearly all files: nothing has to be loaded for it, so nothing can be lost on the way.
            for chunk, _ in entry.inline_references():
                self._meet(chunk)
            return
        with self._forgiven():
            for manifest in content_manifests(self._load, entry):
                self._meet(manifest)
        with self._forgiven():
            for chunk, _ in read_content(self._load, entry):
                self._meet(chunk)

    def _meet(self, chunk: ChunkId) -> None:
        known = self._known
        if chunk in known:
            return
        at = self._find(chunk)
        if at is None:
            if not self._forgiving:
                raise _unreadable(self._root, _absent(chunk))
            return
        if self._met.add(at):
            if self._forgiving and self._is_lost(chunk, at):
                self.left_out.add(self._root)
            else:
                self._on_chunk(chunk, at)
                if self._on_lost is not None and not self._health.usable(chunk):
                    self._on_lost(chunk)
        if len(known) >= _REMEMBERED:
            known.clear()
        known.add(chunk)

    def _is_lost(self, chunk: ChunkId, at: Location) -> bool:
        """Whether it cannot be had, as far as is known, and cannot be read either: the list of damage may be wrong."""
        if self._sound.usable(chunk):
            return False
        kind = self._repository.index.pack(at.pack_no).kind
        try:
            twice(lambda: self._reader.read(kind, chunk))
        except StoreGone:
            raise
        except (IntegrityError, ObjectNotFound):
            return True
        except StoreError:
            # We may not read it, or not just now: that says nothing of it.
            return False
        return False

    def _load(self, chunk: ChunkId) -> bytes:
        try:
            return self._reader.load_manifest(chunk)
        except StoreGone:
            raise
        except (IntegrityError, StoreError):
            if not self._health.usable(chunk):
                raise _Absent from None
        # It is there: what came over the line may have been damaged on the way.
        self._cancel.check()
        try:
            return self._reader.load_manifest(chunk)
        except (IntegrityError, ObjectNotFound):
            if self._forgiving and not self._sound.usable(chunk):
                raise _Absent from None
            raise

    @contextmanager
    def _forgiven(self) -> Iterator[None]:
        """Leave out what a root without a commit has lost; of a forgotten one, what is damaged, too."""
        try:
            yield
        except (_Absent, IntegrityError, ObjectNotFound) as error:
            catalog = self._repository.catalog
            if not self._forgiving or catalog.has_commit(self._root):
                raise _unreadable(self._root, error) from error
            if not isinstance(error, _Absent) and not catalog.is_forgotten(self._root):
                raise _unreadable(self._root, error) from error
            self.left_out.add(self._root)


class _Absent(Exception):
    """A manifest of which no packs that are there hold a usable copy."""


def _absent(chunk: ChunkId) -> IntegrityError:
    return IntegrityError(f"chunk {chunk.hex()[:16]} is in no indexed pack")


def _unreadable(identifier: SnapshotId, error: Exception) -> IntegrityError:
    if isinstance(error, IntegrityError) and error.code == "prune.unreadable":
        return error
    why = "a part of its tree is lost"
    if isinstance(error, DedupError):
        why = error.in_one_line
    return IntegrityError(
        f"snapshot {short_id(identifier)} cannot be walked, so nothing was pruned",
        why=why,
        hints=[
            "find out what is damaged: dedup check",
            f"a damaged snapshot that is forgotten stops prune no more: dedup forget {short_id(identifier)}",
        ],
        code="prune.unreadable",
    )
