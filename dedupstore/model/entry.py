"""One name in a directory: what a file, directory, link or device was at the time of the snapshot."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Required, TypedDict, cast

from dedupstore.errors import CorruptObject
from dedupstore.model.wire import Value
from dedupstore.types import ChunkId
from dedupstore.units import printable

FILE = "f"
DIRECTORY = "d"
SYMLINK = "l"
FIFO = "p"
SOCKET = "s"
CHARACTER_DEVICE = "c"
BLOCK_DEVICE = "b"
KINDS = frozenset((FILE, DIRECTORY, SYMLINK, FIFO, SOCKET, CHARACTER_DEVICE, BLOCK_DEVICE))

MAX_NAME = 4095
MAX_INLINE_CHUNKS = 256
MAX_CHUNK_BYTES = (1 << 24) - 1
REFERENCE_BYTES = 35
"""One chunk reference in a content list: id[32] | length u24, big-endian."""

SECOND = 1_000_000_000
_INT63 = 1 << 63
_INT32 = 1 << 32


@dataclass(slots=True, kw_only=True)
class Entry:
    """A row of a directory manifest. Not frozen: one is made per file, and freezing costs as much as the rest.

    | key | field | meaning |
    |---|---|---|
    | c | content | one chunk: its id[32]; several: references of 35 bytes, at most 256 |
    | ct | ctime | whole seconds; stored less those of the page's base time |
    | d | tree | id of the directory's own manifest |
    | g gn u un | gid group uid user | owner by number and by name |
    | h | hash | plain BLAKE3 of the file's data bytes (holes left out); only with two chunks or more |
    | ho | holes | offset, length, offset, length ... of what is not stored and reads as zeros |
    | k | kind | f d l p s c b |
    | l | target | text of a symbolic link |
    | lg | link_group | hard links of one file share a number (a hash of device and inode); 0 = none. Not all that do are one: `engine.link_groups` |
    | m | mode | permission bits, 12 bits |
    | mt | mtime | ns; stored less the page's base time |
    | n | name | bytes without `/` |
    | p | pages | depth and id of a paged content list |
    | ps | page_size | the file was cut on page boundaries of this size |
    | r | device | major, minor |
    | s | size | bytes, holes included |
    | x | xattrs | pairs sorted by name; POSIX ACLs are among them |
    """

    name: bytes
    kind: str
    mode: int
    uid: int = 0
    gid: int = 0
    user: str = ""
    group: str = ""
    size: int = 0
    mtime: int = 0
    ctime: int = 0
    content: bytes = b""
    pages: tuple[int, ChunkId] | None = None
    hash: bytes = b""
    holes: tuple[int, ...] = ()
    page_size: int = 0
    tree: ChunkId | None = None
    target: bytes = b""
    device: tuple[int, int] | None = None
    link_group: int = 0
    xattrs: tuple[tuple[bytes, bytes], ...] = ()

    def inline_references(self) -> list[tuple[ChunkId, int]]:
        """Chunk ids with their lengths, in order; empty when the content list is paged."""
        content = self.content
        if len(content) == 32:
            return [(ChunkId(content), self.data_size)]
        return list(split_references(content))

    @property
    def data_size(self) -> int:
        """Bytes of the stored stream: the size without the holes."""
        return self.size - sum(self.holes[1::2]) if self.holes else self.size


def split_references(content: bytes) -> Iterator[tuple[ChunkId, int]]:
    """The references of a content list, in order."""
    for start in range(0, len(content), REFERENCE_BYTES):
        yield ChunkId(content[start : start + 32]), int.from_bytes(content[start + 32 : start + 35], "big")


def encode_entry(entry: Entry, base_ns: int) -> dict[str, Value]:
    """The map of an entry, keys sorted, empty fields left out, times relative to `base_ns`."""
    row: dict[str, Value] = {}
    if entry.content:
        row["c"] = entry.content
    row["ct"] = entry.ctime - base_ns // SECOND
    if entry.tree is not None:
        row["d"] = entry.tree
    row["g"] = entry.gid
    if entry.group:
        row["gn"] = entry.group
    if entry.hash:
        row["h"] = entry.hash
    if entry.holes:
        row["ho"] = list(entry.holes)
    row["k"] = entry.kind
    if entry.target:
        row["l"] = entry.target
    if entry.link_group:
        row["lg"] = entry.link_group
    row["m"] = entry.mode
    row["mt"] = entry.mtime - base_ns
    row["n"] = entry.name
    if entry.pages is not None:
        row["p"] = [entry.pages[0], entry.pages[1]]
    if entry.page_size:
        row["ps"] = entry.page_size
    if entry.device is not None:
        row["r"] = list(entry.device)
    if entry.kind == FILE:
        row["s"] = entry.size
    row["u"] = entry.uid
    if entry.user:
        row["un"] = entry.user
    if entry.xattrs:
        row["x"] = [[name, value] for name, value in entry.xattrs]
    return row


class _Row(TypedDict, total=False):
    """The map of an entry after its signature was checked; see `Entry` for the meaning of the keys."""

    c: bytes
    ct: Required[int]
    d: bytes
    g: Required[int]
    gn: str
    h: bytes
    ho: list[Value]
    k: Required[str]
    l: bytes  # noqa: E741
    lg: int
    m: Required[int]
    mt: Required[int]
    n: Required[bytes]
    p: list[Value]
    ps: int
    r: list[Value]
    s: int
    u: Required[int]
    un: str
    x: list[Value]


_TYPES: dict[str, type] = {
    "c": bytes, "ct": int, "d": bytes, "g": int, "gn": str, "h": bytes, "ho": list, "k": str, "l": bytes, "lg": int,
    "m": int, "mt": int, "n": bytes, "p": list, "ps": int, "r": list, "s": int, "u": int, "un": str, "x": list,
}  # fmt: skip
_REQUIRED = ("ct", "g", "k", "m", "mt", "n", "u")
_MAX_SIGNATURES = 1024
_PLAIN = frozenset(("c", "ct", "g", "gn", "k", "m", "mt", "n", "s", "u", "un"))
"""What a file of one chunk has, and most entries are such files."""
_Signature = tuple[tuple[str, ...], tuple[type, ...]]
_signatures: dict[_Signature, bool] = {}
"""Combinations of keys and types that were found good, and whether all of their keys are plain ones. There are a
handful, and a look-up is all they cost."""


def decode_entry(row: Value, base_ns: int) -> Entry:
    """The entry behind a map read from storage; every field is checked, because its author may be hostile."""
    if type(row) is not dict:
        raise CorruptObject("a directory entry is not a map")
    signature = (tuple(row), tuple(map(type, row.values())))
    plain = _signatures.get(signature)
    if plain is None:
        plain = _check_signature(signature)
    fields = cast(_Row, row)
    name = fields["n"]
    entry = Entry(
        name=name,
        kind=fields["k"],
        mode=fields["m"],
        uid=fields["u"],
        gid=fields["g"],
        user=fields.get("un", ""),
        group=fields.get("gn", ""),
        size=fields.get("s", 0),
        mtime=fields["mt"] + base_ns,
        ctime=fields["ct"] + base_ns // SECOND,
        content=fields.get("c", b""),
    )
    check_name(name)
    if not plain:
        _decode_rest(fields, entry)
    _check_scalars(entry)
    _check_content(entry)
    return entry


def _decode_rest(fields: _Row, entry: Entry) -> None:
    """The fields that few entries have."""
    tree = fields.get("d")
    entry.tree = ChunkId(tree) if tree is not None else None
    entry.hash = fields.get("h", b"")
    entry.page_size = fields.get("ps", 0)
    entry.target = fields.get("l", b"")
    entry.link_group = fields.get("lg", 0)
    if "p" in fields:
        entry.pages = _decode_pages(fields["p"])
    if "ho" in fields:
        entry.holes = _decode_holes(fields["ho"], entry.size)
    if "r" in fields:
        entry.device = _decode_device(fields["r"])
    if "x" in fields:
        entry.xattrs = _decode_xattrs(fields["x"])


def _check_signature(signature: _Signature) -> bool:
    """Whether the fields are all plain ones. Raises CorruptObject for a field that does not belong there or is missing."""
    keys, types = signature
    for key, found in zip(keys, types, strict=True):
        if found is not _TYPES.get(key):
            raise CorruptObject(f"a directory entry has an unknown or ill-typed field {key!r}")
    if any(key not in keys for key in _REQUIRED):
        raise CorruptObject("a directory entry lacks a required field")
    plain = _PLAIN.issuperset(keys)
    if len(_signatures) < _MAX_SIGNATURES:
        _signatures[signature] = plain
    return plain


def check_name(name: bytes) -> None:
    """Refuse every name that could leave its directory."""
    if not name or name == b"." or name == b".." or b"/" in name or b"\0" in name or len(name) > MAX_NAME:
        raise CorruptObject(f'a directory entry has the forbidden name "{printable(name[:80])}"')


def _check_scalars(entry: Entry) -> None:
    if entry.kind not in KINDS:
        raise CorruptObject(f"a directory entry is of unknown kind {entry.kind!r}")
    if not 0 <= entry.mode < 1 << 12:
        raise CorruptObject("a directory entry has an impossible mode")
    if not (0 <= entry.uid < _INT32 and 0 <= entry.gid < _INT32 and 0 <= entry.page_size < _INT32):
        raise CorruptObject("a directory entry has an impossible number")
    if not (
        0 <= entry.size < _INT63
        and 0 <= entry.link_group < _INT63
        and -_INT63 <= entry.mtime < _INT63
        and -_INT63 <= entry.ctime < _INT63
    ):
        raise CorruptObject("a directory entry has an impossible size or time")
    if entry.tree is not None and (len(entry.tree) != 32 or entry.kind != DIRECTORY):
        raise CorruptObject("a directory entry refers to a tree in a wrong way")
    if len(entry.user) > 256 or len(entry.group) > 256 or len(entry.target) > MAX_NAME or b"\0" in entry.target:
        raise CorruptObject("a directory entry has an impossible text")
    if entry.hash and len(entry.hash) != 32:
        raise CorruptObject("a directory entry has a hash of a wrong length")


def _check_content(entry: Entry) -> None:
    if entry.kind != FILE:
        if entry.content or entry.pages or entry.holes or entry.hash:
            raise CorruptObject("only a file has content")
        if entry.kind == DIRECTORY and entry.tree is None:
            raise CorruptObject("a directory without a tree")
        if entry.kind in (CHARACTER_DEVICE, BLOCK_DEVICE) and entry.device is None:
            raise CorruptObject("a device without a number")
        return
    length = len(entry.content)
    if entry.pages is not None:
        if length:
            raise CorruptObject("a file with two content lists")
    elif length == 0:
        if entry.data_size:
            raise CorruptObject("a file without its content")
    elif length == 32:
        if not 0 < entry.data_size <= MAX_CHUNK_BYTES:
            raise CorruptObject("a chunk of impossible length")
    else:
        if length % REFERENCE_BYTES or length > MAX_INLINE_CHUNKS * REFERENCE_BYTES:
            raise CorruptObject("a content list of a wrong length")
        if sum(size for _, size in split_references(entry.content)) != entry.data_size:
            raise CorruptObject("a content list that does not add up to the file's size")


def _decode_pages(value: Value) -> tuple[int, ChunkId]:
    match value:
        case [int(depth), bytes(page)] if 1 <= depth <= 8 and len(page) == 32 and depth is not True:
            return depth, ChunkId(page)
    raise CorruptObject("a paged content list is malformed")


def _decode_holes(value: Value, size: int) -> tuple[int, ...]:
    holes = cast("list[object]", value)
    position = 0
    if len(holes) % 2 or not all(type(number) is int for number in holes):
        raise CorruptObject("a list of holes is malformed")
    numbers = cast("list[int]", holes)
    for start, length in zip(numbers[::2], numbers[1::2], strict=True):
        if start < position or length <= 0 or start + length > size:
            raise CorruptObject("a list of holes does not fit its file")
        position = start + length
    return tuple(numbers)


def _decode_device(value: Value) -> tuple[int, int]:
    match value:
        case [int(major), int(minor)] if 0 <= major < 1 << 32 and 0 <= minor < 1 << 32:
            # True and False are whole numbers to Python and something else to the format.
            if not isinstance(major, bool) and not isinstance(minor, bool):
                return major, minor
    raise CorruptObject("a device number is malformed")


def _decode_xattrs(value: Value) -> tuple[tuple[bytes, bytes], ...]:
    pairs: list[tuple[bytes, bytes]] = []
    for pair in cast("list[Value]", value):
        match pair:
            case [bytes(name), bytes(data)] if name and b"\0" not in name and (not pairs or pairs[-1][0] < name):
                pairs.append((name, data))
            case _:
                raise CorruptObject("a list of extended attributes is malformed")
    return tuple(pairs)
