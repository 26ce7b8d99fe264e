"""Making a repository and telling what it is."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field, replace

from dedupstore.chunking.kernel import implementation
from dedupstore.chunking.params import ChunkerParams
from dedupstore.errors import UsageError
from dedupstore.repo import layout
from dedupstore.repo.keys import list_slots, read_slot
from dedupstore.repo.recovery import RecoveryKit, format_kit
from dedupstore.repo.repository import InitOptions, Repository
from dedupstore.repo.slot_header import KdfCost
from dedupstore.repo.slots import DEFAULT_COST, STRONG_COST
from dedupstore.service.access import Access
from dedupstore.service.opened import open_repository
from dedupstore.service.seen import Shown, memory_of, trust, trust_new
from dedupstore.storage.base import expansion_of
from dedupstore.storage.registry import create_store
from dedupstore.units import KIB, format_bytes, format_id

DEFAULT_CHUNK = 64 * KIB
_WORD_LETTERS = "23456789abcdefghjkmnpqrstuvwxyz"
_GROUPS = 5
_GROUP_LETTERS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class InitRequest:
    """`access` names the place and the first passphrase. Sizes in bytes; `chunk` is fixed for ever."""

    access: Access
    chunk: int = DEFAULT_CHUNK
    pack: int = 0
    strong_kdf: bool = False
    weak_kdf_for_tests: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Created:
    id: str
    url: str
    slot: str
    kit: str = field(repr=False)
    """The recovery kit's text: no secret in it, but the way back when the repository loses its key slots."""

    @property
    def short(self) -> str:
        return short_repository_id(self.id)


LARGEST_PACK_BYTES = 512 << 20
"""Half of what a store gives as a whole: a pack is a little longer than its size says."""


def create(request: InitRequest) -> Created:
    """Make an empty repository. Raises Refused when the place is not empty."""
    access = request.access
    params = ChunkerParams.for_average(request.chunk)
    if request.pack > LARGEST_PACK_BYTES:
        raise UsageError(
            f"a pack of {format_bytes(request.pack)} is too large",
            why="repairs and parity hold a pack in memory",
            hints=["--pack-size 512MiB is the most"],
        )
    secret = access.credential.secret()
    store = create_store(access.url, access.options)
    options = InitOptions(chunker=params, cost=_cost(request), allow_weak=access.allow_weak)
    if request.pack:
        options = InitOptions(
            chunker=params, cost=_cost(request), allow_weak=access.allow_weak, pack_bytes=request.pack
        )
    repository, slot = Repository.create(store, secret, options, clock=access.clock, cache_path=access.cache_path)
    with repository:
        kit = format_kit(RecoveryKit(location=store.url, repository=repository.id, slot=read_slot(store, slot.slot_id)))
        trust_new(access.environ, repository.id.hex(), store.url, access.note)
        return Created(id=repository.id.hex(), url=store.url, slot=slot.id_text, kit=kit)


def generate_passphrase() -> str:
    """Five groups of five letters and digits: 123 bits, typed without mistakes."""
    groups = ("".join(secrets.choice(_WORD_LETTERS) for _ in range(_GROUP_LETTERS)) for _ in range(_GROUPS))
    return "-".join(groups)


def short_repository_id(identifier: str) -> str:
    """What a user reads: `7f3a-91c2`."""
    return f"{identifier[:4]}-{identifier[4:8]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RepositoryInfo:
    """Sizes in bytes."""

    id: str
    url: str
    expansion: str
    """The URL of a bucket as it is understood; empty for a directory."""

    format: int
    created_ns: int
    epoch: int
    chunk_average: int
    chunk_minimum: int
    chunk_maximum: int
    block_bytes: int
    delta_block_bytes: int
    pack_bytes: int
    features: dict[str, tuple[str, ...]]
    slots: int
    snapshots: int
    packs: int
    segments: int
    stored: int
    chunker: str


def info(access: Access) -> RepositoryInfo:
    with open_repository(access) as repository:
        store, config = repository.store, repository.config
        packs = layout.list_complete(store, layout.PACKS)
        segments = layout.list_complete(store, layout.INDEX)
        features = config.features
        return RepositoryInfo(
            id=repository.id.hex(),
            url=store.url,
            expansion=expansion_of(store),
            format=config.format_version,
            created_ns=config.created_ns,
            epoch=repository.keyring.epoch,
            chunk_average=config.chunker.get("average", 0),
            chunk_minimum=config.chunker.get("minimum", 0),
            chunk_maximum=config.chunker.get("maximum", 0),
            block_bytes=config.block_bytes,
            delta_block_bytes=config.delta_block_bytes,
            pack_bytes=config.pack_bytes,
            features={"read": features.read, "write": features.write, "gc": features.gc},
            slots=len(list_slots(store, repository.keyring)),
            snapshots=len(layout.list_complete(store, layout.COMMITS)),
            packs=len(packs),
            segments=len(segments),
            stored=sum(row.size for row in store.list("")),
            chunker=implementation(),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Trusted:
    """What is believed from now on, and in what it differs from what this machine had seen."""

    id: str
    url: str
    epoch: int
    snapshots: int
    missing: tuple[str, ...]
    returned: tuple[str, ...]


def trust_shown(access: Access) -> Trusted:
    """Take what storage shows now for the newest state there is. Raises Refused when that cannot be kept."""
    with open_repository(replace(access, trusting=True)) as repository:
        identifier, url = repository.id.hex(), repository.store.url
        commits = repository.catalog.committed()
        memory = memory_of(access.environ, identifier, url, access.note, whatever=True)
        seen = memory.seen if memory is not None else frozenset()
        gone = memory.gone if memory is not None else frozenset()
        shown = Shown(
            epoch=repository.keyring.epoch,
            config=repository.config_number,
            snapshots=frozenset(commits),
            gone=gone - commits,
        )
        trust(access.environ, identifier, url, shown)
        # It may know packs and segments that are no more, which would count as lost for ever.
        repository.drop_index()
        return Trusted(
            id=identifier,
            url=url,
            epoch=shown.epoch,
            snapshots=len(commits),
            missing=tuple(map(format_id, sorted(seen - commits))),
            returned=tuple(map(format_id, sorted(gone & commits))),
        )


def _cost(request: InitRequest) -> KdfCost:
    if request.weak_kdf_for_tests:
        return KdfCost.insecure_for_tests()
    return STRONG_COST if request.strong_kdf else DEFAULT_COST
