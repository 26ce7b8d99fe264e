"""Restores into directories: compares with what is there, then creates, replaces, links and removes."""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Iterator, Sequence

from dedupstore.engine.descriptors import DescriptorCache
from dedupstore.engine.restore_compare import may_replace, same_content, same_entry
from dedupstore.engine.restore_links import First
from dedupstore.engine.restore_options import Action, Overwrite, RestoreOptions, Verdict
from dedupstore.engine.restore_plan import Reader
from dedupstore.engine.restore_sink import Failures, SinkFile, Whole
from dedupstore.engine.restore_walk import Met
from dedupstore.engine.small_batch import SmallBatch
from dedupstore.engine.target import CREATE_FLAGS, Folder, Identity, Target, identity_of
from dedupstore.engine.target_file import StreamMap, TargetFile, write_at
from dedupstore.engine.target_metadata import OWNER_REFUSED, Metadata
from dedupstore.engine.walk import split_path
from dedupstore.errors import IntegrityError, ObjectNotFound, UsageError
from dedupstore.model.entry import BLOCK_DEVICE, CHARACTER_DEVICE, FIFO, FILE, SOCKET, SYMLINK, Entry
from dedupstore.model.snapshot import Snapshot
from dedupstore.model.tree import read_tree
from dedupstore.types import Data
from dedupstore.units import printable

MAX_OPEN_FOLDERS = 192
MAX_OPEN_FILES = 128
_SPARSE_FROM = 64 << 10
_COPY_BYTES = 1 << 20
_NO_LINKS = frozenset((errno.EPERM, errno.EMLINK, errno.EXDEV, errno.ENOTSUP, errno.ENOSYS))
"""What a place says that has no hard links (a memory stick), no more of them for this file, or lies elsewhere."""

_REPLACED = "the file to link to was replaced while it was restored"
_GET_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_PUT_FLAGS = CREATE_FLAGS | os.O_WRONLY


