"""Directory manifests and content lists, paged so that no object is large and one change rewrites little.

A manifest is one chunk of kind `manifest`, canonical msgpack:

| object | bytes |
|---|---|
| directory | `{"e": [entry, ...], "t": base time in ns, "v": 1}`, entries sorted by name, their times relative to `t` |
| directory, paged | `{"p": [[first name, page id], ...], "v": 1}`, pages are directories themselves |
| content page | `{"c": references of 35 bytes, "v": 1}` |
| content pages | `{"p": [[page id, data bytes], ...], "v": 1}` |

Pages end where the content says so (a hash of the name, the tail of a chunk id), not by count: an
insertion moves one boundary, not all that follow.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator
from itertools import chain

from dedupstore.errors import CorruptObject, RepositoryTooNew
from dedupstore.model.entry import (
    MAX_INLINE_CHUNKS,
    REFERENCE_BYTES,
    Entry,
    decode_entry,
    encode_entry,
    split_references,
)
from dedupstore.model.rows import read_entries
from dedupstore.model.wire import Value, pack, unpack
from dedupstore.types import ChunkId
from dedupstore.units import printable

Save = Callable[[bytes, bytes], ChunkId]
"""Stores a manifest: its bytes, and the first name it covers (b"" for what has no names)."""

Load = Callable[[ChunkId], bytes]

MAX_PAGE_ENTRIES = 4096
MAX_PAGE_BYTES = 1 << 20
_MIN_PAGE_ENTRIES = 512
_PAGE_MASK = 1023
_MIN_PAGE_CHUNKS = 256
_MAX_PAGE_CHUNKS = 2048
_CHUNK_MASK = 511
_MAX_LEVELS = 8
_INT63 = 1 << 63
_NODE_KEYS = frozenset((("e", "t", "v"), ("p", "v"), ("c", "v")))


class TreeWriter:
    """Collects the entries of one directory in name order and stores its manifest, page by page."""

    def __init__(self, save: Save) -> None:
        self._save = save
        self._rows: list[Value] = []
        self._bytes = 0
        self._base_ns = 0
        self._first = b""
        self._pages: list[tuple[bytes, ChunkId]] = []

    def add(self, entry: Entry) -> None:
        """Append the next entry; names must come in ascending byte order."""
        if self._rows and not -_INT63 <= entry.mtime - self._base_ns < _INT63:
            # Two such times occur in no honest directory, but anyone can set them: they must not share a page.
            self._close_page()
        if not self._rows:
            self._first = entry.name
            # A tree that is unpacked or checked out anew has one new time: then only the base changes, and a delta of
            # the manifest against its parent's costs next to nothing.
            self._base_ns = entry.mtime
        self._rows.append(encode_entry(entry, self._base_ns))
        self._bytes += len(entry.name) + len(entry.content) + len(entry.target) + 9 * len(entry.holes) + 64
        if entry.xattrs:
            self._bytes += sum(len(name) + len(value) + 16 for name, value in entry.xattrs)
        count = len(self._rows)
        full = count >= MAX_PAGE_ENTRIES or self._bytes >= MAX_PAGE_BYTES
        if full or (count >= _MIN_PAGE_ENTRIES and self._pages and zlib.crc32(entry.name) & _PAGE_MASK == 0):
            self._close_page()

    def finish(self) -> ChunkId:
        """Store what is left; the id of the directory's manifest."""
        if not self._pages:
            return self._save(self._leaf(), b"")
        if self._rows:
            self._close_page()
        pages = self._pages
        while len(pages) > MAX_PAGE_ENTRIES:
            groups = [pages[start : start + MAX_PAGE_ENTRIES] for start in range(0, len(pages), MAX_PAGE_ENTRIES)]
            pages = [(group[0][0], self._save(_page_list(group), group[0][0])) for group in groups]
        return self._save(_page_list(pages), b"")

    def _close_page(self) -> None:
        page = self._save(self._leaf(), self._first)
        self._pages.append((self._first, page))
        self._rows = []
        self._bytes = 0

    def _leaf(self) -> bytes:
        return pack({"e": self._rows, "t": self._base_ns if self._rows else 0, "v": 1})


def _page_list(pages: list[tuple[bytes, ChunkId]]) -> bytes:
    return pack({"p": [[name, page] for name, page in pages], "v": 1})


def read_tree(load: Load, tree: ChunkId) -> Iterator[Entry]:
    """The entries of a directory in name order, one page in memory at a time.

    Raises CorruptObject for a malformed manifest or names that do not ascend (so none can repeat).
    """
    for part in read_whole_tree(load, tree):
        if isinstance(part, Entry):
            yield part


def read_whole_tree(load: Load, tree: ChunkId) -> Iterator[ChunkId | Entry]:
    """As `read_tree`, and between the entries the id of each manifest of `tree_manifests`, before it is loaded."""
    last = b""
    for node, entries in _nodes(load, tree):
        if entries is None:
            yield node
        for entry in entries or ():
            if entry.name <= last:
                raise CorruptObject(f'directory entries are not in order at "{printable(entry.name[:80])}"')
            last = entry.name
            yield entry


