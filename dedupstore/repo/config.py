"""The sealed, numbered, immutable config objects: what every client of a repository must agree on.

`config/<number>-<hash of the sealed bytes>`; the highest number counts. A config is canonical msgpack, sealed as
ObjectType.CONFIG under the name `config-<number>`, so that storage cannot pass an old one off as new.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum

from dedupstore.codec.claims import ObjectType, peek_epoch
from dedupstore.codec.crypto import KEY_LENGTH, REPOSITORY_LENGTH
from dedupstore.codec.hashing import digest
from dedupstore.errors import CorruptObject, RepositoryTooNew
from dedupstore.model.wire import Value, pack, unpack_map
from dedupstore.repo import layout
from dedupstore.repo.keyring import KeyRing
from dedupstore.storage.base import ObjectStore
from dedupstore.types import RepositoryId
from dedupstore.units import MIB

FORMAT_VERSION = 1
MARKS_FEATURE = "marks"
"""Snapshots may be protected by marks: who does not know them must not remove anything. `marks/` is there from the start."""

KNOWN_FEATURES = frozenset({MARKS_FEATURE})
"""Every feature name this version understands, for any operation."""

MAX_BLOCK_BYTES = 16 * MIB
"""To what a writer can be told to fill a block: it may be one chunk of 16 MiB longer, and must not exceed 32 MiB."""

MAX_PACK_BYTES = (1 << 32) - 1
"""The largest pack of the format, as in pack.py."""

_MAX_CONFIG_BYTES = MIB


class Operation(Enum):
    """What a client wants to do; each has its own list of features it must understand."""

    READ = "read"
    WRITE = "write"
    GC = "gc"


@dataclass(frozen=True, slots=True, kw_only=True)
class Features:
    """Names of features a client must know before it reads, writes or removes anything."""

    read: tuple[str, ...] = ()
    write: tuple[str, ...] = ()
    gc: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RepositoryConfig:
    """The parameters of a repository. `chunker` is kept as the chunking layer wrote it; sizes are in bytes."""

    repository: RepositoryId
    created_ns: int
    chunker: dict[str, int]
    block_bytes: int
    delta_block_bytes: int
    pack_bytes: int
    format_version: int = FORMAT_VERSION
    features: Features = Features()
    kdf_note: str = ""
    older_masters: tuple[tuple[int, bytes], ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredConfig:
    """A config object as found in the store."""

    number: int
    key: str
    sealed: bytes = field(repr=False)

    @property
    def epoch(self) -> int:
        """The epoch it claims: which slots are worth trying. Authenticated once the config is opened."""
        return peek_epoch(self.sealed)


def encode_config(config: RepositoryConfig) -> bytes:
    """Canonical bytes; not yet sealed, and they hold secrets."""
    features = config.features
    chunker: dict[str, Value] = {key: config.chunker[key] for key in sorted(config.chunker)}
    return pack(
        {
            "block": config.block_bytes,
            "chunker": chunker,
            "created": config.created_ns,
            "delta": config.delta_block_bytes,
            "features": {"gc": list(features.gc), "read": list(features.read), "write": list(features.write)},
            "format": config.format_version,
            "kdf": config.kdf_note,
            "masters": [[epoch, master] for epoch, master in config.older_masters],
            "pack": config.pack_bytes,
            "repository": bytes(config.repository),
        }
    )


_FIELDS = {"block", "chunker", "created", "delta", "features", "format", "kdf", "masters", "pack", "repository"}


def decode_config(data: bytes) -> RepositoryConfig:
    """The config behind canonical bytes. A newer format or an unknown feature for reading is RepositoryTooNew."""
    fields = unpack_map(data, max_bytes=_MAX_CONFIG_BYTES)
    # The version comes first: a newer one may have other fields, and "damaged" would be the wrong thing to say.
    version = _number(fields, "format")
    if version > FORMAT_VERSION:
        raise _too_new(f"its format is {version}, this dedup knows {FORMAT_VERSION}")
    features = _features(fields.get("features"))
    _require(features.read, Operation.READ)
    if fields.keys() != _FIELDS:
        raise _malformed("its fields are not those of a config")
    chunker = _mapping(fields["chunker"], "chunker")
    repository, note = fields["repository"], fields["kdf"]
    if not isinstance(repository, bytes) or len(repository) != REPOSITORY_LENGTH or not isinstance(note, str):
        raise _malformed("repository id or kdf note")
    return RepositoryConfig(
        repository=RepositoryId(repository),
        created_ns=_number(fields, "created"),
        chunker={key: _number(chunker, key) for key in chunker},
        block_bytes=_number(fields, "block"),
        delta_block_bytes=_number(fields, "delta"),
        pack_bytes=_number(fields, "pack"),
        format_version=version,
        features=features,
        kdf_note=note,
        older_masters=tuple(_masters(fields["masters"])),
    )


def require_features(config: RepositoryConfig, operation: Operation) -> None:
    """Refuse an operation that needs a feature this version does not know. Reading is needed for all of them."""
    _require(config.features.read, Operation.READ)
    if operation is not Operation.READ:
        _require(config.features.write if operation is Operation.WRITE else config.features.gc, operation)


def require_sizes(config: RepositoryConfig) -> None:
    """Refuse to write by sizes that no block or pack can have. Who only reads needs none of them."""
    limits = (
        ("block", config.block_bytes, MAX_BLOCK_BYTES),
        ("delta", config.delta_block_bytes, MAX_BLOCK_BYTES),
        ("pack", config.pack_bytes, MAX_PACK_BYTES),
    )
    for name, size, most in limits:
        if size > most:
            raise _malformed(f"{name}: {size} bytes, {most} at most")


def put_config(store: ObjectStore, ring: KeyRing, config: RepositoryConfig, *, number: int) -> str:
    """Store a config under a number that is not taken, durable when this returns; gives its object name."""
    sealed = ring.seal(ObjectType.CONFIG, layout.config_name(number), encode_config(config))
    key = layout.config_key(number, digest((sealed,)))
    store.put(key, [sealed])
    store.barrier()
    return key


def find_config(store: ObjectStore) -> StoredConfig:
    """The config with the highest number, still sealed. Two with one number are an error, whichever came first."""
    found: dict[int, tuple[str, bytes, int]] = {}
    for row in layout.list_complete(store, layout.CONFIG):
        number, hash_of_sealed = layout.parse_config_key(row.key)
        if number in found:
            raise CorruptObject(
                f"two configs have the number {number}",
                why=f"{found[number][0]} and {row.key}: two clients changed it at once, or storage added one",
                code="repo.config_conflict",
            )
        found[number] = (row.key, hash_of_sealed, row.size)
    if not found:
        raise CorruptObject("the repository has no config", why=f"config/ at {store.url} is empty")
    number = max(found)
    key, hash_of_sealed, size = found[number]
    if size > _MAX_CONFIG_BYTES:
        raise CorruptObject(f"{key} is too large for a config", why=f"{size} bytes")
    sealed = store.get(key)
    if digest((sealed,)) != hash_of_sealed:
        raise CorruptObject(f"{key} does not match its name")
    return StoredConfig(number=number, key=key, sealed=sealed)


def open_config(stored: StoredConfig, ring: KeyRing) -> tuple[RepositoryConfig, KeyRing]:
    """The config, and the ring with the masters of earlier epochs added."""
    config = decode_config(ring.open(ObjectType.CONFIG, layout.config_name(stored.number), stored.sealed))
    if config.repository != ring.repository:
        raise CorruptObject(f"{stored.key} is the config of another repository")
    return config, ring.with_older(config.older_masters)


def _require(features: Iterable[str], operation: Operation) -> None:
    unknown = sorted(set(features) - KNOWN_FEATURES)
    if unknown:
        raise _too_new(f"to {operation.value} it needs {', '.join(unknown)}")


def _too_new(why: str) -> RepositoryTooNew:
    return RepositoryTooNew("this repository needs a newer dedup", why=why, hints=["upgrade dedup"])


def _malformed(what: str) -> CorruptObject:
    return CorruptObject("the config is malformed", why=what)


def _mapping(value: Value, what: str) -> dict[str, Value]:
    if not isinstance(value, dict):
        raise _malformed(what)
    return value


def _number(fields: dict[str, Value], name: str) -> int:
    value = fields.get(name)
    # bool is an int to Python, but not to the format.
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise _malformed(name)
    return value


def _features(value: Value) -> Features:
    lists = _mapping(value, "features")
    if lists.keys() != {"read", "write", "gc"}:
        raise _malformed("features")
    return Features(read=_names(lists["read"]), write=_names(lists["write"]), gc=_names(lists["gc"]))


def _names(value: Value) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise _malformed("features")
    names = tuple(name for name in value if isinstance(name, str))
    if len(names) != len(value):
        raise _malformed("features")
    return names


def _masters(value: Value) -> Iterable[tuple[int, bytes]]:
    if not isinstance(value, list):
        raise _malformed("masters")
    for row in value:
        match row:
            case [int(epoch), bytes(master)] if len(master) == KEY_LENGTH and epoch > 0:
                yield epoch, master
            case _:
                raise _malformed("masters")
