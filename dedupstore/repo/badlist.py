"""What is known to be damaged or lost (`gc/bad-<id>`): told by checks, only ever added to, believed by everybody.

A block that is known to be bad is no copy of its chunks: whoever stores stores them again, no delta is made against it,
and no prune takes a good copy because of it. That holds for the place, never for the chunk: other copies, and those
that are stored later, count. A reader tries bad copies last, for the list may be wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from dedupstore.codec.claims import ObjectType
from dedupstore.codec.crypto import random_bytes
from dedupstore.errors import CorruptObject, IntegrityError, ObjectNotFound, RepositoryTooNew
from dedupstore.model.wire import Value, pack, unpack_map
from dedupstore.repo import layout
from dedupstore.repo.directory import MAX_BLOCKS
from dedupstore.repo.keyring import KeyRing
from dedupstore.storage.base import ObjectStore
from dedupstore.types import PackId

VERSION = 1
PACKS_PER_RECORD = 10_000
"""A record is one object of at most so many packs: far below what msgpack may hold here."""

Blocks = frozenset[int] | None
"""Numbers of blocks of one pack; None: all of them. Empty: the pack is not what it was, and every block can be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BadRecord:
    """What one check found."""

    packs: Mapping[PackId, Blocks] = field(default_factory=dict)
    lost: frozenset[PackId] = frozenset()
    """Packs that were not there, or not with the size they were stored with: no fault of the name, they may come back."""

    creator: str = ""
    time_ns: int = 0

    def encode(self) -> bytes:
        rows: list[Value] = [
            [name, None if blocks is None else [*sorted(blocks)]] for name, blocks in sorted(self.packs.items())
        ]
        return pack(
            {
                "creator": self.creator,
                "lost": [*sorted(self.lost)],
                "packs": rows,
                "time": self.time_ns,
                "v": VERSION,
            }
        )

    @classmethod
    def decode(cls, data: bytes) -> BadRecord:
        row = unpack_map(data)
        if row.get("v") != VERSION:
            raise RepositoryTooNew("a list of damage has an unknown version")
        match row:
            case {"creator": str(creator), "lost": list(lost), "packs": list(packs), "time": int(time_ns)}:
                return cls(
                    packs=dict(_row(item) for item in packs),
                    lost=frozenset(_pack_id(item) for item in lost),
                    creator=creator,
                    time_ns=time_ns,
                )
        raise _malformed()


class KnownBad:
    """Everything that all records say together, by pack id."""

    def __init__(self) -> None:
        self.packs: dict[PackId, Blocks] = {}
        self.lost: set[PackId] = set()

    def add(self, record: BadRecord) -> None:
        for name, blocks in record.packs.items():
            before = self.packs.get(name, frozenset())
            self.packs[name] = None if before is None or blocks is None else before | blocks
        self.lost |= record.lost

    def covers(self, name: PackId, blocks: Blocks) -> bool:
        """Whether all of this is known already."""
        if name not in self.packs:
            return False
        known = self.packs[name]
        return known is None or (blocks is not None and blocks <= known)


class BadPlaces:
    """Blocks known to be bad, by the number that the local index has for their pack. Any thread may ask."""

    def __init__(self, packs: Mapping[int, Blocks] | None = None) -> None:
        self._packs = dict(packs or {})
        self.whole = frozenset(no for no, blocks in self._packs.items() if blocks is None)
        """Packs of which nothing can be read."""

        self._any = any(blocks is None or blocks for blocks in self._packs.values())

    def __bool__(self) -> bool:
        """Whether there is any bad block."""
        return self._any

    def __contains__(self, place: tuple[int, int]) -> bool:
        """Whether a block, by the number of its pack and its own, is bad."""
        if not self._any:
            return False
        pack_no, block_no = place
        blocks = self._packs.get(pack_no, frozenset())
        return blocks is None or block_no in blocks

    def packs(self) -> Iterable[int]:
        """Packs that are not what they were, also those whose blocks can all be read."""
        return self._packs.keys()

    def blocks(self, pack_no: int) -> frozenset[int]:
        """The bad blocks of one pack that is not bad as a whole."""
        return self._packs.get(pack_no) or frozenset()


def bad_places(known: KnownBad, present: Iterable[int], pack_no: Callable[[PackId], int | None]) -> BadPlaces:
    """What `known` says of packs that are there; `pack_no` gives the local number of a pack."""
    there = set(present)
    numbers = {name: pack_no(name) for name in known.packs}
    return BadPlaces({no: known.packs[name] for name, no in numbers.items() if no is not None and no in there})


def read_bad(store: ObjectStore, keyring: KeyRing, keys: Iterable[str]) -> KnownBad:
    """What the listed records say. What a damaged record said is not known: then bad copies are found out once more."""
    known = KnownBad()
    for key in keys:
        if layout.parse_gc_key(key)[0] != "bad":
            continue
        try:
            known.add(open_bad(store, keyring, key))
        except (ObjectNotFound, IntegrityError, RepositoryTooNew):
            continue
    return known


def open_bad(store: ObjectStore, keyring: KeyRing, key: str) -> BadRecord:
    """One record. Raises CorruptObject, RepositoryTooNew, ObjectNotFound."""
    return BadRecord.decode(keyring.open(ObjectType.BAD, key, store.get(key)))


def put_bad(store: ObjectStore, keyring: KeyRing, record: BadRecord) -> list[str]:
    """Add what a check found, durable when this returns; the object names. Nothing is ever taken back."""
    keys = []
    for part in _parts(record):
        key = layout.bad_key(random_bytes(16))
        store.put(key, [keyring.seal(ObjectType.BAD, key, part.encode())])
        keys.append(key)
    store.barrier()
    return keys


def _parts(record: BadRecord) -> Iterable[BadRecord]:
    names: Sequence[PackId] = sorted({*record.packs, *record.lost})
    for start in range(0, len(names), PACKS_PER_RECORD):
        part = set(names[start : start + PACKS_PER_RECORD])
        yield BadRecord(
            packs={name: blocks for name, blocks in record.packs.items() if name in part},
            lost=record.lost & part,
            creator=record.creator,
            time_ns=record.time_ns,
        )


def _row(value: Value) -> tuple[PackId, Blocks]:
    match value:
        case [name, None]:
            return _pack_id(name), None
        case [name, list(numbers)]:
            # Not isinstance: a bool is an int to Python, but not to the format.
            blocks = [number for number in numbers if type(number) is int and 0 <= number < MAX_BLOCKS]
            if len(blocks) == len(numbers):
                return _pack_id(name), frozenset(blocks)
    raise _malformed()


def _pack_id(value: Value) -> PackId:
    if not isinstance(value, bytes) or len(value) != 32:
        raise _malformed()
    return PackId(value)


def _malformed() -> CorruptObject:
    return CorruptObject("a list of damage is malformed")