def read_tree_pages(load: Load, tree: ChunkId) -> list[tuple[bytes, ChunkId]]:
    """First name and id of each page below the root of a directory; one page named b"" when it is not paged."""
    value = _load_node(load, tree)
    return [(b"", tree)] if "e" in value else _page_rows(value)


def tree_manifests(load: Load, tree: ChunkId) -> Iterator[ChunkId]:
    """Every manifest chunk of one directory itself: its page lists and pages, not its subdirectories.

    Each is yielded before it is loaded.
    """
    for node, entries in _nodes(load, tree):
        if entries is None:
            yield node


def _nodes(load: Load, tree: ChunkId) -> Iterator[tuple[ChunkId, Iterable[Entry] | None]]:
    """The manifests of a directory in name order: each with None before it is loaded, pages once more with their entries.

    A page must begin with the name its list gives it, and those names ascend: so no page comes twice, and a small
    hostile object cannot stand for a directory without end.
    """
    stack: list[tuple[ChunkId, bytes, int]] = [(tree, b"", 0)]
    last = b""
    while stack:
        node, first, depth = stack.pop()
        if depth > _MAX_LEVELS:
            raise CorruptObject("a directory is paged too deeply")
        yield node, None
        manifest = load(node)
        entries: Iterable[Entry] | None = read_entries(manifest)
        value = _decode_node(manifest) if entries is None else {}
        if entries is None and "e" in value:
            rows, base_ns = _leaf_rows(value)
            entries = (decode_entry(row, base_ns) for row in rows)
        if entries is not None:
            if depth:
                entries = iter(entries)
                head = next(entries, None)
                if first <= last or head is None or head.name != first:
                    raise CorruptObject(f'a directory page is out of order at "{printable(first[:80])}"')
                last = first
                entries = chain((head,), entries)
            yield node, entries
            continue
        pages = _page_rows(value)
        if depth and pages[0][0] != first:
            raise CorruptObject("a page list begins with another name than its own list says")
        stack.extend((page, name, depth + 1) for name, page in reversed(pages))


def decode_page(page: bytes) -> Iterator[Entry]:
    """The entries of one page of a directory, each as it should be; whether their names ascend is not looked at.

    Raises CorruptObject for anything else, a page list too.
    """
    value = _decode_node(page)
    if "e" not in value:
        raise CorruptObject("a manifest is no page of a directory")
    rows, base_ns = _leaf_rows(value)
    for row in rows:
        yield decode_entry(row, base_ns)


def _leaf_rows(value: dict[str, Value]) -> tuple[list[Value], int]:
    rows, base_ns = value["e"], value.get("t")
    if not isinstance(rows, list) or len(rows) > MAX_PAGE_ENTRIES:
        raise CorruptObject("a directory page is malformed")
    if type(base_ns) is not int or not -_INT63 <= base_ns < _INT63:
        raise CorruptObject("a directory page has an impossible base time")
    return rows, base_ns


def _load_node(load: Load, tree: ChunkId) -> dict[str, Value]:
    return _decode_node(load(tree))


def _decode_node(manifest: bytes) -> dict[str, Value]:
    value = unpack(manifest)
    if not isinstance(value, dict) or type(value.get("v")) is not int:
        raise CorruptObject("a manifest is neither a directory nor a page list")
    if value["v"] != 1:
        raise RepositoryTooNew(f"a manifest has version {value['v']!r}", hints=["upgrade dedup"])
    if tuple(value) not in _NODE_KEYS:
        raise CorruptObject("a manifest is neither a directory nor a page list")
    return value


def _page_rows(value: dict[str, Value]) -> list[tuple[bytes, ChunkId]]:
    rows = value.get("p")
    if not isinstance(rows, list) or not 0 < len(rows) <= MAX_PAGE_ENTRIES:
        raise CorruptObject("a page list is malformed")
    pages: list[tuple[bytes, ChunkId]] = []
    for row in rows:
        match row:
            case [bytes(first), bytes(page)] if len(page) == 32 and first > (pages[-1][0] if pages else b""):
                pages.append((first, ChunkId(page)))
            case _:
                raise CorruptObject("a page list is malformed")
    return pages


