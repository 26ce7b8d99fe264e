"""Is what stands at the target already what the snapshot says, and may it be replaced if not?"""

from __future__ import annotations

import os
import stat

from dedupstore.engine.restore_options import Overwrite, RestoreOptions
from dedupstore.engine.restore_plan import Reader
from dedupstore.engine.target_file import StreamMap
from dedupstore.engine.target_metadata import Metadata
from dedupstore.errors import IntegrityError, ObjectNotFound
from dedupstore.model.entry import BLOCK_DEVICE, CHARACTER_DEVICE, DIRECTORY, FIFO, FILE, SOCKET, SYMLINK, Entry
from dedupstore.model.tree import read_content
from dedupstore.types import Kind

_FORMATS = {
    FILE: stat.S_IFREG, DIRECTORY: stat.S_IFDIR, SYMLINK: stat.S_IFLNK, FIFO: stat.S_IFIFO, SOCKET: stat.S_IFSOCK,
    CHARACTER_DEVICE: stat.S_IFCHR, BLOCK_DEVICE: stat.S_IFBLK,
}  # fmt: skip


def may_replace(overwrite: Overwrite, entry: Entry, status: os.stat_result) -> bool:
    """Whether the policy lets go of what is there, given that it differs."""
    if overwrite is Overwrite.NEVER:
        return False
    return overwrite is not Overwrite.OLDER or status.st_mtime_ns < entry.mtime


def same_entry(metadata: Metadata, parent_fd: int, entry: Entry, status: os.stat_result) -> bool:
    """Whether time, owner, mode and attributes are right."""
    if status.st_mtime_ns != entry.mtime:
        return False
    return not metadata.differs(parent_fd, entry, status)


def same_content(parent_fd: int, entry: Entry, status: os.stat_result, reader: Reader, options: RestoreOptions) -> bool:
    """Whether kind and content are right: by size and time, or by reading the file when asked to."""
    if stat.S_IFMT(status.st_mode) != _FORMATS[entry.kind]:
        return False
    if entry.kind == FILE:
        if status.st_size != entry.size:
            return False
        if not options.compare_content:
            return status.st_mtime_ns == entry.mtime
        return _same_bytes(parent_fd, entry, reader, options)
    if entry.kind == SYMLINK:
        return os.readlink(entry.name, dir_fd=parent_fd) == entry.target
    if entry.device is not None:
        return (os.major(status.st_rdev), os.minor(status.st_rdev)) == entry.device
    return True


def _same_bytes(parent_fd: int, entry: Entry, reader: Reader, options: RestoreOptions) -> bool:
    try:
        fd = os.open(entry.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=parent_fd)
    except OSError:
        # What cannot be read cannot be trusted; replacing it needs no right to read.
        return False
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode) or not _holes_are_empty(fd, entry):
            return False
        places = StreamMap(entry)
        position = 0
        for chunk, length in read_content(reader.load_manifest, entry):
            if position + length > entry.data_size:
                return False
            data = b"".join(os.pread(fd, size, offset) for offset, _, size in places.pieces(position, length))
            position += length
            if options.name_content is not None:
                if options.name_content(data) != chunk:
                    return False
            elif reader.read(Kind.DATA, chunk) != data:
                return False
    except (OSError, IntegrityError, ObjectNotFound):
        return False
    finally:
        os.close(fd)
    return True


def _holes_are_empty(fd: int, entry: Entry) -> bool:
    """Whether nothing is stored in the places of holes. A file system without holes says no: the file is replaced."""
    for hole, length in zip(entry.holes[::2], entry.holes[1::2], strict=True):
        try:
            if os.lseek(fd, hole, os.SEEK_DATA) < hole + length:
                return False
        except OSError:
            # ENXIO: nothing but holes up to the end.
            return True
    return True
