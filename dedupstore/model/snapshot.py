"""The snapshot record and its commit marker: what a snapshot is, beside its tree.

Records are sealed objects (`roots/<id>`, `commits/<id>`); this file knows only their plain bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar, cast

from dedupstore.errors import CorruptObject, RepositoryTooNew
from dedupstore.model.wire import Value, pack, unpack_map
from dedupstore.types import ChunkId, SnapshotId

T = TypeVar("T", bytes, str)

VERSION = 1
KNOWN_FEATURES: frozenset[str] = frozenset()
"""Features a record may require of its reader; version 1 has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """What a snapshot held and cost. Sizes in bytes; `stored` counts packs, segments and records as written."""

    files: int = 0
    directories: int = 0
    others: int = 0
    files_new: int = 0
    files_changed: int = 0
    files_unchanged: int = 0
    files_removed: int = 0
    bytes_total: int = 0
    bytes_read: int = 0
    bytes_new: int = 0
    bytes_stored: int = 0
    chunks_new: int = 0
    errors: int = 0

    def encode(self) -> dict[str, Value]:
        return {name: getattr(self, name) for name in sorted(self.__slots__) if getattr(self, name)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """One run over one source.

    `origins` names where each top-level entry came from: pairs of (name in the snapshot, absolute path).
    `parent` is a hint for delta encoding and unchanged files, never needed to read the snapshot.
    """

    id: SnapshotId
    run: bytes
    source: str
    kind: str
    trigger: str
    host: str
    user: str
    start_ns: int
    end_ns: int
    root: ChunkId
    parent: SnapshotId | None = None
    tags: tuple[str, ...] = ()
    note: str = ""
    origins: tuple[tuple[bytes, bytes], ...] = ()
    chunker: tuple[int, ...] = ()
    tool: str = ""
    features: tuple[str, ...] = ()
    statistics: Statistics = Statistics()
    details: tuple[tuple[str, str], ...] = ()
    """Free pairs for sources that know more (dump metadata)."""

    @property
    def time_ns(self) -> int:
        """The logical time by which `--at` selects: when the run began."""
        return self.start_ns

    def encode(self) -> bytes:
        """Canonical bytes of the record."""
        return pack(
            {
                "chunker": list(self.chunker),
                "details": [[name, value] for name, value in self.details],
                "end": self.end_ns,
                "features": list(self.features),
                "host": self.host,
                "id": self.id,
                "kind": self.kind,
                "note": self.note,
                "origins": [[name, path] for name, path in self.origins],
                "parent": self.parent,
                "root": self.root,
                "run": self.run,
                "source": self.source,
                "start": self.start_ns,
                "statistics": self.statistics.encode(),
                "tags": list(self.tags),
                "tool": self.tool,
                "trigger": self.trigger,
                "user": self.user,
                "v": VERSION,
            }
        )

    @classmethod
    def decode(cls, data: bytes) -> Snapshot:
        """The record behind `data`. Raises CorruptObject, or RepositoryTooNew for an unknown version or feature."""
        row = unpack_map(data)
        version = row.get("v")
        if version != VERSION or version is True:
            raise RepositoryTooNew(f"a snapshot record has version {version!r}; this dedup reads {VERSION}")
        features = tuple(_texts(row, "features"))
        unknown = [name for name in features if name not in KNOWN_FEATURES]
        if unknown:
            raise RepositoryTooNew(f"a snapshot needs the feature {unknown[0]!r}, which this dedup does not know")
        root, parent = _sized(row, "root", 32), row.get("parent")
        if parent is not None and not (isinstance(parent, bytes) and len(parent) == 16):
            raise CorruptObject("a snapshot record names a malformed parent")
        return cls(
            id=SnapshotId(_sized(row, "id", 16)),
            run=_sized(row, "run", 16),
            source=_text(row, "source"),
            kind=_text(row, "kind"),
            trigger=_text(row, "trigger"),
            host=_text(row, "host"),
            user=_text(row, "user"),
            start_ns=_number(row, "start"),
            end_ns=_number(row, "end"),
            root=ChunkId(root),
            parent=SnapshotId(parent) if parent is not None else None,
            tags=tuple(_texts(row, "tags")),
            note=_text(row, "note"),
            origins=tuple((name, path) for name, path in _pairs(row, "origins", bytes)),
            chunker=tuple(_numbers(row, "chunker")),
            tool=_text(row, "tool"),
            features=features,
            statistics=_statistics(row.get("statistics")),
            details=tuple((name, value) for name, value in _pairs(row, "details", str)),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """Written after validation: from then on the snapshot exists."""

    record_hash: bytes
    time_ns: int

    def encode(self) -> bytes:
        return pack({"hash": self.record_hash, "time": self.time_ns, "v": VERSION})

    @classmethod
    def decode(cls, data: bytes) -> Commit:
        row = unpack_map(data)
        if row.get("v") != VERSION or row["v"] is True:
            raise RepositoryTooNew("a commit marker has an unknown version")
        return cls(record_hash=_sized(row, "hash", 32), time_ns=_number(row, "time"))


def _statistics(value: Value | None) -> Statistics:
    if not isinstance(value, dict):
        raise CorruptObject("a snapshot record has no statistics")
    known = {name: number for name, number in value.items() if name in Statistics.__slots__}
    if any(type(number) is not int for number in known.values()):
        raise CorruptObject("a snapshot record has malformed statistics")
    return Statistics(**cast("dict[str, int]", known))


def _sized(row: dict[str, Value], key: str, size: int) -> bytes:
    value = row.get(key)
    if not isinstance(value, bytes) or len(value) != size:
        raise CorruptObject(f"a record has a malformed field {key!r}")
    return value


def _text(row: dict[str, Value], key: str) -> str:
    value = row.get(key)
    if not isinstance(value, str) or len(value) > 65_536:
        raise CorruptObject(f"a record has a malformed field {key!r}")
    return value


def _number(row: dict[str, Value], key: str) -> int:
    value = row.get(key)
    if type(value) is not int or not 0 <= value < 1 << 63:
        raise CorruptObject(f"a record has a malformed field {key!r}")
    return value


def _texts(row: dict[str, Value], key: str) -> list[str]:
    value = row.get(key)
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise CorruptObject(f"a record has a malformed field {key!r}")
    return cast("list[str]", value)


def _numbers(row: dict[str, Value], key: str) -> list[int]:
    value = row.get(key)
    if not isinstance(value, list) or not all(type(item) is int for item in value):
        raise CorruptObject(f"a record has a malformed field {key!r}")
    return cast("list[int]", value)


def _pairs(row: dict[str, Value], key: str, kind: type[T]) -> list[tuple[T, T]]:
    value = row.get(key)
    pairs: list[tuple[T, T]] = []
    if not isinstance(value, list):
        raise CorruptObject(f"a record has a malformed field {key!r}")
    for pair in value:
        if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(item, kind) for item in pair):
            raise CorruptObject(f"a record has a malformed field {key!r}")
        pairs.append(cast("tuple[T, T]", tuple(pair)))
    return pairs
