"""A snapshot of streams: one file for each, cut against the file of that name in the previous snapshot."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from dedupstore.engine.content import ContentStore
from dedupstore.engine.parent import align
from dedupstore.engine.sink import ChunkSink
from dedupstore.engine.tally import Tally
from dedupstore.errors import IntegrityError, ObjectNotFound, SourceFailed
from dedupstore.model.entry import FILE, SECOND, Entry
from dedupstore.model.tree import Load, TreeWriter, read_tree
from dedupstore.sources.attributes import Owners, make_entry
from dedupstore.sources.base import NamedStream
from dedupstore.types import ChunkId, Kind
from dedupstore.units import printable


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamArchive:
    """Stores streams through one sink. Used by one thread."""

    sink: ChunkSink
    load: Load
    read: Load
    """Gives the bytes of a chunk of data."""
    content: ContentStore
    tally: Tally
    start_ns: int
    """When the run began: the time of a file whose stream has none."""

    def store(self, streams: Iterable[NamedStream], previous: ChunkId | None) -> ChunkId:
        """The root manifest. Raises SourceFailed: then nothing of what was read may become a snapshot."""
        before = self._entries(previous)
        found: dict[bytes, Entry] = {}
        for stream in streams:
            if stream.name in found:
                raise SourceFailed(f"the source gives {printable(stream.name)} twice")
            found[stream.name] = self._stored(stream, before.pop(stream.name, None))
        if not found:
            raise SourceFailed("the source gives nothing to store")
        like = (previous,) if previous is not None else ()
        writer = TreeWriter(lambda data, first: self.sink.save(Kind.MANIFEST, data, like))
        for name in sorted(found):
            writer.add(found[name])
        self.tally.files_removed += len(before)
        return writer.finish()

    def _stored(self, named: NamedStream, before: Entry | None) -> Entry:
        entry = (
            Entry(name=named.name, kind=FILE, mode=0o600, mtime=self.start_ns, ctime=self.start_ns // SECOND)
            if named.stat is None
            else make_entry(named.name, named.stat, Owners())
        )
        entry.page_size = named.page_size
        self.tally.progress.current = named.name
        new_bytes = self.content.store_stream(
            named.stream.readinto, entry, align(self.load, before, self.read), named.page_size
        )  # fmt: skip
        if named.stat is None and before is not None and _same_bytes(entry, before):
            # The time says since when the stream is like this, so that an unchanged one makes no other manifest.
            entry.mtime, entry.ctime = before.mtime, before.ctime
        self.tally.stored(named.name, entry, before, new_bytes)
        return entry

    def _entries(self, tree: ChunkId | None) -> dict[bytes, Entry]:
        if tree is None:
            return {}
        try:
            return {entry.name: entry for entry in read_tree(self.load, tree)}
        except (IntegrityError, ObjectNotFound):
            # The previous snapshot is a hint: damage in it is for `check` to report.
            return {}


def _same_bytes(entry: Entry, before: Entry) -> bool:
    return (entry.size, entry.hash, entry.content, entry.pages) == (
        before.size,
        before.hash,
        before.content,
        before.pages,
    )
