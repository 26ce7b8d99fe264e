"""A file or a directory of a snapshot as one archive, written as it is read: bounded memory, every byte verified first.

What an archive cannot hold is told, not silently left out. After damage the archive has no end: whoever reads it
notices. Memory holds, besides one block, the names of files with several links.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import Protocol

from dedupstore.cancel import CancelToken
from dedupstore.engine.file_content import file_content
from dedupstore.engine.link_groups import link_key
from dedupstore.engine.walk import find_path, split_path, walk
from dedupstore.errors import IntegrityError, ObjectNotFound
from dedupstore.events import Finding, Listener, Progress
from dedupstore.model.entry import FILE, SOCKET, Entry
from dedupstore.repo.repository import Repository
from dedupstore.types import ChunkId, Kind
from dedupstore.units import printable

_BATCH = 512
"""Entries that are known before the first of them is written."""

_SMALL_BYTES = 1 << 20


class Archive(Protocol):
    """One archive being written. After an error its stream must lead nowhere before it is closed: it has no end."""

    def add(self, path: bytes, entry: Entry, content: Content) -> str:
        """Write one entry; for a file all of `content`. Returns what could not be kept, as text; empty when all was."""
        ...

    def link(self, path: bytes, entry: Entry, target: bytes) -> bool:
        """Write another name of a file that is in the archive as `target`; False when the archive has no such thing."""
        ...

    def close(self) -> None:
        """Write the end of the archive; nothing the second time."""
        ...


class Content:
    """The bytes of a file as an archive wants to read them."""

    def __init__(self, pieces: Iterator[bytes | memoryview]) -> None:
        self._pieces = pieces
        self._rest = memoryview(b"")

    def read(self, count: int = 1 << 20, /) -> bytes:
        """Up to `count` bytes, fewer only at the end."""
        parts: list[memoryview] = []
        while count > 0:
            if not self._rest:
                self._rest = memoryview(next(self._pieces, b""))
                if not self._rest:
                    break
            parts.append(self._rest[:count])
            count -= len(parts[-1])
            self._rest = self._rest[len(parts[-1]) :]
        return b"".join(parts)

    def __iter__(self) -> Iterator[bytes | memoryview]:
        return self._pieces


@dataclass(slots=True)
class Dumped:
    files: int = 0
    directories: int = 0
    others: int = 0
    data_bytes: int = 0
    links: dict[int, bytes] = field(default_factory=dict)
    """The first name of every file with several links, by `link_key`."""


def dump(
    repository: Repository, root: ChunkId, path: bytes, archive: Archive, listener: Listener, cancel: CancelToken
) -> Dumped:
    """Write what is at `path`: a directory with everything below it, or one file, under its path in the snapshot.

    Raises NothingMatches, and IntegrityError with the path of the file that cannot be read.
    """
    reader = repository.reader
    done, progress = Dumped(), Progress(phase="dump")
    whole = b"/".join(split_path(path))
    entry = find_path(reader.load_manifest, root, path)
    entries = _at_hand(repository, _entries(repository, whole, entry))
    while True:
        try:
            below, found = next(entries, (b"", None))
        except (IntegrityError, ObjectNotFound) as error:
            raise _incomplete(error.message, error.why) from error
        if found is None:
            break
        cancel.check()
        progress.current = below
        try:
            _add(repository, below, found, archive, listener, cancel, done, progress)
        except (IntegrityError, ObjectNotFound) as error:
            raise _incomplete(f"{printable(below)} cannot be read", error.message) from error
        listener.progress(progress)
    archive.close()
    return done


def _incomplete(what: str, why: str) -> IntegrityError:
    return IntegrityError(
        f"the archive is incomplete: {what}",
        why=why,
        hints=["a restore goes on after damage: dedup restore", "dedup check --read-data"],
        code="dump.damaged",
    )


def _entries(repository: Repository, path: bytes, entry: Entry) -> Iterator[tuple[bytes, Entry]]:
    if path:
        yield path, entry
    if entry.tree is not None:
        yield from walk(repository.reader.load_manifest, entry.tree, path)


def _at_hand(repository: Repository, entries: Iterator[tuple[bytes, Entry]]) -> Iterator[tuple[bytes, Entry]]:
    """The same entries; what small files hold that follow one another is asked for by as few requests as can be."""
    for batch in _batches(entries):
        references = [_references(found) if _is_small(found) else [] for _, found in batch]
        groups = repository.reader.together(Kind.DATA, chain.from_iterable(references))
        ready = needed = 0
        for item, own in zip(batch, references, strict=True):
            needed += len(own)
            while ready < needed:
                ready += len(next(groups))
            yield item


def _references(entry: Entry) -> list[tuple[ChunkId, int, int]]:
    try:
        return [(chunk, length, 0) for chunk, length in entry.inline_references()]
    except IntegrityError:
        # Told when it is read.
        return []


def _batches(entries: Iterator[tuple[bytes, Entry]]) -> Iterator[list[tuple[bytes, Entry]]]:
    """A large file ends one: what is at hand for those behind it would not outlast it."""
    batch: list[tuple[bytes, Entry]] = []
    for item in entries:
        batch.append(item)
        if len(batch) >= _BATCH or (item[1].kind == FILE and not _is_small(item[1])):
            yield batch
            batch = []
    if batch:
        yield batch


def _is_small(entry: Entry) -> bool:
    return entry.kind == FILE and entry.pages is None and entry.size <= _SMALL_BYTES


def _add(
    repository: Repository, path: bytes, entry: Entry, archive: Archive, listener: Listener, cancel: CancelToken,
    done: Dumped, progress: Progress,
) -> None:  # fmt: skip
    def pieces() -> Iterator[bytes | memoryview]:
        for piece in file_content(repository.reader, entry):
            cancel.check()
            progress.bytes_done += len(piece)
            done.data_bytes += len(piece)
            yield piece

    key = link_key(entry) if entry.kind != SOCKET else 0
    if key:
        first = done.links.setdefault(key, path)
        if first is not path and archive.link(path, entry, first):
            done.others += 1
            return
    lost = archive.add(path, entry, Content(pieces() if entry.kind == FILE else iter(())))
    if lost:
        listener.finding(Finding(code="dump.not_kept", message=lost, path=path))
    if entry.kind == FILE:
        done.files += 1
        progress.files_done += 1
    elif entry.tree is not None:
        done.directories += 1
    else:
        done.others += 1
