"""A repository of which everything is known, and every way in which it is damaged."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from dedupstore.cancel import CancelToken
from dedupstore.engine.check import check_repository
from dedupstore.engine.check_options import CheckOptions, CheckReport
from dedupstore.events import NullListener
from dedupstore.repo import layout
from dedupstore.repo.pack_name import PackName
from dedupstore.repo.repository import Repository
from dedupstore.storage.memory import MemoryStore
from dedupstore.types import Kind, SnapshotId


@dataclass(slots=True)
class Scene:
    """A repository of three snapshots in memory, what is where in it, and what its files should be."""

    objects: Mapping[str, bytes]
    snapshots: list[SnapshotId]
    expected: list[dict[bytes, bytes]]
    packs: list[PackName]
    """Data packs first, a full one at their head; each kind in the order in which they were written."""

    bodies: dict[str, tuple[int, int]]
    """Where the blocks of each pack begin and end."""

    def store(self) -> MemoryStore:
        store = MemoryStore()
        store.objects = dict(self.objects)
        return store

    def key(self, kind: Kind, number: int = 0) -> str:
        return [pack.key for pack in self.packs if pack.kind is kind][number]


def check(repository: Repository, options: CheckOptions) -> CheckReport:
    return check_repository(repository, options, listener=NullListener(), cancel=CancelToken())


def flip(store: MemoryStore, key: str, at: int) -> None:
    data = bytearray(store.objects[key])
    data[at] ^= 0x10
    store.objects[key] = bytes(data)


def only(store: MemoryStore, prefix: str) -> str:
    return next(key for key in sorted(store.objects) if key.startswith(prefix) and key not in layout.SENTINELS)


Damage = Callable[[MemoryStore, Scene], None]


def flip_first(prefix: str, at: int = -5) -> Damage:
    return lambda store, scene: flip(store, only(store, prefix), at)


def remove_first(prefix: str) -> Damage:
    def remove(store: MemoryStore, scene: Scene) -> None:
        del store.objects[only(store, prefix)]

    return remove


def flip_pack(kind: Kind, number: int, at: int) -> Damage:
    return lambda store, scene: flip(store, scene.key(kind, number), at)


def flip_fill(store: MemoryStore, scene: Scene) -> None:
    for pack in scene.packs:
        end = scene.bodies[pack.key][1]
        if len(store.objects[pack.key]) - pack.trailer_bytes > end:
            flip(store, pack.key, end)
            return
    raise AssertionError("no pack has fill")


def remove_pack(kind: Kind, number: int) -> Damage:
    def remove(store: MemoryStore, scene: Scene) -> None:
        del store.objects[scene.key(kind, number)]

    return remove


def truncate_pack(store: MemoryStore, scene: Scene) -> None:
    store.objects[scene.key(Kind.DATA)] = store.objects[scene.key(Kind.DATA)][:-1]


def extend_pack(store: MemoryStore, scene: Scene) -> None:
    store.objects[scene.key(Kind.DATA)] += bytes(4096)


def empty_pack(store: MemoryStore, scene: Scene) -> None:
    store.objects[scene.key(Kind.DATA)] = b""


def swap_packs(store: MemoryStore, scene: Scene) -> None:
    one, other = scene.key(Kind.DATA, 0), scene.key(Kind.DATA, 1)
    store.objects[one], store.objects[other] = store.objects[other], store.objects[one]


def zero_page(store: MemoryStore, scene: Scene) -> None:
    key = scene.key(Kind.DATA)
    data = store.objects[key]
    store.objects[key] = data[:8192] + bytes(4096) + data[12288:]


def foreign(key: str) -> Damage:
    def add(store: MemoryStore, scene: Scene) -> None:
        store.objects[key] = b"not ours"

    return add


def rename_pack(store: MemoryStore, scene: Scene) -> None:
    key = scene.key(Kind.DATA)
    store.objects[key.rsplit(".", 1)[0] + ".m1"] = store.objects.pop(key)


def swap_roots(store: MemoryStore, scene: Scene) -> None:
    one, other = (layout.root_key(identifier) for identifier in scene.snapshots[:2])
    store.objects[one], store.objects[other] = store.objects[other], store.objects[one]


def lose_first_root(store: MemoryStore, scene: Scene) -> None:
    del store.objects[layout.root_key(scene.snapshots[0])]


def lose_commits(store: MemoryStore, scene: Scene) -> None:
    for identifier in scene.snapshots:
        del store.objects[layout.commit_key(identifier)]


def lose_marks(store: MemoryStore, scene: Scene) -> None:
    for key in layout.MARKS_SENTINELS:
        del store.objects[key]
