"""Damage on purpose, to a repository of which it is known what lies where (see pack_layouts.py)."""

from __future__ import annotations

from dedupstore.cancel import CancelToken
from dedupstore.engine.check import check_repository
from dedupstore.engine.check_options import CheckOptions, CheckReport, DataShare
from dedupstore.events import NullListener
from dedupstore.repo.badlist import KnownBad, read_bad
from dedupstore.repo.repository import Repository
from dedupstore.repo.segment import PackFacts
from dedupstore.storage.memory import MemoryStore
from dedupstore.types import ChunkId, Kind
from tests.support.pack_layouts import FILE_BYTES, Scene
from tests.support.repositories import assert_restores, random_bytes

DATA = CheckOptions(read_data=DataShare())


def content_of(name: str) -> bytes:
    """What `pack_layouts.build` writes into the file of that name; `C` is its later version of `c`."""
    data = random_bytes(f"content of {name.lower() if name == 'B' else name}", FILE_BYTES)
    return data + {"B": b"a line more\n", "C": b"and another length"}.get(name, b"")


def chunk_of(repository: Repository, name: str) -> ChunkId:
    """The only chunk of a file."""
    return ChunkId(repository.keyring.id_key(Kind.DATA).digest(content_of(name)))


def flip(store: MemoryStore, key: str, at: int) -> None:
    data = bytearray(store.objects[key])
    data[at] ^= 0x10
    store.objects[key] = bytes(data)


def flip_block(store: MemoryStore, fact: PackFacts, block_no: int) -> None:
    """One bit in the middle of one block."""
    block = fact.blocks()[block_no]
    flip(store, fact.name.key, block.offset + block.stored // 2)


def flip_file(store: MemoryStore, repository: Repository, scene: Scene, name: str) -> PackFacts:
    """Damage the block of one file, in the pack that the scene has it in; that pack."""
    chunk = chunk_of(repository, name)
    fact = next(fact for pack, fact in scene.packs.items() if name in pack.split())
    flip_block(store, fact, next(no for no, block in enumerate(fact.blocks()) if chunk in block.ids))
    return fact


def check(repository: Repository, options: CheckOptions = DATA) -> CheckReport:
    return check_repository(repository, options, listener=NullListener(), cancel=CancelToken())


def known_bad(repository: Repository) -> KnownBad:
    """What all records in the store say."""
    keys = [row.key for row in repository.store.list("gc/") if row.key.startswith("gc/bad-")]
    return read_bad(repository.store, repository.keyring, keys)


def assert_whole(repository: Repository, scene: Scene) -> None:
    """Both snapshots of the scene, and all others, restore, and no file of any is damaged."""
    for identifier, expected in zip(scene.snapshots, scene.expected, strict=True):
        assert_restores(repository, repository.catalog.get(identifier), expected)
    report = check(repository)
    assert report.exit_code == 0, report.findings
    assert report.damage.files_total == 0
