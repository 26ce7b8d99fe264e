"""Snapshots that are mounted while their repository is pruned: what is kept goes on being read, what is gone is an error."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from dedupstore.clock import FrozenClock
from dedupstore.engine.mounted import REFRESH_SECONDS, MountedSnapshots, View
from dedupstore.errors import DedupError
from dedupstore.model.snapshot import Snapshot
from dedupstore.repo.gcplan import Plan, put_plan
from dedupstore.repo.repository import Repository
from dedupstore.storage.memory import MemoryStore
from tests.support.checking import assert_clean
from tests.support.faults import FaultyStore, Step
from tests.support.pruning import forget, prune
from tests.support.repositories import new_repository, open_repository, random_bytes, take

KEPT, GOING = random_bytes("kept", 60_000), random_bytes("going", 200_000)


@dataclass
class Scene:
    """Two snapshots: of both files, and of the one that is kept. Their chunks share packs."""

    store: MemoryStore
    both: Snapshot
    one: Snapshot
    clock: FrozenClock = field(default_factory=lambda: FrozenClock(1_900_000_000 * 10**9))
    told: list[bytes] = field(default_factory=list)

    def mount(self, repository: Repository) -> MountedSnapshots:
        def trouble(path: bytes, error: DedupError) -> None:
            self.told.append(path)

        return MountedSnapshots(repository, View(stamp=str), trouble)

    def prune(self) -> None:
        """The first snapshot goes, and every pack: what the second needs moves to others."""
        with open_repository(self.store) as other:
            forget(other, self.both)
            other.look()
            rows = list(other.index.packs())
            put_plan(
                self.store, other.keyring, Plan(packs=tuple(row.id for row in rows), roots=(), creator="", time_ns=0)
            )
            prune(other)
            assert not self.store.objects.keys() & {row.name.key for row in rows}
            assert_clean(other)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    tree, store = tmp_path / "tree", MemoryStore()
    tree.mkdir()
    (tree / "kept").write_bytes(KEPT)
    (tree / "other").write_bytes(KEPT[::-1])
    (tree / "going").write_bytes(GOING)
    with new_repository(store) as repository:
        both = take(repository, tree, source="both").snapshot
        (tree / "going").unlink()
        one = take(repository, tree, source="one").snapshot
    assert both is not None and one is not None
    yield Scene(store, both, one)
    with open_repository(store) as repository:
        assert_clean(repository)


def test_what_a_prune_moves_is_read_on_where_it_went(scene: Scene) -> None:
    with open_repository(scene.store, clock=scene.clock) as repository:
        mounted = scene.mount(repository)
        file = mounted.open(b"by-source/one/" + _name(mounted, b"one") + b"/tree/kept")
        begun = file.read(0, 1000)
        scene.prune()

        assert begun + file.read(1000, 100_000) == KEPT
        assert file.read(0, 100_000) == KEPT
        assert scene.told == []


def test_what_is_gone_is_an_error_and_disappears(scene: Scene) -> None:
    with open_repository(scene.store, clock=scene.clock) as repository:
        mounted = scene.mount(repository)
        path = b"by-source/both/" + _name(mounted, b"both") + b"/tree/going"
        file = mounted.open(path)
        scene.prune()

        for _ in range(2):
            with pytest.raises(OSError) as raised:
                file.read(0, 1000)
            assert raised.value.errno == errno.EIO
        assert scene.told == [path]
        scene.clock.advance(REFRESH_SECONDS)
        assert [name for name, _ in mounted.names(b"by-source")] == [b"one"]
        with pytest.raises(FileNotFoundError):
            mounted.open(path)


def test_a_new_snapshot_appears(scene: Scene, tmp_path: Path) -> None:
    with open_repository(scene.store, clock=scene.clock) as repository:
        mounted = scene.mount(repository)
        with open_repository(scene.store) as other:
            take(other, tmp_path / "tree", source="later")
        assert [name for name, _ in mounted.names(b"by-source")] == [b"both", b"one"]
        scene.clock.advance(REFRESH_SECONDS)

        assert [name for name, _ in mounted.names(b"by-source")] == [b"both", b"later", b"one"]
        assert mounted.open(b"by-source/later/" + _name(mounted, b"later") + b"/tree/kept").read(0, 60_000) == KEPT


def test_two_that_meet_a_moved_pack_at_once_both_read_on(scene: Scene) -> None:
    """While one is told that the pack is gone, the other is told as well, looks again, and has read."""
    faulty = FaultyStore(scene.store)
    with open_repository(faulty, clock=scene.clock) as repository:
        mounted = scene.mount(repository)
        folder = b"by-source/one/" + _name(mounted, b"one") + b"/tree/"
        file, other = mounted.open(folder + b"kept"), mounted.open(folder + b"other")
        scene.prune()
        read: list[bytes] = []
        faulty._hook = _once(lambda: read.append(other.read(0, 100_000)))

        assert file.read(0, 100_000) == KEPT

        assert read == [KEPT[::-1]]
        assert scene.told == []


def _name(mounted: MountedSnapshots, source: bytes) -> bytes:
    return next(name for name, node in mounted.names(b"by-source/" + source) if name != b"latest")


def _once(act: Callable[[], None]) -> Callable[[Step], None]:
    """Act after the first reading of a pack, whatever came of it."""
    met: list[Step] = []

    def hook(step: Step) -> None:
        if step.done and step.verb == "get" and step.key.startswith("packs/") and not met:
            met.append(step)
            act()

    return hook
