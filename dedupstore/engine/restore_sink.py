"""Where restored files go: the seam between the restore and a directory, or nothing at all (a drill)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol

from dedupstore.engine.restore_links import First
from dedupstore.engine.restore_options import Action
from dedupstore.engine.restore_plan import Reader
from dedupstore.engine.restore_walk import Met
from dedupstore.engine.target import Folder, Identity
from dedupstore.model.entry import Entry
from dedupstore.types import ChunkId, Data, Kind


class Whole(NamedTuple):
    """A small file with all of its content."""

    folder: Folder
    entry: Entry
    data: Data


Failures = list[tuple[Whole, OSError]]


class SinkFile(Protocol):
    """A file that arrives in pieces, in any order, from many threads. Positions count the stream without holes."""

    def write(self, position: int, parts: Sequence[memoryview]) -> None:
        """Adjacent pieces, the first at `position`."""
        ...

    def keep(self, chunks: Sequence[ChunkId], parts: Sequence[memoryview]) -> object:
        """Something by which `recall` finds these written pieces again; it keeps none of their bytes in memory."""
        ...

    def recall(self, position: int, kept: object) -> Iterator[Data]: ...

    def finish(self) -> Identity | None:
        """All pieces are there and right: make the file visible."""
        ...

    def abandon(self) -> None:
        """Undo everything; never raises."""
        ...


class Sink(Protocol):
    """Methods that meet a single bad name raise OSError; the restore tells it as a finding and goes on.

    `put`, `put_many`, `start` and the methods of a SinkFile are called from any thread, all others from the one that
    runs the restore.
    """

    def place(self, path: bytes) -> tuple[Folder, bytes] | None:
        """Where something at the top of the snapshot goes (restore_walk.Place)."""
        ...

    def enter(self, folder: Folder, entry: Entry, *, whole: bool) -> Action:
        """Make a directory ready to be filled; SKIP leaves it out."""
        ...

    def leave(self, met: Met) -> None:
        """Everything in a directory is done."""
        ...

    def extras(self, met: Met) -> Iterable[bytes]:
        """Names in a directory just left that the snapshot does not have and that are to go."""
        ...

    def delete(self, folder: Folder, name: bytes) -> int:
        """Remove an extra with all below; how many names went."""
        ...

    def decide(self, folder: Folder, entry: Entry) -> Action:
        """What has to be done about an entry that is no directory. Changes nothing."""
        ...

    def clear(self, folder: Folder, entry: Entry) -> None:
        """Make room for an entry that is about to replace something."""
        ...

    def refresh(self, folder: Folder, entry: Entry) -> None:
        """Set the metadata of an entry whose content is right."""
        ...

    def make(self, folder: Folder, entry: Entry, *, replace: bool) -> bool:
        """Make a link, pipe, socket or device; False when it is left out on purpose."""
        ...

    def identity(self, folder: Folder, entry: Entry) -> Identity | None: ...

    def link(self, folder: Folder, entry: Entry, first: First) -> None:
        """Make a further name of a file of this run."""
        ...

    def put(self, folder: Folder, entry: Entry, data: Data) -> Identity | None:
        """A whole small file at once; its identity when the entry belongs to a group of hard links."""
        ...

    def put_many(self, files: Sequence[Whole]) -> Failures:
        """Many of them, none of a group; those that could not be written."""
        ...

    def start(self, folder: Folder, entry: Entry) -> SinkFile: ...


class NullSink:
    """Takes everything and keeps nothing: every chunk is read and every hash compared, nothing is written."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._root = Folder(None, b"")

    def place(self, path: bytes) -> tuple[Folder, bytes] | None:
        return self._root, path

    def enter(self, folder: Folder, entry: Entry, *, whole: bool) -> Action:
        return Action.CREATE

    def leave(self, met: Met) -> None:
        pass

    def extras(self, met: Met) -> Iterable[bytes]:
        return ()

    def delete(self, folder: Folder, name: bytes) -> int:
        return 0

    def decide(self, folder: Folder, entry: Entry) -> Action:
        return Action.CREATE

    def clear(self, folder: Folder, entry: Entry) -> None:
        pass

    def refresh(self, folder: Folder, entry: Entry) -> None:
        pass

    def make(self, folder: Folder, entry: Entry, *, replace: bool) -> bool:
        return True

    def identity(self, folder: Folder, entry: Entry) -> Identity | None:
        return (0, 0)

    def link(self, folder: Folder, entry: Entry, first: First) -> None:
        pass

    def put(self, folder: Folder, entry: Entry, data: Data) -> Identity | None:
        return (0, 0)

    def put_many(self, files: Sequence[Whole]) -> Failures:
        return []

    def start(self, folder: Folder, entry: Entry) -> SinkFile:
        return _NullFile(self._reader)


class _NullFile:
    """Pieces that come early are read a second time when their turn comes."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def write(self, position: int, parts: Sequence[memoryview]) -> None:
        pass

    def keep(self, chunks: Sequence[ChunkId], parts: Sequence[memoryview]) -> object:
        return tuple(chunks)

    def recall(self, position: int, kept: object) -> Iterator[Data]:
        assert isinstance(kept, tuple)
        return (self._reader.read(Kind.DATA, chunk) for chunk in kept)

    def finish(self) -> Identity | None:
        return (0, 0)

    def abandon(self) -> None:
        pass