class ContentWriter:
    """Collects the chunk references of one file and decides between an inline and a paged list."""

    def __init__(self, save: Save) -> None:
        self._save = save
        self._references: list[bytes] = []
        self._pages: list[tuple[ChunkId, int]] = []
        self._page_bytes = 0
        self.chunks = 0
        self.data_bytes = 0

    def add(self, chunk: ChunkId, length: int) -> None:
        self._references.append(chunk + length.to_bytes(3, "big"))
        self._page_bytes += length
        self.data_bytes += length
        self.chunks += 1
        count = len(self._references)
        if count > MAX_INLINE_CHUNKS or self._pages:
            ends = int.from_bytes(chunk[30:], "big") & _CHUNK_MASK == 0
            if count >= _MAX_PAGE_CHUNKS or (ends and count >= _MIN_PAGE_CHUNKS):
                self._close_page()

    def finish(self, entry: Entry) -> None:
        """Write the list into `entry` (`content` or `pages`)."""
        if not self._pages and len(self._references) <= MAX_INLINE_CHUNKS:
            entry.content = self._references[0][:32] if self.chunks == 1 else b"".join(self._references)
            return
        if self._references:
            self._close_page()
        depth, pages = 1, self._pages
        while len(pages) > 1:
            depth += 1
            groups = [pages[start : start + MAX_PAGE_ENTRIES] for start in range(0, len(pages), MAX_PAGE_ENTRIES)]
            pages = [(self._save_list(group), sum(size for _, size in group)) for group in groups]
        entry.pages = (depth, pages[0][0])

    def _save_list(self, pages: list[tuple[ChunkId, int]]) -> ChunkId:
        return self._save(pack({"p": [[page, size] for page, size in pages], "v": 1}), b"")

    def _close_page(self) -> None:
        page = self._save(pack({"c": b"".join(self._references), "v": 1}), b"")
        self._pages.append((page, self._page_bytes))
        self._references = []
        self._page_bytes = 0


def read_content(load: Load, entry: Entry) -> Iterator[tuple[ChunkId, int]]:
    """The chunks of a file with their lengths, in order; one page in memory at a time.

    Raises CorruptObject before the first chunk of a page whose lengths do not add up to what the page's list says,
    from the file's size downward: a hostile list ends where the file does.
    """
    if entry.pages is None:
        yield from entry.inline_references()
        return
    yield from _read_content_page(load, entry.pages[1], entry.pages[0], entry.data_size)


def read_content_from(load: Load, entry: Entry, start: int) -> Iterator[tuple[ChunkId, int, int]]:
    """The chunks of a file, each with its length and its place in the stored stream, from the one that holds byte
    `start` on.

    Of a paged list only the pages on the way to that byte and behind it are read. Raises as `read_content`.
    """
    position = 0
    if entry.pages is None:
        for chunk, length in entry.inline_references():
            if position + length > start:
                yield chunk, length, position
            position += length
        return
    depth, root = entry.pages
    stack = [(root, depth, entry.data_size)]
    while stack:
        page, depth, size = stack.pop()
        if position + size <= start:
            position += size
        elif depth > 1:
            rows = _page_list_of(load, page, size)
            stack.extend((below, depth - 1, below_size) for below, below_size in reversed(rows))
        else:
            for chunk, length in _references_of(load, page, size):
                if position + length > start:
                    yield chunk, length, position
                position += length


def content_manifests(load: Load, entry: Entry) -> Iterator[ChunkId]:
    """Every manifest chunk that a paged content list consists of, each once however often it occurs."""
    if entry.pages is None:
        return
    stack = [(entry.pages[1], entry.pages[0])]
    seen: set[ChunkId] = set()
    while stack:
        page, depth = stack.pop()
        if page in seen:
            continue
        seen.add(page)
        yield page
        if depth > 1:
            stack.extend((below, depth - 1) for below, _ in _content_rows(_load_node(load, page)))


def _read_content_page(load: Load, page: ChunkId, depth: int, size: int) -> Iterator[tuple[ChunkId, int]]:
    if depth > 1:
        for below, below_size in _page_list_of(load, page, size):
            yield from _read_content_page(load, below, depth - 1, below_size)
        return
    yield from _references_of(load, page, size)


def _page_list_of(load: Load, page: ChunkId, size: int) -> list[tuple[ChunkId, int]]:
    rows = _content_rows(_load_node(load, page))
    if sum(below_size for _, below_size in rows) != size:
        raise CorruptObject("a list of content pages does not add up to its size")
    return rows


def _references_of(load: Load, page: ChunkId, size: int) -> list[tuple[ChunkId, int]]:
    content = _load_node(load, page).get("c")
    if not isinstance(content, bytes) or not content or len(content) % REFERENCE_BYTES:
        raise CorruptObject("a content page is malformed")
    references = list(split_references(content))
    if sum(length for _, length in references) != size:
        raise CorruptObject("a content page does not add up to its size")
    return references


def _content_rows(value: dict[str, Value]) -> list[tuple[ChunkId, int]]:
    rows = value.get("p")
    if not isinstance(rows, list) or not 0 < len(rows) <= MAX_PAGE_ENTRIES:
        raise CorruptObject("a list of content pages is malformed")
    pages: list[tuple[ChunkId, int]] = []
    for row in rows:
        match row:
            case [bytes(page), int(size)] if len(page) == 32 and size > 0 and size is not True:
                pages.append((ChunkId(page), size))
            case _:
                raise CorruptObject("a list of content pages is malformed")
    return pages
