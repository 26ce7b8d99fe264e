"""One file on its way into a target: a temporary of random name, written at offsets, renamed when it is whole."""

from __future__ import annotations

import errno
import os
from bisect import bisect_right
from collections.abc import Iterator, Sequence

from dedupstore.engine.descriptors import DescriptorCache, Held
from dedupstore.engine.target import CREATE_FLAGS, Folder, Identity, Target, identity_of
from dedupstore.engine.target_metadata import Metadata
from dedupstore.model.entry import Entry
from dedupstore.storage.system import write_passing, write_pieces
from dedupstore.types import ChunkId, Data

_READ_BYTES = 1 << 20
_ZERO_RUN = 64 << 10
_ZEROS = bytes(_ZERO_RUN)


class TargetFile(Held):
    """A file of several chunks. Created on disk at the first write; chunks may come in any order, from any thread.

    Positions count the stored stream, which leaves out holes; `write` puts each piece where it belongs.
    """

    __slots__ = (
        "folder",
        "entry",
        "_target",
        "_files",
        "_metadata",
        "_sparse",
        "_name",
        "_identity",
        "_created",
        "_map",
    )

    def __init__(
        self, target: Target, files: DescriptorCache, metadata: Metadata, folder: Folder, entry: Entry, *, sparse: bool
    ) -> None:
        super().__init__()
        self.folder = folder
        self.entry = entry
        self._target = target
        self._files = files
        self._metadata = metadata
        self._sparse = sparse
        self._identity: Identity | None = None
        self._map = StreamMap(entry) if entry.holes else None
        self._name = target.temporary_name()
        self._created = metadata.creation(folder, entry)
        with target.use(folder) as parent_fd:
            fd = os.open(self._name, CREATE_FLAGS | os.O_RDWR, self._created[0], dir_fd=parent_fd)
        self._identity = identity_of(os.fstat(fd))
        files.adopt(self, fd)

    def open_again(self) -> int:
        with self._target.use(self.folder) as parent_fd:
            fd = os.open(self._name, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=parent_fd)
        if identity_of(os.fstat(fd)) != self._identity:
            os.close(fd)
            raise OSError(errno.ESTALE, "the temporary file was replaced while it was written")
        return fd

    def write(self, position: int, parts: Sequence[memoryview]) -> None:
        with self._files.use(self) as fd:
            if self._map is None and not self._sparse:
                write_at(fd, position, parts)
                return
            for part in parts:
                self._write_part(fd, position, part)
                position += len(part)

    def keep(self, chunks: Sequence[ChunkId], parts: Sequence[memoryview]) -> object:
        """The length: all that is needed to read it back."""
        return sum(map(len, parts))

    def recall(self, position: int, kept: object) -> Iterator[Data]:
        """Pieces as the file holds them."""
        assert isinstance(kept, int)
        with self._files.use(self) as fd:
            if self._map is None:
                yield from _read_at(fd, position, kept)
                return
            for offset, _, length in self._map.pieces(position, kept):
                yield from _read_at(fd, offset, length)

    def finish(self) -> Identity | None:
        """Give it size, metadata and its final name."""
        with self._files.use(self) as fd:
            entry = self.entry
            if self._sparse or entry.holes:
                os.ftruncate(fd, entry.size)
            self._metadata.to_file(fd, entry, self._created)
        with self._target.use(self.folder) as parent_fd:
            os.rename(self._name, entry.name, src_dir_fd=parent_fd, dst_dir_fd=parent_fd)
        self._files.close(self)
        return self._identity

    def abandon(self) -> None:
        """Remove what was written. Never raises: it is called where something has already failed."""
        self._files.close(self)
        try:
            with self._target.use(self.folder) as parent_fd:
                os.unlink(self._name, dir_fd=parent_fd)
        except OSError:
            return

    def _write_part(self, fd: int, position: int, part: memoryview) -> None:
        if self._map is None:
            self._write_at(fd, position, part)
            return
        for offset, start, length in self._map.pieces(position, len(part)):
            self._write_at(fd, offset, part[start : start + length])

    def _write_at(self, fd: int, offset: int, data: memoryview) -> None:
        if not self._sparse:
            write_at(fd, offset, (data,))
            return
        for start in range(0, len(data), _ZERO_RUN):
            piece = data[start : start + _ZERO_RUN]
            # Both ends first: most data is told from zeros by them, without a copy.
            if piece[0] or piece[-1] or bytes(piece) != _ZEROS[: len(piece)]:
                write_at(fd, offset + start, (piece,))


class StreamMap:
    """Where the pieces of a stored stream belong in a file with holes."""

    def __init__(self, entry: Entry) -> None:
        self._starts: list[int] = []
        self._extents: list[tuple[int, int]] = []
        stream = offset = 0
        holes = entry.holes
        for hole, length in [*zip(holes[::2], holes[1::2], strict=True), (entry.size, 0)]:
            if hole > offset:
                self._starts.append(stream)
                self._extents.append((offset, hole - offset))
                stream += hole - offset
            offset = hole + length

    def pieces(self, position: int, length: int) -> Iterator[tuple[int, int, int]]:
        """For a span of the stream: (offset in the file, start within the span, length), in order."""
        done = 0
        number = bisect_right(self._starts, position) - 1
        while done < length:
            offset, size = self._extents[number]
            skip = position + done - self._starts[number]
            count = min(size - skip, length - done)
            yield offset + skip, done, count
            done += count
            number += 1


def write_at(fd: int, offset: int, parts: Sequence[memoryview]) -> None:
    """All of `parts`, one after the other.

    Many small pieces go by one call because the kernel takes the file's lock and finds room in its cache for each call:
    for chunks of 64 KiB that is as much work as copying them. Large pieces pass the cache by: while one thread waits for
    pages of it, it has the file's lock, and all others spin.
    """
    write_pieces(lambda pieces, done: write_passing(fd, pieces, offset + done), parts)


def _read_at(fd: int, offset: int, length: int) -> Iterator[bytes]:
    while length > 0:
        part = os.pread(fd, min(length, _READ_BYTES), offset)
        if not part:
            raise OSError(errno.EIO, "the temporary file became shorter while it was written")
        yield part
        offset += len(part)
        length -= len(part)