class DirectorySink:
    """The target of one restore. With `dry` it answers what would be done, and changes nothing."""

    def __init__(self, reader: Reader, snapshot: Snapshot, options: RestoreOptions, *, dry: bool = False) -> None:
        self.target = Target(snapshot.id, max_open=MAX_OPEN_FOLDERS)
        self.metadata = Metadata(owners=options.owners, special=options.special)
        self._reader = reader
        self._options = options
        self._dry = dry
        self._origins = {name: origin for name, origin in snapshot.origins if _is_place(origin)}
        self._files = DescriptorCache(MAX_OPEN_FILES)
        self._nowhere = Folder(None, b"")
        if not options.in_place and not options.target:
            raise UsageError("a restore needs a target directory", hints=["add --to DIR, or --in-place"])

    def close(self) -> None:
        self._files.close_all()
        self.target.close()

    def place(self, path: bytes) -> tuple[Folder, bytes] | None:
        if not self._options.in_place:
            return self._root(self._options.target), path
        origin = self._origins.get(path)
        if origin is not None:
            parent, name = _split(origin)
            return self._root(parent), name
        if any(name.startswith(path + b"/") for name in self._origins):
            return None
        raise UsageError(
            f"{printable(path)} has no recorded origin, so it cannot be restored in place",
            hints=["add --to DIR"],
            code="restore.no_origin",
        )

    def open_places(self) -> None:
        """Before anything is written: a link that the snapshot brings to one place must not lead on the way to another."""
        if not self._options.in_place:
            return
        paths = [b"/".join(split_path(path)) for path in self._options.paths]
        for name, origin in self._origins.items():
            chosen = (path == b"" or (path + b"/").startswith(name + b"/") for path in paths)
            if not paths or any(chosen) or any((name + b"/").startswith(path + b"/") for path in paths):
                self._root(_split(origin)[0])

    def _root(self, path: bytes) -> Folder:
        # A root that is missing is an empty one to a plan, which must not create it.
        return self.target.root(path, create=not self._dry) or self._nowhere

    def enter(self, folder: Folder, entry: Entry, *, whole: bool) -> Action:
        parent = folder.parent
        if parent is None:
            return Action.KEEP
        status = self.target.lstat(parent, folder.name) if folder.name in parent.present else None
        if status is not None and stat.S_ISDIR(status.st_mode):
            self.target.open_folder(folder, sweep=not self._dry)
            with self.target.use(parent) as parent_fd:
                if not whole or self._options.overwrite is Overwrite.NEVER or same_entry(
                    self.metadata, parent_fd, entry, status
                ):  # fmt: skip
                    return Action.KEEP
            return Action.METADATA
        if status is not None:
            if not may_replace(self._options.overwrite, entry, status):
                return Action.SKIP
            if not self._dry:
                self.target.remove(parent, folder.name, trees=False)
        if not self._dry:
            self.target.make_folder(folder)
        return Action.REPLACE if status is not None else Action.CREATE

    def leave(self, met: Met) -> None:
        folder, options = met.folder, self._options
        if folder.made or (met.whole and options.overwrite is not Overwrite.NEVER):
            with self.target.use(folder) as fd:
                if folder.made and folder.exact and not met.entry.xattrs:
                    self.metadata.to_made_folder(fd, met.entry)
                else:
                    self.metadata.to_existing(fd, met.entry, os.fstat(fd))
        elif folder.parent is not None and folder.status is not None:
            with self.target.use(folder) as fd:
                self.target.close_up(folder, fd)
        self.target.close_folder(folder)

    def extras(self, met: Met) -> Iterator[bytes]:
        """Names in a restored directory that the snapshot does not have. None if the snapshot's are not all known."""
        folder, tree, wanted = met.folder, met.entry.tree, self._options.filter
        if not (self._options.delete and met.whole and tree is not None) or not folder.present:
            return
        if folder.parent is None:
            # The root of the whole system: more is mounted and made there than any snapshot knows.
            return
        extra = set(self.target.names(folder)) if folder.fd >= 0 or folder.identity else set()
        try:
            for entry in read_tree(self._reader.load_manifest, tree):
                extra.discard(entry.name)
        except (IntegrityError, ObjectNotFound):
            return
        for name in sorted(extra & folder.present):
            if wanted is not None:
                status = self.target.lstat(folder, name)
                if status is None or wanted(folder.child_path(name), stat.S_ISDIR(status.st_mode)) is Verdict.SKIP:
                    continue
            yield name

    def delete(self, folder: Folder, name: bytes) -> int:
        return self.target.remove(folder, name, trees=True)

    def decide(self, folder: Folder, entry: Entry) -> Action:
        if entry.name not in folder.present:
            return Action.CREATE
        with self.target.use(folder) as fd:
            try:
                status = os.stat(entry.name, dir_fd=fd, follow_symlinks=False)
            except FileNotFoundError:
                return Action.CREATE
            return self._judge(fd, entry, status)

    def _judge(self, fd: int, entry: Entry, status: os.stat_result) -> Action:
        options = self._options
        if options.overwrite is Overwrite.ALWAYS:
            return Action.REPLACE
        if same_content(fd, entry, status, self._reader, options):
            if options.overwrite is Overwrite.NEVER or same_entry(self.metadata, fd, entry, status):
                return Action.KEEP
            # Another name of this file may lie outside the target: its metadata are not ours to change.
            return Action.METADATA if status.st_nlink == 1 else Action.REPLACE
        return Action.REPLACE if may_replace(options.overwrite, entry, status) else Action.SKIP

    def clear(self, folder: Folder, entry: Entry) -> None:
        status = self.target.lstat(folder, entry.name)
        if status is not None and stat.S_ISDIR(status.st_mode):
            self.target.remove(folder, entry.name, trees=self._options.delete)

    def refresh(self, folder: Folder, entry: Entry) -> None:
        with self.target.use(folder) as parent_fd:
            if entry.kind != FILE:
                self.metadata.to_name(parent_fd, entry.name, entry, is_link=entry.kind == SYMLINK)
                return
            fd = os.open(entry.name, _GET_FLAGS, dir_fd=parent_fd)
            try:
                status = os.fstat(fd)
                if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
                    raise OSError(errno.ESTALE, "the file was replaced while it was restored")
                self.metadata.to_existing(fd, entry, status)
            finally:
                os.close(fd)

    def make(self, folder: Folder, entry: Entry, *, replace: bool) -> bool:
        kind = entry.kind
        if kind == SOCKET:
            self.metadata.drop("socket")
            return False
        if kind in (CHARACTER_DEVICE, BLOCK_DEVICE) and not self._options.special:
            self.metadata.drop("device")
            return False
        name = self.target.temporary_name() if replace else entry.name
        with self.target.use(folder) as fd:
            self._make_node(fd, name, entry)
            try:
                self.metadata.to_name(fd, name, entry, is_link=kind == SYMLINK)
                if replace:
                    os.rename(name, entry.name, src_dir_fd=fd, dst_dir_fd=fd)
            except OSError:
                os.unlink(name, dir_fd=fd)
                raise
        return True

    def _make_node(self, fd: int, name: bytes, entry: Entry) -> None:
        if entry.kind == SYMLINK:
            os.symlink(entry.target, name, dir_fd=fd)
        elif entry.kind == FIFO:
            os.mkfifo(name, 0o600, dir_fd=fd)
        else:
            major, minor = entry.device or (0, 0)
            kind = stat.S_IFCHR if entry.kind == CHARACTER_DEVICE else stat.S_IFBLK
            os.mknod(name, kind | 0o600, os.makedev(major, minor), dir_fd=fd)

    def identity(self, folder: Folder, entry: Entry) -> Identity | None:
        status = self.target.lstat(folder, entry.name)
        return identity_of(status) if status is not None and not stat.S_ISDIR(status.st_mode) else None

    def link(self, folder: Folder, entry: Entry, first: First) -> None:
        if self.identity(folder, entry) == first.identity:
            return
        *above, own = first.names
        source = self.target.descend(first.root, above) if above else first.root
        name = self.target.temporary_name()
        with self.target.use(source) as source_fd, self.target.use(folder) as fd:
            try:
                os.link(own, name, src_dir_fd=source_fd, dst_dir_fd=fd, follow_symlinks=False)
            except OSError as exc:
                if exc.errno not in _NO_LINKS:
                    raise
                self.metadata.drop("hard link")
                self._alone(source_fd, own, folder, entry, first)
            else:
                try:
                    if identity_of(os.stat(name, dir_fd=fd, follow_symlinks=False)) != first.identity:
                        raise OSError(errno.ESTALE, _REPLACED)
                    os.rename(name, entry.name, src_dir_fd=fd, dst_dir_fd=fd)
                except OSError:
                    os.unlink(name, dir_fd=fd)
                    raise
        if above:
            self.target.close_folder(source)

    def _alone(self, source_fd: int, own: bytes, folder: Folder, entry: Entry, first: First) -> None:
        """A further name as a file of its own, where no link can be made; its bytes are those of the first name."""
        if entry.kind != FILE:
            self.make(folder, entry, replace=True)
            return
        fd = os.open(own, _GET_FLAGS, dir_fd=source_fd)
        try:
            if identity_of(os.fstat(fd)) != first.identity:
                raise OSError(errno.ESTALE, _REPLACED)
            file, places = self.start(folder, entry), StreamMap(entry)
            try:
                for position in range(0, entry.data_size, _COPY_BYTES):
                    length = min(_COPY_BYTES, entry.data_size - position)
                    data = b"".join(os.pread(fd, size, at) for at, _, size in places.pieces(position, length))
                    if len(data) != length:
                        raise OSError(errno.ESTALE, _REPLACED)
                    file.write(position, (memoryview(data),))
                file.finish()
            except BaseException:
                file.abandon()
                raise
        finally:
            os.close(fd)

    def put(self, folder: Folder, entry: Entry, data: Data) -> Identity | None:
        if self._options.sparse and len(data) >= _SPARSE_FROM:
            file = self.start(folder, entry)
            try:
                file.write(0, (memoryview(data),))
                return file.finish()
            except BaseException:
                file.abandon()
                raise
        metadata, name = self.metadata, self.target.temporary_name()
        created = metadata.creation(folder, entry)
        with self.target.use(folder) as parent_fd:
            fd = os.open(name, _PUT_FLAGS, created[0], dir_fd=parent_fd)
            try:
                if data:
                    write_at(fd, 0, (memoryview(data),))
                metadata.to_file(fd, entry, created)
                os.rename(name, entry.name, src_dir_fd=parent_fd, dst_dir_fd=parent_fd)
                return identity_of(os.fstat(fd)) if entry.link_group else None
            except BaseException:
                os.unlink(name, dir_fd=parent_fd)
                raise
            finally:
                os.close(fd)

    def put_many(self, files: Sequence[Whole]) -> Failures:
        batch = SmallBatch(self.target, self.metadata)
        sparse_from = _SPARSE_FROM if self._options.sparse else sys.maxsize
        plain = [whole for whole in files if not whole.entry.xattrs and len(whole.data) < sparse_from]
        try:
            batch.add_all(plain)
            batch.write()
        finally:
            batch.close()
        # Alone, a file whose owner is refused is made without it.
        alone = [whole for whole, exc in batch.failures if exc.errno in OWNER_REFUSED]
        failures = [failure for failure in batch.failures if failure[1].errno not in OWNER_REFUSED]
        if len(plain) < len(files):
            alone += [whole for whole in files if whole.entry.xattrs or len(whole.data) >= sparse_from]
        for whole in alone:
            try:
                self.put(*whole)
            except OSError as exc:
                failures.append((whole, exc))
        return failures

    def start(self, folder: Folder, entry: Entry) -> SinkFile:
        return TargetFile(self.target, self._files, self.metadata, folder, entry, sparse=self._options.sparse)


def _is_place(origin: bytes) -> bool:
    """Whether it says what it means. The author of a snapshot may be hostile, and who reads it must see where it leads."""
    return origin.startswith(b"/") and b"\0" not in origin and not {b".", b".."} & set(origin.split(b"/"))


def _split(origin: bytes) -> tuple[bytes, bytes]:
    parent, _, name = origin.rstrip(b"/").rpartition(b"/")
    return parent or b"/", name
